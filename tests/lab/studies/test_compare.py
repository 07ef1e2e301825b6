"""A rule from a file: it is part of the run, blamed by its line, and compared as any method is."""

from __future__ import annotations

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from toys import config, write_data

from dytemp.lab import cli, paths, scales
from dytemp.lab.studies import compare, protocols, runs
from dytemp.lab.training import Config, own

HEAD = "import torch\nfrom torch import nn\nfrom dytemp.schedules import OfTime, Temperature\n"
HALF = HEAD + "class Half(OfTime):\n    def at(self, epoch):\n        return 0.5\n"
LOSS = HEAD + (
    "class Pull(nn.Module):\n"
    "    def forward(self, z1, z2):\n"
    "        return -nn.functional.cosine_similarity(z1, z2).mean()\n"
)


def method(line: str, kind: str = "OfTime", head: str = "at(self, epoch)") -> str:
    return f"{HEAD}class Rule({kind}):\n    def {head}:\n        {line}\n"


SEEN = "forward(self, similarity, index=None)"
MISBEHAVIOUR = {  # the text of a file, the line to blame, what is said
    "no Python": ("x = 1\ny = (\n", 2, "SyntaxError"),
    "no text": ("x = 1\n\0\n", 2, "NUL byte"),
    "fails when read": ("x = 1\n1 / 0\n", 2, "ZeroDivisionError: division by zero"),
    "wants to leave": ("import sys\nsys.exit('bye')\n", 2, "SystemExit: bye"),
    "nothing": (HEAD, 1, "no temperature .* and no loss"),
    "two": (HALF + "class Other(OfTime):\n    pass\n", 7, "Half and Other, but one file is one"),
    "unknown argument": (method("pass", head="__init__(self, size_of)"), 4, "'size_of'"),
    "does nothing": (HEAD + "class Rule(Temperature):\n    pass\n", 4, "NotImplementedError"),
    "fails late": (method("return 1 / (2 - epoch)"), 6, "ZeroDivisionError"),
    "NaN of time": (method("return float('nan')"), 5, "above 0, got nan"),
    "below 0": (method("return 1.5 - epoch"), 5, "above 0, got -0.5"),
    "NaN": (method("return similarity * torch.nan", "Temperature", SEEN), 5, "Rule .*NaN"),
    "no tensor": (method("return 0.5", "Temperature", SEEN), 5, "returned float, not a tensor"),
    "shape": (method("return similarity[0, :3]", "Temperature", SEEN), 5, r"shape \(3,\)"),
    "sign": (method("return -similarity.exp()", "Temperature", SEEN), 5, "not above 0"),
    "missing import": ("import torch\nimport not_there\n", 2, "No module named 'not_there'"),
    "loss with a shape": (
        method("return z1", "nn.Module", "forward(self, z1, z2)"),
        5,
        r"shape \(8, 16\), not a single number",
    ),
    "loss of NaN": (
        method("return (z1 * torch.nan).sum()", "nn.Module", "forward(self, z1, z2)"),
        5,
        "NaN",
    ),
    "loss without a gradient": (
        method("return (z1.detach() * z2.detach()).sum()", "nn.Module", "forward(self, z1, z2)"),
        5,
        "does not require grad",
    ),
    "infinite gradient": (
        method("return (z1 - z1).norm() + z2.sum()", "nn.Module", "forward(self, z1, z2)").replace(
            ".norm()", ".pow(2).sum().sqrt()"
        ),
        5,
        "gradient must be finite",
    ),
}


def write(folder: Path, source: str, name: str = "my_rule.py") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(source, encoding="utf-8")
    return file


