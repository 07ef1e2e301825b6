"""Frozen embeddings: what is left out, what is averaged, and that temperatures find their roots."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dytemp import metrics
from dytemp.lab.book import frozen
from dytemp.losses import BimodalISogCLR, ISogCLR


def embeddings(seed: int) -> torch.Tensor:
    rows = torch.randn(12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def test_the_diagonal_is_left_out_in_order() -> None:
    assert frozen.to_others(torch.arange(9).view(3, 3)).tolist() == [[1, 2], [3, 5], [6, 7]]


def test_moments_are_the_derivatives_of_the_log_sum_exp() -> None:
    h, tau = embeddings(0), torch.linspace(0.1, 1, 12, dtype=torch.float64)
    inverse = (1 / tau).requires_grad_()
    value = torch.logsumexp(h * inverse[:, None], dim=1).sum()
    (mean,) = torch.autograd.grad(value, inverse, create_graph=True)
    (variance,) = torch.autograd.grad(mean.sum(), inverse)
    found = frozen.moments(h, tau)
    torch.testing.assert_close(found[0], mean.detach())
    torch.testing.assert_close(found[1], variance)


def test_after_enough_visits_each_anchor_has_its_share_of_negatives() -> None:
    z = embeddings(0)
    loss = ISogCLR(12, rho=0.4, tau_min=0.01, tau_max=5.0, gamma=1.0)
    path = frozen.visits(loss, z, z, steps=600)
    assert path.shape == (600, 12)
    share = metrics.effective_negatives(frozen.to_others(z @ z.T), path[-1]) / 11
    assert share.tolist() == pytest.approx([math.exp(-0.4)] * 12, abs=1e-3)


def test_a_step_moves_its_batch_only_and_earlier_rows_stay() -> None:
    loss = BimodalISogCLR(12, rho=2.0, tau_init=0.07)
    path = frozen.visits(loss, embeddings(0), embeddings(1), steps=2, batch=4)
    assert (path[0] != 0.07).sum() == 4
    assert not torch.equal(path[0], path[1])


def test_adversary_is_the_softmax_at_the_temperature_where_the_divergence_is_the_radius() -> None:
    h = 0.3 * np.random.default_rng(0).standard_normal(20)
    for tau, radius in ((0.01, 0.5), (0.4, 3.0)):  # held by the radius; by the price alone
        p = frozen.adversary(h, tau, radius)
        divergence = p @ np.log(20 * p)
        assert p.sum() == pytest.approx(1)
        assert divergence <= radius + 1e-9
        slope = np.polyfit(h, np.log(p), 1)[0]  # log p is h over a temperature, plus a constant
        np.testing.assert_allclose(p, np.exp(slope * h) / np.exp(slope * h).sum(), atol=1e-6)
        assert 1 / slope == pytest.approx(tau, rel=1e-4) if radius == 3 else 1 / slope > tau
        assert radius == 3 or divergence == pytest.approx(radius, abs=1e-6)
