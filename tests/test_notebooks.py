"""What holds for every chapter: format, parameters, stored outputs, and that it runs anywhere.

`make test` also runs the chapters with nbval, which compares the cells tagged
``nbval-check-output`` with their stored outputs.
"""

from __future__ import annotations

import ast
import base64
import itertools
import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from conftest import ROOT
from ipykernel.ipkernel import IPythonKernel
from jupyter_server.services.contents.filemanager import FileContentsManager
from nbformat import NotebookNode

from dytemp.lab.book import reading

CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("**/*.ipynb"))  # and assignments, and solutions
LONGEST_CELL = 20  # lines

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(path: Path, tag: str) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if tag in cell.metadata.get("tags", [])]


def parameters_and_guard(path: Path) -> tuple[NotebookNode, NotebookNode]:
    cells = code_cells(path)
    (place,) = [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    return cells[place], cells[place + 1]


def defaults(path: Path) -> dict[str, Any]:
    """Parameters with their defaults; fails unless they are literals."""
    statements = ast.parse(parameters_and_guard(path)[0].source).body
    assert all(isinstance(statement, ast.AnnAssign) for statement in statements)
    return {statement.target.id: ast.literal_eval(statement.value) for statement in statements}


def test_there_is_a_chapter_on_temperature_and_one_for_each_paper() -> None:
    names = " ".join(path.stem for path in CHAPTERS)
    assert all(word in names for word in ("temperature", "ts", "isogclr", "dystress")), names


@each_chapter
def test_format(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"
    assert notebook.metadata.language_info.name == "python"


@each_chapter
def test_cell_ids_are_unique_and_tell_the_position(path: Path) -> None:
    positions = [int(re.sub(r"\D", "", cell.id)) for cell in read(path).cells]
    assert positions == list(range(len(positions)))


@each_chapter
def test_first_cell_is_the_title(path: Path) -> None:
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")


@each_chapter
def test_parameters_are_literals_that_papermill_understands(path: Path) -> None:
    assert defaults(path)["scale"] == "recorded"
    source = parameters_and_guard(path)[0].source
    assert all(line.count("=") == 1 for line in source.splitlines() if line.strip())


@each_chapter
def test_guard_follows_the_parameters_and_knows_all_of_them(path: Path) -> None:
    guard = ast.parse(parameters_and_guard(path)[1].source)
    assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(guard))
    first = guard.body[0]
    assert isinstance(first, ast.Expr)
    assert isinstance(first.value, ast.Call)
    assert ast.unparse(first.value.func) == "parameters.check"
    assert ast.unparse(first.value.args[0]) == "globals()"
    assert {keyword.arg for keyword in first.value.keywords} == defaults(path).keys()
    assert "load(" not in ast.unparse(guard)  # nothing is trained before it has spoken


@each_chapter
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"scale": "quick"}, None),
        ({"scale": "quik"}, "scale must be one of"),
        ({"scale": 3}, "scale must be one of"),
        ({"sclae": "quick"}, "unknown parameter sclae"),
    ],
    ids=["defaults", "scale", "misspelt scale", "scale of another type", "unknown name"],
)
def test_guard_of_the_chapter_works(path: Path, change: dict[str, Any], words: str | None) -> None:
    parameters, guard = parameters_and_guard(path)
    namespace: dict[str, Any] = {}
    for cell in itertools.takewhile(lambda cell: cell != parameters, code_cells(path)):
        exec(cell.source, namespace)
    namespace |= defaults(path) | change
    lines = [f"{name} = {value!r}" for name, value in change.items()]
    namespace["In"] = ["", "\n".join(["# Parameters", *lines])]  # the cell that papermill adds
    if words is None:
        exec(guard.source, namespace)
        assert namespace["scale"] == change.get("scale", "recorded")
    else:
        with pytest.raises((ValueError, TypeError), match=words):
            exec(guard.source, namespace)


@each_chapter
def test_code_cells_are_short(path: Path) -> None:
    long = [cell.id for cell in code_cells(path) if len(cell.source.splitlines()) > LONGEST_CELL]
    assert long == []


@each_chapter
def test_no_path_of_a_machine(path: Path) -> None:
    texts = [cell.source for cell in read(path).cells]
    for cell in code_cells(path):
        texts += [output.get("text", "") for output in cell.outputs]
        for output in cell.outputs:
            texts += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    assert re.findall(r"(?<![\w.:/])(?:/\w+/[\w/.]+|[A-Z]:\\\S+)", "\n".join(texts)) == []


