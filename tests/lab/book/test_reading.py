"""How chapters are read for the site: captions with their figures, code that steps back."""

from __future__ import annotations

import base64

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dytemp.lab.book import mathml, reading

PNG = base64.b64encode(b"not really a picture").decode()


def display(**data: str) -> nbformat.NotebookNode:
    return new_output("display_data", data={k.replace("_", "/"): v for k, v in data.items()})


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    figure = new_code_cell("draw()", id="cell-07", metadata={"tags": ["key-figure"]})
    figure.outputs = [
        new_output("stream", text="a line\n"),
        display(image_png=PNG, text_plain="<Figure>"),
        display(text_markdown=r"*At $\tau = 0.1$, see [there](11.ipynb)*"),
        display(image_png=PNG),
        display(text_html="<table></table>"),
    ]
    widget = new_code_cell("slider()", id="abc")
    widget.outputs = [new_output("display_data", data={reading.WIDGET: {}, "text/plain": "Float("})]
    cells = [new_markdown_cell("# A title\n\n## A section"), figure, widget]
    written = new_notebook(cells=cells)
    written.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    return written


@pytest.fixture
def cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return list(reading.read(nbformat.writes(notebook)).cells)


def test_each_figure_has_its_caption_and_says_what_is_shown(
    cells: list[nbformat.NotebookNode],
) -> None:
    first, second, rest = (cell for cell in cells[2:5])
    assert [output.output_type for output in first.outputs] == ["stream", "display_data"]
    caption = r"At $\tau = 0.1$, see [there](11.ipynb)"
    assert first.metadata.mystnb == {
        "figure": {"caption": caption},
        "image": {"alt": "At tau = 0.1, see there"},
    }
    assert second.metadata.mystnb == {"image": {"alt": "Figure of the section: A section"}}
    assert [list(output.data) for output in rest.outputs] == [["text/html"]]


def test_only_the_first_part_of_a_cell_shows_its_code(cells: list[nbformat.NotebookNode]) -> None:
    assert [cell.metadata.get("tags") for cell in cells[2:5]] == [
        ["key-figure", "hide-input"],
        ["remove-input"],
        ["remove-input"],
    ]
    assert len({cell.id for cell in cells}) == len(cells)


def test_cells_can_be_linked_to(cells: list[nbformat.NotebookNode]) -> None:
    anchors = [cell.source for cell in cells if cell.source.startswith("<span")]
    assert [BeautifulSoup(text, "html.parser").span["id"] for text in anchors] == [  # type: ignore[index]
        "cell-07",
        "cell-abc",
    ]


def test_widgets_say_where_they_work(cells: list[nbformat.NotebookNode]) -> None:
    (output,) = cells[-1].outputs
    assert output.data == {"text/markdown": "*Interactive: open the notebook in Jupyter.*"}


@pytest.mark.parametrize(
    ("source", "folded"),
    [
        ("import os\nfrom dytemp.lab import scales", True),
        (
            "parameters.check(globals(), scale=scales.NAMES)\nif seeds < 1:\n    raise ValueError",
            True,
        ),
        ("figures.style()", True),
        ("assert best in fixed", True),
        ("figure, axes = plt.subplots()", True),
        ("figures.show(figure, 'caption')", True),
        ("loss = NTXent(0.1)\nloss(z1, z2)", False),
        ("print('hello')", False),
        ("import os\nos.getcwd()", False),
        ("%timeit 1", False),
        ("", False),
    ],
)
def test_what_only_prepares_or_draws_is_folded_away(source: str, folded: bool) -> None:
    assert reading.steps_back(new_code_cell(source)) is folded
    tagged = new_code_cell(source, metadata={"tags": ["hide-input"]})
    assert reading.steps_back(tagged)


def test_key_figures_have_the_caption_or_the_heading(notebook: nbformat.NotebookNode) -> None:
    first, second = reading.key_figures(notebook)
    assert (first.png, first.cell) == (PNG, "cell-07")
    assert first.caption == r"At $\tau = 0.1$, see [there](11.ipynb)"
    assert second.caption == "A section"


@pytest.mark.parametrize(
    ("text", "title"), [("# A title\n\n# Another", "A title"), ("No heading", None)]
)
def test_title(text: str, title: str | None) -> None:
    assert reading.title(new_notebook(cells=[new_markdown_cell(text)])) == title


@pytest.mark.parametrize("display_", ["inline", "block"])
def test_formulas_are_drawn_without_scripts(display_: str) -> None:
    formula = BeautifulSoup(mathml.mathml(r"\frac{\tau_i}{b} < 1", display_), "html.parser").math
    assert formula is not None
    assert formula["display"] == display_
    assert formula.mfrac is not None
    assert formula.text == "τib<1"


def test_invalid_formulas_stay_readable() -> None:
    assert mathml.mathml("a_b_c < 1", "inline") == '<code class="formula">a_b_c &lt; 1</code>'
