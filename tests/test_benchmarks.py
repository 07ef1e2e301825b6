"""The benchmarks run, their results have one form, and the report shows them. No time is tested."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from benchmarks import __main__ as command_line
from benchmarks import isogclr, metrics, schedule, sdclr, step, timing, training

TINY = {"samples": 64, "dims": (8,), "neighbours": (1, 5), "repetitions": 3, "memory": False}


def test_contenders_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = timing.interleaved(contenders, 2)
    rounds = [set(calls[k : k + 3]) for k in range(0, 9, 3)]
    assert rounds == [set("abc")] * 3
    assert {name: len(values) for name, values in seconds.items()} == dict.fromkeys("abc", 2)


def peak_of_64_mebibytes() -> float:
    return timing.peak_memory(lambda: torch.ones(16 * 2**20).sum())


def test_peak_memory_counts_what_a_call_needs_and_gives_back() -> None:
    # In a fresh process, as the benchmarks use it: memory that this one frees meanwhile hides it.
    (peak,) = timing.apart(peak_of_64_mebibytes)
    assert 60 < peak < 100  # 64 MiB, and some for the libraries


def test_fresh_processes_run_at_the_same_time() -> None:
    threads = timing.apart(torch.get_num_threads, processes=2, threads=1)
    assert threads == [1, 1]


def test_record_has_all_that_a_reader_needs() -> None:
    record = json.loads(json.dumps(timing.record(metrics, TINY)))
    assert record["title"].startswith("Metrics: ")
    assert {"processor", "cores", "threads", "torch", "code"} <= record["machine"].keys()
    assert record["settings"] == TINY | {"dims": [8], "neighbours": [1, 5]}
    groups = {row["group"]: row["name"] for row in reversed(record["measurements"])}
    assert list(groups.values()) == [metrics.GRAM, metrics.PRODUCT]  # each leads its group
    assert len(record["measurements"]) == 6
    for row in record["measurements"]:
        assert 0 < row["min"] <= row["median"] <= row["max"]
        assert (row["unit"], row["repetitions"]) == ("ms", 3)
    assert len(record["aims"]) == 4
    for aim in record["aims"]:
        assert aim["wanted"] == "at most 2"
        assert aim["met"] == (aim["measured"] <= 2)


def test_rows_are_summaries_and_aims_have_a_direction() -> None:
    (row,) = timing.rows("group", {"name": [0.3, 0.1, 0.2]}, "ms", 1e3)
    assert (row["min"], row["median"], row["max"]) == pytest.approx((100, 200, 300))
    assert timing.aim("speed", 4.0, at_least=4)["met"]
    assert not timing.aim("speed", 4.0, at_most=3.9)["met"]


def test_parts_of_a_step_make_up_the_whole() -> None:
    parts = step.breakdown(batch=8, steps=2, epochs=1)
    (whole,) = parts.pop(step.WHOLE)
    assert all(value > 0 for (value,) in parts.values())
    assert sum(value for (value,) in parts.values()) == pytest.approx(whole)


def test_contenders_train_on_the_same_terms(tmp_path: Path) -> None:
    assert training.write_data(tmp_path, images=64, tests=20) == "synthetic pictures"
    config = step.small(
        data=training.DATA, batch=16, epochs=3, evaluate_every=2, precision="float32"
    )
    for contender in (training.ours, training.usual):
        seconds, scores = contender(config, tmp_path)
        assert seconds > 0
        assert list(scores) == [2, 3]
        assert all(0 <= score <= 1 for score in scores.values())


def test_time_to_an_accuracy() -> None:
    scores = {3: 0.2, 6: 0.35, 9: 0.3}
    assert training.time_to(0.3, 9, 18.0, scores) == 12
    assert training.time_to(0.4, 9, 18.0, scores) == math.inf


def test_distance_of_means_counts_standard_errors() -> None:
    # Means 2 and 5, variances 1 and 1 over three values each: 3 / sqrt(2 / 3).
    assert training.distance([1, 2, 3], [4, 5, 6]) == pytest.approx(3 / math.sqrt(2 / 3))


def test_settings_of_the_command_line() -> None:
    settings = command_line._settings(metrics, ["samples=64", "dims=[8]", "memory=false"])
    assert settings == {"samples": 64, "dims": [8], "memory": False}
    with pytest.raises(SystemExit, match="samples, dims"):
        command_line._settings(metrics, ["epochs=3"])


def test_schedule_is_compared_in_the_training_loop() -> None:
    measurements, aims = schedule.measure(batch=8, steps=2, repetitions=3)
    names = [row["name"] for row in measurements]
    assert names == [schedule.CONSTANT, schedule.COSINE, "cosine over constant"]
    excess = measurements[-1]
    assert excess["min"] <= excess["median"] <= excess["max"]
    assert aims[0]["measured"] > 0


def test_learned_temperatures_are_compared_in_the_training_loop() -> None:
    measurements, aims = isogclr.measure(batch=8, steps=2, repetitions=3)
    state = {row["name"]: row["median"] for row in measurements if row["unit"] == "bytes"}
    assert state == {"as stored": 24, "in single precision": 12}
    assert "iSogCLR over NT-Xent" in [row["name"] for row in measurements]
    assert [aim["wanted"] for aim in aims] == ["at most 1.1", "at most 16"]


def test_pruned_copy_lacks_nine_tenths_of_the_weights_and_learns_none_of_them() -> None:
    run = sdclr.run_of(sdclr.BOTH, batch=16, steps=1)
    run.model.prune(0.9)
    masks = torch.cat([mask.flatten() for mask in run.model.masks.values()])
    assert masks.float().mean().item() == pytest.approx(0.1, abs=1e-4)
    weights = dict(run.model.image.named_parameters())
    sizes = torch.cat([weights[name].detach().abs().flatten() for name in run.model.masks])
    assert sizes[masks].min() > sizes[~masks].max()

    run.model.pruned(torch.rand(4, 3, 32, 32)).square().sum().backward()
    for name, mask in run.model.masks.items():
        gradient = weights[name].grad
        assert gradient is not None
        assert not gradient[~mask].any()


def test_pruned_copy_has_batch_normalisations_of_its_own_and_is_else_the_encoder() -> None:
    model = sdclr.run_of(sdclr.BOTH, batch=16, steps=1).model
    images = torch.rand(16, 3, 32, 32)
    mean = model.image.backbone[0][1].running_mean
    model.pruned(images)
    assert not mean.any()  # the encoder has seen nothing yet
    assert model.norms["backbone/0/1"].running_mean.any()
    assert torch.equal(model.pruned(images), model.image(images))  # without pruning


def test_branches_in_turns_have_the_gradient_of_both_at_once() -> None:
    """Else the two would not be the same method, and their times no comparison."""
    found = {}
    for name in (sdclr.BOTH, sdclr.TURNS):
        run = sdclr.run_of(name, batch=16, steps=1)
        run.precision = "float32"
        run.model.prune(0.9)
        run.train_epoch(1)
        found[name] = [weight.detach().clone() for weight in run.model.parameters()]
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_cost_of_sdclr_is_measured_beside_simclr() -> None:
    measurements, aims = sdclr.measure(batch=8, steps=2, repetitions=2)
    assert not aims
    units = {row["group"]: row["unit"] for row in measurements}
    assert list(units.values()) == ["s", "times", "ms", "MiB"]
    assert [row["name"] for row in measurements if row["group"] == sdclr.MEMORY] == [*sdclr.NAMES]


def test_memory_counts_what_is_kept_once_and_until_it_is_given_back() -> None:
    weight = torch.ones(256, 256, requires_grad=True)
    with sdclr.Kept([weight]) as kept:
        for _ in range(2):  # the second time nothing of the first is left
            out = (weight * 2).exp()  # keeps its result alone: 256 KiB
            (out * out).sum().backward()  # keeps the same one, twice
    assert kept.peak == 256 * 256 * 4
    both, turns = (sdclr.memory(name, 16) for name in (sdclr.BOTH, sdclr.TURNS))
    assert turns < both  # one branch at a time
