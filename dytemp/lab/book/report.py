"""The report: executed notebooks as web pages, with an overview of figures and claims.

Everything is embedded, so the folder can be read without a network and sent to anyone: images are
part of the pages, and formulas are MathML, which browsers draw themselves.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import jinja2
import nbformat
from latex2mathml.converter import convert as latex_to_mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

import dytemp
from dytemp.lab import paths, scales
from dytemp.lab.book import benchmarks_page
from dytemp.lab.studies import claims
from dytemp.lab.training import hardware

FIGURE_TAG = "key-figure"
WIDGET = "application/vnd.jupyter.widget-view+json"

# nbconvert's page without the scripts that it loads from the network.
_PAGE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
  body.jp-Notebook { max-width: 70rem; margin: 0 auto; }
  math { font-size: 1.15em; }
</style>
{%- endblock -%}
{%- block body_header -%}
{{ super() }}
<p class="jp-RenderedHTMLCommon"><a href="index.html">← all chapters</a></p>
{%- endblock -%}
"""


@dataclass(frozen=True)
class Chapter:
    """An executed notebook."""

    name: str
    notebook: NotebookNode

    @property
    def title(self) -> str:
        """The first heading, or the file name."""
        for cell in self.notebook.cells:
            found = re.search(r"^# +(.+)$", cell.source, re.MULTILINE)
            if cell.cell_type == "markdown" and found:
                return found[1]
        return self.name

    @property
    def seconds(self) -> float | None:
        """Duration of the execution, or None for the stored outputs of a chapter."""
        duration: float | None = self.notebook.metadata.get("papermill", {}).get("duration")
        return duration

    @property
    def failed(self) -> bool:
        """Whether a cell ended with an error."""
        return any(
            output.output_type == "error"
            for cell in self.notebook.cells
            for output in cell.get("outputs", [])
        )


@dataclass(frozen=True)
class Figure:
    """A figure for the overview: PNG as base64, caption as HTML, page with anchor."""

    png: str
    caption: str
    link: str


def write(executed: Path, output: Path, scale: str) -> Path:
    """Write the report of the notebooks in `executed` into `output` and return its first page.

    Raises
    ------
    FileNotFoundError
        If none of the chapters has been executed.
    """
    chapters = _chapters(executed)
    if not chapters:
        raise FileNotFoundError(
            f"no executed notebooks in {executed}; run: python -m dytemp reproduce --scale {scale}"
        )
    output.mkdir(parents=True, exist_ok=True)
    for chapter in chapters:
        (output / f"{chapter.name}.html").write_text(page(chapter), encoding="utf-8")
    found = claims.claims(scales.store(scale)).to_json(orient="records")  # NaN becomes None
    index = output / "index.html"
    index.write_text(
        _index_template().render(
            scale=scale,
            environment={"dytemp": dytemp.__version__} | hardware.environment(),
            date=date.today().isoformat(),
            chapters=chapters,
            figures=[figure for chapter in chapters for figure in figures(chapter)],
            claims=json.loads(found),
            benchmarks=benchmarks_page.write(
                paths.home() / "data" / "results" / "benchmarks", output
            ),
        ),
        encoding="utf-8",
    )
    return index


def _chapters(executed: Path) -> list[Chapter]:
    """Read the executed copies of the chapters that exist now: a renamed one leaves no ghost."""
    names = sorted(path.name for path in (paths.home() / "notebooks").glob("[0-9]*.ipynb"))
    return [
        Chapter(Path(name).stem, nbformat.read(executed / name, as_version=4))
        for name in names
        if (executed / name).is_file()
    ]


def page(chapter: Chapter) -> str:
    """One chapter as a web page that needs nothing else."""
    for cell in chapter.notebook.cells:
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                output.data = {"text/html": "<em>Interactive: open the notebook in Jupyter.</em>"}
    exporter = HTMLExporter(raw_template=_PAGE, filters={"markdown2html": markdown})
    body, _ = exporter.from_notebook_node(
        chapter.notebook, {"metadata": {"name": f"{chapter.title} · dytemp"}}
    )
    return str(body)


def figures(chapter: Chapter) -> list[Figure]:
    """Figures of the cells tagged ``key-figure``.

    The caption is the first Markdown that the cell displays after the figure, else the nearest
    heading above the cell.
    """
    found, heading = [], chapter.title
    for cell in chapter.notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^#+ +(.+)$", cell.source, re.MULTILINE) or [heading])[-1]
        elif FIGURE_TAG in cell.metadata.get("tags", []):
            link = f"{chapter.name}.html#cell-id={cell.id}"
            data = [output.get("data", {}) for output in cell.outputs]
            for place, item in enumerate(data):
                if "image/png" in item:
                    below = (
                        later["text/markdown"] for later in data[place:] if "text/markdown" in later
                    )
                    caption = markdown(next(below, heading))
                    found.append(Figure(item["image/png"], caption, link))
    return found


class _Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML and links that stay inside the report."""

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, re.sub(r"^([\w.-]+)\.ipynb\b", r"\1.html", url), title)


def markdown(source: str) -> str:
    """Markdown text as HTML."""
    return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)


def mathml(formula: str, display: str) -> str:
    """Return a LaTeX formula as MathML, or as its source when it is not valid LaTeX."""
    try:
        return str(latex_to_mathml(formula.strip(), display=display))
    except Exception:  # the library raises many unrelated types; the reader still gets the formula
        return f'<code class="formula">{html.escape(formula)}</code>'


def _index_template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dytemp.lab.book", "."), autoescape=True, trim_blocks=True
    )
    return environment.get_template("report.html.j2")
