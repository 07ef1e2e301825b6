"""Schedule: what a temperature that changes with time costs in the training loop.

Two runs at scale small on noise, one with a constant temperature and one with the cosine of TS,
take turns epoch by epoch. The last row is the excess of the cosine over the constant in paired
epochs: its median column is the mean, min and max are the 95 % interval (Student t) of that mean.
"""

from __future__ import annotations

from typing import Any

from benchmarks.step import beside
from benchmarks.timing import aim
from dytemp import losses, schedules

CONSTANT, COSINE = "constant 0.2", "cosine 0.1 to 1.0"


def measure(
    batch: int = 256, steps: int = 8, repetitions: int = 40
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims; an epoch has `steps` steps of `batch` pairs."""
    contenders = {
        CONSTANT: losses.NTXent(0.2),
        COSINE: losses.NTXent(schedules.Cosine(0.1, 1.0, period=8)),
    }
    excess = "excess of the schedule", "cosine over constant"
    measurements, ratio = beside(contenders, excess, batch, steps, repetitions)
    return measurements, [aim("time of a step with the schedule", ratio, at_most=1.01)]
