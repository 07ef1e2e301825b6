"""Chapters run side by side, each in a kernel of its own, and what became of them.

A chapter is complete when every code cell has run to its end. Each kernel computes with one
thread, however many chapters run at once, so that the results do not depend on it.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat

import dytemp
from dytemp.lab import files, paths

_RUN = re.compile(r"^run ([0-9a-f]{16}) ", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What became of a chapter.

    Attributes
    ----------
    name : str
        Name of the chapter, without ``.ipynb``.
    notebook : Path
        Its executed copy, which may be missing or unreadable if it failed.
    error : str or None
        What stopped it; None if it is complete.
    seconds : float
        Duration of the execution.
    trained : tuple of str
        Keys of the runs that it has trained, in their order.
    """

    name: str
    notebook: Path
    error: str | None
    seconds: float
    trained: tuple[str, ...]


def chapters(prefix: str | None = None) -> list[Path]:
    """Return the chapters in reading order, or those whose name starts with `prefix`.

    Raises
    ------
    ValueError
        If there is none; the message names those that exist.
    """
    every = sorted((paths.home() / "notebooks").glob("[0-9]*.ipynb"))
    chosen = [chapter for chapter in every if chapter.name.startswith(prefix or "")]
    if not chosen:
        names = ", ".join(chapter.stem for chapter in every) or "none"
        raise ValueError(f"no notebook starts with {prefix or 'a digit'!r}; there are: {names}")
    return chosen


def folder(scale: str) -> Path:
    """Folder of the executed copies; the notebooks themselves are never written."""
    return paths.build() / "notebooks" / scale


def alone() -> AbstractContextManager[None]:
    """Wait until no other process writes executed chapters or the site of this clone."""
    build = paths.build()
    waiting = f"waiting: {{}} is writing {build}"
    return files.alone(build / ".book.lock", build / ".book.pid", waiting)


def run(
    notebooks: Sequence[Path], scale: str, parameters: Mapping[str, Any], jobs: int
) -> Iterator[Outcome]:
    """Execute chapters, `jobs` at once, and yield what became of each as soon as it is known.

    Those that take longest start first: a chapter left over at the end has one core only.
    """
    # Bars would flood the pages; the kernel must be that of the running interpreter, not one that
    # the user registered under the same name; one thread each, so that chapters share the cores.
    os.environ.update(TQDM_DISABLE="1", JUPYTER_PREFER_ENV_PATH="1")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # The kernels import the package that started them, not that of another clone which the
    # environment may have installed.
    package = str(Path(dytemp.__file__).resolve().parents[1])
    search = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(search)
    copies = {notebook: folder(scale) / notebook.name for notebook in notebooks}
    longest_first = _longest_first(copies)
    for copy in copies.values():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures: dict[Future[Outcome], Path] = {
            pool.submit(_execute, notebook, copies[notebook], dict(parameters)): notebook
            for notebook in longest_first
        }
        try:
            for future in as_completed(futures):
                notebook = futures[future]
                error = future.exception()
                yield (
                    future.result()
                    if error is None
                    else _failed(notebook.stem, copies[notebook], error)
                )
        except BaseException:  # an interrupt: what has not begun shall not begin
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def stored(scale: str) -> list[Outcome]:
    """Read what became of the chapters that were executed earlier, in reading order."""
    copies = [folder(scale) / notebook.name for notebook in chapters()]
    return [_read(copy.stem, copy) for copy in copies if copy.is_file()]


def _execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> Outcome:
    """Run one notebook in its folder, in a process of the pool."""
    import papermill

    error: str | None = None
    start = time.perf_counter()
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=parameters,
            kernel_name="python3",
            cwd=notebook.parent,
            progress_bar=False,
            stdout_file=_RunLines(notebook.stem),
            extra_arguments=["--log-level=CRITICAL"],  # of the kernel: failures are told by us
        )
    except papermill.PapermillExecutionError as failure:
        error = f"cell [{failure.exec_count}]: {failure.ename}: {failure.evalue}"
    except Exception as failure:  # a dead kernel or a broken file must not stop the others
        error = f"{type(failure).__name__}: {failure}"
    return _read(notebook.stem, output, error, time.perf_counter() - start)


def _read(name: str, file: Path, error: str | None = None, seconds: float | None = None) -> Outcome:
    """Read an executed copy: complete is what has run every code cell to its end."""
    try:
        notebook = nbformat.read(file, as_version=4)
    except Exception as failure:  # nbformat raises many unrelated types
        return Outcome(name, file, error or _unreadable(failure), seconds or 0.0, ())
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells, start=1):
        record = cell.metadata.get("papermill", {})
        if error is None and (record.get("status") != "completed" or record.get("exception")):
            error = f"code cell {number} of {len(cells)} did not run to its end"
    text = "".join(o.text for c in cells for o in c.outputs if o.output_type == "stream")
    duration = notebook.metadata.get("papermill", {}).get("duration")
    seconds = seconds if seconds is not None else duration
    return Outcome(name, file, error, seconds or 0.0, tuple(_RUN.findall(text)))


def _failed(name: str, file: Path, error: BaseException) -> Outcome:
    return Outcome(name, file, f"{type(error).__name__}: {error}", 0.0, ())


def _unreadable(error: Exception) -> str:
    return f"its executed copy cannot be read ({type(error).__name__}: {error})"


def _longest_first(copies: Mapping[Path, Path]) -> list[Path]:
    """Order notebooks by the time that their executed copies took.

    Those without one come first: the ones that ask for most studies, and of these the later ones,
    since the book ends with its widest comparisons.
    """
    keys = {
        notebook: (_duration(copy), _studies(notebook), notebook.name)
        for notebook, copy in copies.items()
    }
    return sorted(copies, key=keys.__getitem__, reverse=True)


def _duration(file: Path) -> float:
    """Duration of an earlier execution; infinite if there is none."""
    try:
        found = nbformat.read(file, as_version=4).metadata["papermill"]["duration"]
        return float(found)
    except Exception:  # no copy, a damaged one, or one that was interrupted
        return float("inf")


def _studies(notebook: Path) -> int:
    """How often a chapter asks for runs."""
    text = notebook.read_text(encoding="utf-8", errors="replace")
    return text.count("studies.load(") + text.count("parallel.get_all(")


class _RunLines(io.TextIOBase):
    """Passes on what a chapter prints about its training runs: lines that start with 'run '."""

    def __init__(self, chapter: str) -> None:
        self._chapter = chapter
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.startswith("run "):
                print(f"    {line}  [{self._chapter}]", flush=True)
        return len(text)
