"""The site: the book's pages with recorded findings first, what was just trained beside them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dytemp.lab.book import claims_page, execution, site
from dytemp.lab.studies import claims

# One transparent pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


def chapter(caption: str) -> nbformat.NotebookNode:
    figure = new_code_cell("figures.show(f)", id="cell-02", metadata={"tags": ["key-figure"]})
    figure.outputs = [
        new_output("display_data", data={"image/png": PNG}),
        new_output("display_data", data={"text/markdown": f"*{caption}*"}),
    ]
    judge = new_code_cell('study.judge("C8")', id="cell-03")
    text = "# TS, a chapter\n\nThe loss is $L_i$.\n\n## A section"
    return new_notebook(cells=[new_markdown_cell(text), figure, judge])


def page(folder: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((folder / name).read_text(encoding="utf-8"), "html.parser")


def article(soup: BeautifulSoup) -> Tag:
    (found,) = soup.select("article")
    return found


def words(tag: Tag) -> str:
    return " ".join(tag.text.split())


def of_cell(row: Tag) -> list[str]:
    return [" ".join(cell.stripped_strings) for cell in row.select("td")]


@pytest.fixture
def verdict(workspace: Path) -> claims.Finding:
    finding = claims.Finding(
        "ts", "C8", "scaled down", "opposite sign", -4.4, -4.9, -3.9, 5, 3.2, False, ("0" * 16,),
        "11_ts", "With <care>.",
    )  # fmt: skip
    claims.record(finding)
    return finding


@pytest.fixture
def stored(workspace: Path) -> Path:
    nbformat.write(chapter("as recorded"), workspace / "notebooks" / "11_ts.ipynb")
    nbformat.write(chapter("another"), workspace / "notebooks" / "12_ts.ipynb")
    return workspace / "notebooks"


@pytest.fixture
def live(stored: Path) -> site.Live:
    """Chapter 11 was executed, chapter 12 left nothing that can be read."""
    folder = execution.folder("quick")
    folder.mkdir(parents=True)
    nbformat.write(chapter("just now"), folder / "11_ts.ipynb")
    good = execution.Outcome("11_ts", folder / "11_ts.ipynb", None, 12.3, ("a" * 16, "b" * 16))
    dead = execution.Outcome("12_ts", folder / "12_ts.ipynb", "DeadKernelError: died", 1.0, ())
    return site.Live("quick", [good, dead])


def test_site_of_the_stored_outputs(stored: Path, verdict: claims.Finding, tmp_path: Path) -> None:
    output = tmp_path / "site"
    assert site.build(output) == output / "index.html"
    front = article(page(output, "index.html"))
    assert front.img is not None
    assert front.img["alt"] == "as recorded"
    counts = {row[0]: row[1:] for row in map(of_cell, front.select("tbody tr"))}
    assert counts["opposite sign"] == ["1", "–", "–"]
    assert "Just trained here" not in words(front)
    assert not (output / "run.html").exists()

    written = article(page(output, "notebooks/11_ts.html"))
    (figure,) = written.select("figure")
    assert words(figure.figcaption).startswith("as recorded")  # type: ignore[arg-type]
    assert figure.img["alt"] == "as recorded"  # type: ignore[index]
    assert written.math is not None
    folded, open_ = written.select("div.cell")
    assert folded.select("details")
    assert not open_.select("details")


def test_claims_have_both_words_and_a_link_to_the_cell(
    stored: Path, verdict: claims.Finding, tmp_path: Path
) -> None:
    site.build(tmp_path / "site")
    soup = page(tmp_path / "site", "claims.html")
    (row,) = soup.select("#ts-c8")
    cells = of_cell(row)
    assert "With <care>." in cells[1]
    assert cells[2:] == [
        "opposite sign scaled down",
        "-4.4 [-4.9, -3.9]",
        "5",
        "+3.2, outside the interval",
        "chapter 11",
    ]
    assert [a["href"] for a in row.select("a")] == ["notebooks/11_ts.html#cell-03"]
    assert page(tmp_path / "site", "notebooks/11_ts.html").select("#cell-03")
    assert len(soup.select("table.claims tbody tr")) == len(claims.claims())


def test_what_was_just_trained_stands_beside_what_was_recorded(
    live: site.Live, tmp_path: Path
) -> None:
    output = tmp_path / "site"
    site.build(output, live)
    assert "2 chapters at scale quick" in words(article(page(output, "index.html")))
    run = article(page(output, "run.html"))
    rows = [of_cell(row) for row in run.select("table")[0].select("tbody tr")]
    assert rows == [
        ["TS, a chapter", "complete", "12 s", "2", "recorded"],
        ["TS, a chapter", "failed", "1 s", "–", "recorded"],
    ]
    assert "DeadKernelError: died" in words(run)
    assert {"torch", "processor"} <= {row[0] for row in map(of_cell, run.select("tr")) if row}
    figures = article(page(output, "figures.html"))
    labels = [words(each) for each in figures.select("strong")]
    assert labels == ["Recorded", "Just now, scale quick", "Recorded"]
    assert [words(c).rstrip("#") for c in figures.select("figcaption")] == [
        "as recorded",
        "just now",
        "another",
    ]
    assert "just now" in words(article(page(output, "live/11_ts.html")))
    assert "as recorded" in words(article(page(output, "notebooks/11_ts.html")))
    assert not (output / "live/12_ts.html").exists()


def test_damaged_chapters_do_not_stop_the_others(stored: Path, tmp_path: Path) -> None:
    (stored / "13_ts.ipynb").write_text("{")
    site.build(tmp_path / "site")
    assert "as recorded" in words(article(page(tmp_path / "site", "notebooks/11_ts.html")))
    damaged = words(article(page(tmp_path / "site", "notebooks/13_ts.html")))
    assert "13_ts" in damaged
    assert "cannot be read" in damaged


def test_an_earlier_site_is_replaced_and_other_files_are_left_alone(
    stored: Path, tmp_path: Path
) -> None:
    output = tmp_path / "site"
    output.mkdir()
    (output / "mine.txt").write_text("keep me")
    site.build(output)
    assert (output / "mine.txt").read_text() == "keep me"
    (stored / "12_ts.ipynb").unlink()
    site.build(output)
    assert not (output / "notebooks" / "12_ts.html").exists()


def test_a_site_that_cannot_be_built_says_where_the_reason_stands(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sphinx.cmd.build.main", lambda options: 2)
    with pytest.raises(RuntimeError, match=r"warnings\.txt says why"):
        site.build(tmp_path / "site")


def test_picture_of_the_claims(stored: Path, verdict: claims.Finding, tmp_path: Path) -> None:
    rows = claims_page.rows([])
    assert claims_page.draw(rows, tmp_path / "claims.svg")
    assert "-4.4 [-4.9, -3.9]" in re.sub(
        r"<!-- (.*?) -->", r"\1", (tmp_path / "claims.svg").read_text().replace("−", "-")
    )
    assert not claims_page.draw([row | {"low": None} for row in rows], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
