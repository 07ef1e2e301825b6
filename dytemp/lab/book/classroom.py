"""Assignments for a class: build the students' copies with nbgrader, grade what comes back.

A course is a folder as nbgrader knows it: ``source`` and ``release`` are written here, the lecturer
puts ``submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb`` beside them, and grading adds
``autograded``, ``feedback`` and ``gradebook.db``. All of nbgrader's own commands work in it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pandas as pd
from nbformat import NotebookNode

from dytemp.lab import paths

if TYPE_CHECKING:
    from nbgrader.apps import NbGraderAPI

CONFIG = "nbgrader_config.py"
_ERROR = re.compile(r"^ *(?:[\w.]+\.)?(\w+(?:Error|Exception): .+)$", re.MULTILINE)


def sources() -> dict[str, Path]:
    """Return the assignments, with solutions, by name."""
    folder = paths.home() / "notebooks" / "assignments"
    return {file.stem: file for file in sorted(folder.glob("*.ipynb"))}


def build(course: Path) -> list[Path]:
    """Write the students' copies of all assignments into a course.

    Parameters
    ----------
    course : Path
        The folder of the course; made if there is none. Sources and settings in it are replaced
        by those of the repository; submissions and grades stay.

    Returns
    -------
    list of Path
        The students' copies.

    Raises
    ------
    ValueError
        If nbgrader refuses an assignment; with its own words.
    """
    course.mkdir(parents=True, exist_ok=True)
    shutil.copy(next(iter(sources().values())).parent / CONFIG, course)
    for name, file in sources().items():
        folder = course / "source" / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    with _nbgrader(course) as api:
        for name in sources():
            _done(name, api.generate_assignment(name, force=True, create=True))
    return [course / "release" / name / f"{name}.ipynb" for name in sources()]


def grade(course: Path, names: Sequence[str] = (), force: bool = False) -> pd.DataFrame:
    """Grade what students have handed in, and write their feedback.

    Parameters
    ----------
    course : Path
        The folder of the course, with ``submitted/STUDENT/ASSIGNMENT/ASSIGNMENT.ipynb``.
    names : sequence of str
        The assignments; all of them if empty.
    force : bool
        Whether to grade again what was graded before.

    Returns
    -------
    DataFrame
        One row for each student and assignment: ``student``, ``assignment``, ``points`` of the
        tests and of what was graded by hand so far (NaN if the copy could not be graded), ``of``
        (the most), ``by hand`` (whether an answer waits for the lecturer) and ``remarks``: what is
        odd about the copy.

    Raises
    ------
    FileNotFoundError
        If the course has no settings: it was not built.
    ValueError
        If the kernel that would grade lacks this package.
    """
    course = course.resolve()  # nbgrader works in the folder of the course
    if not (course / CONFIG).is_file():
        raise FileNotFoundError(f"no course in {course}: build the assignments first")
    rows = []
    with _nbgrader(course) as api:
        _check_kernel()
        for name in names or sources():
            for folder in sorted((course / "submitted").glob(f"*/{name}")):
                student = folder.parent.name
                row: dict[str, Any] = {"student": student, "assignment": name}
                row["remarks"] = inspect(course, student, name)
                if (folder / f"{name}.ipynb").is_file():
                    row |= _graded(api, row, force)
                rows.append(row)
                print(f"{name}, {student}: {row.get('points', 'not graded')}", flush=True)
    columns = ["student", "assignment", "points", "of", "by hand", "remarks"]
    return pd.DataFrame(rows, columns=columns)


def inspect(course: Path, student: str, name: str) -> list[str]:
    """Compare a submitted copy with the released one and say which cells are not as they were.

    Test cells and answers may have been deleted, converted to another type or copied, and the
    file may be missing or named otherwise. Tests that were changed are no matter: nbgrader puts
    its own in their place.
    """
    folder = course / "submitted" / student / name
    file = folder / f"{name}.ipynb"
    if not file.is_file():
        others = ", ".join(path.name for path in folder.glob("*.ipynb")) or "no notebook"
        return [f"{file.name} is missing, there is {others}"]
    released = _cells(course / "release" / name / f"{name}.ipynb")
    handed_in = _cells(file)
    types = {grade_id: cell.cell_type for grade_id, cell in handed_in}
    times = Counter(grade_id for grade_id, _ in handed_in)
    found = []
    for grade_id, cell in released:
        if grade_id not in types:
            found.append(f"cell {grade_id} was deleted")
        elif types[grade_id] != cell.cell_type:
            found.append(f"cell {grade_id} was converted to {types[grade_id]}")
        elif times[grade_id] > 1:
            found.append(f"cell {grade_id} is there {times[grade_id]} times")
    return found


def _cells(file: Path) -> list[tuple[str, NotebookNode]]:
    notebook = nbformat.read(file, as_version=4)
    return [
        (cell.metadata.nbgrader.grade_id, cell)
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id")
    ]


@contextmanager
def _nbgrader(course: Path) -> Iterator[NbGraderAPI]:
    """Open nbgrader in a course, with the programs and the kernel of this environment."""
    try:
        from nbgrader.apps import NbGraderAPI
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error} (pip install 'dytemp[class]')") from error
    from sqlalchemy.exc import SAWarning
    from traitlets.config.loader import PyFileConfigLoader

    before, folder = dict(os.environ), Path.cwd()
    # nbgrader starts alembic by its name, and Jupyter prefers kernels of the user.
    programs = str(Path(sys.executable).parent)
    os.environ["PATH"] = programs + os.pathsep + os.environ.get("PATH", "")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    course = course.resolve()
    os.chdir(course)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SAWarning)  # of nbgrader 0.9.6 with SQLAlchemy 2.1
            config = PyFileConfigLoader(CONFIG, path=str(course)).load_config()
            config.CourseDirectory.root = str(course)
            yield NbGraderAPI(config=config)
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)


def _done(name: str, result: dict[str, Any]) -> None:
    if not result["success"]:
        raise ValueError(f"nbgrader refused {name}: {_reason(result)}")


def _reason(result: dict[str, Any]) -> str:
    """Return the first error in nbgrader's log: later ones only say that there was one."""
    words = result.get("log", "") + "\n" + result.get("error", "")
    errors = _ERROR.findall(words)
    return errors[0] if errors else "no reason was given"


def _check_kernel() -> None:
    """Refuse to grade in a kernel without this package: every student would have 0 points."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    test = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import dytemp.losses")])
    try:
        NotebookClient(test, kernel_name="python3", extra_arguments=["--log-level=ERROR"]).execute()
    except (CellExecutionError, DeadKernelError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"the Jupyter kernel python3 cannot grade: {reason}") from error


def _graded(api: NbGraderAPI, row: dict[str, Any], force: bool) -> dict[str, Any]:
    """Grade one copy; return its points, or another remark if that was not possible."""
    name, student = row["assignment"], row["student"]
    result = api.autograde(name, student, force=force, create=True)
    if not result["success"]:
        return {"remarks": [*row["remarks"], f"not graded: {_reason(result)}"]}
    api.generate_feedback(name, student, force=True)
    with api.gradebook as book:
        submission = book.find_submission(name, student)
        return {
            "points": submission.score,
            "of": submission.max_score,
            "by hand": submission.needs_manual_grade,
        }
