"""How sure a mean over few runs is: seeded bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean and the interval in which the data leave it.

    Attributes
    ----------
    mean : float
        Mean of the values, in their unit.
    low, high : float
        Bounds of the interval.
    count : int
        Number of values.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def undecided(self) -> bool:
        """Whether the interval contains zero."""
        return self.low <= 0 <= self.high

    def __str__(self) -> str:
        return f"{self.mean:+.3g} [{self.low:+.3g}, {self.high:+.3g}], n = {self.count}"


def bootstrap_mean(
    values: Sequence[float], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """Estimate a mean with a percentile bootstrap interval.

    With few values the interval is too narrow: of normally distributed values, 3 give a nominal
    95 % a coverage of 76 %, 5 one of 84 %, 10 one of 90 % and 20 one of 92 %. A narrow escape
    from zero with few seeds decides little.

    Parameters
    ----------
    values : sequence of float
        At least 2 finite numbers.
    level : float
        Nominal coverage, in (0, 1).
    resamples : int
        Number of resampled means.
    seed : int
        The same seed gives the same interval.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If there are fewer than 2 values, one is NaN or infinite, or `level` is not in (0, 1).
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < 2:
        raise ValueError(f"values must be at least 2 numbers, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"values must be finite, got {sample.tolist()}")
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, got {level!r}")
    draws = np.random.default_rng(seed).integers(len(sample), size=(resamples, len(sample)))
    tail = (1 - level) / 2
    low, high = np.quantile(sample[draws].mean(axis=1), [tail, 1 - tail])
    return Estimate(float(sample.mean()), float(low), float(high), len(sample))


def paired_difference(
    a: Sequence[float],
    b: Sequence[float],
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean of ``a - b``, where ``a[k]`` and ``b[k]`` share split, seed and data order.

    Parameters
    ----------
    a, b : sequence of float
        One value for each pair of runs, in the same order.
    level, resamples, seed
        As in `bootstrap_mean`.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If `a` and `b` differ in length, or as in `bootstrap_mean`.
    """
    if len(a) != len(b):
        raise ValueError(f"a and b must pair up, got {len(a)} and {len(b)} values")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return bootstrap_mean(differences.tolist(), level, resamples, seed)
