from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dytemp.lab.studies.statistics import (
    Estimate,
    bootstrap_mean,
    deviation,
    paired_difference,
    pairs_needed,
    power,
)

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


@given(numbers, st.floats(-10, 10))
def test_the_interval_moves_with_the_values(values: list[float], shift: float) -> None:
    one = bootstrap_mean(values, resamples=200)
    other = bootstrap_mean([value + shift for value in values], resamples=200)
    assert one.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert min(values) - 1e-9 <= one.low <= one.high <= max(values) + 1e-9
    for name in ("mean", "low", "high"):
        assert getattr(other, name) == pytest.approx(getattr(one, name) + shift, abs=1e-9)


@given(numbers)
def test_equal_runs_do_not_differ(values: list[float]) -> None:
    assert paired_difference(values, values) == Estimate(0, 0, 0, len(values))


def test_mirrored_runs_give_the_mirrored_interval_in_size() -> None:
    a, b = [0.9, 0.8, 0.7, 0.95], [0.6, 0.7, 0.5, 0.9]
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.mean == pytest.approx(-other.mean) == pytest.approx(0.1625)
    assert one.low > 0 > other.high
    assert not one.undecided
    assert str(one) == "+0.163 [+0.075, +0.25], n = 4"


def test_the_interval_is_that_of_the_normal_distribution_for_many_values() -> None:
    values = np.random.default_rng(1).normal(1, 2, 400)
    estimate = bootstrap_mean(values.tolist())
    half_width = 1.96 * values.std() / np.sqrt(len(values))
    assert estimate.high - estimate.mean == pytest.approx(half_width, rel=0.05)
    assert estimate.mean - estimate.low == pytest.approx(half_width, rel=0.05)


def test_pairing_removes_what_pairs_share() -> None:
    shared = np.random.default_rng(2).normal(0, 1, 20)
    estimate = paired_difference((shared + 0.1).tolist(), shared.tolist())
    assert estimate.low == pytest.approx(0.1)
    assert estimate.high == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(3).normal(size=30).tolist()
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=5)


def test_an_interval_around_zero_is_undecided() -> None:
    assert bootstrap_mean([-1, 1, -2, 2]).undecided


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"values": [1.0]}, "values"),
        ({"values": []}, "values"),
        ({"values": [1.0, float("nan")]}, "values"),
        ({"values": [1.0, float("inf")]}, "values"),
        ({"values": [1.0, 2.0], "level": 1.0}, "level"),
        ({"values": [1.0, 2.0], "level": 0.0}, "level"),
        ({"values": [1.0, 2.0], "level": float("nan")}, "level"),
    ],
)
def test_refusals(arguments: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        bootstrap_mean(**arguments)


def test_pairs_must_pair_up() -> None:
    with pytest.raises(ValueError, match="2 and 3"):
        paired_difference([1.0, 2.0], [1.0, 2.0, 3.0])


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
