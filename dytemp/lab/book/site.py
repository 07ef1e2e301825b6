"""The site: the book's own pages, the chapters and what was just trained, built with Sphinx.

The pages in the folder ``book`` are MyST Markdown with Jinja in it: whatever was measured, counted
or judged is filled in here, at build time. Nothing is fetched from a network, and the site can be
read without one.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import statistics
import warnings
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from nbformat import NotebookNode

import dytemp
from dytemp.lab import paths, scales
from dytemp.lab.book import claims_page, execution, reading
from dytemp.lab.studies import claims, runs
from dytemp.lab.training import encoders, hardware

# Parts of the book, by the numbers of their chapters.
PARTS = (
    ("Ground", range(10)),
    ("TS: the temperature follows the time", range(10, 20)),
    ("iSogCLR: each sample has its temperature", range(20, 30)),
    ("DySTreSS: the similarity sets the temperature", range(30, 40)),
    ("Head to head", range(40, 50)),
    ("Further chapters", range(50, 80)),
)
CLAIMED = ("claims", "audit", "figures")
USED = range(80, 100)
AROUND = ("running", "reviewers", "findings", "benchmarks", "faults", "lecturers", "glossary")
API = ("api", "api_schedules", "api_losses", "api_metrics", "api_lab")

# The picture on the front page is the first key figure of the first of these chapters.
ANSWERS = ("40", "11")

_CHAPTER_LINK = re.compile(r"\]\((\d\d_\w+)\.ipynb")
_UNREADABLE = """# {name}