@pytest.fixture
def small(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The comparison at a size of seconds: four main methods on toy data."""
    get_reusable_executor().shutdown()  # workers of another test have its environment
    monkeypatch.setenv("DYTEMP_DATA", str(write_data(workspace)))
    monkeypatch.setenv("DYTEMP_JOBS", "1")
    toy = config().to_dict()
    names = ("data", "n_max", "ratio", "batch", "epochs", "projection_dim")
    monkeypatch.setattr(protocols, "QUICK", {name: toy[name] for name in names})
    monkeypatch.setattr(protocols, "MAIN", ("fixed 0.1", "fixed 0.5", "TS", "DySTreSS"))
    return workspace


def test_the_key_is_that_of_the_text(tmp_path: Path) -> None:
    here = compare.specification(write(tmp_path / "a", HALF), 2)
    there = compare.specification(write(tmp_path / "b", HALF, "other.py"), 2)
    changed = compare.specification(write(tmp_path / "a", HALF + "# \n"), 2)
    first, moved, other = (config(loss=loss).key for loss in (here, there, changed))
    assert first == moved != other


def test_recorded_keys_are_unchanged() -> None:
    """The file of a recorded run is named after the key that its settings have had."""
    assert Config().key == "44136fa355b3678a"  # of no settings but defaults
    found = sorted(scales.store("recorded").glob("[0-9a-f]*.json"))[::100]
    assert len(found) > 5
    assert [runs.load(file).config.key for file in found] == [file.stem for file in found]


@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_file_that_misbehaves_is_named_with_its_line(
    name: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, line, words = MISBEHAVIOUR[name]
    file = write(small, source)
    assert cli.main(["compare", str(file), "--draws", "2"]) == 1
    printed = capsys.readouterr()
    (sentence,) = printed.err.splitlines()
    assert sentence.startswith(f"dytemp: {file}, line {line}: ")
    assert re.search(words, sentence)
    assert printed.out == ""  # before anything was trained


def test_no_text_at_all(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = small / "my_rule.py"
    file.write_bytes(b"# fine\n# \xff\n")
    assert cli.main(["compare", str(file)]) == 1
    assert f"{file}, line 2: the file is no text in UTF-8" in capsys.readouterr().err
    file.write_text(HALF, encoding="utf-8-sig")  # as some editors on Windows save it
    assert compare.specification(file, 2)["temperature"]["source"] == HALF
    assert cli.main(["compare", str(small / "missing.py")]) == 1
    assert "missing.py" in capsys.readouterr().err


def test_what_goes_wrong_in_training_only_is_blamed_too(small: Path) -> None:
    source = method("return 0.5 if self.training and epoch < 2 else 1 / 0")
    run = config(loss=compare.specification(write(small, source), 2))
    with pytest.raises(own.RuleError, match=r"line 6 .*ZeroDivisionError"):
        runs.get(run, small / "store")
    with pytest.raises(FileNotFoundError, match="elsewhere"):  # not the rule's fault
        runs.get(config(loss=run.loss, data="elsewhere"), small / "store")


def test_workers_train_and_blame(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYTEMP_JOBS", "2")
    # A trial has 16 views: this goes wrong in the training only.
    line = "return similarity * 0 + (0.5 if len(similarity) == 16 else torch.nan)"
    file = write(small, method(line, "Temperature", SEEN))
    assert cli.main(["compare", str(file), "--draws", "2"]) == 1
    printed = capsys.readouterr()
    assert "To be trained, 10 runs" in printed.out
    assert f"dytemp: {file}, line 5: Rule returned NaN or inf\n" in printed.err
    assert "Traceback" not in printed.err


def test_a_schedule_follows_the_epochs(small: Path) -> None:
    source = HEAD + (
        "class Falling(OfTime):\n"
        "    def __init__(self, epochs):\n"
        "        super().__init__()\n"
        "        self.epochs = epochs\n"
        "    def at(self, epoch):\n"
        "        return 1 - epoch / (2 * self.epochs)\n"
    )
    run = compare.plan(write(small, source), "quick", (1,)).configs["my_rule.py"][1][0]
    assert run.epochs == 2
    curve = runs.get(run, small / "store").curves["temperature"]
    assert curve == pytest.approx([0.75, 0.5])


def test_what_a_rule_cannot_be_compared_with(small: Path) -> None:
    file = write(small, HALF)
    with pytest.raises(ValueError, match="'isogclr_balanced' has no fixed temperature"):
        compare.plan(file, "quick", name="isogclr_balanced")
    with pytest.raises(ValueError, match="study must be one of"):
        compare.plan(file, "quick", name="other")
    with pytest.raises(ValueError, match=r"not be named as a method .* 'TS'"):
        compare.plan(write(small, HALF, "TS"), "quick")
    with pytest.raises(ValueError, match="--draws must be at least 1, got 0"):
        cli._compare(cli._parser().parse_args(["compare", str(file), "--draws", "0"]))


def test_another_study_is_compared_with(small: Path) -> None:
    plan = compare.plan(write(small, HALF), "quick", (3,), "own")
    assert list(plan.configs) == ["my_rule.py", *protocols.configs("own", "quick", (3,))]
    assert set(plan.missing) == set(plan.configs)  # nobody has recorded toy data
    assert (plan.name, plan.scale) == ("own", "quick")


def test_another_process_can_build_and_blame(tmp_path: Path) -> None:
    good, bad = (
        config(loss=compare.specification(write(tmp_path, source), 2))
        for source in (HALF, method("return 1 / (2 - epoch)"))
    )
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(compare.try_out, good).result() is None
        error = pool.submit(compare.try_out, bad).exception()
    assert isinstance(error, own.RuleError)
    assert (error.line, error.problem.split(":")[0]) == (6, "ZeroDivisionError")


def test_a_temperature_is_compared(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(small, HALF)
    assert cli.main(["compare", str(file), "--draws", "2"]) == 0
    out = capsys.readouterr().out
    assert "0 of 10 runs of 5 methods are recorded" in out
    assert "fixed 0.1: 2" in out
    assert "my_rule.py minus each of the others" in out
    assert "learning rate 0.5" in out
    picture = paths.build() / "comparison_my_rule_quick.png"
    assert f"figure: {picture}" in out
    assert picture.read_bytes()[:4] == b"\x89PNG"

    plan = compare.plan(file, "quick", (1, 2))
    assert not plan.missing
    assert "nothing is to be trained" in str(plan)
    study = plan.study()
    table = compare.differences(study, "my_rule.py")
    # The same temperature under another name: whatever the data, there is no difference.
    assert study.differences("my_rule.py", "fixed 0.5").tolist() == [0, 0]
    for control, group in table.index:
        found, row = (
            study.difference("my_rule.py", control, "knn1", group),
            table.loc[control, group],
        )
        assert row["mean"] == found.mean
        each = study.differences("my_rule.py", control, "knn1", group)
        if each.std() < 1e-9:  # equal on both draws, which says nothing about others
            assert row[["low", "high", "draws for 1 point"]].isna().all()
            assert row["p (Holm)"] == 1
        else:
            assert (found.low, found.high) == (row["low"], row["high"])
            assert row["p (Holm)"] >= found.p_value
    assert list(table.index.unique("minus")) == [study.best_fixed(), "TS", "DySTreSS"]

    write(small, HALF + "# another version\n")
    assert list(compare.plan(file, "quick", (1, 2)).missing) == ["my_rule.py"]
    assert "2 runs (my_rule.py: 2):" in str(compare.plan(file, "quick", (1, 2)))


def test_a_loss_is_compared_on_one_draw(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(write(small, LOSS, "pull.py")), "--draws", "1"]) == 0
    out = capsys.readouterr().out
    assert "do not say how many" in out
    plan = compare.plan(small / "pull.py", "quick", (1,))
    run = plan.study().run("pull.py")
    assert run.config.loss["source"] == LOSS
    assert run.curves["temperature"] == []
    assert all(-1 <= value <= 1 for value in run.curves["loss"])


def test_a_loss_is_told_index_and_time() -> None:
    source = HEAD + (
        "from dytemp.schedules import Linear\n"
        "class Seen(nn.Module):\n"
        "    def __init__(self, size):\n"
        "        super().__init__()\n"
        "        self.size, self.tau = size, nn.ModuleList([Linear(0.1, 1.0, 10)])\n"
        "    def forward(self, z1, z2, index):\n"
        "        return z1.sum() * 0 + self.size + index.sum() + self.tau[0].epoch\n"
    )
    loss = own_loss(source, size=7)
    loss.set_epoch(3)
    assert loss.needs_index
    assert float(loss(torch.randn(2, 4), torch.randn(2, 4), torch.tensor([2, 4]))) == 7 + 6 + 3


def own_loss(source: str, size: int) -> torch.nn.Module:
    from dytemp.lab.training import build_loss

    return build_loss({"name": own.load(source).__name__, "source": source}, size=size)


def test_reading_a_record_executes_nothing() -> None:
    spec = {"name": "Rule", "source": "raise RuntimeError('executed')"}
    made = config(loss={"name": "NTXent", "temperature": spec})
    assert Config.from_dict(made.to_dict()).key == made.key
    with pytest.raises(own.RuleError, match=r"line 1 .*executed"):
        compare.try_out(made)
