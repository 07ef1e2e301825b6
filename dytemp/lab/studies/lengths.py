"""The comparison at several lengths of training: what is recorded, and lines through it.

A difference at one length is no statement about another one. Here the same draws are followed from
the shortest training to the longest, so that their change is paired as everything else is, and two
forms of a law are put through the differences: a straight line over the logarithm of the number of
updates, and a power of it. Both are put through each draw by itself, so that their intervals are
over draws; with two lengths they go through both points, and nothing tests the form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from dytemp.lab import scales
from dytemp.lab.studies import protocols, study
from dytemp.lab.studies.runs import Run, find, load
from dytemp.lab.studies.statistics import Estimate, mean_interval
from dytemp.lab.studies.study import Study

#: Lengths in epochs; at each of them a period of TS is a fifth.
EPOCHS = {"quick": (10, 20, 60), "small": (40, 100, 400, 1000), "paper": (400, 1000, 2000)}

FARTHEST = 20  # doublings of the shortest training: an interval beyond has an end in name only

_SOME = {"fixed 0.1": 5, "fixed 0.2": 5, "TS": 5, "DySTreSS": 3, "iSogCLR": 3}
#: How many draws each length is meant to have, by method; scale small.
PLAN: dict[int, dict[str, int]] = {
    40: dict.fromkeys(_SOME, 5),
    100: _SOME,
    400: _SOME,
    1000: {"fixed 0.2": 5, "TS": 5},
}


def load_all(
    scale: str,
    epochs: Sequence[int] | None = None,
    draws: Sequence[int] | None = None,
    methods: Sequence[str] = ("fixed 0.1", "fixed 0.2", "TS"),
    **changes: Any,
) -> dict[int, Study]:
    """Return the comparison at several lengths of training, recorded or trained now.

    Parameters
    ----------
    scale : str
        One of `dytemp.lab.scales.NAMES`.
    epochs : sequence of int, optional
        The lengths; by default those of the scale (`EPOCHS`).
    draws, methods, **changes
        As in `dytemp.lab.studies.load`.

    Returns
    -------
    dict
        By length, the shortest first; at scale ``recorded`` without those that lack TS or the fixed
        temperature 0.2.
    """
    protocol = "small" if scale == "recorded" else scales.protocol(scale)
    found = {}
    for length in sorted(epochs or EPOCHS[protocol]):
        try:
            each = study.load("comparison", scale, draws, methods, epochs=length, **changes)
        except FileNotFoundError:
            if scales.trains(scale):  # its data are missing, and not the run
                raise
            continue
        if _share(each, "TS", "fixed 0.2"):
            found[length] = each
    return found


def _share(each: Study, *methods: str) -> bool:
    """Whether some draw has all these methods."""
    return bool(set.intersection(*(set(each.runs.get(method, ())) for method in methods)))


def plan() -> Iterator[tuple[int, str, int, list[Run]]]:
    """Yield each length and method of `PLAN`: the draws wanted, and the recorded runs."""
    for length, wanted in PLAN.items():
        for method, count in wanted.items():
            draws = range(1, count + 1)
            by_draw = protocols.configs("comparison", "small", draws, epochs=length)[method]
            files = [find(config.key) for group in by_draw.values() for config in group]
            yield length, method, count, [load(file) for file in files if file]


def learning_rates() -> pd.DataFrame:
    """Return what is recorded of `protocols.learning_rates`.

    Returns
    -------
    DataFrame
        One row a run: ``method``, ``rate``, ``draw``, and ``accuracy``, kNN@1 on the validation
        images in percent; ``hours`` of one core.
    """
    rows = []
    for name, by_draw in protocols.learning_rates().items():
        method, rate = name.split(", rate ")
        for number, (config,) in by_draw.items():
            if file := find(config.key):
                run = load(file)
                accuracy = 100 * run.metrics["validation_knn1"]
                rows.append((method, float(rate), number, accuracy, core_hours([run])))
    return pd.DataFrame(rows, columns=["method", "rate", "draw", "accuracy", "hours"])


def core_hours(runs: Sequence[Run]) -> float:
    """Return the hours that runs took, times the threads that they had."""
    seconds = (sum(run.seconds.values()) * run.environment["threads"] for run in runs)
    return math.fsum(seconds) / 3600


def differences(
    by_length: Mapping[int, Study],
    control: str,
    metric: str = "knn1",
    group: str = "all",
    method: str = "TS",
) -> pd.DataFrame:
    """Return the difference of a method to a control: one row a draw, one column a length.

    Columns are numbers of updates; lengths that lack one of the two are left out, and a draw that
    a length lacks is NaN there.
    """
    return pd.DataFrame(
        {
            each.updates: each.differences(method, control, metric, group)
            for each in by_length.values()
            if _share(each, method, control)
        }
    ).rename_axis(index="draw", columns="updates")


@dataclass(frozen=True)
class Law:
    """A form of the difference over the number of updates, put through each draw by itself.

    Attributes
    ----------
    form : {"line", "power"}
        ``a + b x`` or ``-exp(a + b x)`` with x the doublings since the shortest training.
    first : int
        Updates of the shortest training.
    levels, slopes : array
        a and b, one for each draw.
    """

    form: str
    first: int
    levels: np.ndarray[Any, Any]
    slopes: np.ndarray[Any, Any]

    @property
    def slope(self) -> Estimate:
        """Points that a doubling adds, or the percent of the distance that it adds."""
        changes = self.slopes if self.form == "line" else 100 * np.expm1(self.slopes)
        return mean_interval(changes.tolist())

    def at(self, updates: float) -> Estimate:
        """Return the difference at a number of updates; beyond the longest it is extrapolated."""
        found = mean_interval((self.levels + self.slopes * self._doublings(updates)).tolist())
        if self.form == "line":
            return found
        # Of the logarithms: the interval turns round with the sign, and the mean is a median.
        mean, low, high = (-math.exp(each) for each in (found.mean, found.high, found.low))
        return Estimate(mean, low, high, found.count)

    def zero(self) -> tuple[float, float, float] | None:
        """Return the updates at which the line is zero, and the ends of the interval of it.

        The interval holds all places at which the interval of the line contains zero (Fieller).
        None where it is not bounded, which is so unless the interval of the slope excludes zero,
        or ends beyond a million times the shortest training; and for a power, which is never zero.
        """
        count = len(self.levels)
        if self.form != "line" or count < 2:
            return None
        level, slope = self.levels.mean(), self.slopes.mean()
        spread = np.cov(self.levels, self.slopes) * stats.t.ppf(0.975, count - 1) ** 2 / count
        square = slope**2 - spread[1, 1]
        if square <= 0:
            return None
        half = level * slope - spread[0, 1]
        root = math.sqrt(max(0.0, half**2 - square * (level**2 - spread[0, 0])))
        places = (-level / slope, (-half - root) / square, (-half + root) / square)
        if max(places) > FARTHEST:
            return None
        place, low, high = (self.first * 2.0**each for each in places)
        return place, low, high

    def _doublings(self, updates: float) -> float:
        return math.log2(updates / self.first)


def fit(table: pd.DataFrame, form: str) -> Law | None:
    """Put a form through the differences of each draw, with least squares.

    Parameters
    ----------
    table : DataFrame
        From `differences`; draws that lack a length are left out.
    form : {"line", "power"}
        See `Law`.

    Returns
    -------
    Law or None
        None with fewer than two lengths or no draw that has them all; and for a power if a
        difference is not below zero.
    """
    complete = table.dropna()
    if len(complete.columns) < 2 or complete.empty:
        return None
    values = complete.to_numpy(float)
    if form == "power":
        if (values >= 0).any():
            return None
        values = np.log(-values)
    first = int(min(complete.columns))
    doublings = np.log2(np.asarray(complete.columns, float) / first)
    slopes, levels = np.polyfit(doublings, values.T, deg=1)
    return Law(form, first, levels, slopes)
