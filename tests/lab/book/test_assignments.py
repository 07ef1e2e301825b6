"""The assignments: sources in order, right and wrong solutions, and a class that is graded."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from conftest import ROOT
from nbformat import NotebookNode
from nbgrader.nbgraderformat import MetadataValidator

from dytemp.lab.book import classroom, homework
from dytemp.lab.cli import main

SOURCES = {file.stem: file for file in sorted((ROOT / "notebooks/assignments").glob("*.ipynb"))}
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"

each_assignment = pytest.mark.parametrize("name", SOURCES)


def read(name: str) -> NotebookNode:
    return nbformat.read(SOURCES[name], as_version=4)


def grade_id(cell: NotebookNode) -> str:
    found: str = cell.metadata.get("nbgrader", {}).get("grade_id", "")
    return found


def is_test(cell: NotebookNode) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get("grade"))


def regions(text: str, name: str) -> list[str]:
    found = re.findall(rf"### BEGIN {name}\n(.*?)### END {name}", text, re.DOTALL)
    return [str(each) for each in found]


def test_there_are_five() -> None:
    assert [name[0] for name in SOURCES] == list("abcde")


# ---------------------------------------------------------------------------------------- sources


@each_assignment
def test_source_is_valid(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    MetadataValidator().validate_nb(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    names = [grade_id(cell) for cell in notebook.cells if grade_id(cell)]
    assert len(set(names)) == len(names)
    assert not [cell.id for cell in notebook.cells if cell.get("outputs")]


@each_assignment
def test_points_are_those_of_the_introduction(name: str) -> None:
    cells = read(name).cells
    tests = sum(cell.metadata.nbgrader.points for cell in cells if is_test(cell))
    tasks = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("task")]
    assert len(tasks) == 1
    assert len(regions(tasks[0].source, "MARK SCHEME")) == 1
    words = re.sub(r"\s+", " ", cells[0].source)
    total, by_tests = re.findall(r"\*\*Points\*\*: (\d+), of which (\d+) are", words)[0]
    assert (int(by_tests), int(total)) == (tests, tests + tasks[0].metadata.nbgrader.points)


@each_assignment
def test_tests_say_something_and_tell_nothing(name: str) -> None:
    for cell in read(name).cells:
        if not is_test(cell) or grade_id(cell).endswith("-kernel"):
            continue
        hidden = "".join(regions(cell.source, "HIDDEN TESTS"))
        visible = cell.source.replace(hidden, "")
        assert "expect" in visible, f"{grade_id(cell)} has a visible line"
        assert not re.search(r"\bassert\b", cell.source), f"{grade_id(cell)} has messages"
        points = cell.metadata.nbgrader.points
        assert re.match(rf"# Test of .*{points} points?\n", cell.source), grade_id(cell)
        if "of my_rule" not in cell.source.splitlines()[0]:  # the one that may use the library
            assert "on_its_own(" in visible, f"{grade_id(cell)} refuses the library"


# ---------------------------------------------------------------------- right and wrong solutions


def lost(name: str, solution: dict[str, str]) -> dict[str, str]:
    """Run an assignment with other answers; return the tests that fail, with their messages.

    All cells run but those that only show something; in this process, which takes a second where
    nbgrader takes fifteen. That both find the same is tested for the source and the copy below.
    """
    found: dict[str, str] = {}
    namespace = {"__name__": "__main__"}
    for cell in read(name).cells:
        if cell.cell_type != "code":
            continue
        if not grade_id(cell) and re.search(r"\bprint\(|plt\.show\(", cell.source):
            continue
        source = cell.source
        for old, new in solution.items():
            source = source.replace(old, new)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, grade_id(cell) or cell.id, "exec"), namespace)
        except Exception as error:
            if not is_test(cell):
                raise
            found[grade_id(cell)] = f"{type(error).__name__}: {error}"
    return found


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    matplotlib.use("Agg")
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
    plt.close("all")


WRONG = {
    "a: exp without the maximum": (
        "a_infonce",
        {"logits.logsumexp(dim=1) - positive": "logits.exp().sum(dim=1).log() - positive"},
        {"a-loss-stable-test"},
    ),
    "a: sum over the anchors": (
        "a_infonce",
        {"logits.logsumexp(dim=1) - positive": "logits.logsumexp(dim=0) - positive"},
        {"a-loss-value-test"},
    ),
    "a: mean over the anchors": (
        "a_infonce",
        {
            "logits.logsumexp(dim=1) - positive": "(logits.logsumexp(dim=1) - positive).mean()",
        },
        {"a-loss-value-test", "a-loss-stable-test"},
    ),
    "a: anchor not masked": (
        "a_infonce",
        {"logits = (s / tau).masked_fill(itself, -torch.inf)": "logits = s / tau"},
        {"a-loss-value-test"},
    ),
    "a: input overwritten": (
        "a_infonce",
        {
            "logits = (s / tau).masked_fill(itself, -torch.inf)": "s[itself] = -torch.inf\n"
            "    logits = s / tau"
        },
        {"a-loss-input-test"},
    ),
    "a: gradient without 1 / tau": (
        "a_infonce",
        {"return p / tau": "return p"},
        {"a-push-size-test"},
    ),
    "a: pairs with oneself": (
        "a_infonce",
        {"    same &= ~torch.eye(len(z), dtype=torch.bool)\n": ""},
        {"a-tolerance-test"},
    ),
    "b: half a period": (
        "b_schedules",
        {"math.cos(2 * math.pi * t / period)": "math.cos(math.pi * t / period)"},
        {"b-cosine-period-test"},
    ),
    "b: starts low": (
        "b_schedules",
        {"(1 + math.cos(2 * math.pi * t / period))": "(1 - math.cos(2 * math.pi * t / period))"},
        {"b-cosine-range-test", "b-cosine-period-test"},
    ),
    "b: not paired": (
        "b_schedules",
        {"difference.std(ddof=1)": "math.hypot(np.std(a, ddof=1), np.std(b, ddof=1))"},
        {"b-interval-pairs-test", "b-interval-width-test"},
    ),
    "b: divisor n": (
        "b_schedules",
        {"difference.std(ddof=1)": "difference.std()"},
        {"b-interval-width-test"},
    ),
    "b: any interval around 0 is no difference": (
        "b_schedules",
        {"-margin <= low and high <= margin": "low <= 0 <= high"},
        {"b-verdict-test"},
    ),
    "c: sum in place of the mean": (
        "c_individual",
        {"torch.logsumexp(h / tau, dim=0) - math.log(len(h))": "torch.logsumexp(h / tau, dim=0)"},
        {"c-objective-test"},
    ),
    "c: exp without the maximum": (
        "c_individual",
        {
            "torch.logsumexp(h / tau, dim=0) - math.log(len(h))": "(h / tau).exp().mean().log()",
        },
        {"c-objective-stable-test"},
    ),
    "c: sign of the gradient": (
        "c_individual",
        {"rho - (log_p.exp()": "-rho + (log_p.exp()"},
        {"c-slope-test"},
    ),
    "c: entropy in place of the divergence": (
        "c_individual",
        {"torch.xlogy(p, len(p) * p).sum()": "torch.xlogy(p, p).sum()"},
        {"c-divergence-test"},
    ),
    "c: bounds forgotten": (
        "c_individual",
        {"if excess(low) <= 0:": "if False:", "if excess(high) >= 0:": "if False:"},
        set(),  # a bisection ends at the right bound by itself, within the accuracy
    ),
    "c: no control": (
        "c_individual",
        {"x.mean(dim=0)": "x.mean()", "taus.mean(dim=0)": "taus.mean()"},
        {"c-controlled-test"},
    ),
    "d: tau not detached": (
        "d_similarity",
        {"tau.detach() if detach else tau": "tau"},
        {"d-forces-detached-test"},
    ),
    "d: tau always detached": (
        "d_similarity",
        {"tau.detach() if detach else tau": "tau.detach()"},
        {"d-forces-full-test"},
    ),
    "d: factor without s": (
        "d_similarity",
        {"1 - s * slope / tau": "1 - slope / tau"},
        {"d-factor-test", "d-turning-test"},
    ),
    "d: cosine of s, highest in the middle": (
        "d_similarity",
        {"torch.cos(math.pi * (1 + s))": "torch.cos(math.pi * s)"},
        {"d-tau-test", "d-forces-detached-test", "d-forces-full-test"},
    ),
    "d: control that looks at the pair": (
        "d_similarity",
        {"tau = torch.full_like(s, low)": "tau = tau_of(s, low, high)"},
        {"d-control-test"},
    ),
    "e: a straight line": (
        "e_competition",
        {
            "self.start * (self.end / self.start) ** part": "self.start"
            " + (self.end - self.start) * part"
        },
        {"e-ramp-test"},
    ),
    "e: floor of one draw": (
        "e_competition",
        {"math.sqrt(sum(squares) / n) / math.sqrt(n)": "math.sqrt(sum(squares) / n)"},
        {"e-floor-test"},
    ),
    "e: any gain above the floor wins": (
        "e_competition",
        {"max(floor, width)": "floor"},
        {"e-outcome-test"},
    ),
    "e: a temperature that may be negative": (
        "e_competition",
        {
            "    return Ramp(0.2, 0.05, EPOCHS)": "    class Mine(schedules.OfTime):\n"
            "        def at(self, epoch):\n"
            "            return 0.1 - 0.1 * epoch\n\n"
            "    return Mine()"
        },
        {"e-rule-test"},
    ),
}


@each_assignment
def test_solution_passes_every_test(name: str) -> None:
    assert lost(name, {}) == {}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_solution_loses_what_it_should_and_nothing_else(case: str) -> None:
    name, changes, expected = WRONG[case]
    sources = "\n".join(cell.source for cell in read(name).cells)
    assert all(old in sources for old in changes)
    assert lost(name, changes).keys() == expected


def test_there_are_three_wrong_solutions_for_each() -> None:
    counted = [name for name, _, expected in WRONG.values() if expected]
    assert all(counted.count(name) >= 3 for name in SOURCES)


@pytest.mark.parametrize(
    ("name", "answer", "library"),
    [
        (
            "a_infonce",
            "return logits.logsumexp(dim=1) - positive",
            "from dytemp.losses.infonce import info_nce as solved\n"
            "    return solved(s, positives, tau, itself)",
        ),
        (
            "b_schedules",
            "return low + (high - low) * (1 + math.cos(2 * math.pi * t / period)) / 2",
            "from dytemp.schedules import Cosine\n    return Cosine(low, high, period).at(t)",
        ),
        (
            "c_individual",
            "return tau * log_mean + tau * rho",
            "from dytemp.losses import sogclr\n    return sogclr.robust_objective(h, tau, rho)",
        ),
        (
            "d_similarity",
            "return low + (high - low) * (1 + torch.cos(math.pi * (1 + s))) / 2",
            "from dytemp import schedules\n    return schedules.SimilarityCosine(low, high).at(s)",
        ),
    ],
)
def test_solution_of_the_library_is_refused(name: str, answer: str, library: str) -> None:
    assert any(answer in cell.source for cell in read(name).cells)
    refused = lost(name, {answer: library})
    assert refused
    assert any("of the library: write the formula yourself" in text for text in refused.values())


# ------------------------------------------------------------------------------------ in a class


def hand_in(course: Path, student: str, name: str, notebook: NotebookNode) -> None:
    folder = course / "submitted" / student / name
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


def tampered(released: NotebookNode) -> NotebookNode:
    """Delete one test cell, convert another one, copy a third."""
    notebook = released.copy()
    cells = {grade_id(cell): cell for cell in notebook.cells if grade_id(cell)}
    converted = cells["a-push-size-test"]
    converted.cell_type = "markdown"
    del converted["outputs"], converted["execution_count"]
    notebook.cells = [cell for cell in notebook.cells if grade_id(cell) != "a-effective-test"]
    return notebook


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    classroom.build(folder)
    for name in SOURCES:
        released = nbformat.read(folder / "release" / name / f"{name}.ipynb", as_version=4)
        hand_in(folder, "untouched", name, released)
        hand_in(folder, "solution", name, read(name))
    source = read("a_infonce")
    hand_in(folder, "tampered", "a_infonce", tampered(source))
    renamed = folder / "submitted" / "renamed" / "b_schedules"
    renamed.mkdir(parents=True)
    shutil.copy(SOURCES["b_schedules"], renamed / "my solution.ipynb")
    return folder


@pytest.fixture(scope="module")
def grades(course: Path) -> pd.DataFrame:
    with contextlib.chdir(course.parent):  # a relative folder, as `make grade` gives it
        table = classroom.grade(Path(course.name))
    return table.set_index(["student", "assignment"])


def copy_of_student(course: Path, name: str) -> NotebookNode:
    return nbformat.read(course / "release" / name / f"{name}.ipynb", as_version=4)


@each_assignment
def test_no_solution_is_left_in_the_copy_of_a_student(course: Path, name: str) -> None:
    released = copy_of_student(course, name)
    text = "\n".join(cell.source for cell in released.cells)
    assert not re.search("BEGIN|END (SOLUTION|HIDDEN|MARK)", text)
    secrets = []
    for cell in read(name).cells:
        for kind in ("SOLUTION", "HIDDEN TESTS", "MARK SCHEME"):
            secrets += "".join(regions(cell.source, kind)).splitlines()
    shown = {grade_id(cell): cell.source for cell in released.cells if grade_id(cell)}
    answers = "\n".join(shown[key] for key in shown if not key.endswith(("-test", "-kernel")))
    assert len(secrets) > 20
    assert [line for line in secrets if len(line.strip()) > 12 and line.strip() in answers] == []
    assert STUB.splitlines()[1] in answers
    assert not [cell.id for cell in released.cells if cell.get("outputs")]
    MetadataValidator().validate_nb(released)


@pytest.mark.notebooks
@each_assignment
def test_solution_gets_all_points_of_the_tests(grades: pd.DataFrame, name: str) -> None:
    row = grades.loc[("solution", name)]
    tests = sum(cell.metadata.nbgrader.points for cell in read(name).cells if is_test(cell))
    assert row["points"] == tests
    assert row["by hand"]
    assert row["remarks"] == []


@pytest.mark.notebooks
@each_assignment
def test_untouched_copy_gets_nothing_and_only_misses_code(
    course: Path, grades: pd.DataFrame, name: str
) -> None:
    assert grades.loc[("untouched", name)]["points"] == 0
    file = course / "autograded" / "untouched" / name / f"{name}.ipynb"
    cells = nbformat.read(file, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    errors = {output.ename for output in outputs if output.output_type == "error"}
    assert errors == {"NotImplementedError"}


@pytest.mark.notebooks
@each_assignment
def test_feedback_holds_no_hidden_test_and_no_mark_scheme(
    course: Path, grades: pd.DataFrame, name: str
) -> None:
    file = course / "feedback" / "untouched" / name / f"{name}.html"
    page = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
    assert "MARK SCHEME" not in page.get_text()
    for traceback in page.select(".output"):  # these quote lines of what failed
        traceback.decompose()
    assert "YOUR CODE HERE" in page.get_text()
    assert "HIDDEN TESTS" not in page.get_text()


@pytest.mark.notebooks
def test_deleted_and_converted_cells_are_found_and_graded(grades: pd.DataFrame) -> None:
    row = grades.loc[("tampered", "a_infonce")]
    assert row["remarks"] == [
        "cell a-push-size-test was converted to markdown",
        "cell a-effective-test was deleted",
    ]
    assert row["points"] == grades.loc[("solution", "a_infonce")]["points"]


@pytest.mark.notebooks
def test_renamed_copy_is_not_graded_as_zero(grades: pd.DataFrame) -> None:
    row = grades.loc[("renamed", "b_schedules")]
    assert pd.isna(row["points"])
    assert row["remarks"][0] == "b_schedules.ipynb is missing, there is my solution.ipynb"


def test_copied_cell_is_found(course: Path) -> None:
    notebook = copy_of_student(course, "d_similarity")
    place = next(k for k, cell in enumerate(notebook.cells) if grade_id(cell) == "d-tau")
    notebook.cells.insert(place, notebook.cells[place])
    hand_in(course, "copied", "d_similarity", notebook)
    remarks = classroom.inspect(course, "copied", "d_similarity")
    shutil.rmtree(course / "submitted" / "copied")
    assert remarks == ["cell d-tau is there 2 times"]


WITHOUT_THE_PACKAGE = """
import os, sys
sys.path[:] = [path for path in sys.path if not os.path.isdir(os.path.join(path or ".", "dytemp"))]
sys.meta_path[:] = [finder for finder in sys.meta_path if "ditable" not in repr(finder)]
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""


