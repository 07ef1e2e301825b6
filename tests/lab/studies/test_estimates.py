from __future__ import annotations

import pandas as pd
import pytest

from dytemp.lab import studies
from dytemp.lab.studies.statistics import mean_interval


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
