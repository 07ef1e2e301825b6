"""Chapters side by side: what counts as complete, and what a dead kernel or a stranger leaves."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from dytemp.lab.book import execution

Write = Callable[..., Path]


def executed(*statuses: str) -> nbformat.NotebookNode:
    cells = [new_code_cell("1", metadata={"papermill": {"status": each}}) for each in statuses]
    return new_notebook(cells=cells, metadata={"papermill": {"duration": 2.5}})


def store(name: str, content: nbformat.NotebookNode | str) -> None:
    copy = execution.folder("quick") / f"{name}.ipynb"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(content if isinstance(content, str) else nbformat.writes(content))


@pytest.fixture
def chapter(workspace: Path, write_notebook: Write) -> Path:
    return write_notebook(workspace / "notebooks" / "02_chapter.ipynb", "# A chapter", "1")


@pytest.mark.parametrize(
    ("statuses", "error"),
    [
        (["completed", "completed"], None),
        ([], None),
        (["completed", "pending"], "code cell 2 of 2 did not run to its end"),
        (["running", "pending"], "code cell 1 of 2 did not run to its end"),
        (["completed", "failed"], "code cell 2 of 2 did not run to its end"),
    ],
)
def test_complete_is_what_has_run_every_cell(
    chapter: Path, statuses: list[str], error: str | None
) -> None:
    store("02_chapter", executed(*statuses))
    (outcome,) = execution.stored("quick")
    assert (outcome.name, outcome.error, outcome.seconds) == ("02_chapter", error, 2.5)


def test_stored_outputs_that_papermill_did_not_make_are_not_complete(chapter: Path) -> None:
    store("02_chapter", new_notebook(cells=[new_code_cell("1")]))
    (outcome,) = execution.stored("quick")
    assert outcome.error == "code cell 1 of 1 did not run to its end"


def test_an_unreadable_copy_has_failed(chapter: Path) -> None:
    store("02_chapter", "{")
    (outcome,) = execution.stored("quick")
    assert outcome.error is not None
    assert outcome.error.startswith("its executed copy cannot be read")


def test_runs_that_were_trained_are_named(chapter: Path) -> None:
    notebook = executed("completed")
    text = f"before\nrun {'0a' * 8} NTXent seed 0: kNN@1 50.0 %, 1.0 s\nrun 1 of 2\n"
    notebook.cells[0].outputs = [new_output("stream", text=text)]
    store("02_chapter", notebook)
    (outcome,) = execution.stored("quick")
    assert outcome.trained == ("0a" * 8,)


def test_renamed_chapters_leave_no_ghost(chapter: Path) -> None:
    store("02_old_name", executed("completed"))
    assert execution.stored("quick") == []


def test_unknown_chapters_are_refused(chapter: Path) -> None:
    assert execution.chapters("02") == [chapter]
    with pytest.raises(ValueError, match="no notebook starts with '7'; there are: 02_chapter"):
        execution.chapters("7")


@pytest.mark.notebooks
def test_what_takes_longest_starts_first(workspace: Path, write_notebook: Write) -> None:
    ask = "studies.load('ts', scale)"
    cells = {"01": (ask,), "02": (ask,), "03": (ask, ask), "04": (), "05": (), "06": (ask,)}
    for name, sources in cells.items():
        write_notebook(workspace / "notebooks" / f"{name}.ipynb", "# A chapter", *sources)
    for name, seconds in (("05", 9.0), ("06", 3.0)):
        copy = executed("completed")
        copy.metadata["papermill"]["duration"] = seconds
        store(name, copy)
    copies = {each: execution.folder("quick") / each.name for each in execution.chapters()}
    order = [each.stem for each in execution._longest_first(copies)]
    assert order == ["03", "02", "01", "04", "05", "06"]


def test_a_dead_kernel_fails_its_chapter_alone(workspace: Path, write_notebook: Write) -> None:
    folder = workspace / "notebooks"
    paths = [
        write_notebook(folder / "00_dead.ipynb", "# Dead", "import os; os._exit(1)", "2"),
        write_notebook(folder / "01_good.ipynb", "# Good", "1"),
    ]
    (folder / "02_damaged.ipynb").write_text("{")
    paths.append(folder / "02_damaged.ipynb")
    found = {each.name: each.error for each in execution.run(paths, "quick", {}, jobs=2)}
    assert found["01_good"] is None
    assert "DeadKernelError" in (found["00_dead"] or "")
    assert found["02_damaged"]


def _hold(events: Any) -> None:
    with execution.alone():
        events.put("held")
        time.sleep(1)
        events.put("left")


def test_a_second_call_waits_for_the_first(
    chapter: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    context = multiprocessing.get_context("spawn")
    events = context.Queue()
    other = context.Process(target=_hold, args=(events,))
    other.start()
    assert events.get(timeout=60) == "held"
    with execution.alone():
        assert events.get(timeout=60) == "left"
    other.join()
    assert f"waiting: process {other.pid} on " in capfd.readouterr().err
