from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dytemp.lab import studies
from dytemp.lab.studies.statistics import components, detectable, mean_interval, power


def test_a_table_of_estimates_takes_values_by_draw_and_estimates() -> None:
    values = [1.0, 2.0, 4.0]
    series = pd.Series(values, index=pd.Index([1, 2, 3], name="draw"))
    table = studies.estimates({"list": values, "series": series, "own": mean_interval(values)})
    expected = mean_interval(values)
    for name in table.index:
        row = table.loc[name]
        assert row["mean"] == pytest.approx(7 / 3)
        assert (row["low"], row["high"]) == (expected.low, expected.high)
    assert table["draws"].tolist() == [3, 3, 3]


def test_a_single_draw_has_a_row_without_an_interval() -> None:
    table = studies.estimates({("TS", "kNN@1"): [0.5]})
    assert table.loc[("TS", "kNN@1"), ["low", "high"]].isna().all()
    assert table["draws"].tolist() == [1]


def test_components_are_found_again() -> None:
    generator = np.random.default_rng(0)
    draws = generator.normal(0, 3, size=(20_000, 1))
    seeds = generator.normal(0, 2, size=(20_000, 3))
    values = [list(row[: 1 + k % 3]) for k, row in enumerate(draws + seeds)]
    between, within = components(values)
    assert between == pytest.approx(3, rel=0.02)
    assert within == pytest.approx(2, rel=0.02)


def test_components_by_hand() -> None:
    # Means 1 and 5, variance 8; within (2 + 0) / 1 = 2; between 8 - 2 * (1/2 + 1) / 2 = 6.5.
    assert components([[0.0, 2.0], [5.0]]) == pytest.approx((math.sqrt(6.5), math.sqrt(2)))
    assert components([[0.0, 2.0], [1.0, 1.0]]) == (0.0, 1.0)  # equal means: nothing is left


@pytest.mark.parametrize("groups", [[[1.0, 2.0]], [[1.0], [2.0]], [[1.0, math.nan], [2.0]]])
def test_components_refuse_what_has_none(groups: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"groups must be|values must be finite"):
        components(groups)


@pytest.mark.parametrize("pairs", [2, 5, 10, 60])
def test_the_detectable_difference_has_the_power_wanted(pairs: int) -> None:
    found = detectable(0.7, pairs, wanted=0.9)
    assert power(found, 0.7, pairs) == pytest.approx(0.9, abs=1e-6)
    assert detectable(1.4, pairs, wanted=0.9) == pytest.approx(2 * found)


def test_a_power_below_the_level_is_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted must be above 0\.05"):
        detectable(1.0, 5, wanted=0.01)
