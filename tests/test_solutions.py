"""The solutions of the exercises run, and there is one for each chapter that has exercises."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
from conftest import ROOT

SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(autouse=True)
def _as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    plt.close("all")


def exercises(path: Path) -> int:
    """Count the exercises at the end of a chapter."""
    texts = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    found = [text.partition("Exercises\n")[2] for text in texts if "# Exercises\n" in text]
    return sum(
        len(re.findall(r"^\d+\. ", text.partition("\n#")[0], re.MULTILINE)) for text in found
    )


def test_each_exercise_of_a_chapter_has_a_solution() -> None:
    with_exercises = {path.stem for path in CHAPTERS if exercises(path)}
    assert {path.stem for path in SOLUTIONS} == with_exercises


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solution_is_in_order(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert f"(../{path.name})" in notebook.cells[0].source
    assert not [cell.id for cell in notebook.cells if cell.get("outputs")]


@pytest.mark.notebooks
@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solution_runs(path: Path) -> None:
    """All cells in this process, one after the other; they assert what they claim."""
    namespace = {"__name__": "__main__"}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(cell.source, f"{path.stem}/{cell.id}", "exec"), namespace)