@pytest.mark.notebooks
def test_wrong_kernel_is_loud(
    course: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-c", WITHOUT_THE_PACKAGE, "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "another Python", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    another = tmp_path / "course"
    shutil.copytree(
        course, another, ignore=shutil.ignore_patterns("submitted", "autograded", "feedback")
    )
    hand_in(another, "unlucky", "a_infonce", read("a_infonce"))
    words = r"kernel python3 cannot grade: .*No module named 'dytemp'"
    with pytest.raises(ValueError, match=words):
        classroom.grade(another)
    monkeypatch.setattr(classroom, "_check_kernel", lambda: None)  # as plain nbgrader would
    assert main(["grade", "--course", str(another)]) == 1
    printed = capsys.readouterr()
    assert "1 copies could not be graded" in printed.err
    assert "not graded: ValueError: partial credit cannot be greater" in printed.out


def test_grading_what_was_not_built_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grade", "--course", str(tmp_path)]) == 1
    assert "build the assignments first" in capsys.readouterr().err


def test_course_may_be_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Grading works inside the folder of the course, where a relative name leads nowhere."""
    empty = tmp_path / "course" / "submitted" / "hasty" / "b_schedules"
    empty.mkdir(parents=True)
    shutil.copy(SOURCES["b_schedules"].parent / classroom.CONFIG, tmp_path / "course")
    monkeypatch.setattr(classroom, "_check_kernel", lambda: None)  # no cell is run here
    monkeypatch.chdir(tmp_path)
    assert main(["grade", "--course", "course"]) == 1
    words = "hasty, b_schedules: b_schedules.ipynb is missing, there is no notebook"
    assert words in capsys.readouterr().out.splitlines()


def test_environment_is_as_before_after_nbgrader(course: Path) -> None:
    before, folder = dict(os.environ), Path.cwd()
    with classroom._nbgrader(course):
        assert os.environ["PATH"].startswith(str(Path(sys.executable).parent))
    assert (dict(os.environ), Path.cwd()) == (before, folder)


def test_material_of_a_class_is_small(course: Path, tmp_path: Path) -> None:
    for name in ("dytemp", "data/papers", "pyproject.toml", "README.md", "LICENSE", "Makefile"):
        target, source = tmp_path / "class" / name, ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        target.parent.mkdir(parents=True, exist_ok=True)
        copy(source, target)
    shutil.copytree(course / "release", tmp_path / "class" / "release")
    archive = shutil.make_archive(str(tmp_path / "class"), "zip", tmp_path / "class")
    assert Path(archive).stat().st_size < 10e6


def test_helper_of_the_tests_is_what_the_copies_import() -> None:
    for name in SOURCES:
        text = "\n".join(cell.source for cell in read(name).cells)
        (imported,) = re.findall(r"from dytemp\.lab\.book\.homework import (.*)", text)
        assert all(hasattr(homework, each) for each in imported.split(", "))
