"""How figures look: the same method has the same colour, marker and line everywhere.

Every colour has a contrast of at least 3:1 against white and against the dark page of the book,
and neighbours differ in lightness or hue for the colour-blind; markers and dashes tell methods
apart in print.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_hex
from matplotlib.figure import Figure

from dytemp.lab.studies import Study, words
from dytemp.lab.studies.runs import Run

Place = Literal[
    "best", "upper left", "upper right", "lower left", "lower right", "center left", "center right"
]
DARK_PAGE = "#121212"
PALETTE = ("#0173b2", "#d55e00", "#02906a", "#a64d79", "#757575")  # C0 to C4, for no method


class Look(NamedTuple):
    """Colour, marker and line style of a method."""

    color: str
    marker: str
    linestyle: str


LOOKS = {
    "fixed": Look("#757575", "o", "-"),
    "best fixed": Look("#6a6a6a", "D", "--"),
    "TS": Look("#0173b2", "s", "-"),
    "other shape": Look("#9a6324", "v", "-."),  # triangle, random, step: rivals of TS's cosine
    "class oracle": Look("#2a86b8", "P", ":"),
    "SogCLR": Look("#8f8500", "v", "--"),
    "SogCLR at mean τ": Look("#6f8a2a", ">", "--"),
    "iSogCLR": Look("#02906a", "^", "-"),
    "CLIP": Look("#a57c00", "<", "--"),
    "CyCLIP": Look("#858585", ">", ":"),
    "DySTreSS": Look("#d55e00", "X", "-"),
    "DySTreSS shifted": Look("#b87503", "d", "--"),
    "DySTreSS full derivative": Look("#b35ba3", "*", ":"),
    "two constants": Look("#a64d79", "H", "--"),
    "MACL": Look("#a0703f", "p", "-."),
    "DCL": Look("#c0509a", "D", "-."),
    "DCLW": Look("#b0589f", "H", ":"),
    "HCL": Look("#9c6a4a", "<", "-."),
    "SimCo": Look("#3d7fa6", "s", ":"),
    "PPS": Look("#6b6bd0", "v", ":"),
    "TeMo": Look("#3a8a7a", ">", "-."),
    "RGCL": Look("#bf4b4b", "P", "-"),
    "TempNet": Look("#5c8a35", "d", ":"),
    "SigLIP": Look("#7d7a2f", "p", "--"),
    "spectral": Look("#80797f", "X", ":"),
    "learned": Look("#7b68c8", "8", "--"),
    "paper": Look("#8c8c8c", "*", "--"),
}
_SPARE = (  # for methods that are not listed: an own rule keeps the look that its name gives it
    Look("#b04a5a", "P", "-"),
    Look("#4f7f3f", "d", "--"),
    Look("#5a6fc0", "v", "-."),
    Look("#9a5fb5", "h", ":"),
    Look("#a85c32", "<", "--"),
    Look("#2f8585", ">", "-."),
)
_TAU = {  # neighbours in a sweep differ in hue and, where hues are alike, in lightness
    0.05: "#6f45e0",
    0.07: "#7448e0",
    0.1: "#c04fcf",
    0.2: "#c02850",
    0.3: "#d87418",
    0.5: "#746a00",
    1.0: "#4fa03a",
    1.2: "#4fa040",
}


def style() -> None:
    """Set the common style: call it once, at the top of a chapter."""
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    plt.rcParams.update(
        {
            "figure.figsize": (8, 4.2),
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "savefig.dpi": 150,
            "axes.titlesize": "medium",
            "legend.frameon": True,
            "legend.framealpha": 0.95,
            "svg.hashsalt": "dytemp",
        }
    )


def look(method: str) -> dict[str, Any]:
    """Return the keywords for ``Axes.plot`` of a method.

    A fixed temperature (``"fixed 0.2"``) has the colour of its value, a variant (``"TS, period
    0.5"``) the look of the method that its name begins with, and any other name one of its own.
    """
    if method in LOOKS:
        return LOOKS[method]._asdict()
    if method.startswith("fixed "):
        value = method.split()[1].rstrip(",")
        return LOOKS["fixed"]._asdict() | {"color": tau_colour(float(value))}
    families = [name for name in LOOKS if method.startswith((f"{name} ", f"{name},"))]
    if families:
        return LOOKS[max(families, key=len)]._asdict()
    place = int.from_bytes(hashlib.blake2b(method.encode(), digest_size=4).digest())
    return _SPARE[place % len(_SPARE)]._asdict()


def tau_colour(tau: float, low: float = 0.05, high: float = 1.2) -> str:
    """Return the colour of a fixed temperature: violet is small, red in between, green is large."""
    scale = LogNorm(min(_TAU), max(_TAU))
    stops = [(float(scale(value)), colour) for value, colour in _TAU.items()]
    place = float(LogNorm(low, high, clip=True)(tau))
    return str(to_hex(LinearSegmentedColormap.from_list("tau", stops)(place)))


def show(figure: Figure, caption: str) -> None:
    """Show a figure with a caption below that says what to see, and close it."""
    display(figure, Markdown(f"*{caption}*"))  # type: ignore[no-untyped-call]
    plt.close(figure)


def show_with_legend(axes: Axes, caption: str, columns: int = 2) -> None:
    """Show the figure of some axes, with the legend of these axes below, and close it.

    Parameters
    ----------
    axes : Axes
        Whose labels the legend explains.
    caption : str
        As in `show`.
    columns : int
        Of the legend.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)  # not a part of one
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    show(figure, caption)


