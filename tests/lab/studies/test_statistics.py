from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from dytemp.lab.studies.statistics import (
    Estimate,
    deviation,
    holm,
    mean_interval,
    mean_ranks,
    pairs_needed,
    power,
)

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


@given(numbers, st.floats(-10, 10))
def test_the_interval_moves_with_the_values(values: list[float], shift: float) -> None:
    one = mean_interval(values)
    other = mean_interval([value + shift for value in values])
    assert one.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert one.low <= one.mean <= one.high
    for name in ("mean", "low", "high"):
        assert getattr(other, name) == pytest.approx(getattr(one, name) + shift, abs=1e-6)


@given(numbers)
def test_the_interval_is_that_of_scipy(values: list[float]) -> None:
    found = mean_interval(values)
    assume(np.std(values) > 1e-6)
    wanted = stats.ttest_1samp(values, 0)
    interval = wanted.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    assert found.p_value == pytest.approx(wanted.pvalue, rel=1e-6, abs=1e-12)


@given(numbers)
def test_equal_runs_do_not_differ(values: list[float]) -> None:
    nothing = mean_interval([0.0 for _ in values])
    assert nothing == Estimate(0, 0, 0, len(values), 0)
    assert nothing.p_value == 1


def test_mirrored_differences_give_the_mirrored_interval() -> None:
    differences = [0.3, 0.1, 0.2, 0.05]
    one, other = mean_interval(differences), mean_interval([-each for each in differences])
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))
    assert str(one) == "+0.163 [-0.0139, +0.339], n = 4"


def test_a_single_value_has_no_interval() -> None:
    found = mean_interval([1.5])
    assert math.isnan(found.low)
    assert found.undecided
    assert found.p_value == found.p_within(9) == found.p_beyond(0.1) == 1
    assert str(found) == "+1.5, n = 1"


@given(numbers, st.floats(0, 50))
def test_p_values_agree_with_the_interval(values: list[float], margin: float) -> None:
    found = mean_interval(values)
    assume(found.error > 1e-9)
    edge = min(abs(abs(b) - margin) for b in (found.low, found.high, 0.0 if margin else 1.0))
    assume(edge > 1e-6)
    assert (found.p_within(margin) < 0.05) == (-margin < found.low and found.high < margin)
    assert (found.p_beyond(margin) < 0.05) == (found.low > margin or found.high < -margin)


@pytest.mark.parametrize("draws", [3, 5, 10, 20])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95])
def test_coverage_over_draws_with_two_seeds_each(draws: int, correlation: float) -> None:
    """Two seeds of a draw share what the draw is; their mean counts once, and 95 % are 95 %."""
    rng = np.random.default_rng(draws)
    of_draw = rng.normal(size=(4000, draws, 1)) * correlation**0.5
    of_seed = rng.normal(size=(4000, draws, 2)) * (1 - correlation) ** 0.5
    means = (of_draw + of_seed).mean(axis=2)
    intervals = [mean_interval(each) for each in means.tolist()]
    coverage = np.mean([each.low <= 0 <= each.high for each in intervals])
    assert 0.93 < coverage < 0.97  # the standard error of 4000 tries is 0.0034


def test_holm_as_in_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, each in zip(p_values, adjusted, strict=True):
        assert p <= each <= min(1, p * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"values": []}, "values"),
        ({"values": [[1.0]]}, "values"),
        ({"values": [1.0, float("nan")]}, "values"),
        ({"values": [1.0, float("inf")]}, "values"),
        ({"values": [1.0, 2.0], "level": 1.0}, "level"),
        ({"values": [1.0, 2.0], "level": 0.0}, "level"),
        ({"values": [1.0, 2.0], "level": float("nan")}, "level"),
    ],
)
def test_refusals(arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        mean_interval(**arguments)


@pytest.mark.parametrize("p_value", [-0.1, 1.1, float("nan")])
def test_holm_refuses(p_value: float) -> None:
    with pytest.raises(ValueError, match="p_values"):
        holm([0.5, p_value])


def test_deviation_of_five_values_is_hardly_known() -> None:
    """Chi-square with 4 degrees of freedom: quantiles 0.4844 and 11.1433 (any table)."""
    found = deviation([1, 2, 3, 4, 5])
    assert found.mean == pytest.approx(2.5**0.5)
    assert found.low / found.mean == pytest.approx((4 / 11.1433) ** 0.5, rel=1e-4)
    assert found.high / found.mean == pytest.approx((4 / 0.4844) ** 0.5, rel=1e-3)
    assert found.count == 5


def test_the_interval_of_a_deviation_covers_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0, 2, (2000, 4))
    covered = [each.low <= 2 <= each.high for each in map(deviation, draws.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("size", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15), (2.0, 5)])
