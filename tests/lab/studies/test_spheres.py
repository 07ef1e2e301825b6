"""Where projections lie on the sphere, trends over methods, and estimates of any effect."""

from __future__ import annotations

import pandas as pd
import pytest

from dytemp.lab import studies
from dytemp.lab.studies import protocols
from dytemp.lab.studies.runs import Run
from dytemp.lab.studies.statistics import mean_interval
from dytemp.lab.training import Config


@pytest.fixture(scope="module")
def spheres() -> studies.Study:
    return studies.load("ts_synthetic_geometry", draws=[1, 2])


def study_of(accuracies: dict[float, list[float]]) -> studies.Study:
    """Return a study of fixed temperatures with given accuracies, one for each draw."""
    runs = {}
    for tau, values in accuracies.items():
        runs[f"fixed {tau:g}"] = {
            draw: (run_with(tau, draw, value),) for draw, value in enumerate(values, start=1)
        }
    return studies.Study("toy", "quick", runs)


def run_with(tau: float, draw: int, accuracy: float) -> Run:
    config = Config(data="digits", loss={"name": "NTXent", "temperature": tau}, seed=draw)
    found = {"knn1": accuracy}
    point = {"epoch": config.epochs, "metrics": found, "per_class": {}}
    return Run("key", config, found, {}, [point], {}, [3], [0], {}, 1.0, {}, "", {})


def test_the_spheres_are_those_of_the_runs_of_the_sweep(spheres: studies.Study) -> None:
    sweep = studies.load("ts_synthetic", draws=[1, 2], methods=spheres.methods)
    for method in spheres.methods:
        ours, theirs = (each.accuracy(method, "uniformity") for each in (spheres, sweep))
        pd.testing.assert_series_equal(ours, theirs)
    assert protocols.default_draws("ts_synthetic_geometry", "recorded") == tuple(range(1, 21))


def test_coverage_is_shares_the_fullest_group_first(spheres: studies.Study) -> None:
    for method in spheres.methods:
        table = spheres.coverage(method)
        assert table.shape == (2, 50)
        assert table.sum(axis="columns").to_numpy() == pytest.approx([100, 100])
        assert (table.diff(axis="columns").iloc[:, 1:] <= 0).all(axis=None)
        fullest = spheres.accuracy(method, "fullest_group")
        assert table[1].to_numpy() == pytest.approx(fullest.to_numpy())


def test_a_study_without_geometry_says_so() -> None:
    with pytest.raises(ValueError, match="do not record where"):
        study_of({0.1: [0.5]}).coverage("fixed 0.1")


def test_an_epoch_that_was_not_evaluated_is_refused(spheres: studies.Study) -> None:
    with pytest.raises(ValueError, match="epoch must be one of"):
        spheres.accuracy("fixed 0.1", "fullest_group", epoch=3)


def test_a_trend_is_one_minus_one_or_nothing() -> None:
    study = study_of({0.1: [0.1, 0.3, 0.2], 0.5: [0.2, 0.2, 0.2], 1.0: [0.3, 0.1, 0.2]})
    assert study.trend(study.fixed).tolist() == pytest.approx([1, -1, 0])


def test_a_trend_needs_an_order() -> None:
    study = study_of({0.1: [0.1], 0.5: [0.2]})
    with pytest.raises(ValueError, match="order must tell methods apart"):
        study.trend(dict.fromkeys(study.methods, 1.0))


def test_estimates_are_rows_of_intervals() -> None:
    values = [1.0, 2.0, 4.0]
    found = mean_interval(values)
    table = studies.estimates({"values": values, "series": pd.Series(values), "estimate": found})
    assert table.columns.tolist() == ["mean", "low", "high", "draws"]
    for _, row in table.iterrows():
        assert row.tolist() == [found.mean, found.low, found.high, 3]
