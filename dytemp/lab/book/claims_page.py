"""What the page of the claims shows: rows with both words, counts, and a picture of all intervals.

Verdicts come from `dytemp.lab.studies`; nothing here judges.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib.pyplot as plt
import nbformat
from matplotlib.figure import Figure

from dytemp.lab import paths
from dytemp.lab.book import figures, reading
from dytemp.lab.studies import papers

OUTCOMES = (
    "supported",
    "mixed",
    "opposite sign",
    "not resolved",
    "not testable here",
    "not measured",
)
NAMES = {"ts": "TS", "isogclr": "iSogCLR", "dystress": "DySTreSS"}
_COLOURS = {
    "supported": "#029e73",
    "mixed": "#de8f05",
    "opposite sign": "#d55e00",
    "not resolved": "#555555",
}
_MARKERS = {"supported": "o", "mixed": "D", "opposite sign": "X", "not resolved": "s"}

Row = dict[str, Any]


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


def rows(chapters: Sequence[_HasName], store: Path | None = None) -> list[Row]:
    """Return one row for each claim, with the link to the cell that measured it.

    Beside the columns of ``claims --json`` a row has ``anchor`` (its name in links), ``name`` (TS
    C8), ``holds_paper`` (whether the interval holds the paper's effect, None if one is missing)
    and ``link`` (None if nothing was measured, or its chapter does not exist).
    """
    table = json.loads(papers.claims(store).to_json(orient="records"))  # NaN becomes None
    found = [_in_two_words(row) for row in table]
    names = {chapter.name for chapter in chapters}
    cells = {name: _cells(name) for name in names}
    for row in found:
        row["anchor"] = f"{row['paper']}-{row['claim']}".lower()
        row["name"] = f"{NAMES[row['paper']]} {row['claim']}"
        row["link"] = None
        if row["notebook"] in names:
            cell = cells[row["notebook"]].get(row["claim"])
            page = f"notebooks/{row['notebook']}.html"
            row["link"] = f"{page}#{cell}" if cell else page
    return found


def _in_two_words(row: Row) -> Row:
    """Return a claim with scope and outcome, from a table that may still have one word."""
    if "outcome" in row:
        paper = _number(row.get("paper_effect"))
        known = None not in (paper, row["low"], row["high"])
        holds = row["low"] <= paper <= row["high"] if known else None
        return row | {"holds_paper": row.get("holds_paper", holds)}
    words = {
        "exact": ("exact", "supported"),
        "reproduced": ("scaled down", "supported"),
        "contradicted": ("scaled down", "opposite sign"),
        "inconclusive": ("scaled down", "not resolved"),
        "not measurable": ("", "not testable here"),
    }
    scope, outcome = words.get(row["verdict"], ("", "not measured"))
    return row | {
        "scope": scope,
        "outcome": outcome,
        "draws": row["seeds"],
        "paper_effect": None,
        "holds_paper": None,
    }


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _cells(name: str) -> dict[str, str]:
    """Return the cell that judges each claim: the last one with the claim's name as a string."""
    try:
        notebook = nbformat.read(paths.home() / "notebooks" / f"{name}.ipynb", as_version=4)
    except Exception:  # a damaged chapter has no cell to link to
        return {}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return {
        f"C{number}": reading.anchor_of(cell)
        for cell in code
        for number in range(1, 40)
        if f'"C{number}"' in cell.source
    }


def counts(claims: Iterable[Row]) -> list[tuple[str, dict[str, int]]]:
    """Return for each outcome that occurs how many claims of each paper have it."""
    table: dict[str, dict[str, int]] = {}
    for row in claims:
        of_outcome = table.setdefault(row["outcome"], dict.fromkeys(NAMES, 0))
        of_outcome[row["paper"]] += 1
    order = [*OUTCOMES, *sorted(set(table) - set(OUTCOMES))]
    return [(outcome, table[outcome]) for outcome in order if outcome in table]


def papers_of(claims: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """Return short name, title and claims of each paper."""
    return [
        (NAMES[key], papers.PAPERS[key].title, [row for row in claims if row["paper"] == key])
        for key in NAMES
    ]


def intervals(claims: Iterable[Row]) -> list[Row]:
    """Return the claims that have an effect and an interval."""
    return [row for row in claims if None not in (row["effect"], row["low"], row["high"])]


def draw(claims: Sequence[Row], file: Path) -> None:
    """Draw every measured effect with its interval and the paper's own effect beside it.

    Effects have different units, so that each row is scaled by the largest number in it; the
    numbers themselves stand at the right.
    """
    measured = intervals(claims)
    figures.style()
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(measured) + 1.3))
    for place, row in enumerate(reversed(measured)):
        _draw_row(axes, place, row)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(xlim=(-1.1, 1.1), ylim=(-0.7, len(measured) - 0.3), xticks=[-1, 0, 1])
    axes.set_xticklabels(["", "0", ""])
    axes.set_yticks(range(len(measured)), [row["name"] for row in reversed(measured)])
    axes.set_xlabel("effect with its interval; each row has its own unit and scale")
    _legend(figure, measured)
    figure.savefig(file)
    plt.close(figure)


def _draw_row(axes: Any, place: int, row: Mapping[str, Any]) -> None:
    paper = _number(row["paper_effect"])
    ends = [row["low"], row["high"], row["effect"], 0.0 if paper is None else paper]
    scale = max(abs(end) for end in ends) or 1.0
    colour = _COLOURS.get(row["outcome"], "#555555")
    axes.plot([row["low"] / scale, row["high"] / scale], [place] * 2, color=colour, linewidth=2.5)
    marker = _MARKERS.get(row["outcome"], "s")
    axes.plot(row["effect"] / scale, place, color=colour, marker=marker, markersize=8)
    if paper is not None:
        look = figures.look("paper")
        axes.plot(paper / scale, place, color="black", marker=look["marker"], markersize=10)
    axes.annotate(
        "{effect:+.3g} [{low:+.3g}, {high:+.3g}]".format_map(row),
        (1.02, place),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize="small",
    )


def _legend(figure: Figure, measured: Sequence[Row]) -> None:
    handles = [
        plt.Line2D([], [], color=colour, marker=_MARKERS[outcome], label=outcome)
        for outcome, colour in _COLOURS.items()
        if any(row["outcome"] == outcome for row in measured)
    ]
    star = plt.Line2D([], [], color="black", marker="*", linestyle="", label="the paper's effect")
    figure.legend(handles=[*handles, star], loc="outside upper center", ncols=3)