def test_pairs_needed_as_in_the_tables(size: float, pairs: int) -> None:
    """The usual effect sizes at 80 % power and the 5 % level, paired, two-sided."""
    assert pairs_needed(size, 1) == pairs_needed(-3 * size, 3) == pairs
    assert power(size, 1, pairs - 1) < 0.8 <= power(size, 1, pairs)


@given(st.floats(0.05, 12), st.integers(2, 40))
def test_power_grows_with_the_pairs(size: float, pairs: int) -> None:
    assert 0 < power(size, 1, pairs) <= power(size, 1, pairs + 1) + 1e-9 <= 1 + 2e-9
    assert power(-size, 1, pairs) == power(size, 1, pairs)


@pytest.mark.parametrize("deviation", [1e-9, 1e-15, 1e-300])
def test_two_pairs_are_enough_where_nothing_scatters(deviation: float) -> None:
    assert power(1, deviation, 2) == 1
    assert pairs_needed(1, deviation) == 2


def test_power_is_what_a_simulation_finds() -> None:
    draws = np.random.default_rng(0).normal(1, 1.5, (20_000, 6))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / 6**0.5)
    assert power(1, 1.5, 6) == pytest.approx((abs(t) > 2.5706).mean(), abs=0.01)
    assert power(0, 1.5, 6) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: deviation([1]), "values must be at least 2 numbers"),
        (lambda: deviation([1, float("nan")]), "values must be finite"),
        (lambda: deviation([1, 2], level=1), "level must be above 0"),
        (lambda: power(1, 0, 5), "deviation must be"),
        (lambda: power(1, 1, 1), "pairs must be at least 2"),
        (lambda: power(1, 1, 5, level=0), "level must be above 0"),
        (lambda: pairs_needed(0, 1), "difference must not be 0"),
        (lambda: pairs_needed(1, 1, wanted=1), "wanted must be above 0"),
        (lambda: pairs_needed(1, -1), "deviation must be"),
    ],
)
def test_power_refuses(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_mean_ranks_of_a_worked_example() -> None:
    table = pd.DataFrame({"a": [3.0, 3.0, 1.0], "b": [2.0, 2.0, 2.0], "c": [1.0, 2.0, 3.0]})
    ranks, critical = mean_ranks(table)
    assert ranks.to_dict() == pytest.approx({"a": 5 / 3, "b": 6.5 / 3, "c": 6.5 / 3})
    assert ranks.index[0] == "a"
    # Demšar (JMLR 2006), Table 5a: q = 2.343 for three methods at level 0.05.
    assert critical == pytest.approx(2.343 * math.sqrt(3 * 4 / (6 * 3)), rel=1e-3)


def test_equal_methods_are_rarely_told_apart_by_ranks() -> None:
    chance = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        ranks, critical = mean_ranks(pd.DataFrame(chance.normal(size=(10, 6))))
        wrong += ranks.max() - ranks.min() > critical
    assert wrong <= 0.05 * 400 + 3 * math.sqrt(400 * 0.05 * 0.95)


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, math.nan], [2.0, 3.0]]])
def test_ranks_need_two_methods_and_draws_and_no_gap(table: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="2 methods and draws"):
        mean_ranks(pd.DataFrame(table))