:::{{error}}
The notebook of this chapter cannot be read: restore it with git.
:::
"""


@dataclass(frozen=True)
class Live:
    """What was executed in this clone: the scale and what became of its chapters."""

    scale: str
    outcomes: Sequence[execution.Outcome]


@dataclass(frozen=True)
class Chapter:
    """A chapter with its stored outputs, and its copy that was executed here, if there is one."""

    name: str
    title: str
    figures: Sequence[reading.Figure]
    readable: bool = True
    live: execution.Outcome | None = None
    live_figures: Sequence[reading.Figure] = ()

    @property
    def page(self) -> str:
        """Page of the stored outputs, as a name in the site."""
        return f"notebooks/{self.name}"

    @property
    def live_page(self) -> str | None:
        """Page of the executed copy; None if it cannot be read."""
        found = self.live and _read(self.live.notebook)
        return f"live/{self.name}" if found else None


def build(output: Path, live: Live | None = None) -> Path:
    """Build the site and return its first page.

    Parameters
    ----------
    output : Path
        Folder of the site. An earlier site there is replaced; other files are left alone.
    live : Live, optional
        What was executed in this clone; shown beside the recorded results.

    Raises
    ------
    FileNotFoundError
        If there is no chapter.
    RuntimeError
        If Sphinx fails; the message holds what it said.
    """
    source = paths.build() / "book" / "source"
    shutil.rmtree(source, ignore_errors=True)
    chapters = _chapters(live)
    _copy_chapters(chapters, source)
    _write_pages(chapters, live, source)
    if (output / ".buildinfo").is_file():
        shutil.rmtree(output)
    _sphinx(source, output)
    return output / "index.html"


def _chapters(live: Live | None) -> list[Chapter]:
    outcomes = {outcome.name: outcome for outcome in live.outcomes} if live else {}
    found = []
    for path in execution.chapters():
        stored, outcome = _read(path), outcomes.get(path.stem)
        executed = _read(outcome.notebook) if outcome else None
        found.append(
            Chapter(
                name=path.stem,
                title=(stored and reading.title(stored)) or path.stem,
                figures=reading.key_figures(stored) if stored else (),
                readable=stored is not None,
                live=outcome,
                live_figures=reading.key_figures(executed) if executed else (),
            )
        )
    return found


def _read(path: Path) -> NotebookNode | None:
    """Read a notebook; None if it is missing or damaged."""
    try:
        notebook: NotebookNode = nbformat.read(path, as_version=4)
    except Exception:  # nbformat raises many unrelated types
        return None
    return notebook


def _copy_chapters(chapters: Sequence[Chapter], source: Path) -> None:
    """Copy notebooks to where the pages and the chapters expect each other."""
    for folder in ("notebooks", "live", "data", "pictures"):
        (source / folder).mkdir(parents=True)
    executed = {chapter.name for chapter in chapters if chapter.live_page}
    for chapter in chapters:
        name = f"{chapter.name}.ipynb"
        if chapter.readable:
            shutil.copy(paths.home() / "notebooks" / name, source / "notebooks" / name)
        else:
            text = _UNREADABLE.format(name=chapter.name)
            (source / "notebooks" / f"{chapter.name}.md").write_text(text, encoding="utf-8")
        if chapter.live and chapter.live_page:
            text = chapter.live.notebook.read_text(encoding="utf-8")
            text = _CHAPTER_LINK.sub(partial(_link_from_live, executed), text)
            (source / "live" / name).write_text(text, encoding="utf-8")
    readme = paths.home() / "data" / "README.md"
    if readme.is_file():
        shutil.copy(readme, source / "data" / "README.md")


def _link_from_live(executed: Container[str], link: re.Match[str]) -> str:
    """Lead to the recorded version of a chapter that was not executed."""
    return link[0] if link[1] in executed else f"](../notebooks/{link[1]}.ipynb"


def _write_pages(chapters: Sequence[Chapter], live: Live | None, source: Path) -> None:
    """Fill in the pages of the book and put them beside the chapters."""
    pages = paths.home() / "book"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pages),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        comment_start_string="{##",  # MyST has uses for the usual one
        comment_end_string="##}",
    )
    context = _context(chapters, live, source / "pictures")
    for page in sorted(pages.glob("*.md")):
        if page.stem == "run" and live is None:
            continue
        text = environment.get_template(page.name).render(context)
        # In the repository the pages stand in a folder of their own.
        (source / page.name).write_text(text.replace("](../", "]("), encoding="utf-8")
    shutil.copy(pages / "conf.py", source)
    shutil.copytree(pages / "_static", source / "_static")


def _context(chapters: Sequence[Chapter], live: Live | None, pictures: Path) -> dict[str, Any]:
    """Everything that the pages can show."""
    found = claims_page.rows(chapters)
    return {
        "version": dytemp.__version__,
        "chapters": chapters,
        "parts": list(_parts(chapters, live)),
        "claims": found,
        "counts": claims_page.counts(found),
        "scopes": claims.SCOPES,
        "outcomes": claims.OUTCOMES,
        "papers": claims_page.papers_of(found),
        "intervals": claims_page.draw(found, pictures / "claims.svg"),
        "answer": _answer(chapters, pictures),
        "figures": {c.name: list(_beside(c, pictures)) for c in chapters},
        "shown": partial(_shown, chapters),
        "compute": _compute(),
        "encoders": _encoders(),
        "benchmarks": _benchmarks(),
        "live": live,
        "date": date.today().isoformat(),
        "environment": {"dytemp": dytemp.__version__} | hardware.environment(),
    }


def _parts(chapters: Sequence[Chapter], live: Live | None) -> Iterator[tuple[str, list[str]]]:
    """Yield the parts of the book that have pages: title, names of the pages."""

    def of(numbers: range) -> list[str]:
        return [chapter.page for chapter in chapters if int(chapter.name[:2]) in numbers]

    def existing(names: Sequence[str]) -> list[str]:
        return [name for name in names if (paths.home() / "book" / f"{name}.md").is_file()]

    yield from ((title, of(numbers)) for title, numbers in PARTS if of(numbers))
    yield "Everything that was claimed", existing(CLAIMED)
    yield "In your own project", [*existing(["use_it"]), *of(USED)]
    known = {"index", "run", "use_it", *CLAIMED, *AROUND, *API}
    others = sorted({page.stem for page in (paths.home() / "book").glob("*.md")} - known)
    yield "Around it", [*existing(AROUND), *others, "data/README"]
    yield "API", existing(API)
    if live:
        pages = [chapter.live_page for chapter in chapters if chapter.live]
        yield "Just trained here", ["run", *(page for page in pages if page)]


def _answer(chapters: Sequence[Chapter], pictures: Path) -> dict[str, str] | None:
    """Return the picture of the front page: its file, caption and where it comes from."""
    for prefix in ANSWERS:
        for chapter in chapters:
            if chapter.name.startswith(prefix) and chapter.figures:
                return _picture(chapter.figures[0], pictures / "answer.png") | {
                    "page": chapter.page,
                    "title": chapter.title,
                }
    return None


def _beside(chapter: Chapter, pictures: Path) -> Iterator[dict[str, dict[str, str] | None]]:
    """Yield the key figures of a chapter, the recorded one and the one just made in pairs."""
    pairs = itertools.zip_longest(chapter.figures, chapter.live_figures)
    for number, (recorded, live) in enumerate(pairs, start=1):
        place = pictures / f"{chapter.name}-{number}"
        yield {
            "recorded": _picture(recorded, place.with_suffix(".png")) if recorded else None,
            "live": _picture(live, place.with_name(f"{place.name}-live.png")) if live else None,
        }


def _picture(figure: reading.Figure, file: Path) -> dict[str, str]:
    file.write_bytes(base64.b64decode(figure.png))
    alternative = reading.plain(figure.caption)
    return {
        "file": f"pictures/{file.name}",
        "caption": figure.caption,
        "alt": alternative,
        "cell": figure.cell,
    }


def _shown(chapters: Sequence[Chapter], number: str, words: str) -> str:
    """Return a link to the first text of a chapter that has these words.

    A clone without the chapter, or a chapter without the words, gives a link that leads less far;
    the tests of the pages complain about the second.
    """
    for chapter in chapters:
        if chapter.name.startswith(number):
            notebook = _read(paths.home() / "notebooks" / f"{chapter.name}.ipynb")
            cells = notebook.cells if notebook else []
            found = [reading.anchor_of(cell) for cell in cells if words in cell.source]
            fragment = f"#{found[0]}" if found else ""
            return f'<a href="{chapter.page}.html{fragment}">chapter {number}</a>'
    return f"chapter {number}"


def _compute() -> dict[str, Any]:
    """Sum up what the recorded runs took, and on which machines."""
    every = runs.recorded(scales.store("recorded"))
    seconds = [sum(run.seconds.values()) for run in every]
    machines = Counter(str(run.environment["processor"]) for run in every)
    return {
        "runs": len(every),
        "hours": sum(seconds) / 3600,
        "median_seconds": statistics.median(seconds) if seconds else 0.0,
        "machines": dict(machines.most_common()),
    }


def _encoders() -> dict[str, int]:
    """Count the parameters of the encoders for colour images, with a projection of 128."""
    names = [name for name in encoders.BACKBONES if name not in ("dense", "mlp")]
    built = {name: encoders.build(name, 3, 128) for name in names}
    return {name: sum(p.numel() for p in each.parameters()) for name, each in built.items()}


def _benchmarks() -> list[dict[str, Any]]:
    """Read what `make bench` measured and was kept: rows by group, relative to the first one."""
    folder = paths.home() / "data" / "results" / "benchmarks"
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    for benchmark in found:
        rows: list[Mapping[str, Any]] = benchmark["measurements"]
        benchmark["tables"] = {}
        for group, members in itertools.groupby(rows, key=lambda row: str(row["group"])):
            table = list(members)
            first = table[0]["median"]
            benchmark["tables"][group] = [
                {**row, "relative": row["median"] / first} for row in table
            ]
    return found


def _sphinx(source: Path, output: Path) -> None:
    """Build HTML; what Sphinx warns of is kept in ``build/book/warnings.txt``."""
    from sphinx.cmd import build as sphinx_build

    log = source.with_name("warnings.txt")
    options = ["-b", "html", "-E", "-a", "-j", "2", "-q", "--no-color"]
    options += ["-d", str(source.with_name("doctrees")), str(source), str(output)]
    with (
        log.open("w", encoding="utf-8") as stream,
        redirect_stderr(stream),
        warnings.catch_warnings(),  # of what extensions will have to change, not we
    ):
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        status = sphinx_build.main(options)
    if status != 0:
        raise RuntimeError(f"the site could not be built: {log} says why")
