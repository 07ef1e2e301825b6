"""Frozen embeddings: what is left out, what is averaged, and that temperatures find their roots."""

from __future__ import annotations

import math

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
