from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn

from dytemp.lab.training import optimizers

GOLDEN = json.loads((ROOT / "tests" / "golden" / "lars.json").read_text())


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (1, 0.00227272727273),
        (110, 0.25),
        (220, 0.5),
        (11000, 0.428857464397),
        (22000, 0.251973837781),
        (44000, 1e-6),
    ],
)
def test_the_learning_rate_of_ts(step: int, rate: float) -> None:
    """TS, App. A.2 and its released code: 2000 epochs of 22 updates, warm-up in the first ten."""
    assert optimizers.learning_rate(step, 0.5, 220, 44000) == pytest.approx(rate, rel=1e-9)


def test_no_warm_up_starts_at_the_top() -> None:
    rates = [optimizers.learning_rate(step, 0.1, 0, 50) for step in range(1, 51)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.1, rel=1e-2)
    assert rates[-1] == pytest.approx(1e-6)


def test_lars_takes_the_steps_of_the_isogclr_code() -> None:
    steps = GOLDEN["steps"]
    generator = np.random.default_rng(0)
    weight = nn.Parameter(torch.from_numpy(generator.standard_normal((3, 4))))
    optimizer = optimizers.LARS([weight], lr=0.8, momentum=0.9, weight_decay=5e-4)
    assert weight.flatten().tolist() == pytest.approx(steps[0]["p"], rel=1e-9)
    for step in steps[1:]:
        weight.grad = torch.from_numpy(generator.standard_normal((3, 4)))
        optimizer.step()
        assert weight.flatten().tolist() == pytest.approx(step["p"], rel=1e-9)


def test_lars_leaves_the_rate_of_zero_weights_alone() -> None:
    zero, still = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(2))
    optimizer = optimizers.LARS([zero, still], lr=0.1, momentum=0.0)
    zero.grad = torch.ones(3)
    optimizer.step()
    assert zero.tolist() == pytest.approx([-0.1] * 3)
    assert still.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW), ("lars", optimizers.LARS)],
)
def test_every_optimizer_goes_downhill(name: str, kind: type) -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = optimizers.build(name, [weight], 0.05, 0.5, 1e-4)
    assert type(optimizer) is kind
    before = float(weight.detach().square().sum())
    for _ in range(5):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    assert float(weight.detach().square().sum()) < before


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match="'adam'"):
        optimizers.build("adam", [nn.Parameter(torch.ones(1))], 0.1, 0.9, 0.0)
