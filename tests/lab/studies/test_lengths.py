"""Several lengths of training: which runs they are, and the laws that are put through them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from dytemp.lab.studies import lengths, protocols
from dytemp.lab.studies.statistics import mean_interval

UPDATES = [100, 200, 400]  # doublings 0, 1, 2


def table(rows: list[list[float]], updates: list[int] = UPDATES) -> pd.DataFrame:
    return pd.DataFrame(rows, index=range(1, len(rows) + 1), columns=updates)


def test_line_is_found_again_draw_by_draw() -> None:
    law = lengths.fit(table([[-4, -3, -2], [-5, -4.5, -4]]), "line")
    assert law is not None
    np.testing.assert_allclose(law.slopes, [1, 0.5])
    assert law.at(200).mean == pytest.approx(-3.75)
    assert law.at(800).mean == pytest.approx(mean_interval([-1, -3.5]).mean)
    assert law.at(800).low == pytest.approx(mean_interval([-1, -3.5]).low)
    assert str(law.slope) == str(mean_interval([1, 0.5]))


def test_two_lengths_are_gone_through_exactly() -> None:
    rows = [[-4.0, -3.1], [-5.0, -4.2], [-3.0, -2.6]]
    for form in ("line", "power"):
        law = lengths.fit(table(rows, [100, 250]), form)
        assert law is not None
        back = law.levels + law.slopes * math.log2(2.5)
        ends = back if form == "line" else -np.exp(back)
        np.testing.assert_allclose(ends, [-3.1, -4.2, -2.6])


def test_power_keeps_its_sign_and_shrinks_by_the_same_share() -> None:
    law = lengths.fit(table([[-4, -2, -1], [-8, -4, -2]]), "power")
    assert law is not None
    assert law.slope.mean == pytest.approx(-50)
    found = law.at(800)
    assert found.mean == pytest.approx(-math.sqrt(0.5 * 1))  # geometric mean of the draws
    assert found.low < found.mean < found.high < 0
    assert law.zero() is None


def test_zero_of_a_line_has_the_interval_in_which_the_line_may_be_zero() -> None:
    law = lengths.fit(table([[-4, -3, -2], [-4.4, -3.3, -2.2], [-3.8, -2.9, -2.0]]), "line")
    assert law is not None
    found = law.zero()
    assert found is not None
    place, low, high = found
    assert low < place < high
    assert law.at(place).mean == pytest.approx(0, abs=1e-9)
    # At the ends of the interval one end of the line's own interval is zero.
    assert law.at(low).high == pytest.approx(0, abs=1e-6)
    assert law.at(high).low == pytest.approx(0, abs=1e-6)


def test_zero_is_not_told_where_the_slope_may_be_none() -> None:
    law = lengths.fit(table([[-4, -3, -2], [-4, -5, -6], [-4, -4, -3.5]]), "line")
    assert law is not None
    assert law.slope.undecided
    assert law.zero() is None
    single = lengths.fit(table([[-4, -3, -2]]), "line")
    assert single is not None
    assert single.zero() is None


def test_what_cannot_be_fitted_is_said() -> None:
    assert lengths.fit(table([[-4], [-3]], [100]), "line") is None
    assert lengths.fit(table([[-4, 1, 2]]), "power") is None
    incomplete = table([[-4, -3, math.nan], [-4, math.nan, -2]])
    assert lengths.fit(incomplete, "line") is None


def test_lengths_that_nobody_recorded_are_left_out() -> None:
    found = lengths.load_all("recorded", epochs=[40, 41])
    assert list(found) == [40]
    differences = lengths.differences(found, "fixed 0.2")
    assert differences.columns.tolist() == [1720]
    assert differences[1720].mean() < 0


def test_plan_counts_what_is_recorded_of_what_is_wanted() -> None:
    rows = list(lengths.plan())
    assert all(len(runs) <= wanted for *_, wanted, runs in rows)
    forty = [runs for length, *_, runs in rows if length == 40]
    assert [len(runs) for runs in forty] == [5] * 5
    assert all(run.config.epochs == length for length, _, _, runs in rows for run in runs)
    assert 0.1 < lengths.core_hours(forty[0]) < 5


def test_a_long_training_has_its_period_and_is_evaluated_fifty_times() -> None:
    (config,) = protocols.configs("comparison", "small", [1], epochs=1000)["TS"][1]
    assert config.loss["temperature"]["period"] == 200
    assert config.evaluate_every == 20
    assert config.evaluate_at == (940,)
    (config,) = protocols.configs("comparison", "small", [1], epochs=1000, evaluate_every=5)["TS"][
        1
    ]
    assert config.evaluate_every == 5


def test_complete_evaluations_follow_the_number_of_epochs() -> None:
    (config,) = protocols.configs("dystress_geometry", "quick", [1], epochs=3)["DySTreSS"][1]
    assert config.evaluate_at == (1, 2, 3)
    asked = protocols.configs("dystress_geometry", "quick", [1], epochs=3, evaluate_at=(2,))
    assert asked["DySTreSS"][1][0].evaluate_at == (2,)


def test_learning_rates_are_read_with_their_draw() -> None:
    found = lengths.learning_rates()
    assert set(found["draw"]) <= set(protocols.TUNING_DRAWS)
    assert len(found) == len(found.drop_duplicates(["method", "rate", "draw"]))
    assert found["accuracy"].between(10, 60).all()
