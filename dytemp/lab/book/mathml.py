"""Formulas as MathML, which browsers draw themselves: an extension of Sphinx, no script."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, NoReturn

from docutils import nodes
from latex2mathml.converter import convert

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def mathml(formula: str, display: str) -> str:
    """Return a LaTeX formula as MathML, or as its source when it is not valid LaTeX.

    Parameters
    ----------
    formula : str
        LaTeX, without the dollars.
    display : str
        ``"inline"`` or ``"block"``.
    """
    try:
        return str(convert(formula.strip(), display=display))
    except Exception:  # the library raises many unrelated types; the reader still gets the formula
        return f'<code class="formula">{html.escape(formula)}</code>'


def _inline(translator: Any, node: nodes.math) -> NoReturn:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> NoReturn:
    translator.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer to Sphinx: ``html_math_renderer = "mathml"``."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
