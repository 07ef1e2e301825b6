"""What a study says about temperatures that were learned for every sample."""

from __future__ import annotations

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
