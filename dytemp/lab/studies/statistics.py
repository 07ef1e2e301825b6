"""How sure a mean over few runs is, and how many runs a difference needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from scipy import optimize, stats

from dytemp import checks


@dataclass(frozen=True)
class Estimate:
    """A mean and the interval in which the data leave it.

    Attributes
    ----------
    mean : float
        Mean of the values, in their unit.
    low, high : float
        Bounds of the interval; NaN where a single value leaves it open.
    count : int
        Number of values.
    error : float
        Standard error of the mean; NaN for a single value.
    """

    mean: float
    low: float
    high: float
    count: int
    error: float = math.nan

    def short(self, digits: int = 2) -> str:
        """Return mean and interval with so many digits after the point, without the number."""
        return f"{self.mean:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"

    @property
    def undecided(self) -> bool:
        """Whether the interval contains zero, or is open."""
        return not (self.low > 0 or self.high < 0)

    @property
    def p_value(self) -> float:
        """Two-sided p value of a mean of zero (Student t); 1 for a single value."""
        return self.p_beyond(0.0)

    def p_beyond(self, margin: float) -> float:
        """Return the two-sided p value of a mean inside [-margin, margin]; 1 if it lies there."""
        distance = abs(self.mean) - margin
        if self.count < 2 or distance <= 0:
            return 1.0
        return float(min(1.0, 2 * stats.t.sf(_ratio(distance, self.error), self.count - 1)))

    def p_within(self, margin: float) -> float:
        """Return the p value of a mean outside [-margin, margin]: two one-sided tests, doubled.

        Below 0.05 if and only if the 95 % interval lies inside the margin.
        """
        distance = margin - abs(self.mean)
        if self.count < 2 or distance <= 0:
            return 1.0
        return float(min(1.0, 2 * stats.t.sf(_ratio(distance, self.error), self.count - 1)))

    def __str__(self) -> str:
        if math.isnan(self.low):
            return f"{self.mean:+.3g}, n = {self.count}"
        return f"{self.mean:+.3g} [{self.low:+.3g}, {self.high:+.3g}], n = {self.count}"


def mean_interval(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Estimate a mean with Student's t interval.

    It covers what it says for normally distributed independent values, however few; several seeds
    of one draw are not independent and are averaged first. (The percentile bootstrap does not: of
    3 values its nominal 95 % are 76 %, of 6 about 86 %.)

    Parameters
    ----------
    values : sequence of float
        At least one finite number; a single one has no interval (NaN).
    level : float
        Coverage, in (0, 1).

    Raises
    ------
    ValueError
        If there is no value, one is NaN or infinite, or `level` is not in (0, 1).
    """
    sample = _sample(values, level, least=1)
    mean, count = float(sample.mean()), len(sample)
    if count == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    error = float(sample.std(ddof=1)) / math.sqrt(count)
    reach = error * float(stats.t.ppf((1 + level) / 2, count - 1))
    return Estimate(mean, mean - reach, mean + reach, count, error)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values of a family, adjusted as Holm does; compare them with the level itself.

    Parameters
    ----------
    p_values : sequence of float
        In [0, 1], one for each contrast of the family.

    Returns
    -------
    list of float
        In the same order: the k-th smallest of m times (m - k + 1), made ascending, at most 1
        (Holm, *Scandinavian Journal of Statistics* 6, 1979).

    Raises
    ------
    ValueError
        If a p value is not in [0, 1].
    """
    found = np.asarray(p_values, dtype=np.float64)
    if not ((found >= 0) & (found <= 1)).all():
        raise ValueError(f"p_values must lie in [0, 1], got {found.tolist()}")
    order = found.argsort(kind="stable")
    factors = np.arange(len(found), 0, -1)
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(np.maximum.accumulate(found[order] * factors), 1.0)
    return [float(value) for value in adjusted]


def mean_ranks(table: pd.DataFrame, level: float = 0.05) -> tuple[pd.Series[float], float]:
    r"""Return the mean rank of each method, and how far apart two must be to differ.

    Ranks ask for no unit and no normal distribution, but throw the size of differences away. The
    critical difference is that of Nemenyi's test, which corrects for all pairs of methods
    (Demšar, JMLR 2006):

    .. math:: q_{1 - level} \sqrt{k (k + 1) / (6 n)}

    for k methods on n draws, with the quantile q of the studentised range divided by the square
    root of 2.

    Parameters
    ----------
    table : DataFrame
        Accuracy, one row a draw, one column a method; none missing.
    level : float
        Probability that any two of equal methods are told apart.

    Raises
    ------
    ValueError
        For fewer than 2 methods or draws, or a missing value.
    """
    draws, methods = table.shape
    if min(draws, methods) < 2 or table.isna().to_numpy().any():
        raise ValueError(f"ranks need 2 methods and draws, none missing, got {draws} x {methods}")
    _check_level(level)
    ranks = table.rank(axis="columns", ascending=False).mean().sort_values()
    quantile = float(stats.studentized_range.ppf(1 - level, methods, math.inf)) / math.sqrt(2)
    return ranks, quantile * math.sqrt(methods * (methods + 1) / (6 * draws))


def deviation(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Estimate the standard deviation of normally distributed values.

    Parameters
    ----------
    values : sequence of float
        At least 2 finite numbers.
    level : float
        Coverage of the interval, in (0, 1).

    Returns
    -------
    Estimate
        ``mean`` is the standard deviation s with divisor n - 1; the interval follows from
        (n - 1) s^2 / sigma^2, which has a chi-square distribution. Of 5 values it reaches from
        0.6 s to 2.9 s.

    Raises
    ------
    ValueError
        If there are fewer than 2 values, one is NaN or infinite, or `level` is not in (0, 1).
    """
    sample = _sample(values, level, least=2)
    spread, freedom = float(sample.std(ddof=1)), len(sample) - 1
    tails = stats.chi2.ppf([(1 + level) / 2, (1 - level) / 2], freedom)
    low, high = spread * np.sqrt(freedom / tails)
    return Estimate(spread, float(low), float(high), len(sample))


