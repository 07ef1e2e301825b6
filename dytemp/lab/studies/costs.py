"""What a method costs, from the recorded benchmarks."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from scipy import stats

from dytemp.lab import paths
from dytemp.lab.studies.statistics import Estimate


def overhead(benchmark: str, name: str) -> tuple[pd.DataFrame, Estimate]:
    """Return the recorded times of a step, and by how many percent one method exceeds another.

    The repetitions are paired epochs of one process on one machine: repetitions of a measurement,
    and no draws.

    Parameters
    ----------
    benchmark : str
        A file of ``data/results/benchmarks``, for example ``"schedule"``.
    name : str
        Its measurement in percent, for example ``"cosine over constant"``.

    Returns
    -------
    DataFrame
        ``median``, ``min`` and ``max`` in milliseconds, one row for each timed method.
    Estimate
        The excess in percent, with its 95 % interval and the number of repetitions.
    """
    found = _recorded(benchmark)
    (excess,) = (row for row in found["measurements"] if row["name"] == name)
    median, low, high = (float(excess[column]) for column in ("median", "min", "max"))
    count = int(found["settings"]["repetitions"])
    error = (high - low) / 2 / float(stats.t.ppf(0.975, count - 1))
    timings = pd.DataFrame(found["measurements"]).set_index("name")
    steps = timings.loc[timings["unit"] == "ms", ["median", "min", "max"]]
    return steps, Estimate(median, low, high, count, error)


def measurements(benchmark: str) -> pd.DataFrame:
    """Return what a benchmark has recorded.

    Parameters
    ----------
    benchmark : str
        A file of ``data/results/benchmarks``, for example ``"sdclr"``.

    Returns
    -------
    DataFrame
        ``median``, ``min``, ``max``, ``unit`` and ``repetitions`` by ``group`` and ``name``.
    """
    return pd.DataFrame(_recorded(benchmark)["measurements"]).set_index(["group", "name"])


def _recorded(benchmark: str) -> dict[str, Any]:
    file = paths.home() / "data" / "results" / "benchmarks" / f"{benchmark}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
