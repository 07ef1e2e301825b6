from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from asking_processes import CONFIG
from conftest import ROOT
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from toys import config, write_data

import dytemp
from dytemp.lab import datasets, training
from dytemp.lab.studies import record, runs
from dytemp.lab.studies.runs import Run
from dytemp.lab.training import hardware
from dytemp.lab.training.configuration import Config


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def store(data: Path, tmp_path: Path) -> Path:
    """A folder with one recorded run that has arrays."""
    runs.get(CONFIG, tmp_path, root=data)
    return tmp_path


@pytest.fixture
def never_train(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("this must not be trained")

    monkeypatch.setattr(training, "train", refuse)


def test_a_run_is_trained_once_and_read_ever_after(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = config(seed=4)
    trained = runs.get(settings, tmp_path, root=data)
    printed = capsys.readouterr().out
    monkeypatch.setattr(training, "train", None)
    loaded = runs.get(settings, tmp_path)
    assert vars(loaded) == vars(trained)
    assert loaded.config == settings
    assert printed == f"{trained}\n"
    assert re.fullmatch(
        rf"run {settings.key} NTXent\(temperature=0\.2\) seed 4: kNN@1 [\d.]+ %, [\d.]+ s",
        str(loaded),
    )
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == [".work", f"{settings.key}.json"]
    assert not list((tmp_path / ".work").glob("*/*"))


def test_a_record_says_how_it_came_about(store: Path) -> None:
    record = json.loads((store / f"{CONFIG.key}.json").read_text())
    assert record["config"] == CONFIG.to_dict()
    assert record["metrics"] == record["evaluations"][-1]["metrics"]
    assert len(record["curves"]["loss"]) == CONFIG.epochs
    assert len(record["per_class"]["knn1"]) == len(record["counts"]) == len(record["groups"]) == 3
    assert set(record["seconds"]) == {"training", "evaluation"}
    assert {"python", "torch", "processor", "threads", "device", "precision"} < set(
        record["environment"]
    )
    assert all(value not in ("", None) for value in record["environment"].values())
    assert record["code"].startswith(dytemp.__version__)
    assert (store / f"{CONFIG.key}.json").stat().st_size < 5000


def test_learned_temperatures_are_kept(data: Path, store: Path, never_train: None) -> None:
    run = runs.get(CONFIG, store)
    assert set(run.arrays) == {"tau", "labels", "positions"}
    assert np.bincount(run.arrays["labels"]).tolist() == run.counts
    assert run.arrays["tau"].shape == (sum(run.counts),)
    images = datasets.load("toy", data)
    assert images.train_labels[run.arrays["positions"]].tolist() == run.arrays["labels"].tolist()
    assert run.fingerprint == datasets.fingerprint(images)


def test_the_message_for_a_missing_run_trains_it(tmp_path: Path, never_train: None) -> None:
    settings = config(seed=2)
    with pytest.raises(FileNotFoundError, match=f"run {settings.key}.*is not recorded") as error:
        runs.get(settings, tmp_path, train=False)
    command = str(error.value).splitlines()[-1]
    echo, text, arrow, file, *rest = shlex.split(command)
    assert (echo, arrow, file) == ("echo", ">", "run.yaml")
    assert rest == ["&&", "python", "-m", "dytemp", "train", "run.yaml"]
    assert Config.from_dict(yaml.safe_load(text)) == settings
    assert not list(tmp_path.iterdir())


def test_missing_data_leaves_no_record(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="toy"):
        runs.get(config(), tmp_path, root=tmp_path)
    assert not list(tmp_path.glob("*.json"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def scramble(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[60:120] = b"\xff" * 60  # inside the first compressed array
    file.write_bytes(content)


def edit(**changes: Any) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        record = json.loads(file.read_text()) | changes
        file.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))

    return change


def metric(file: Path, name: str, value: object) -> None:
    """Change one metric wherever it stands."""
    record = json.loads(file.read_text())
    for place in (record, record["evaluations"][-1]):
        place["metrics"][name] = value
    file.write_text(json.dumps(record))


def curve(name: str, values: list[float]) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        record = json.loads(file.read_text())
        record["curves"][name] = values
        file.write_text(json.dumps(record))

    return change


def rewrite_arrays(file: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez_compressed(file.with_suffix(".npz"), **arrays)


def retrain(file: Path) -> None:
    """Change what a run of the same shape on the same images would have otherwise."""
    arrays = dict(np.load(file.with_suffix(".npz")))
    rewrite_arrays(file, arrays | {"tau": arrays["tau"] * 1.01})


def shorten(file: Path, digests: bool) -> None:
    arrays = {name: values[:-1] for name, values in np.load(file.with_suffix(".npz")).items()}
    rewrite_arrays(file, arrays)
    if digests:
        content = {name: record.digest(values) for name, values in arrays.items()}
        edit(arrays=content)(file)
    else:
        edit(arrays=sorted(arrays))(file)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(cut, id="truncated"),
        pytest.param(lambda file: file.write_text(""), id="empty"),
        pytest.param(lambda file: file.write_text("[]"), id="a list"),
        pytest.param(lambda file: file.write_bytes(b"\xff\xfe"), id="no text"),
        pytest.param(edit(metrics=None), id="without metrics"),
        pytest.param(edit(colour="red"), id="with something unknown"),
        pytest.param(edit(config=config(seed=9).to_dict()), id="of another run"),
        pytest.param(edit(config={"epoch": 3}), id="of an unknown setting"),
        pytest.param(lambda file: file.with_suffix(".npz").unlink(), id="without its arrays"),
        pytest.param(lambda file: cut(file.with_suffix(".npz")), id="with damaged arrays"),
        pytest.param(lambda file: scramble(file.with_suffix(".npz")), id="with scrambled arrays"),
        pytest.param(retrain, id="with arrays of another run"),
        pytest.param(lambda file: shorten(file, digests=True), id="with fewer samples"),
        pytest.param(lambda file: shorten(file, digests=False), id="with fewer samples, as before"),
        pytest.param(lambda file: metric(file, "knn1", 57.0), id="with an accuracy in percent"),
        pytest.param(lambda file: metric(file, "knn10_tail", -0.1), id="with one below 0"),
        pytest.param(lambda file: metric(file, "alignment", math.nan), id="with NaN"),
        pytest.param(lambda file: metric(file, "alignment", None), id="with a missing number"),
        pytest.param(lambda file: metric(file, "uniformity", math.inf), id="with infinity"),
        pytest.param(lambda file: metric(file, "tolerance", "0.5"), id="with a text"),
        pytest.param(lambda file: metric(file, "knn1", True), id="with True"),
        pytest.param(edit(metrics={}), id="with no metric"),
        pytest.param(edit(metrics={"knn1": 0.5}), id="with other metrics"),
        pytest.param(edit(per_class={"knn1": [0.5, 0.5]}), id="with a class too few"),
        pytest.param(edit(evaluations=[]), id="without evaluations"),
        pytest.param(edit(curves={}), id="without curves"),
        pytest.param(curve("loss", [0.5]), id="with a short curve"),
        pytest.param(curve("temperature", []), id="with an empty curve"),
        pytest.param(curve("learning_rate", [-0.1, 0.1]), id="with a negative rate"),
        pytest.param(edit(counts=[40, 28, 21]), id="with other counts"),
        pytest.param(edit(counts=[40, 28.0, 20]), id="with counts that are not whole"),
        pytest.param(edit(groups=[0, 1, 3]), id="with a fourth group"),
        pytest.param(edit(seconds={"training": -1.0, "evaluation": 1.0}), id="of negative length"),
        pytest.param(edit(environment={}), id="without an environment"),
        pytest.param(edit(fingerprint=7), id="with a number as fingerprint"),
        pytest.param(edit(earlier=[{"epoch": 1}]), id="with a part that says nothing"),
    ],
)
def test_an_unreadable_record_is_refused(store: Path, damage: Callable[[Path], None]) -> None:
    file = store / f"{CONFIG.key}.json"
    damage(file)
    with pytest.raises(ValueError, match=f"{file} is not a readable result.*delete it to train"):
        runs.get(CONFIG, store)


def test_two_processes_and_a_killed_one(data: Path) -> None:
    helper = ROOT / "tests" / "asking_processes.py"
    search = os.pathsep.join([str(helper.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": search}
    command = [sys.executable, str(helper), str(data)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith(f"run {CONFIG.key}") for line in lines) == 2  # together, killed
    answers = {line.partition(": ")[2] for line in lines if not line.startswith("run")}
    assert len(lines) == 5
    assert len(answers) == 1


def test_a_record_of_the_older_form_is_read(store: Path, never_train: None) -> None:
    file = store / f"{CONFIG.key}.json"
    before = runs.load(file)
    edit(arrays=["labels", "tau"], fingerprint=None, earlier=None)(file)
    run = runs.get(CONFIG, store)
    assert set(run.arrays) == {"labels", "tau"}
    assert (run.metrics, run.fingerprint, run.earlier) == (before.metrics, "", [])


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_what_cannot_be_read_now_is_not_called_damaged(
    store: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = (store / CONFIG.key).with_suffix(suffix)
    file.rename(store / "elsewhere")
    file.mkdir()  # reading fails, whoever is asking
    with pytest.raises(OSError, match="directory"):
        runs.load(store / f"{CONFIG.key}.json")


def test_a_loss_without_temperature_has_no_curve_of_it(data: Path, tmp_path: Path) -> None:
    settings = config(loss={"name": "Spectral"})
    assert runs.get(settings, tmp_path, root=data).curves["temperature"] == []
    assert runs.get(settings, tmp_path, train=False).curves["temperature"] == []


def test_other_files_are_no_results(store: Path) -> None:
    (store / "notes.json").write_text("[]")
    (store / "composer.lock.json").write_text("no JSON at all")
    assert [run.key for run in runs.recorded(store)] == [CONFIG.key]


# ------------------------------------------------------------------------------- stores


def test_a_store_of_ones_own_shows_the_recorded_runs(
    data: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = runs.get(config(), root=data)
    own = workspace / "own"
    monkeypatch.setenv("DYTEMP_RESULTS", str(own))
    assert runs.get(config(), train=False).curves == recorded.curves
    assert not own.exists()  # reading writes nothing
    mine = runs.get(config(seed=1), root=data)
    assert runs.find(mine.key) == own / f"{mine.key}.json"
    assert {run.key for run in runs.recorded()} == {recorded.key, mine.key}
    assert [run.key for run in runs.recorded(workspace / "data" / "results")] == [recorded.key]
    better = own / f"{recorded.key}.json"
    better.write_text((workspace / "data" / "results" / better.name).read_text())
    rewrite(own, recorded, lambda record: record.update(code="mine"))
    assert runs.get(config(), train=False).code == "mine"
    assert [run.code for run in runs.recorded() if run.key == recorded.key] == ["mine"]


@pytest.mark.parametrize("what", ["checkpoint.unfinished", "result"])
def test_a_full_disk_is_said_and_the_next_call_goes_on(
    what: str, data: Path, tmp_path: Path
) -> None:
    work = tmp_path / ".work" / CONFIG.key
    work.mkdir(parents=True)
    (work / what).symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"{tmp_path}.*the disk is full\. Finished runs.*RESULTS"):
        runs.get(CONFIG, tmp_path, root=data)
    assert not list(tmp_path.glob("*.json"))
    assert runs.get(CONFIG, tmp_path, root=data).key == CONFIG.key


@pytest.mark.parametrize("forbidden", [".work", f".work/{CONFIG.key}", "lock"])
def test_a_store_of_another_user_is_said(
    forbidden: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / forbidden.replace("lock", f".work/{CONFIG.key}.lock")
    make, open_ = Path.mkdir, os.open

    def mkdir(self: Path, *arguments: Any, **options: Any) -> None:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        make(self, *arguments, **options)

    def opening(name: Any, *arguments: Any, **options: Any) -> int:
        if Path(name) == path:
            raise PermissionError(13, "Permission denied", str(name))
        return open_(name, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(OSError, match=rf"{path}.* may not write there.*DYTEMP_RESULTS"):
        runs.get(CONFIG, tmp_path, root=data)


def test_who_waits_is_told_for_whom(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(runs, "PATIENCE", 0.01)
    inside, told = threading.Event(), threading.Event()
    monkeypatch.setattr(training, "train", hold(training.train, inside, told))
    first = threading.Thread(target=runs.get, args=(config(), tmp_path), kwargs={"root": data})
    first.start()
    inside.wait(60)
    monkeypatch.setattr("builtins.print", tell(print, told))
    assert runs.get(config(), tmp_path, root=data).key == config().key
    first.join()
    words = f"run {config().key} is being trained by process {os.getpid()} on .* since"
    assert re.search(words, capsys.readouterr().err)


def hold(function: Any, inside: threading.Event, told: threading.Event) -> Any:
    """Wait in a call until the other one has spoken."""

    def wrapper(*arguments: Any) -> Any:
        inside.set()
        assert told.wait(60)
        return function(*arguments)

    return wrapper


def tell(function: Any, told: threading.Event) -> Any:
    def wrapper(*arguments: Any, **options: Any) -> None:
        function(*arguments, **options)
        told.set()

    return wrapper


def test_an_interrupt_is_one_sentence(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"Interrupted\..*kept") as caught:
        runs.get(CONFIG, tmp_path, root=data)
    shell = InteractiveShell(user_ns={"error": caught.value})
    with capture_output() as shown:
        shell.run_cell("raise error")
    assert shown.stdout.strip() == str(caught.value)


# ------------------------------------------------------------------------------- other data


@pytest.fixture
def changed(data: Path, store: Path) -> Path:
    """A folder in which the data of the recorded run have changed."""
    folder = store / "data"
    folder.mkdir()
    arrays = dict(np.load(data / "toy.npz"))
    arrays["test_images"][0, 0, 0] ^= 1
    np.savez(folder / "toy.npz", **arrays)
    return folder


def test_changed_data_do_not_get_the_old_result(
    data: Path, store: Path, changed: Path, never_train: None
) -> None:
    assert runs.get(CONFIG, store, root=data).key == CONFIG.key
    with pytest.raises(ValueError, match=f"'toy' has changed since run {CONFIG.key}.*another name"):
        runs.get(CONFIG, store, root=changed)
    assert runs.get(CONFIG, store, train=False, root=changed).key == CONFIG.key  # the old ones'
    shutil.copy(data / "toy.npz", changed)
    assert runs.get(CONFIG, store, root=changed).key == CONFIG.key


def test_verify_does_not_compare_runs_on_other_data(store: Path, changed: Path) -> None:
    row = runs.verify(store=store, root=changed).iloc[0]
    assert (row["verdict"], row["agrees"]) == ("other data", False)


def test_recorded_finds_what_was_run(data: Path, tmp_path: Path) -> None:
    done = [runs.get(config(seed=seed), tmp_path, root=data) for seed in (0, 1)]
    assert {run.key for run in runs.recorded(tmp_path)} == {run.key for run in done}


def rewrite(store: Path, run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    file = store / f"{run.key}.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def worsen(record: dict[str, Any]) -> None:
    """Take 20 points from an accuracy of the last evaluation, wherever they stand."""
    for place in (record, record["evaluations"][-1]):
        place["per_class"]["knn10"] = [value - 0.2 for value in place["per_class"]["knn10"]]
        place["metrics"]["knn10"] = sum(place["per_class"]["knn10"]) / 3


def test_verify_trains_again(data: Path, tmp_path: Path) -> None:
    same, close, wrong = (runs.get(config(seed=s), tmp_path, root=data) for s in range(3))
    rewrite(tmp_path, close, lambda record: record["curves"].update(loss=[0.0, 0.0]))
    rewrite(tmp_path, wrong, worsen)
    table = runs.verify(store=tmp_path, root=data).set_index("key")
    assert table.loc[same.key, "verdict"] == "equal"
    assert table.loc[same.key, "difference"] == 0
    assert table["same_environment"].all()
    assert table.loc[close.key, "verdict"] == "within tolerance"
    assert table.loc[wrong.key, "verdict"] == "differs"
    assert table.loc[wrong.key, "difference"] > runs.ACCURACY_TOLERANCE
    assert table["agrees"].to_dict() == {same.key: True, close.key: True, wrong.key: False}
    one, again = (runs.verify(1, tmp_path, root=data) for _ in range(2))
    assert len(one) == 1
    assert one.equals(again)


def test_verify_takes_the_recorded_number_of_threads(data: Path, tmp_path: Path) -> None:
    with hardware.threads(1):
        run = runs.get(config(), tmp_path, root=data)
    with hardware.threads(2):
        table = runs.verify(store=tmp_path, root=data).set_index("key")
        assert torch.get_num_threads() == 2
    assert table.loc[run.key, "same_environment"]
    assert table.loc[run.key, "verdict"] == "equal"


@pytest.mark.parametrize("name", ["precision", "threads", "torch"])
def test_verify_says_what_has_changed(name: str, data: Path, tmp_path: Path) -> None:
    run = runs.get(config(), tmp_path, root=data)
    other = {"precision": "float16", "threads": 7, "torch": "1.0"}[name]
    rewrite(tmp_path, run, lambda record: record["environment"].update({name: other}))
    row = runs.verify(store=tmp_path, root=data).iloc[0]
    # Another number of threads is no change, since it is set to the recorded one.
    expected = (True, "") if name == "threads" else (False, name)
    assert (row["same_environment"], row["changed"]) == expected


def test_verify_without_the_data_says_so(data: Path, store: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"their data are missing \(toy\)"):
        runs.verify(store=store, root=tmp_path)
    shutil.copy(data / "toy.npz", tmp_path / "other.npz")
    runs.get(config(data="other"), store, root=tmp_path)
    table = runs.verify(store=store, root=tmp_path).set_index("key")
    assert table.loc[CONFIG.key, "verdict"] == "no data"
    assert table.loc[config(data="other").key, "verdict"] == "equal"
    assert table["agrees"].all()


def test_verify_refuses(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recorded runs in"):
        runs.verify(store=tmp_path)
    with pytest.raises(ValueError, match="sample must be at least 1, got 0"):
        runs.verify(0, tmp_path)


def test_verify_knows_that_a_run_was_resumed_under_other_conditions(
    data: Path, tmp_path: Path
) -> None:
    run = runs.get(config(), tmp_path, root=data)
    part = {"epoch": 1, "environment": run.environment | {"threads": 7}, "code": run.code}
    rewrite(tmp_path, run, lambda record: record.update(earlier=[part]))
    assert runs.load(tmp_path / f"{run.key}.json").earlier == [part]
    row = runs.verify(store=tmp_path, root=data).iloc[0]
    assert (row["same_environment"], row["changed"]) == (False, "threads")
