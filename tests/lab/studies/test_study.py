"""A study answers by draw: seeds are averaged first, differences are paired, words are fixed."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from toys import config

from dytemp.lab import datasets, paths, studies
from dytemp.lab.studies import claims, costs, protocols
from dytemp.lab.studies.runs import Run
from dytemp.lab.studies.study import Study, estimates
from dytemp.lab.training import Config

FIXED = {f"fixed {tau:g}": {"name": "NTXent", "temperature": tau} for tau in (0.1, 0.5)}
SWING = {"name": "Cosine", "tau_min": 0.1, "tau_max": 1.0, "period": 4}
SPECS = FIXED | {"own": {"name": "NTXent", "temperature": SWING}}


def run(method: str, draw: int, seed: int, value: float, **settings: Any) -> Run:
    """Return a run that measured `value` at its end, and half of it after one epoch."""
    made = config(loss=SPECS[method], permutation=draw, seed=seed, **settings)
    metrics = {
        "knn1": value,
        "knn1_head": value / 2,
        "validation_knn1": 1 - value,
        "uniformity": -2,
    }
    half = {name: each / 2 for name, each in metrics.items()}
    return Run(
        key=made.key,
        config=made,
        metrics=metrics,
        per_class={"knn1": [value, 0.5, value / 4]},
        evaluations=[{"epoch": 1, "metrics": half}, {"epoch": 2, "metrics": metrics}],
        curves={"temperature": [0.1, 0.2], "loss": [1.0, 0.5], "learning_rate": [0.1, 0.1]},
        counts=[20, 40, 28],
        groups=[2, 0, 1],
        seconds={"training": 1.0, "evaluation": 0.5},
        images_per_second=100.0,
        environment={"processor": "P", "precision": "float32", "threads": 1},
        code="0",
        arrays={},
    )


def study(**settings: Any) -> Study:
    values = {"fixed 0.1": 0.4, "fixed 0.5": 0.3, "own": 0.5}
    runs = {
        method: {
            1: (run(method, 1, 0, value), run(method, 1, 1, value + 0.1)),
            2: (run(method, 2, 2, value + 0.2),),
        }
        for method, value in values.items()
    }
    return dataclasses.replace(Study("toy", "quick", runs), **settings)


def test_accuracy_by_draw_is_the_mean_over_its_seeds_in_percent() -> None:
    found = study().accuracy("fixed 0.1")
    assert found.to_dict() == pytest.approx({1: 45.0, 2: 60.0})
    assert study().accuracy("own", group="head").to_dict() == pytest.approx({1: 27.5, 2: 35.0})
    assert study().accuracy("own", "uniformity").to_dict() == {1: -2, 2: -2}
    assert study().accuracy("own", epoch=1).to_dict() == pytest.approx({1: 27.5, 2: 35.0})
    assert study().by_seed("own").loc[1].to_dict() == pytest.approx({0: 50.0, 1: 60.0})


def test_runs_without_a_metric_are_left_out_where_it_is_asked_for() -> None:
    toy = study()
    toy.runs["own"][1][0].metrics["knn200"] = 0.3  # one of two seeds: the draw does not hold it
    toy.runs["own"][2][0].metrics["knn200"] = 0.4
    held = toy.holding("knn200")
    assert {method: list(by_draw) for method, by_draw in held.runs.items()} == {"own": [2]}
    assert held.accuracy("own", "knn200").to_dict() == pytest.approx({2: 40.0})
    assert toy.holding("knn1") == toy
    with pytest.raises(ValueError, match="no run of toy holds 'knn20'"):
        toy.holding("knn20")


def test_similarities_are_shares_of_the_pairs_by_draw() -> None:
    toy = study()
    for number, group in toy.runs["own"].items():
        for made in group:
            made.evaluations[-1]["geometry"] = {"positives": [0, number, 3 * number]}
    found = toy.similarities("own", "positives")
    assert found.columns.tolist() == [-1, 0, 1]
    assert found.loc[1].tolist() == found.loc[2].tolist() == [0, 0.25, 0.75]
    for method, kind, epoch in (
        ("own", "true_negatives", None),
        ("own", "positives", 1),
        ("fixed 0.1", "positives", None),
    ):
        with pytest.raises(ValueError, match="do not record how similar their pairs are"):
            toy.similarities(method, kind, epoch)
    with pytest.raises(ValueError, match="kind must be one of"):
        toy.similarities("own", "negatives")


def test_temperature_by_epoch_is_the_mean_over_runs() -> None:
    toy = study()
    toy.runs["own"][2][0].curves["temperature"][:] = [0.4, 0.8]  # one of three runs
    found = toy.temperature("own")
    assert found.index.tolist() == [1, 2]
    assert found.tolist() == pytest.approx([0.2, 0.4])
    assert toy.temperature("fixed 0.1").tolist() == pytest.approx([0.1, 0.2])


def test_curve_has_a_row_an_epoch_and_a_column_a_draw() -> None:
    curve = study().curve("own")
    assert curve.index.tolist() == [1, 2]
    assert curve.loc[2].to_dict() == pytest.approx({1: 55.0, 2: 70.0})


def test_classes_stand_in_the_order_of_their_frequency() -> None:
    ranked = study().by_rank("own")
    assert ranked.loc[2].tolist() == pytest.approx([50.0, 17.5, 70.0])
    assert ranked.columns.tolist() == [1, 2, 3]


def test_differences_are_paired_by_seed() -> None:
    whole = study()
    found = whole.difference("own", "fixed 0.1")
    assert (found.mean, found.count) == (pytest.approx(10.0), 2)
    runs = dict(whole.runs)
    runs["own"] = {1: runs["own"][1][:1], 2: runs["own"][2]}  # the second seed has no partner
    paired = Study("toy", "quick", runs).differences("own", "fixed 0.1")
    assert paired.to_dict() == pytest.approx({1: 10.0, 2: 10.0})
    runs["own"] = {2: runs["own"][2]}
    single = Study("toy", "quick", runs)
    assert single.draws == [2]
    assert np.isnan(single.difference("own", "fixed 0.1").low)


def test_epochs_of_method_and_control_may_differ() -> None:
    found = study().difference("own", "own", epoch=(2, 1))
    assert found.mean == pytest.approx((27.5 + 35) / 2)


def test_estimates_of_nothing_are_an_empty_table() -> None:
    assert estimates({}).columns.tolist() == ["mean", "low", "high", "draws"]
    assert estimates({}).empty


def test_groups_are_those_that_were_measured() -> None:
    assert study().groups == ("all", "head")  # as the toy has it; of two classes there are none


def test_the_best_fixed_temperature_is_chosen_by_validation() -> None:
    whole = study()
    assert whole.fixed == {"fixed 0.1": 0.1, "fixed 0.5": 0.5}
    assert whole.chosen_on == "validation_knn1"
    assert whole.best_fixed() == "fixed 0.5"  # the test data would say 0.1
    assert whole.best_fixed("knn1") == "fixed 0.1"
    assert whole.best_fixed(inside=(0.05, 0.1)) == "fixed 0.1"  # the ends belong to the range
    assert whole.best_fixed(inside=(0.1, 0.5)) == "fixed 0.5"
    with pytest.raises(ValueError, match=r"toy has no fixed temperature from 0.2 to 0.3"):
        whole.best_fixed(inside=(0.2, 0.3))


def test_differences_to_several_controls_leave_out_what_is_not_there() -> None:
    toy = study()
    for method, number, value in (("own", 1, 0.5), ("own", 2, 0.4), ("fixed 0.1", 2, 0.3)):
        for run in toy.runs[method][number]:
            run.metrics["knn200"] = value
    table = toy.against("own", ["fixed 0.1", "fixed 0.5", "own", "TS", "fixed 0.1"], "knn200")
    assert table.index.tolist() == ["fixed 0.1"]  # the others: without the metric, itself, no run
    assert table.loc["fixed 0.1", ["mean", "draws"]].tolist() == pytest.approx([10, 1])
    everywhere = toy.against("own", ["fixed 0.1", "fixed 0.5"])
    paired = toy.difference_table(["own"], "fixed 0.1", {"knn1": "kNN@1"}).iloc[0]
    assert everywhere.loc["fixed 0.1"].tolist() == paired.tolist()


def test_trend_is_the_rank_correlation_of_each_draw() -> None:
    order = {"fixed 0.5": 1, "fixed 0.1": 2, "own": 3}
    assert study().trend(order).to_dict() == pytest.approx({1: 1.0, 2: 1.0})
    assert study().trend({m: -k for m, k in order.items()}).to_dict() == pytest.approx(
        {1: -1.0, 2: -1.0}
    )


def test_tables() -> None:
    table = study().table()
    assert table.columns.tolist() == ["validation kNN@1", "kNN@1"]
    assert table.loc["own", "kNN@1"] == pytest.approx(62.5)
    rows = study().difference_table(["own"], "fixed 0.1", {"knn1": "kNN@1"}, ("all", "head"))
    assert rows.index.tolist() == [("own", "kNN@1"), ("own", "kNN@1, head")]
    assert rows["mean"].tolist() == pytest.approx([10.0, 5.0])
    assert rows["draws"].tolist() == [2, 2]


def test_it_says_what_it_rests_on() -> None:
    table = study().protocol({"epochs": 2000, "batch": 512})
    assert table.columns.tolist() == ["the paper", "here"]
    assert table.loc["epochs"].tolist() == ["2000", "2"]
    assert table.loc["replicates", "here"] == "2 draws, 3 runs of each method"
    assert table.loc["updates", "here"] == "10"
    assert "draws 1, 2" in str(study())


def test_data_and_encoder_are_named_for_a_reader() -> None:
    recorded = studies.load("ts", methods=["TS"])
    assert recorded.config().encoder == "small"
    table = recorded.protocol()["here"]
    assert table["data"] == "CIFAR-10, long tail, 11,165 training images"
    assert table["encoder"] == "small residual network"
    assert "on CIFAR-10, long tail (11,165 images), small residual network," in str(recorded)
    assert study().updates == 10


def test_runs_that_differ_in_more_than_the_loss_are_no_study() -> None:
    runs = dict(study().runs)
    runs["own"] = {1: (run("own", 1, 0, 0.5, epochs=3),)}
    with pytest.raises(ValueError, match=r"draw 1 .* those of own differ in epochs"):
        Study("toy", "quick", runs)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: study().accuracy("TS"), "method must be one of"),
        (lambda: study().accuracy("own", "knn9"), "metric must be one of"),
        (lambda: study().accuracy("own", group="rear"), "group must be one of"),
        (lambda: study().accuracy("own", epoch=7), r"epoch must be one of \[1, 2\]"),
        (lambda: studies.load("ts", "recorded", methods=["TSS"]), "method must be one of"),
        (lambda: studies.load("tss"), "study must be one of"),
        (lambda: studies.load("ts", "small", draws=[1, 1]), "different numbers"),
        (lambda: studies.load("ts", "small", draws=[0]), "draw"),
    ],
)
def test_refusals(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_a_verdict_is_recorded_for_the_whole_recorded_study_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYTEMP_RESULTS", str(tmp_path))
    effects = {"all": [1.0, 1.1, 1.2, 0.9, 1.0]}
    found = study().judge("ts", "C12", "12", effects)
    assert found.outcome == "supported"
    assert not list(tmp_path.iterdir())
    study(recorded=True).judge("ts", "C12", "12", effects)
    table = claims.claims().set_index(["paper", "claim"])
    assert table.loc[("ts", "C12"), "outcome"] == "supported"


def test_a_live_study_trains_and_comes_back(tmp_path: Path) -> None:
    short = {"epochs": 1, "warmup_epochs": 0, "evaluate_every": 0, "evaluate_at": ()}
    arguments: Any = {"methods": ["fixed 0.1", "TS"], "store": tmp_path, **short}
    first = studies.load("ts", "quick", [1], **arguments)
    again = studies.load("ts", "quick", [1], **arguments)
    assert not first.recorded
    assert [r.key for r in first.all_runs] == [r.key for r in again.all_runs]
    assert first.accuracy("TS").equals(again.accuracy("TS"))


def test_at_scale_recorded_a_study_is_what_is_recorded_so_far(tmp_path: Path) -> None:
    short = {"epochs": 1, "warmup_epochs": 0, "evaluate_every": 0, "evaluate_at": ()}
    short |= {"data": "mnist5k", "encoder": "tiny", "n_max": 100, "batch": 64}
    short |= {"validation_per_class": 0, "augmentation": "digits", "probes": ()}
    arguments: Any = {"store": tmp_path, **short}
    studies.load("ts", "small", [2, 5], methods=["TS"], **arguments)
    studies.load("ts", "small", [5], methods=["fixed 0.2"], **arguments)
    found = studies.load("ts", "recorded", **arguments)
    assert {method: list(by_draw) for method, by_draw in found.runs.items()} == {
        "fixed 0.2": [5],
        "TS": [2, 5],
    }
    assert found.protocol().loc["replicates", "here"] == "1 to 2 draws, 1 to 2 runs of each method"
    with pytest.raises(FileNotFoundError, match="is not recorded"):
        studies.load("ts", "recorded", [7], **arguments)


# Draws


def test_a_draw_decides_all_that_is_random() -> None:
    drawn = protocols.configs("isogclr", "quick", [4, 7])["SogCLR"]
    for number, (made,) in drawn.items():
        assert (made.permutation, made.split_seed, made.seed) == (number,) * 3


def test_draws_that_were_recorded_first_keep_their_runs() -> None:
    found = protocols.configs("ts", "small", [1, 3, 4])["TS"]
    settings = {
        number: [(c.permutation, c.split_seed, c.seed) for c in made]
        for number, made in found.items()
    }
    assert settings == {1: [(1, 0, 0), (1, 0, 1)], 3: [(3, 0, 0), (3, 0, 1)], 4: [(4, 4, 4)]}
    # Balanced classes came later: all their draws have initial weights of their own.
    (even,) = protocols.configs("comparison_balanced", "small", [1])["TS"][1]
    assert (even.permutation, even.split_seed, even.seed) == (1, 1, 1)
    images = datasets.long_tail_counts(even.n_max, 10, even.ratio)
    tail = datasets.long_tail_counts(protocols.SMALL["n_max"], 10, protocols.SMALL["ratio"])
    assert len(set(images)) == 1
    assert 0 <= sum(tail) - sum(images) < 10
    kept = found[1][0].key
    assert (paths.home() / "data" / "results" / f"{kept}.json").is_file()


def test_settings_of_isogclr_share_the_runs_of_the_other_studies() -> None:
    ours, before = (protocols.configs(s, "quick", [4]) for s in ("isogclr_settings", "isogclr"))
    shared = ("fixed 0.1", "fixed 0.2", "fixed 0.5", "SogCLR", "iSogCLR")
    assert [ours[m][4][0].key for m in shared] == [before[m][4][0].key for m in shared]
    # Each setting once, over ranges whose ends have one ratio for start, radius and fixed τ.
    keys = [by_draw[4][0].key for by_draw in ours.values()]
    assert len(set(keys)) == len(keys) == 3 + 3 + 9 + 1  # and τ by back-propagation
    grid = [c.loss for by_draw in ours.values() for (c,) in by_draw.values()]
    starts, radii = ({g[k] for g in grid if g["name"] == "ISogCLR"} for k in ("tau_init", "rho"))
    ratios = {round(max(values) / min(values), 9) for values in (starts, radii)}
    assert ratios == {max(protocols.SETTINGS_TAUS) / min(protocols.SETTINGS_TAUS)}


@pytest.mark.parametrize("scale", ["quick", "small"])
def test_table_3_of_dystress_is_a_part_of_the_balanced_comparison(scale: str) -> None:
    part, whole = (
        protocols.configs(name, scale, [2]) for name in ("dystress_balanced", "comparison_balanced")
    )
    assert part == {method: whole[method] for method in part}
    assert {"fixed 0.1", "fixed 0.2", "MACL", "two constants", "DySTreSS"} <= set(part)


def test_a_study_leaves_the_settings_of_the_others_alone() -> None:
    before = protocols.configs("dystress_tables", "quick", [1])
    for name in protocols._STUDIES:
        protocols.configs(name, "quick", [1])
    assert protocols.configs("dystress_tables", "quick", [1]) == before


@pytest.mark.parametrize("study_name", sorted(protocols._STUDIES))
@pytest.mark.parametrize("scale", ["recorded", "quick", "small", "paper"])
def test_all_methods_of_a_study_share_all_but_the_loss(study_name: str, scale: str) -> None:
    made = protocols.configs(study_name, scale)
    assert {tuple(by_draw) for by_draw in made.values()} == {
        tuple(protocols.default_draws(study_name, scale))
    }

    def shared(each: Config) -> dict[str, Any]:
        return each.to_dict() | {"loss": None, "learning_rate": None}

    first = next(iter(made.values()))
    for by_draw in made.values():
        for number, group in by_draw.items():
            assert [shared(c) for c in group] == [shared(c) for c in first[number]]


def test_a_random_temperature_takes_its_sequence_from_the_draw() -> None:
    made = protocols.configs("ts_synthetic", "recorded", [3, 8])["random 0.1 to 0.5"]
    assert {n: group[0].loss["temperature"]["seed"] for n, group in made.items()} == {3: 3, 8: 8}


def test_the_study_of_learning_rates_has_draws_of_its_own() -> None:
    made = protocols.learning_rates()
    assert len(made) == 25
    numbers = {number for by_draw in made.values() for number in by_draw}
    assert numbers == set(protocols.TUNING_DRAWS)
    assert not numbers & set(range(1, 11))


def test_bends_are_what_a_phase_adds_to_the_trend() -> None:
    whole = study()
    runs = {}
    for method, height in (("own", 0.05), ("fixed 0.1", 0.0)):
        made = run(method, 1, 0, 0.5)
        points = [(e, 0.4 + 0.01 * e + (height if e == 3 else 0)) for e in range(1, 5)]
        evaluations = [{"epoch": e, "metrics": {"knn1": value}} for e, value in points]
        settings = dataclasses.replace(made.config, epochs=4, warmup_epochs=0)
        runs[method] = {1: (dataclasses.replace(made, config=settings, evaluations=evaluations),)}
    found = dataclasses.replace(whole, runs=runs).bends("own", "fixed 0.1", period=2, phase=0.7)
    assert list(found) == ["period 2: epoch 3 (phase 0.50)"]
    assert found["period 2: epoch 3 (phase 0.50)"].to_dict() == pytest.approx({1: 5.0})
    assert whole.bends("own", "fixed 0.1", period=1, phase=0.7) == {}


def test_cost_of_the_schedule_is_read_from_the_benchmark() -> None:
    steps, excess = costs.overhead("schedule", "cosine over constant")
    assert set(steps.columns) == {"median", "min", "max"}
    assert excess.low < excess.mean < excess.high
    reach = excess.error * float(t.ppf(0.975, excess.count - 1))
    assert excess.high - excess.low == pytest.approx(2 * reach)


@pytest.mark.parametrize("scale", ["quick", "small"])
@pytest.mark.parametrize("study_name", ["ts", "isogclr", "dystress", "own", "successors"])
def test_a_run_that_is_in_the_comparison_is_trained_once(study_name: str, scale: str) -> None:
    every = protocols.configs("comparison", scale, [1, 6])
    part = protocols.configs(study_name, scale, [1, 6])
    both = every.keys() & part.keys()
    assert len(both) >= 3
    for method, number in itertools.product(both, (1, 6)):
        ours = {config.key for config in part[method][number]}
        assert {config.key for config in every[method][number]} <= ours


def test_the_class_oracle_follows_the_class_order_of_its_draw() -> None:
    made = protocols.configs("comparison", "small", [1, 7])
    for number in (1, 7):
        (config,) = made["class oracle"][number]
        order = datasets.class_order("cifar10", number, 10)
        taus = config.loss["temperature"]["taus"]
        assert [taus[k] for k in order] == [1.0] * 5 + [0.1] * 5
        (mirrored,) = made["class oracle reversed"][number]
        assert [round(1.1 - tau, 6) for tau in mirrored.loss["temperature"]["taus"]] == taus
    hundred = protocols.configs("comparison", "small", [2], data="cifar100", n_max=450)
    assert len(hundred["class oracle"][2][0].loss["temperature"]["taus"]) == 100


def test_draws_that_are_asked_for_leave_out_methods_that_lack_them() -> None:
    found = studies.load("comparison", "recorded", [1])
    assert found.draws == [1]
    assert {"fixed 0.1", "TS", "DySTreSS"} <= set(found.methods)
    assert "fixed 0.15" not in found.methods
    with pytest.raises(FileNotFoundError):
        studies.load("comparison", "recorded", [1], ["fixed 0.15"])