def components(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Split the scatter of replicates into that between groups and that within them.

    Parameters
    ----------
    groups : sequence of sequences of float
        For each draw the values of its seeds; at least 2 draws, one of them with 2 seeds.

    Returns
    -------
    between, within : float
        Standard deviations. The variance within is pooled over the groups; that of the group means
        has the variance within over the number of seeds in it, which is taken off (analysis of
        variance of unweighted means; 0 if nothing is left). A draw with m seeds scatters with
        variance between^2 + within^2 / m.

    Raises
    ------
    ValueError
        If there are fewer groups, or no group has 2 values, or one is NaN or infinite.
    """
    samples = [_sample(values, 0.95, least=1) for values in groups]
    freedom = sum(len(sample) - 1 for sample in samples)
    if len(samples) < 2 or freedom < 1:
        sizes = [len(sample) for sample in samples]
        raise ValueError(f"groups must be at least 2, one with 2 values, got sizes {sizes}")
    within = sum(float(((sample - sample.mean()) ** 2).sum()) for sample in samples) / freedom
    means = np.array([sample.mean() for sample in samples])
    seeds = float(np.mean([1 / len(sample) for sample in samples]))
    between = max(0.0, float(means.var(ddof=1)) - seeds * within)
    return math.sqrt(between), math.sqrt(within)


def power(difference: float, deviation: float, pairs: int, level: float = 0.05) -> float:
    """Return the probability that a paired t test finds a difference that is there.

    Parameters
    ----------
    difference : float
        The true mean difference.
    deviation : float
        Standard deviation of the paired differences, in the same unit, above 0.
    pairs : int
        Number of pairs, at least 2.
    level : float
        Probability of finding one where there is none (two-sided), in (0, 1).

    Returns
    -------
    float
        From the noncentral t distribution with noncentrality difference sqrt(n) / deviation
        (Cohen, *Statistical Power Analysis*, 1988).

    Raises
    ------
    TypeError, ValueError
        For numbers that are not allowed.
    """
    pairs = checks.integer("pairs", pairs, at_least=2)
    shift = checks.number("difference", difference) / checks.number("deviation", deviation, above=0)
    _check_level(level)
    if not shift:
        return level
    # The square of t has a noncentral F distribution: both tails in one, and no loss of digits.
    limit = stats.f.ppf(1 - level, 1, pairs - 1)
    noncentrality = min(pairs * shift * shift, 1e18)  # from 1e21 on SciPy answers with NaN
    return float(stats.ncf(1, pairs - 1, noncentrality).sf(limit))


def pairs_needed(
    difference: float, deviation: float, wanted: float = 0.8, level: float = 0.05
) -> int:
    """Return the least number of pairs with which a difference is found often enough.

    Parameters
    ----------
    difference, deviation, level : float
        As in `power`; the difference must not be 0.
    wanted : float
        The power, in (0, 1).

    Raises
    ------
    TypeError, ValueError
        For numbers that are not allowed.
    """
    size = abs(checks.number("difference", difference))
    if not size:
        raise ValueError(f"difference must not be 0, got {difference!r}")
    _check_level(level)
    if not 0 < wanted < 1:
        raise ValueError(f"wanted must be above 0 and below 1, got {wanted!r}")
    # The normal distribution gives a little less: the search starts there.
    quantiles = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(wanted)
    start = max(2, int((quantiles * checks.number("deviation", deviation, above=0) / size) ** 2))
    return next(n for n in count(start) if power(size, deviation, n, level) >= wanted)


def detectable(deviation: float, pairs: int, wanted: float = 0.8, level: float = 0.05) -> float:
    """Return the least difference that a number of pairs finds often enough.

    Parameters
    ----------
    deviation, pairs, level : float
        As in `power`.
    wanted : float
        The power, above `level` and below 1.

    Raises
    ------
    TypeError, ValueError
        For numbers that are not allowed.
    """
    _check_level(level)
    if not level < wanted < 1:
        raise ValueError(f"wanted must be above {level} and below 1, got {wanted!r}")
    checks.number("deviation", deviation, above=0)

    def excess(ratio: float) -> float:
        return power(ratio, 1.0, pairs, level) - wanted

    enough = next(2.0**k for k in count() if excess(2.0**k) > 0)
    return deviation * float(optimize.brentq(excess, 0.0, enough))


def _sample(
    values: Sequence[float], level: float, least: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < least:
        raise ValueError(f"values must be at least {least} numbers, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"values must be finite, got {sample.tolist()}")
    _check_level(level)
    return sample


def _ratio(distance: float, error: float) -> float:
    """Return distance over error; equal values have no error, and any distance is beyond it."""
    return distance / error if error else math.inf


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, got {level!r}")
