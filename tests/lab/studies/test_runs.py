from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from asking_processes import CONFIG
from conftest import ROOT
from toys import config, write_data

from dytemp.lab import training
from dytemp.lab.studies import runs
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
    assert record["code"].startswith("0.1.0")
    assert (store / f"{CONFIG.key}.json").stat().st_size < 5000


def test_learned_temperatures_are_kept(store: Path, never_train: None) -> None:
    run = runs.get(CONFIG, store)
    assert set(run.arrays) == {"tau", "labels"}
    assert np.bincount(run.arrays["labels"]).tolist() == run.counts
    assert run.arrays["tau"].shape == (sum(run.counts),)


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


# ------------------------------------------------------------------------------- tables of results


def test_frame_has_one_row_a_run(data: Path, tmp_path: Path) -> None:
    done = [runs.get(config(seed=seed), tmp_path, root=data) for seed in (0, 1)]
    table = runs.frame(done)
    assert table["seed"].tolist() == [0, 1]
    assert table["key"].tolist() == [run.key for run in done]
    assert table["loss"].tolist() == ["NTXent(temperature=0.2)"] * 2
    assert table["knn1"].tolist() == [run.metrics["knn1"] for run in done]
    assert {"ratio", "knn10_tail", "uniformity", "seconds"} < set(table.columns)
    assert {run.key for run in runs.recorded(tmp_path)} == {run.key for run in done}


def test_curves_hold_what_was_measured_when(data: Path, tmp_path: Path) -> None:
    run = runs.get(config(epochs=3, evaluate_every=1), tmp_path, root=data)
    epochs, values = run.curve("knn1")
    assert epochs == [1, 2, 3]
    assert values[-1] == run.metrics["knn1"]
    assert run.curve("alignment") == ([3], [run.metrics["alignment"]])
    with pytest.raises(ValueError, match=r"metric must be one of knn1, .* got 'knn5'"):
        run.curve("knn5")


def rewrite(store: Path, run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    file = store / f"{run.key}.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


def test_verify_trains_again(data: Path, tmp_path: Path) -> None:
    same, close, wrong = (runs.get(config(seed=s), tmp_path, root=data) for s in range(3))
    rewrite(tmp_path, close, lambda record: record["curves"]["loss"].append(0.0))
    rewrite(tmp_path, wrong, lambda record: record["metrics"].update(knn10=0.1))
    rewrite(tmp_path, wrong, lambda record: record["curves"]["loss"].append(0.0))
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