def panels(count: int, width: float = 8.5, height: float = 3.2, **options: Any) -> tuple[Any, Any]:
    """Return a figure with panels in two columns, which a narrow page can still show."""
    rows = (count + 1) // 2
    figure, axes = plt.subplots(rows, 2, figsize=(width, height * rows), squeeze=False, **options)
    for spare in axes.flat[count:]:
        spare.remove()
        if rows > 1:
            axes[-2, 1].tick_params(labelbottom=True)  # now the lowest of its column
    return figure, axes.flat[:count]


def label(
    axes: Axes,
    x: str,
    y: str,
    legend: Place = "best",
    xticks: Sequence[float] = (),
    yticks: Sequence[float] = (),
    **options: Any,
) -> None:
    """Name both axes, and show the legend of what has a label.

    Parameters
    ----------
    axes : Axes
        With everything drawn.
    x, y : str
        What the axes show, with units.
    legend : str
        Its place, as for ``Axes.legend``.
    xticks, yticks : sequence of float
        The only ticks, as plain numbers: for logarithmic axes.
    **options
        For ``Axes.set``: scales, limits, title.
    """
    axes.set(xlabel=x, ylabel=y, **options)
    for axis, ticks in ((axes.xaxis, xticks), (axes.yaxis, yticks)):
        if len(ticks):
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_ticks([], minor=True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=legend, fontsize="small")


def lines(
    places: Any,
    curves: Mapping[str, Any],
    axes: Axes | None = None,
    looks: Mapping[str, Mapping[str, Any]] | None = None,
) -> Axes:
    """Draw curves over the same places, each with the look of its name, but no markers.

    Parameters
    ----------
    places : array
        Along the horizontal axis.
    curves : mapping
        For each name, which the legend shows, an array of the shape of `places`.
    axes : Axes, optional
        Where to draw; by default a figure of its own.
    looks : mapping, optional
        For some names keywords of ``Axes.plot`` that replace the look's.

    Returns
    -------
    Axes
        On which it drew.
    """
    chosen = plt.subplots()[1] if axes is None else axes
    for name, curve in curves.items():
        each = look(name) | {"marker": "", "linewidth": 2} | dict((looks or {}).get(name, {}))
        chosen.plot(places, curve, label=name, **each)
    return chosen


