"""The papers' numbers are whole and consistent."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from dytemp.lab import paths
from dytemp.lab.studies import papers

TABLES = [(paper, name) for paper in papers.PAPERS for name in papers.tables(paper)]
PROBES = ["kNN@1", "kNN@10", "few-shot probe", "long-tail probe"]


def values(frame: pd.DataFrame, *keys: str) -> pd.Series:
    """The numbers of a table, indexed by some of its columns; every key stands once."""
    series = frame.set_index(list(keys))["value"]
    assert series.index.is_unique
    return series


def gain(table: pd.DataFrame, method: str, baseline: str, *keys: str) -> pd.Series:
    by_method = {name: values(rows, *keys) for name, rows in table.groupby("method")}
    return (by_method[method] - by_method[baseline]).round(2)


# Every row says where it comes from


@pytest.mark.parametrize(("paper", "name"), TABLES)
def test_every_row_has_a_source_and_a_certainty(paper, name):
    table = papers.table(paper, name)
    assert len(table) > 0
    assert (table["source"].str.strip() != "").all()
    assert table["certainty"].isin(papers.CERTAINTIES).all()
    # Only what nobody could read may look alike.
    twice = table[table.duplicated(keep=False)]
    assert (twice["certainty"] == "not found").all()


WITH_VALUES = [key for key in TABLES if "value" in papers.table(*key)]


@pytest.mark.parametrize(("paper", "name"), WITH_VALUES)
def test_a_missing_number_says_not_found(paper, name):
    table = papers.table(paper, name)
    missing = table["value"].isna() | (table["value"].astype(str) == "")
    if "low" in table:
        missing &= table["low"].isna()  # a range is known where the number is not
    assert (missing == (table["certainty"] == "not found")).all()


def test_the_papers_folder_is_small():
    files = list((paths.home() / "data" / "papers").glob("*/*.csv"))
    assert len(files) == len(TABLES) + len(papers.PAPERS)
    assert sum(path.stat().st_size for path in files) < 1_000_000


def test_all_tables_and_figures_of_ts_are_there():
    expected = {f"table{number}" for number in range(1, 11)} | {f"fig{n}" for n in range(1, 6)}
    expected |= {"table5_inset", "notebook_outputs", "protocol", "splits"}
    assert expected <= set(papers.tables("ts"))
    assert papers.tables("ts").index("table2") < papers.tables("ts").index("table10")


# TS: the tables, re-computed


def test_table_1_differences():
    difference = gain(papers.table("ts", "table1"), "MoCo+TS", "MoCo", "dataset", "metric")
    assert difference["CIFAR10-LT"][PROBES].tolist() == [1.45, 0.45, 3.56, 1.75]
    assert difference["CIFAR100-LT"][PROBES].tolist() == [1.62, 1.00, 2.11, 1.64]
    difference = gain(papers.table("ts", "table1"), "SimCLR+TS", "SimCLR", "dataset", "metric")
    assert difference["CIFAR10-LT"][PROBES].tolist() == [3.25, 2.72, 3.57, 3.17]
    assert difference["CIFAR100-LT"][PROBES].tolist() == [2.25, 1.94, 3.19, 2.08]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (7, [2.31, 4.88, 2.88, 1.89, 5.55, 0.99, 4.16, 3.30, 3.07, 2.21, 5.11, 2.50]),
        (8, [3.27, 1.44, 1.05, 3.47, 2.07, 0.22, 4.02, 3.39, 2.14, 3.05, 2.64, 0.50]),
        (9, [2.10, 0.26, 2.43, 1.90, -0.17, 1.43, 8.62, 3.61, 3.28, 3.08, 2.38, 0.86]),
    ],
)
def test_differences_of_the_groups(number, expected):
    table = papers.table("ts", f"table{number}")
    difference = gain(table, "SimCLR+TS", "SimCLR", "metric", "group")
    keys = [(metric, group) for metric in PROBES for group in ("head", "mid", "tail")]
    assert difference[keys].tolist() == expected


def test_differences_of_tables_2_3_and_10():
    table = papers.table("ts", "table2")
    difference = gain(table, "MoCo+TS", "MoCo", "dataset", "imbalance", "metric")
    assert (len(difference), difference.min(), difference.max()) == (8, 0.05, 2.83)

    difference = gain(papers.table("ts", "table3"), "SimCLR+TS", "SDCLR", "dataset", "metric")
    assert (len(difference), (difference > 0).sum()) == (9, 8)
    assert difference["CIFAR100-LT", "long-tail probe"] == -0.95

    difference = gain(papers.table("ts", "table10"), "MoCo+TS", "MoCo", "dataset", "metric")
    assert difference["CIFAR10-Uniform"][PROBES].tolist() == [0.31, 0.98, -0.17, -0.30]
    assert difference["CIFAR10-LT"][PROBES].tolist() == [2.68, 1.81, 3.42, 2.65]


def test_means_of_the_groups_agree_with_the_main_tables_in_19_of_22_cases():
    main = values(papers.table("ts", "table1"), "dataset", "method", "metric")
    third = values(papers.table("ts", "table3"), "dataset", "method", "metric")
    main = pd.concat(
        [main, third["ImageNet100-LT"].pipe(lambda s: pd.concat({"ImageNet100-LT": s}))]
    )
    groups = pd.concat([papers.table("ts", f"table{number}") for number in (7, 8, 9)])
    groups["weighted"] = groups["value"] * groups["classes"]
    sums = groups.groupby(["dataset", "method", "metric"])[["weighted", "classes"]].sum()
    means = (sums["weighted"] / sums["classes"]).round(2)
    both = pd.concat({"mean": means, "printed": main}, axis=1, join="inner")
    apart = both[(both["mean"] - both["printed"]).abs() > 0.02 + 1e-9]
    assert len(both) == 22
    assert apart["mean"].to_dict() == {
        ("CIFAR100-LT", "SimCLR+TS", "kNN@1"): 30.75,
        ("ImageNet100-LT", "SimCLR", "few-shot probe"): 41.72,
        ("ImageNet100-LT", "SimCLR+TS", "few-shot probe"): 47.24,
    }


def test_table_3_swaps_two_digits_of_table_1():
    key = ("CIFAR10-LT", "SimCLR", "long-tail probe")
    first = values(papers.table("ts", "table1"), "dataset", "method", "metric")[key]
    third = values(papers.table("ts", "table3"), "dataset", "method", "metric")[key]
    assert (first, third) == (61.86, 61.68)


def test_table_4_rises_with_the_width_of_the_range():
    table = papers.table("ts", "table4")
    width = (table["tau_max"] - table["tau_min"]).round(2)  # equal widths must be ties
    assert round(spearmanr(width, table["value"]).statistic, 2) == 0.90
    grid = table.pivot(index="tau_min", columns="tau_max", values="value").to_numpy()
    # A higher upper bound widens the range, a higher lower bound narrows it.
    steps = np.concatenate([np.diff(grid, axis=1).ravel(), -np.diff(grid, axis=0).ravel()])
    assert (len(steps), (steps < 0).sum()) == (22, 5)
    assert grid.max() == 73.26


def test_tables_5_and_6_share_their_fixed_baseline():
    shapes = values(papers.table("ts", "table5"), "schedule")
    order = ["cosine", "triangle", "random", "step", "constant"]
    assert shapes[order].tolist() == [72.31, 71.50, 70.26, 70.18, 68.89]
    periods = values(papers.table("ts", "table6").query("schedule == 'cosine'"), "period")
    assert periods.index.tolist() == [200, 400, 1000, 2000, 4000]
    assert periods.idxmax() == 400
    assert (periods > shapes["constant"]).all()


def test_inset_of_table_5_shows_the_schedules():
    curves = papers.table("ts", "table5_inset").pivot(
        index="sample", columns="schedule", values="level"
    )
    phase = curves.index.to_numpy() / 60
    np.testing.assert_allclose(curves["cosine"], (1 + np.cos(2 * np.pi * phase)) / 2, atol=2e-3)
    np.testing.assert_allclose(curves["constant"], 1 / 9, atol=1e-3)
    assert curves["step"].iloc[0] == 1


# TS: the figures, re-computed


def test_every_curve_of_figure_1_counts_14880_samples():
    figure = papers.table("ts", "fig1")
    curves = figure.groupby(["tau", "snapshot"])["samples"]
    assert curves.ngroups == 45
    assert (curves.sum() == 14_880).all()
    assert (curves.size() == 50).all()
    # Groups of sorted bins must fall; two of the drawn curves end in 10, 11.
    assert curves.diff().max() == 1
    filled = curves.agg(lambda samples: int((samples > 0).sum()))
    largest = (curves.max() / 14_880 * 100).round(1)
    for tau, first, last, share in ((0.1, 4, 50, 7.0), (0.5, 10, 37, 18.7), (1.0, 13, 25, 29.3)):
        assert (filled[tau, 1], filled[tau, 15], largest[tau, 15]) == (first, last, share)


def test_figure_2c_is_figure_2b_tilted():
    figure = papers.table("ts", "fig2")
    histogram = figure.query("panel == 'b'").set_index("similarity")["value"]
    summary = papers.table("ts", "fig2_summary")
    peaks = values(summary[summary["quantity"] == "similarity at the peak"], "tau")
    centres = values(summary[summary["quantity"] == "centroid of the similarity"], "tau")
    for tau, rows in figure.query("panel == 'c'").groupby("tau"):
        curve = rows.set_index("similarity")["value"]
        tilted = histogram * np.exp(curve.index.to_numpy() / tau)
        # The histogram is known to 4 digits, which the tilt magnifies where it is thin.
        np.testing.assert_allclose(curve, tilted / tilted.max(), atol=5e-3)
        assert curve.idxmax() == peaks[tau]
        assert (curve * curve.index).sum() / curve.sum() == pytest.approx(centres[tau], abs=1e-3)


def test_histogram_of_figure_2b_has_the_stated_moments():
    figure = papers.table("ts", "fig2").query("panel == 'b'")
    share = figure["value"] / figure["value"].sum()
    similarity = figure["similarity"]
    mean = (share * similarity).sum()
    assert mean == pytest.approx(0.0063, abs=1e-4)
    assert math.sqrt((share * (similarity - mean) ** 2).sum()) == pytest.approx(0.2957, abs=1e-4)
    assert share[similarity > 0.49].sum() == pytest.approx(0.05, abs=5e-4)
    assert share[similarity > 0.79].sum() == pytest.approx(0.0048, abs=5e-5)


def test_figure_4_has_a_plateau_inside_its_band():
    figure = papers.table("ts", "fig4")
    assert ((figure["low"] < figure["value"]) & (figure["value"] < figure["high"])).all()
    plateau = figure[figure["relative_time"].between(0.54, 0.96)]["value"]
    assert plateau.min() > 71.9
    assert figure[figure["relative_time"] < 0.3]["value"].max() < 69.6


def test_bars_of_figure_5_were_not_counted_on_the_balanced_test_set():
    figure = papers.table("ts", "fig5").query("class_name != 'mean'")
    percent, images = figure["value"], figure["counted_images"]
    hits = (percent / 100 * images).round()
    # The bars are known to 0.005 percentage points.
    assert ((hits / images * 100 - percent).abs() <= 0.005 + 1e-9).all()
    # With the 1000 images of a class in the test set, every bar were a multiple of 0.1.
    assert ((percent * 10 - (percent * 10).round()).abs() > 0.05).sum() > 20
    totals = images.groupby(figure["setting"]).sum().to_dict()
    assert totals == {"0.1": 14_886, "0.5": 14_886, "1.0": 14_886, "oracle": 12_406}


def test_figure_5_has_the_means_that_figure_3_prints_but_for_the_oracle():
    bars = papers.table("ts", "fig5")
    printed = values(bars.query("class_name == 'mean'"), "setting")
    means = bars.query("class_name != 'mean'").groupby("setting")["value"].mean()
    assert ((means - printed).abs() < 0.02).all()
    third = values(papers.table("ts", "fig3").query("group == 'all'"), "setting")
    apart = (printed - third).abs()
    assert (apart[["0.1", "0.5", "1.0"]] < 0.02).all()
    assert apart["oracle"] == pytest.approx(0.20)


@pytest.mark.parametrize(
    ("dataset", "largest", "total"), [("10", 4500, 11_165), ("100", 450, 9754)]
)
def test_splits_permute_one_profile(dataset, largest, total):
    splits = papers.table("ts", "splits").query(f"dataset == 'CIFAR{dataset}-LT'")
    classes = int(dataset)
    # The small term keeps a power that is whole in exact arithmetic from falling below it.
    profile = [math.floor(largest * 0.01 ** (k / (classes - 1)) + 1e-9) for k in range(classes)]
    assert sum(profile) == total
    orders = set()
    for _, rows in splits.groupby("split"):
        assert sorted(rows["images"], reverse=True) == profile
        orders.add(tuple(rows.sort_values("label")["images"]))
    assert len(orders) == 5


def test_imagenet100_profile_explains_the_groups_of_table_9():
    images = papers.table("ts", "imagenet100_profile")["images"]
    assert images.sum() == 12_205
    assert ((images > 100).sum(), (images <= 20).sum(), (images < 20).sum()) == (39, 14, 13)
    sizes = papers.table("ts", "table9").drop_duplicates("group").set_index("group")["classes"]
    assert sizes.to_dict() == {"head": 39, "mid": 47, "tail": 14}


# iSogCLR and DySTreSS: what secondary sources know


def test_bimodal_gaps():
    table = papers.table("isogclr", "bimodal")
    difference = gain(table, "iSogCLR", "SogCLR", "dataset", "metric")
    assert difference.tolist() == [1.04, 3.02, 0.84, 2.64, -2.18, 0.55, 3.26]
    difference = gain(table, "iSogCLR", "CLIP", "dataset", "metric")
    assert difference.tolist() == [3.38, 9.30, 1.95, 5.74, -1.72, 3.11, 4.45]
    assert table.query("method == 'VICReg'")["value"].isna().all()


def test_learned_temperature_falls_then_rises():
    tau = papers.table("isogclr", "tau_curve").set_index("epoch")["tau"]
    assert tau.loc[:10].is_monotonic_decreasing
    assert tau.loc[12:].is_monotonic_increasing
    assert (tau[0], tau.min(), tau[29]) == (0.0100, 0.0066, 0.0120)


def test_versions_of_the_bimodal_loss_differ_in_the_positive():
    versions = papers.table("isogclr", "versions").pivot(
        index="item", columns="version", values="value"
    )
    assert versions.shape == (14, 6)
    assert versions.notna().all(axis=None)
    positive = versions.loc["positive in denominator"]
    assert positive[positive != "no"].index.tolist() == ["official, 2024"]


def test_dystress_baselines_follow_from_the_quoted_gains():
    imagenet100 = papers.table("dystress", "table1_imagenet100")
    top1 = values(imagenet100.query("metric == 'linear probe top-1'"), "method")
    assert round(top1["DySTreSS"] - top1["SimCLR"], 2) == 3.24
    cifar = papers.table("dystress", "table3_cifar")
    difference = gain(cifar, "DySTreSS", "SimCLR", "dataset")
    assert difference.to_dict() == {"CIFAR10": 2.03, "CIFAR100": 4.25}


def test_long_tail_counts_of_dystress_follow_their_rule():
    table = papers.table("dystress", "long_tail_counts")
    largest = {"CIFAR10-LT": 5000, "CIFAR100-LT": 500}
    totals = {}
    for (dataset, ratio), rows in table.groupby(["dataset", "ratio"]):
        n_max, classes = largest[dataset], len(rows)
        rule = [int(n_max * ratio ** (label / (classes - 1))) for label in range(classes)]
        assert rows["images"].tolist() == rule
        totals[dataset, ratio] = sum(rule)
    assert totals["CIFAR10-LT", 0.01] == 12_406
    assert totals["CIFAR10-LT", 0.1] == 20_431
    assert totals["CIFAR100-LT", 0.01] == 10_847


def test_both_papers_quote_the_same_notebooks():
    ours = values(papers.table("ts", "notebook_outputs"), "dataset", "metric")
    quoted = papers.table("dystress", "reference_values")
    theirs = values(quoted[quoted["item"].str.startswith("notebooks")], "dataset", "metric")
    pd.testing.assert_series_equal(ours.sort_index(), theirs.sort_index())


# What does not exist or is damaged


def test_unknown_tables_are_named_with_those_that_exist():
    with pytest.raises(FileNotFoundError, match=r"no table 'table11'; there are: .*table10"):
        papers.table("ts", "table11")
    with pytest.raises(ValueError, match="allowed: ts, isogclr, dystress"):
        papers.table("clip", "table1")
    with pytest.raises(ValueError, match="paper"):
        papers.tables("")


@pytest.fixture
def own_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the papers' numbers that a test may damage."""
    folder = tmp_path / "data" / "papers"
    shutil.copytree(paths.home() / "data" / "papers", folder)
    monkeypatch.setenv("DYTEMP_HOME", str(tmp_path))
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: b"", id="empty"),
        pytest.param(lambda text: text.splitlines()[0] + b"\n", id="header only"),
        pytest.param(lambda text: text[:-9], id="cut"),
        pytest.param(lambda text: text.replace(b"certainty", b"sure"), id="column missing"),
        pytest.param(lambda text: text.replace(b'"TS, Table 1"', b"", 1), id="no source"),
        pytest.param(lambda text: text.replace(b"read in the paper", b"", 1), id="no certainty"),
        pytest.param(lambda text: text.replace(b"read in", b"heard of", 1), id="other certainty"),
        pytest.param(lambda text: text.replace(b"63.54", b"63,54,0"), id="too many cells"),
        pytest.param(lambda text: text + b'"open', id="open quote"),
        pytest.param(lambda text: b"\xff\xfe" + text, id="no text"),
    ],
)
def test_a_damaged_table_is_named(own_papers, damage):
    path = own_papers / "ts" / "table1.csv"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"table1\.csv"):
        papers.table("ts", "table1")


def test_how_to_cite_the_papers():
    assert list(papers.PAPERS) == ["ts", "isogclr", "dystress"]
    for paper in papers.PAPERS.values():
        assert "" not in (paper.title, paper.authors, paper.venue)
        assert 2023 <= paper.year <= 2025
        assert paper.link.startswith("https://")
