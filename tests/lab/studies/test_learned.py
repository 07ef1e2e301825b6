"""What a study says about temperatures that were learned for every sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dytemp.lab.studies import Study
from dytemp.lab.studies.runs import Run
from dytemp.lab.training import Config

LOSS = {"name": "ISogCLR", "rho": 0.4, "tau_init": 0.1}


def run(counts: list[int], tau: list[float], seed: int = 0) -> Run:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Run(
        key="",
        config=Config(loss=LOSS, seed=seed),
        metrics={"knn1": 0.5},
        per_class={},
        evaluations=[],
        curves={},
        counts=counts,
        groups=[],
        seconds={},
        images_per_second=1.0,
        environment={},
        code="",
        arrays={"tau": np.array(tau), "labels": labels, "positions": np.arange(len(labels))},
    )


def study(*draws: tuple[Run, ...]) -> Study:
    return Study("isogclr", "quick", {"iSogCLR": dict(enumerate(draws, start=1))})


def test_learned_temperatures_of_classes_are_means_over_samples_then_seeds() -> None:
    first = run([3, 1], [0.2, 0.3, 0.4, 0.1])
    second = run([3, 1], [0.4, 0.5, 0.6, 0.3], seed=1)
    found = study((first, second)).learned("iSogCLR")
    assert found.loc[1].tolist() == pytest.approx([0.4, 0.2])
    assert study((first,)).class_sizes.loc[1].tolist() == [3, 1]


def test_trend_follows_the_sizes_of_each_draw() -> None:
    rising = run([1, 2], [0.1, 0.2, 0.2])  # the frequent class has the larger ones
    falling = run([2, 1], [0.1, 0.1, 0.2])
    assert study((rising,), (falling,)).learned_trend("iSogCLR").tolist() == pytest.approx([1, -1])


def test_a_name_that_nothing_was_learned_for_is_refused() -> None:
    with pytest.raises(ValueError, match="name must be one of 'tau', got 'tau_text'"):
        study((run([1, 2], [0.1, 0.2, 0.2]),)).learned("iSogCLR", "tau_text")


def test_level_of_each_draw_and_seed_is_trained_as_a_control(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DYTEMP_RESULTS", str(tmp_path))
    asked: dict[str, list[Config]] = {}

    def trained(configs: dict[str, list[Config]], *_: object) -> dict[str, list[Run]]:
        asked.update(configs)
        done = run([1, 2], [0.1, 0.2, 0.2])
        return {name: [replace(done, config=c) for c in group] for name, group in configs.items()}

    monkeypatch.setattr("dytemp.lab.studies.parallel.get_all", trained)
    spec = {"name": "SogCLR", "temperature": 0.1, "gamma": 0.8}
    control = replace(run([1, 2], [0.1, 0.2, 0.2]), config=Config(loss=spec))
    low, high = run([1, 2], [0.1, 0.2, 0.3]), run([1, 2], [0.5, 0.6, 0.7334], seed=1)
    before = study((low, high))
    before = replace(before, runs={**before.runs, "SogCLR": {1: (control,)}})
    after = before.with_level()
    assert after.methods == ["iSogCLR", "SogCLR", "SogCLR at mean τ"]
    (configs,) = asked.values()
    assert [c.loss for c in configs] == [spec | {"temperature": 0.2}, spec | {"temperature": 0.611}]
    assert [c.seed for c in configs] == [0, 1]
    with pytest.raises(ValueError, match="SogCLR learns no temperatures"):
        replace(before, runs={"SogCLR": {1: (replace(control, arrays={}),)}}).with_level("SogCLR")
