"""How a chapter is read for the site: captions with their figures, code that steps back.

The notebook itself stays as Jupyter shows it. On the site

- a figure and the Markdown that `dytemp.lab.book.figures.show` displays below it are one figure
  with caption and alternative text;
- the input of a cell is folded away if it is tagged ``hide-input``, or if it only prepares
  (imports, the guard, assertions) or draws; one click shows it;
- every cell can be linked to: ``11_ts_cifar10.html#cell-48``;
- widgets, which need a kernel, say where they work.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

FIGURE_TAG = "key-figure"
FOLDED_TAG = "hide-input"
WIDGET = "application/vnd.jupyter.widget-view+json"

_DRAWS_OR_GUARDS = re.compile(r"\bfigures\.show\(|\bplt\.|\bsns\.|\bparameters\.check\(")
_PREPARES = (ast.Import, ast.ImportFrom, ast.Assert)
_STYLE = "figures.style()"


@dataclass(frozen=True)
class Figure:
    """A figure of a chapter: PNG as base64, caption as Markdown, the cell that drew it."""

    png: str
    caption: str
    cell: str


def read(text: str) -> NotebookNode:
    """Read a notebook for the site; myst-nb calls this for every ``.ipynb``."""
    notebook: NotebookNode = nbformat.reads(text, as_version=4)
    notebook.metadata.pop("widgets", None)
    heading, cells = title(notebook) or "", []
    for cell in notebook.cells:
        if not re.match(r"\s*# ", cell.source) or cell.cell_type == "code":
            anchor = f'<span id="{anchor_of(cell)}" class="cell-anchor"></span>'
            cells.append(new_markdown_cell(anchor))
        if cell.cell_type == "code":
            cells.extend(_parts(cell, heading))
        else:
            heading = _last_heading(cell.source) or heading
            cells.append(cell)
    notebook.cells = cells
    return notebook


def title(notebook: NotebookNode) -> str | None:
    """Return the first heading, if there is one."""
    for cell in notebook.cells:
        found = re.search(r"^# +(.+)$", cell.source, re.MULTILINE)
        if cell.cell_type == "markdown" and found:
            return found[1]
    return None


def anchor_of(cell: NotebookNode) -> str:
    """Name of a cell in links."""
    name = str(cell.get("id", ""))
    return name if name.startswith("cell-") else f"cell-{name}"


def key_figures(notebook: NotebookNode) -> list[Figure]:
    """Figures of the cells tagged ``key-figure``; without a caption the heading above stands in."""
    found, heading = [], title(notebook) or ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = _last_heading(cell.source) or heading
        elif FIGURE_TAG in cell.metadata.get("tags", []):
            found += [
                Figure(image.data["image/png"], caption or heading, anchor_of(cell))
                for _, image, caption in _figures(cell.outputs)
                if image is not None
            ]
    return found


def steps_back(cell: NotebookNode) -> bool:
    """Whether the input of a cell is folded away: it is tagged so, only prepares, or draws."""
    tags = cell.metadata.get("tags", [])
    return bool(
        FOLDED_TAG in tags
        or FIGURE_TAG in tags
        or _DRAWS_OR_GUARDS.search(cell.source)
        or _only_prepares(cell.source)
    )


def _only_prepares(source: str) -> bool:
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a line for the shell, say
        return False
    others = [each for each in statements if not isinstance(each, _PREPARES)]
    return bool(statements) and all(ast.unparse(each) == _STYLE for each in others)


def _parts(cell: NotebookNode, heading: str) -> Iterator[NotebookNode]:
    """Yield the cell with its first figure, then a cell without input for each further one."""
    outputs, cell.outputs = cell.outputs, []
    tags = list(cell.metadata.get("tags", []))
    if steps_back(cell) and FOLDED_TAG not in tags:
        tags.append(FOLDED_TAG)
    for number, (before, image, caption) in enumerate(_figures(outputs)):
        part = copy.deepcopy(cell)
        part.id = f"{cell.get('id', 'cell')}-{number}"
        part.metadata.tags = ["remove-input"] if number else tags
        part.outputs = [_without_widget(output) for output in before]
        if image is not None:
            part.outputs.append(image)
            described = plain(caption or f"Figure of the section: {heading}")
            part.metadata.mystnb = {"image": {"alt": described}}
            if caption:
                part.metadata.mystnb["figure"] = {"caption": caption}
        yield part


def _figures(
    outputs: list[NotebookNode],
) -> Iterator[tuple[list[NotebookNode], NotebookNode | None, str]]:
    """Yield what comes before each figure, the figure, and the caption displayed after it.

    The last item may lack a figure: it holds the outputs that follow the last one.
    """
    before: list[NotebookNode] = []
    rest = list(outputs)
    found = False
    while rest:
        output = rest.pop(0)
        if "image/png" not in output.get("data", {}):
            before.append(output)
            continue
        caption = rest[0].get("data", {}).get("text/markdown") if rest else None
        if caption:
            rest.pop(0)
        yield before, output, _without_stars(caption or "")
        before, found = [], True
    if before or not found:
        yield before, None, ""


def _without_stars(caption: str) -> str:
    """Drop the italics of a whole caption; on the site its place says what it is."""
    text = caption.strip()
    whole = len(text) > 2 and text[0] == text[-1] == "*" and text[1] != "*"
    return text[1:-1] if whole else text


def plain(markdown: str) -> str:
    """Text without the marks of Markdown, in one line."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown)
    return " ".join(re.sub(r"[*`$\\]", "", text).split())


def _without_widget(output: NotebookNode) -> NotebookNode:
    if WIDGET in output.get("data", {}):
        output = copy.deepcopy(output)
        output.data = {"text/markdown": "*Interactive: open the notebook in Jupyter.*"}
        output.metadata = {}
    return output


def _last_heading(source: str) -> str | None:
    found = re.findall(r"^#+ +(.+)$", source, re.MULTILINE)
    return str(found[-1]) if found else None
