"""How figures look: the same method has the same colour, marker and line everywhere.

Colours are from seaborn's colour-blind palette; markers and dashes tell methods apart in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure

_COLOURS = sns.color_palette("colorblind").as_hex()


class Look(NamedTuple):
    """Colour, marker and line style of a method."""

    color: str
    marker: str
    linestyle: str


LOOKS = {
    "fixed": Look("#555555", "o", "-"),
    "best fixed": Look("#000000", "D", "--"),
    "TS": Look(_COLOURS[0], "s", "-"),
    "other shape": Look("#7a4a00", "v", "-."),  # triangle, random, step: rivals of TS's cosine
    "oracle": Look(_COLOURS[9], "P", ":"),
    "SogCLR": Look(_COLOURS[5], "v", "--"),
    "iSogCLR": Look(_COLOURS[2], "^", "-"),
    "CLIP": Look(_COLOURS[8], "<", "--"),
    "CyCLIP": Look(_COLOURS[7], ">", ":"),
    "DySTreSS": Look(_COLOURS[3], "X", "-"),
    "DySTreSS shifted": Look(_COLOURS[1], "d", "--"),
    "DySTreSS full derivative": Look(_COLOURS[4], "*", ":"),
    "MACL": Look(_COLOURS[5], "p", "-."),
    "DCL": Look(_COLOURS[6], "h", "-."),
    "paper": Look("#999999", "*", "--"),
}


def style() -> None:
    """Set the common style: call it once, at the top of a chapter."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.figsize": (8, 4.2),
            "figure.constrained_layout.use": True,
            "figure.dpi": 100,
            "axes.titlesize": "medium",
            "legend.frameon": False,
            "svg.hashsalt": "dytemp",
        }
    )


def look(method: str) -> dict[str, Any]:
    """Return the keywords for ``Axes.plot`` of a method.

    Raises
    ------
    ValueError
        For a method that has no look; the message names those that have.
    """
    if method not in LOOKS:
        raise ValueError(f"method must be one of {', '.join(LOOKS)}, got {method!r}")
    return LOOKS[method]._asdict()


def tau_colour(tau: float, low: float = 0.05, high: float = 1.2) -> str:
    """Return the colour of a fixed temperature: dark is small, on a logarithmic scale."""
    position = float(LogNorm(low, high, clip=True)(tau))
    return str(to_hex(plt.get_cmap("viridis")(0.92 * position)))


def show(figure: Figure, caption: str) -> None:
    """Show a figure with a caption below that says what to see, and close it."""
    display(figure, Markdown(f"*{caption}*"))  # type: ignore[no-untyped-call]
    plt.close(figure)


def differences(
    axes: Axes, table: pd.DataFrame, unit: str = "percentage points", methods: Sequence[str] = ()
) -> None:
    """Draw paired differences with their intervals, one row each, and the line of no difference.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    table : DataFrame
        Columns ``mean``, ``low``, ``high``, one row each; the index names the rows.
    unit : str
        Unit of the differences, for the axis.
    methods : sequence of str
        The method of each row, for its look; all "fixed" if empty.
    """
    places = np.arange(len(table))[::-1]
    looks = [LOOKS[m] for m in methods] or [LOOKS["fixed"]] * len(table)
    numbers = table[["mean", "low", "high"]].to_numpy(float)
    for place, (mean, low, high), each in zip(places, numbers, looks, strict=True):
        axes.plot([low, high], [place, place], color=each.color, linewidth=2)
        axes.plot(mean, place, color=each.color, marker=each.marker, markersize=8)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(places, [str(name) for name in table.index])
    axes.set_xlabel(f"paired difference ({unit}), 95 % interval")
    axes.set_ylim(-0.6, len(table) - 0.4)