def sweep(
    study: Study,
    lines: Mapping[str, int | None] | Sequence[str] = (),
    metric: str = "knn1",
    groups: Sequence[str] | None = None,
) -> Figure:
    """Draw accuracy against the fixed temperature, one panel a group of classes.

    Parameters
    ----------
    study : Study
        With several fixed temperatures.
    lines : mapping or sequence of str
        Other methods, drawn as lines across the panel; a mapping names the epoch of each.
    metric : str
        A metric of accuracy.
    groups : sequence of str, optional
        The panels; by default those that the study measures.
    """
    fixed, groups = study.fixed, groups or study.groups
    chosen = dict(lines) if isinstance(lines, Mapping) else dict.fromkeys(lines)
    figure: Figure
    figure, axes = panels(len(groups))
    for panel, group in zip(axes, groups, strict=True):
        table = pd.DataFrame({tau: study.accuracy(m, metric, group) for m, tau in fixed.items()})
        panel.plot(table.columns, table.T, "o", color="#bbbbbb", markersize=3)
        panel.plot(table.columns, table.mean(), **LOOKS["fixed"]._asdict(), label="fixed τ")
        for number, (method, epoch) in enumerate(chosen.items()):
            level = study.accuracy(method, metric, group, epoch).mean()
            name = method if epoch is None else f"{method}, epoch {epoch}"
            # Every other line has gaps, so that it does not hide one of the same level.
            dashes = "--" if epoch is not None or number % 2 else "-"
            panel.axhline(level, color=look(method)["color"], ls=dashes, lw=2.5, label=name)
        panel.set(xscale="log", title=f"{group} classes", xlabel="temperature τ")
        panel.set_xticks(list(fixed.values()), [f"{tau:g}" for tau in fixed.values()], rotation=60)
        panel.minorticks_off()
        panel.set_ylabel(f"{words.metric(metric)} accuracy (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def curves(study: Study, methods: Iterable[str], metric: str = "knn1") -> Figure:
    """Draw accuracy over the epochs, means of the draws, above the temperature."""
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8.5, 5.6), sharex=True, gridspec_kw={"height_ratios": [2.6, 1]}
    )
    for method in methods:
        curve, each = study.curve(method, metric).mean(axis="columns"), look(method)
        top.plot(curve.index, curve, label=method, **(each | {"markersize": 4}))
        bottom.plot(_temperature(study.run(method)), **(each | {"marker": ""}))
    top.set_ylabel(f"{words.metric(metric)} accuracy (%)")
    bottom.set(xlabel="epoch", ylabel="τ", ylim=(0, None))
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _temperature(run: Run) -> pd.Series[float]:
    """Return the mean temperature of the batches of an epoch, by epoch."""
    tau, every = run.curves["temperature"], run.config.curves_every
    return pd.Series(tau, every * np.arange(1, len(tau) + 1), dtype=float)


def temperatures(axes: Axes, study: Study, method: str, linestyle: str = "-") -> None:
    """Draw the mean temperature of the batches over training, one line a draw."""
    for run, *_ in study.runs[method].values():
        axes.plot(_temperature(run), linestyle, color=look(method)["color"], alpha=0.8)
    label(axes, "epoch", "mean temperature")
    axes.set_ylim(bottom=0, auto=True)  # others may follow and be higher


def learned(
    axes: Axes,
    study: Study,
    method: str,
    name: str = "tau",
    sizes: pd.DataFrame | None = None,
    **style: Any,
) -> None:
    """Draw the mean learned temperature of each class against its size.

    Single draws are faint; the mean over draws goes by rank, the most frequent class first,
    because another class may be frequent in each draw.

    Parameters
    ----------
    axes : Axes
        Its axis of sizes becomes logarithmic.
    study, method, name
        As in `Study.learned`.
    sizes : DataFrame, optional
        Size of each class, one row a draw; by default the study's own.
    **style
        For ``Axes.plot``: of the means, its marker and colour also of the single draws.
    """
    table, sizes = study.learned(method, name), study.class_sizes if sizes is None else sizes
    style = {**look(method), "fillstyle": "none", "markersize": 8, **style}
    axes.plot(sizes, table, style["marker"], color=style["color"], alpha=0.4, markersize=4)
    rank = sizes.rank(axis="columns", method="first", ascending=False)
    long = pd.DataFrame({"rank": rank.stack(), "size": sizes.stack(), "tau": table.stack()})
    means = long.groupby("rank").mean()
    axes.plot(means["size"], means["tau"], **style)
    axes.set_xscale("log")


