"""What the page of the claims shows: rows with both words, counts, and a picture of all intervals.

Verdicts come from `dytemp.lab.studies`; nothing here judges.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib.pyplot as plt
import nbformat
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dytemp.lab import paths
from dytemp.lab.book import figures, reading
from dytemp.lab.studies import claims, papers

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
    C8), ``in_points`` (whether it is about differences of accuracies) and ``link`` (None if nothing
    was measured, or its chapter does not exist).
    """
    found: list[Row] = json.loads(claims.claims(store).to_json(orient="records"))  # NaN is None
    names = {chapter.name for chapter in chapters}
    cells = {name: _cells(name) for name in names}
    for row in found:
        row["anchor"] = f"{row['paper']}-{row['claim']}".lower()
        row["name"] = f"{NAMES[row['paper']]} {row['claim']}"
        row["in_points"] = bool(row["contrasts"])
        row["link"] = None
        if row["notebook"] in names:
            cell = cells[row["notebook"]].get(row["claim"])
            page = f"notebooks/{row['notebook']}.html"
            row["link"] = f"{page}#{cell}" if cell else page
    return found


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


def counts(table: Iterable[Row]) -> list[tuple[str, dict[str, int]]]:
    """Return for each outcome that occurs how many claims of each paper have it."""
    found = {outcome: dict.fromkeys(NAMES, 0) for outcome in claims.OUTCOMES}
    for row in table:
        found[row["outcome"]][row["paper"]] += 1
    return [(outcome, number) for outcome, number in found.items() if any(number.values())]


def papers_of(table: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """Return short name, title and claims of each paper."""
    return [
        (NAMES[key], papers.PAPERS[key].title, [row for row in table if row["paper"] == key])
        for key in NAMES
    ]


def table(rows: Iterable[Row]) -> str:
    """Return the claims that were measured, but for identities, as a table in Markdown."""
    lines = ["| claim | says | found, scope | effect and interval | the paper's effect |"]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        if not row["scope"] or row["scope"].startswith("exact"):
            continue
        name = f"{NAMES[row['paper']]} {row['claim']}"
        effect, paper = (
            "" if row[c] is None else f"{row[c]:+.3g}" for c in ("effect", "paper_effect")
        )
        if row["low"] is not None:
            effect += f" [{row['low']:+.3g}, {row['high']:+.3g}]"
        if row["outcome"] == "mixed":  # their mean would say nothing
            effect = "parts for it and against it"
        words = f"{row['outcome']}, {row['scope']}"
        says = row["statement"].rstrip(".").replace("|", "/")
        lines.append(f"| {name} | {says} | {words} | {effect} | {paper} |")
    return "\n".join(lines)


def draw(table: Sequence[Row], file: Path) -> bool:
    """Draw every effect that has an interval, and the paper's own; return whether there is one.

    Differences of accuracies share an axis. The others have units of their own: each is scaled by
    the largest number in its row.
    """
    measured = [row for row in table if None not in (row["effect"], row["low"], row["high"])]
    panels = [[row for row in measured if row["in_points"] is kind] for kind in (True, False)]
    panels = [panel for panel in panels if panel]
    if not panels:
        return False
    figures.style()
    figure, axes = plt.subplots(
        len(panels),
        squeeze=False,
        figsize=(6.4, 0.45 * len(measured) + 1.5 * len(panels)),
        height_ratios=[len(panel) + 1 for panel in panels],
    )
    for each, panel in zip(axes[:, 0], panels, strict=True):
        _draw_panel(each, panel)
    _legend(figure, measured)
    figure.savefig(file)
    plt.close(figure)
    return True


def _draw_panel(axes: Axes, panel: Sequence[Row]) -> None:
    shared = bool(panel[0]["in_points"])
    for place, row in enumerate(reversed(panel)):
        _draw_row(axes, place, row, shared)
    axes.axvline(0, color="black", linewidth=1)
    axes.set(ylim=(-0.7, len(panel) - 0.3), title="accuracies" if shared else "other measures")
    axes.set_yticks(range(len(panel)), [row["name"] for row in reversed(panel)])
    if shared:
        axes.set_xlabel("effect in percentage points, 95 % interval")
    else:
        axes.set(xlim=(-1.1, 1.1), xlabel="effect, 95 % interval; each row has its own unit")
        axes.set_xticks([-1, 0, 1], ["", "0", ""])


def _draw_row(axes: Axes, place: int, row: Mapping[str, Any], shared: bool) -> None:
    low, effect, high = (float(row[name]) for name in ("low", "effect", "high"))
    paper = row["paper_effect"]
    largest = max(abs(number) for number in (low, high, effect, paper or 0.0))
    scale = 1.0 if shared or not largest else largest
    colour = _COLOURS.get(row["outcome"], "#555555")
    axes.plot([low / scale, high / scale], [place, place], color=colour, linewidth=2.5)
    marker = _MARKERS.get(row["outcome"], "s")
    axes.plot(effect / scale, place, color=colour, marker=marker, markersize=8)
    if paper is not None:
        axes.plot(paper / scale, place, color="black", marker="*", markersize=10)
    axes.annotate(
        f"{effect:+.3g} [{low:+.3g}, {high:+.3g}]",
        (1.02, place),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize="small",
    )


def _legend(figure: Figure, measured: Sequence[Row]) -> None:
    handles = [
        Line2D([], [], color=colour, marker=_MARKERS[outcome], label=outcome)
        for outcome, colour in _COLOURS.items()
        if any(row["outcome"] == outcome for row in measured)
    ]
    star = Line2D([], [], color="black", marker="*", linestyle="", label="the paper's effect")
    figure.legend(handles=[*handles, star], loc="outside upper center", ncols=2)
