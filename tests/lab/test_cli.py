"""The command line: what it prints, which code it returns, and that users never see a traceback."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import ROOT
from distributed import Client, LocalCluster

import dytemp
from dytemp.lab import cli, datasets, paths, training, yaml_files

PARAMETERS = ('scale: str = "recorded"  # one of the four scales', ["parameters"])
IMPORTS = "from dytemp.lab import scales\nfrom dytemp.lab.book import parameters"
GUARD = "parameters.check(globals(), scale=scales.NAMES)"
LIVE = """
import os, sys
print(os.getcwd(), sys.prefix, scale, os.environ["TQDM_DISABLE"], sep="\\n")
print("run 1 of 1: done")
print("no news")
"""

TRAINING = """
from dytemp.lab.studies import parallel
from dytemp.lab.training.configuration import Config
tiny = {"n_max": 60, "ratio": 0.5, "batch": 64, "projection_dim": 16, "epochs": 2}
configs = {"fixed": [Config(**tiny, seed=seed) for seed in range(2)]}
done = parallel.get_all(configs, scales.store(scale))["fixed"]
"""

EVIDENCE = {"paper", "claim", "statement", "scope", "outcome", "effect", "low", "high", "draws"}
EVIDENCE |= {"paper_effect", "runs", "notebook", "note"}

Write = Callable[..., Path]


@pytest.fixture
def chapters(workspace: Path, write_notebook: Write) -> Path:
    """Two chapters; the first one fails."""
    folder = workspace / "notebooks"
    opening = ("# A chapter", IMPORTS, PARAMETERS, GUARD)
    write_notebook(folder / "00_broken.ipynb", *opening, "ratio = 1 / 0", "2")
    write_notebook(folder / "01_good.ipynb", *opening, LIVE)
    return folder


@pytest.mark.notebooks
def test_reproduce_goes_on_after_a_failure_and_reports_it(
    chapters: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sources = {path: path.read_bytes() for path in chapters.glob("*.ipynb")}
    assert cli.main(["reproduce", "--scale", "quick", "--jobs", "2"]) == 1
    printed = capfd.readouterr()
    out = printed.out.splitlines()
    assert out[0] == "2 chapters at scale quick, 2 at once"
    (failed,) = (line for line in out if "00_broken: FAILED" in line)
    assert "cell [5]: ZeroDivisionError: division by zero (" in failed
    (done,) = (line for line in out if "01_good: done (" in line)
    assert out.index("    run 1 of 1: done  [01_good]") < out.index(done)
    assert out[-1] == f"report: {paths.build() / 'report' / 'index.html'}"
    assert len(out) == 5
    assert printed.err == "dytemp: 1 of 2 notebooks failed: 00_broken\n"
    assert sources == {path: path.read_bytes() for path in chapters.glob("*.ipynb")}
    report = paths.build() / "report"
    assert (report / "live" / "00_broken.html").is_file()
    assert (report / "live" / "01_good.html").is_file()
    assert "ZeroDivisionError" in (report / "run.html").read_text(encoding="utf-8")


@pytest.mark.notebooks
def test_same_results_side_by_side_and_each_run_trained_once(
    workspace: Path, write_notebook: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("00_first", "01_second"):
        notebook = workspace / "notebooks" / f"{name}.ipynb"
        write_notebook(notebook, "# A chapter", IMPORTS, PARAMETERS, GUARD, TRAINING)
    results = []
    for jobs in ("1", "2"):
        assert cli.main(["reproduce", "--jobs", jobs]) == 0
        lines = capfd.readouterr().out.splitlines()
        assert sum(line.startswith("    run ") for line in lines) == 2, lines
        store = paths.build() / "results"
        records = [json.loads(file.read_text()) for file in sorted(store.glob("*.json"))]
        results.append([{k: r[k] for k in ("key", "metrics", "curves")} for r in records])
        shutil.rmtree(store)
    assert results[0] == results[1]
    assert len(results[0]) == 2


@pytest.mark.notebooks
def test_reproduce_trains_on_a_cluster(
    workspace: Path, write_notebook: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    notebook = workspace / "notebooks" / "00_training.ipynb"
    write_notebook(notebook, "# A chapter", IMPORTS, PARAMETERS, GUARD, TRAINING)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        assert cli.main(["reproduce", "--scheduler", cluster.scheduler_address]) == 0
        with Client(cluster) as client:
            assert all(client.run(lambda: "dytemp.lab.training" in sys.modules).values())
    lines = capfd.readouterr().out.splitlines()
    assert sum(line.startswith("    run ") for line in lines) == 2, lines
    assert len(list((paths.build() / "results").glob("*.json"))) == 2


@pytest.mark.notebooks
def test_reproduce_runs_in_the_notebooks_folder_with_this_interpreter(
    chapters: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "elsewhere"
    assert cli.main(["reproduce", "--only", "01", "--output", str(output)]) == 0
    assert (output / "index.html").is_file()
    executed = nbformat.read(paths.build() / "notebooks" / "quick" / "01_good.ipynb", as_version=4)
    lines = executed.cells[-1].outputs[0].text.splitlines()
    assert lines[:4] == [str(chapters), sys.prefix, "quick", "1"]
    assert capfd.readouterr().err == ""


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("seed: 3", "unknown parameter seed = 3; this notebook knows: scale"),
        ("scale: quik", "parameter scale must be one of recorded, quick, small, paper"),
        ("scale: 3", "parameter scale must be one of recorded, quick, small, paper; got 3"),
    ],
)
def test_reproduce_refuses_wrong_parameters(
    chapters: Path, capfd: pytest.CaptureFixture[str], parameter: str, words: str
) -> None:
    (chapters / "scales").unlink()
    (chapters / "scales").mkdir()
    (chapters / "scales" / "quick.yaml").write_text(parameter)
    assert cli.main(["reproduce", "--only", "01"]) == 1
    assert words in capfd.readouterr().out


def test_reproduce_refuses_unknown_notebooks(
    chapters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", "--only", "7"]) == 1
    assert "no notebook starts with '7'; there are: 00_broken, 01_good" in capsys.readouterr().err


def test_report_of_the_stored_outputs(chapters: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report"]) == 0
    assert capsys.readouterr().out == f"report: {paths.build() / 'report' / 'index.html'}\n"


def test_report_of_a_scale_that_has_not_run(
    chapters: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "--scale", "small"]) == 1
    assert "python -m dytemp reproduce --scale small" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["reproduce", "--scale", "tiny"],
        ["report", "--scale", "tiny"],
        ["train"],
        ["verify", "--sample", "many"],
        ["claims", "--xml"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "usage: python -m dytemp" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("epochs: [1", "is not valid YAML"),
        ("- 1", "must hold 'name: value' pairs; got list"),
        ("", "must hold 'name: value' pairs; got NoneType"),
        ("epoch: 3", "got 'epoch' (did you mean 'epochs'?)"),
        ("loss: {name: NTXentt}", "did you mean 'NTXent'?"),
        ("epochs: 2\nseed: 1\nepochs: 3", "'epochs' is given twice"),
        (
            "loss: {name: NTXent, temperature: 0.1, temperature: 0.2}",
            "'temperature' is given twice",
        ),
        ("epochs: 1:30", "epochs must be an integer, got str '1:30'"),
        ("seed: 18446744073709551616", "seed must be at most"),
        ("projection_dim: 1000000000000000000000", "projection_dim must be at most"),
        (f"seed: {'9' * 5000}", "is not valid YAML"),
        ("[" * 5000, "is not valid YAML"),
        (
            "loss: {name: MoCo, temperature: 0.2, queue_size: 4611686018427387904}",
            "cannot be built",
        ),
        ("{encoder: dense, n_max: 40, ratio: 0.5, batch: 16}", "needs images of 8 x 8 pixels"),
        ("{data: scenes, batch: 16}", "None (null in YAML) takes all images as they are"),
        ("data: cifar10", "python -m dytemp fetch cifar10 --to FOLDER"),
        ("epochs: three", "epochs"),
        ("learning_rate: fast", "learning_rate"),
        ("loss: {name: NTXent, temperature: -1}", "temperature"),
        ("data: nowhere", "nowhere"),
    ],
)
def test_train_refuses_wrong_configurations(
    workspace: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    config = workspace / "config.yaml"
    if text is not None:
        config.write_text(text)
    assert cli.main(["train", str(config)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("dytemp: ")
    assert words in printed


def test_settings_are_read_as_everybody_writes_them(workspace: Path) -> None:
    file = workspace / "settings.yaml"
    file.write_text("a: 010\nb: 5e-4\nc: -3\nd: .5\ne: [1, 2.0]\nf: 1_000\ng: null\nh: .inf")
    read = yaml_files.read(file)
    assert read == {
        "a": 10,
        "b": 5e-4,
        "c": -3,
        "d": 0.5,
        "e": [1, 2.0],
        "f": "1_000",
        "g": None,
        "h": math.inf,
    }
    assert [type(read[name]) for name in "ab"] == [int, float]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"dytemp {dytemp.__version__}\n"


def test_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    labels = torch.zeros(3, dtype=torch.int64)
    found = datasets.Dataset("cifar10", images, images[:1], labels, labels[:1], ("a",))
    asked = []
    monkeypatch.setattr(
        datasets, "load", lambda *given, **named: asked.append((given, named)) or found
    )
    assert cli.main(["fetch", "cifar10", "--to", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"cifar10: 3 + 1 images in {tmp_path}; DYTEMP_DATA=")
    assert asked == [(("cifar10", tmp_path), {"download": True})]
    assert cli.main(["fetch", "cifar10"]) == 1
    assert "say where the data set goes: --to FOLDER" in capsys.readouterr().err


FAILURES = {
    "a full disk": (OSError(28, "No space left on device", "/x"), "/x cannot.* the disk is full"),
    "a forbidden folder": (PermissionError(13, "denied", "/x"), "/x cannot be .*may not write"),
    "an unreadable file": (IsADirectoryError(21, "Is a directory", "/x"), "Is a directory: '/x'"),
    "little memory": (RuntimeError("DefaultCPUAllocator: can't allocate"), "too little memory"),
    "an interrupt": (KeyboardInterrupt(), "[Ii]nterrupted.*kept"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_what_goes_wrong_while_training_is_one_sentence(
    failure: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error, words = FAILURES[failure]

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(training.loop, "choose_split", fail)
    config = workspace / "config.yaml"
    config.write_text("{n_max: 8, ratio: 5e-1, batch: 16, epochs: 2}")
    assert cli.main(["train", str(config)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dytemp: ")
    assert re.search(words, line)


@pytest.mark.parametrize("command", ["reproduce", "report"])
def test_a_forbidden_build_folder_is_one_sentence(
    command: str,
    chapters: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert cli.main([command]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"dytemp: .*build.*may not write there.*DYTEMP_BUILD", line)


def test_train_records_a_run_that_verify_repeats(
    workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = workspace / "config.yaml"
    # Exponents without a dot are strings in YAML 1.1, but numbers for everybody who writes them.
    config.write_text("{n_max: 8, ratio: 5e-1, batch: 16, epochs: 2, weight_decay: 5E-4}")
    assert cli.main(["train", str(config)]) == 0
    trained = capfd.readouterr().out
    (file,) = (workspace / "data" / "results").glob("*.json")
    record = json.loads(file.read_text())
    assert (record["config"]["ratio"], record["config"]["weight_decay"]) == (0.5, 5e-4)
    assert trained.startswith(f"run {file.stem}")
    assert trained.endswith(f"recorded in {file}\n")

    assert cli.main(["train", str(config)]) == 0
    again = capfd.readouterr().out
    assert trained.endswith(again)  # nothing but the line of the training run is missing
    assert not again.startswith("run ")

    assert cli.main(["verify", "--sample", "1"]) == 0
    assert "equal" in capfd.readouterr().out
    for place in (record, record["evaluations"][-1]):
        for name, values in place["per_class"].items():
            place["per_class"][name] = [0.0] * len(values)
            place["metrics"][name] = 0.0
    file.write_text(json.dumps(record))
    assert cli.main(["verify"]) == 1
    printed = capfd.readouterr()
    assert "differs" in printed.out
    assert "some runs differ from their record" in printed.err


def test_verify_needs_recorded_runs(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify"]) == 1
    assert "no recorded runs" in capsys.readouterr().err


def test_claims_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["claims", "--json"]) == 0
    claims = json.loads(capsys.readouterr().out)
    assert {claim["paper"] for claim in claims} == {"ts", "isogclr", "dystress"}
    assert all(claim.keys() >= EVIDENCE for claim in claims)


def test_claims_for_readers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["claims", "--json"]) == 0
    claims = json.loads(capsys.readouterr().out)
    assert cli.main(["claims"]) == 0
    text = capsys.readouterr().out
    assert all(claim["claim"] in text and claim["outcome"] in text for claim in claims)


def test_table_of_the_readme_is_that_of_the_claims(capsys: pytest.CaptureFixture[str]) -> None:
    """After a verdict was recorded: put what `python -m dytemp claims --table` prints there."""
    assert cli.main(["claims", "--table"]) == 0
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out in readme
    assert len(readme.split("make test\n```")[1].splitlines()) <= 101


def test_module_runs_from_any_folder(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dytemp", "claims", "--json"],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)


def test_reader_may_stop_reading(tmp_path: Path) -> None:
    command = f"{sys.executable} -m dytemp claims | head -c 10"
    result = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(result.stdout) == 10
    assert result.stderr == ""
