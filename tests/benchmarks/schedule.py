"""Schedule: what a temperature that changes with time costs in the training loop.

Two runs at scale small on noise, one with a constant temperature and one with the cosine of TS,
take turns epoch by epoch. The last row is the excess of the cosine over the constant in paired
epochs: its median column is the mean, min and max are the 95 % interval (Student t) of that mean.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from benchmarks.step import session
from benchmarks.timing import aim, interleaved, rows
from dytemp import losses, schedules
from dytemp.lab.studies.statistics import mean_interval

CONSTANT, COSINE = "constant 0.2", "cosine 0.1 to 1.0"


def measure(
    batch: int = 256, steps: int = 8, repetitions: int = 40
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims; an epoch has `steps` steps of `batch` pairs."""
    runs = {name: session(batch * steps, batch) for name in (CONSTANT, COSINE)}
    runs[COSINE].loss = losses.NTXent(schedules.Cosine(0.1, 1.0, period=8))

    def epoch(name: str) -> None:
        run = runs[name]
        run.train_epoch(1 + run.history.epoch % run.config.epochs)

    seconds = interleaved({name: lambda name=name: epoch(name) for name in runs}, repetitions)
    excess = 100 * np.log(np.divide(seconds[COSINE], seconds[CONSTANT]))
    found = mean_interval(excess.tolist())
    per_step = {name: [value / steps for value in values] for name, values in seconds.items()}
    interval = {"cosine over constant": [found.low, found.mean, found.high]}
    measurements = [
        *rows(f"a step of {batch} pairs", per_step, "ms", 1e3),
        *rows("excess of the schedule", interval, "%"),
    ]
    ratio = statistics.median(seconds[COSINE]) / statistics.median(seconds[CONSTANT])
    return measurements, [aim("time of a step with the schedule", ratio, at_most=1.01)]