def differences(
    axes: Axes, table: pd.DataFrame, unit: str = "percentage points", methods: Sequence[str] = ()
) -> None:
    """Draw paired differences with their intervals, one row each, and the line of no difference.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    table : DataFrame
        Columns ``mean``, ``low``, ``high``, one row each; the index names the rows. A row without
        an interval (NaN) is a point.
    unit : str
        Unit of the differences, for the axis.
    methods : sequence of str
        The method of each row, for its look; by default the first level of the index if it has
        two, else "fixed".
    """
    places = np.arange(len(table))[::-1]
    two = table.index.nlevels > 1
    chosen = list(methods) or [str(name[0]) if two else "fixed" for name in table.index]
    numbers = table[["mean", "low", "high"]].to_numpy(float)
    for place, (mean, low, high), method in zip(places, numbers, chosen, strict=True):
        each = look(method)
        axes.plot([low, high], [place, place], color=each["color"], linewidth=2.5)
        axes.plot([low, high], [place, place], "|", color=each["color"], markersize=9)
        axes.plot(mean, place, color=each["color"], marker=each["marker"], markersize=6)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(places, [": ".join(map(str, n)) if two else str(n) for n in table.index])
    axes.set_xlabel(f"paired difference ({unit}), 95 % interval")
    axes.set_ylim(-0.6, len(table) - 0.4)


def difference_figure(
    table: pd.DataFrame, unit: str = "percentage points", methods: Sequence[str] = ()
) -> Figure:
    """Draw a table of differences (`Study.difference_table`) as a figure of its own."""
    figure, axes = plt.subplots(figsize=(8.5, 0.34 * len(table) + 1.1))
    differences(axes, table, unit, methods)
    return figure


def comparison(study: Study, method: str, table: pd.DataFrame) -> Figure:
    """Draw how far a rule is from each control (`dytemp.lab.studies.compare.differences`)."""
    config, draws = study.config(method), len(study.draws)
    judge = "validation" if study.chosen_on.startswith("validation") else "test"
    rows = table[table.index.get_level_values("classes") == "all"].droplevel("classes")
    figure = difference_figure(rows, methods=[str(control) for control in rows.index])
    figure.axes[0].set_title(f"{method} minus the others, kNN@1: right of the line it does better")
    figure.supxlabel(
        f"{config.data}, scale {study.scale}, {config.epochs} epochs; mean and t interval over "
        f"{draws} draw{'s' * (draws > 1)}, all classes.\n{study.best_fixed()} is the best fixed "
        f"temperature on the {judge} images. Each interval is for one comparison, not for all.",
        fontsize="small",
    )
    return figure


def save(figure: Figure, file: Path) -> None:
    """Write a figure to a file, and close it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    plt.close(figure)


def ranks(means: pd.Series[float], critical: float) -> Figure:
    """Draw mean ranks (`dytemp.lab.studies.statistics.mean_ranks`), the best on top.

    Each bar reaches half a critical difference to both sides: methods whose bars do not overlap
    differ.
    """
    figure, axes = plt.subplots(figsize=(8.5, 0.34 * len(means) + 1.1))
    for place, (method, rank) in zip(range(len(means))[::-1], means.items(), strict=True):
        each = look(str(method)) | {"linestyle": "-"}
        ends = [rank - critical / 2, rank + critical / 2]
        axes.plot(ends, [place, place], color=each["color"], linewidth=2.5)
        axes.plot(rank, place, color=each["color"], marker=each["marker"], markersize=6)
    axes.set_yticks(range(len(means))[::-1], [str(method) for method in means.index])
    axes.set_xlabel("mean rank over the draws (1: best of all)")
    return figure
