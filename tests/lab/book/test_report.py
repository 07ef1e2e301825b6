"""The report: pages without network, key figures with captions, claims with worded verdicts."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dytemp.lab.book import report
from dytemp.lab.studies import papers

PNG = base64.b64encode(b"not really a picture").decode()
CLAIMS = pd.DataFrame(
    {
        "paper": ["ts", "ts", "dystress"],
        "claim": ["C1", "C2", "C9"],
        "statement": ["An <identity>", "A comparison", "Something large"],
        "verdict": ["exact", "contradicted", "needs GPU"],
        "effect": [None, -1.25, None],
        "low": [None, -2.0, None],
        "high": [None, -0.5, None],
        "seeds": [0, 3, 0],
        "runs": [None, None, None],
        "notebook": ["02_chapter", "02_chapter", None],
    }
)


def display(**data: str) -> nbformat.NotebookNode:
    return new_output("display_data", data={k.replace("_", "/"): v for k, v in data.items()})


@pytest.fixture
def chapter() -> report.Chapter:
    figure = new_code_cell("draw()", id="figure", metadata={"tags": ["key-figure"]})
    figure.outputs = [
        display(image_png=PNG),
        display(text_markdown=r"*At $\tau = 0.1$*"),
        display(image_png=PNG),
    ]
    widget = new_code_cell("slider()")
    widget.outputs = [new_output("display_data", data={report.WIDGET: {}, "text/plain": "Float("})]
    source = (
        "# A title\n\nInline $\\tau_{i} < 1$, code `$x$`, [next](03_next.ipynb#part)"
        "\n\n$$\\frac{a}{b}$$\n\n\\begin{align} a &= b \\end{align}\n\n## A section"
    )
    notebook = new_notebook(cells=[new_markdown_cell(source), figure, widget])
    notebook.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}
    return report.Chapter("02_chapter", notebook)


def test_page_needs_no_network(chapter: report.Chapter) -> None:
    page = BeautifulSoup(report.page(chapter), "html.parser")
    assert not page.select("script[src], link[href]")
    assert all(image["src"].startswith("data:") for image in page.select("img"))
    assert not re.search(r"import .* from .https?:|url\(.?https?:", str(page))
    assert page.title is not None
    assert page.title.text == "A title · dytemp"


def test_page_draws_formulas_without_scripts(chapter: report.Chapter) -> None:
    page = BeautifulSoup(report.page(chapter), "html.parser")
    formulas = page.select("math")
    assert [formula["display"] for formula in formulas] == ["inline", "block", "block", "inline"]
    assert formulas[0].text == "τi<1"
    assert formulas[1].select_one("mfrac") is not None
    assert "$x$" in page.text  # code stays code


def test_page_links_to_pages_and_back(chapter: report.Chapter) -> None:
    links = [a["href"] for a in BeautifulSoup(report.page(chapter), "html.parser").select("a")]
    assert "03_next.html#part" in links
    assert "index.html" in links


def test_page_says_where_a_widget_works(chapter: report.Chapter) -> None:
    text = BeautifulSoup(report.page(chapter), "html.parser").text
    assert "Interactive: open the notebook in Jupyter." in text
    assert "Float(" not in text


def test_invalid_formulas_stay_readable() -> None:
    assert report.mathml("a_b_c < 1", "inline") == '<code class="formula">a_b_c &lt; 1</code>'


def test_figures_have_the_caption_below_or_the_heading_above(chapter: report.Chapter) -> None:
    first, second = report.figures(chapter)
    assert (first.png, first.link) == (PNG, "02_chapter.html#cell-id=figure")
    assert BeautifulSoup(first.caption, "html.parser").text.strip() == "At τ=0.1"
    assert BeautifulSoup(second.caption, "html.parser").text.strip() == "A section"
    assert 'id="cell-id=figure"' in report.page(chapter)


def test_chapters_without_heading_or_duration(chapter: report.Chapter) -> None:
    assert (chapter.title, chapter.seconds, chapter.failed) == ("A title", None, False)
    cell = new_code_cell("1 / 0", outputs=[new_output("error", ename="ZeroDivisionError")])
    metadata = {"papermill": {"duration": 1.5}}
    bare = report.Chapter("01_bare", new_notebook(cells=[cell], metadata=metadata))
    assert (bare.title, bare.seconds, bare.failed) == ("01_bare", 1.5, True)


@pytest.fixture
def index(
    workspace: Path, chapter: report.Chapter, monkeypatch: pytest.MonkeyPatch
) -> BeautifulSoup:
    monkeypatch.setattr(papers, "claims", lambda folder: CLAIMS)
    nbformat.write(chapter.notebook, workspace / "notebooks" / "02_chapter.ipynb")
    path = report.write(workspace / "notebooks", workspace / "out", "recorded")
    assert path == workspace / "out" / "index.html"
    assert (workspace / "out" / "02_chapter.html").is_file()
    return BeautifulSoup(path.read_text(), "html.parser")


def test_overview_shows_scale_environment_chapters_and_figures(index: BeautifulSoup) -> None:
    assert "at scale recorded" in " ".join(index.text.split())
    assert {"dytemp", "python", "torch", "processor"} <= {th.text for th in index.select("th")}
    assert index.select("td a")[0].text == "A title"
    pictures = [image["src"] for image in index.select("figure img")]
    assert pictures == [f"data:image/png;base64,{PNG}"] * 2
    assert not index.select("script, link")


def test_overview_shows_each_claim_with_a_worded_verdict(index: BeautifulSoup) -> None:
    rows = [[td.text.strip() for td in tr.select("td")] for tr in index.select(".wide tr")[1:]]
    assert rows == [
        ["ts", "C1", "An <identity>", "exact", "", "", "02_chapter"],
        ["ts", "C2", "A comparison", "contradicted", "-1.25 [-2, -0.5]", "3", "02_chapter"],
        ["dystress", "C9", "Something large", "needs GPU", "", "", ""],
    ]
    assert [a["href"] for a in index.select(".wide a")] == ["02_chapter.html"] * 2
    badges = [" ".join(badge["class"]) for badge in index.select(".wide .badge")]
    assert badges == ["badge exact", "badge contradicted", "badge needs-GPU"]


def test_renamed_chapters_leave_no_ghost(workspace: Path, chapter: report.Chapter) -> None:
    executed = workspace / "build" / "notebooks" / "quick"
    executed.mkdir(parents=True)
    nbformat.write(chapter.notebook, executed / "02_old_name.ipynb")
    with pytest.raises(FileNotFoundError, match="reproduce --scale quick"):
        report.write(executed, workspace / "out", "quick")