@each_chapter
def test_no_traces_of_papermill(path: Path) -> None:
    notebook = read(path)
    assert "papermill" not in notebook.metadata
    assert not [c.id for c in notebook.cells if {"papermill", "execution"} & c.metadata.keys()]
    assert tagged(path, "injected-parameters") == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_opening_and_saving_in_jupyter_changes_nothing(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    manager = FileContentsManager(root_dir=str(tmp_path))
    manager.save(manager.get(path.name), path.name)
    assert copy.read_bytes() == path.read_bytes()
    # A kernel that runs it writes what it is; only the version of Python may be another one.
    stored, wanted = read(path).metadata["language_info"], IPythonKernel.language_info
    assert stored | {"version": "any"} == wanted | {"version": "any"}
    assert set(read(path).metadata) <= {"kernelspec", "language_info", "celltoolbar"}


@each_chapter
def test_stored_outputs_come_from_one_run_without_errors(path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output.ename for output in outputs if output.output_type == "error"] == []
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []


@each_chapter
def test_cells_that_nbval_compares_have_something_to_compare(path: Path) -> None:
    checked = tagged(path, "nbval-check-output")
    assert checked
    for cell in checked:
        texts = [
            output.get("text") or output.get("data", {}).get("text/plain", "")
            for output in cell.outputs
        ]
        assert "".join(texts).strip(), cell.id


@each_chapter
def test_key_figures_are_figures(path: Path) -> None:
    figures = tagged(path, reading.FIGURE_TAG)
    assert figures
    for cell in figures:
        assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.id


def test_pictures_of_the_readme_are_the_first_key_figures_of_their_chapters() -> None:
    """After a chapter was run again: copy its picture into data/results/figures."""
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text())
    assert pictures
    for picture in pictures:
        chapter = ROOT / "notebooks" / f"{Path(picture).stem}.ipynb"
        outputs = tagged(chapter, reading.FIGURE_TAG)[0].outputs
        shown = next(o.data["image/png"] for o in outputs if "image/png" in o.get("data", {}))
        assert base64.b64decode(shown) == (ROOT / picture).read_bytes()


@each_chapter
def test_links_between_chapters_lead_somewhere(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", cell.source):
                assert (path.parent / target).exists(), f"{cell.id}: {target}"


@each_chapter
def test_readme_names_the_chapter(path: Path) -> None:
    assert f"notebooks/{path.name}" in (ROOT / "README.md").read_text()


@pytest.mark.notebooks
@each_chapter
def test_trains_in_another_folder_and_leaves_the_source_alone(
    path: Path, tmp_path: Path, short_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each chapter at scale quick, in three epochs: recorded runs hide what it needs.

    Its draws are those of the scale, as for ``make reproduce``. nbval runs the chapters at scale
    recorded.
    """
    monkeypatch.setenv("DYTEMP_RESULTS", str(short_runs))
    monkeypatch.delenv("DYTEMP_DATA", raising=False)
    known = defaults(path)
    short: dict[str, Any] = {"seeds": 2}
    if "epochs" in known:  # a number, or the lengths that are compared
        short["epochs"] = [3, 4] if isinstance(known["epochs"], list) else 3
    else:
        # Sentences are read once at this scale, thousands of them.
        short["changes"] = {} if "sentences" in path.stem else {"epochs": 3}
    asked = {name: value for name, value in short.items() if name in known}
    before, output = path.read_bytes(), tmp_path / "executed.ipynb"
    papermill.execute_notebook(
        path,
        output,
        {"scale": "quick"} | asked,
        kernel_name="python3",
        cwd=tmp_path,
        progress_bar=False,
        execution_timeout=300,  # of a cell: a kernel that is gone must not stop the tests
    )
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [output]


@pytest.fixture(scope="module")
def short_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the chapters keep the runs that they share."""
    return tmp_path_factory.mktemp("runs")


def test_what_depends_on_the_reader_is_not_compared() -> None:
    """A slider is another object in each run: a strict ``--nbval`` must leave it out."""
    found = [
        cell.metadata.get("tags", [])
        for path in CHAPTERS
        for cell in nbformat.read(path, as_version=4).cells
        if "interact(" in cell.source
    ]
    assert found
    assert all("nbval-ignore-output" in tags for tags in found)
