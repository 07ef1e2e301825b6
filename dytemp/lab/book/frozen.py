"""Learned temperatures on frozen embeddings: what the chapters on iSogCLR ask of them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, NonlinearConstraint, minimize
from torch import Tensor

from dytemp.losses import BimodalISogCLR, ISogCLR


def to_others(similarity: Tensor) -> Tensor:
    """Leave out the diagonal of a square matrix: shape (N, N) to (N, N - 1)."""
    apart = ~torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    return similarity[apart].view(len(similarity), -1)


def moments(h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each row under its softmax weights.

    Parameters
    ----------
    h : Tensor
        Similarities, shape (N, M).
    tau : Tensor
        Temperature of each row, shape (N,).

    Returns
    -------
    tuple of Tensor
        Both of shape (N,).
    """
    weights = (h / tau[:, None]).softmax(dim=1)
    mean = (weights * h).sum(dim=1)
    return mean, (weights * (h - mean[:, None]) ** 2).sum(dim=1)


def adversary(h: NDArray[np.float64], tau: float, radius: float) -> NDArray[np.float64]:
    """Return the weights of an adversary, by a general solver that knows nothing of the softmax.

    They maximise the mean of `h` less `tau` times their divergence from equal weights, which may
    be `radius` at most (iSogCLR, the objective before its dual is taken).

    Parameters
    ----------
    h : array
        Similarities of one anchor, shape (M,).
    tau : float
        Price of the divergence, above 0.
    radius : float
        Bound of the divergence, in nats, above 0.

    Returns
    -------
    array
        Weights of shape (M,): positive, with sum 1.
    """
    size = len(h)

    def divergence(p: NDArray[np.float64]) -> float:
        return float(p @ np.log(p * size))

    def slopes(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.log(p * size) + 1

    near = NonlinearConstraint(divergence, -np.inf, radius, slopes)
    found = minimize(
        lambda p: (tau * divergence(p) - p @ h, tau * slopes(p) - h),
        np.full(size, 1 / size),
        jac=True,
        bounds=[(1e-12, 1)] * size,
        constraints=[near, LinearConstraint(np.ones(size), 1, 1)],
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    return np.asarray(found.x)


def visits(
    loss: ISogCLR | BimodalISogCLR, z1: Tensor, z2: Tensor, steps: int, batch: int | None = None
) -> Tensor:
    """Let a loss learn its temperatures while the embeddings stay as they are.

    Parameters
    ----------
    loss : ISogCLR or BimodalISogCLR
        Its state is changed.
    z1, z2 : Tensor
        Both views, or images and texts, shape (N, D).
    steps : int
        Number of calls of the loss.
    batch : int, optional
        Samples of a call, drawn without replacement from a fixed seed; by default all.

    Returns
    -------
    Tensor
        The temperatures of the N samples (of their images) after each step, shape (steps, N).
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(steps):
        index = torch.randperm(len(z1), generator=generator)[:batch]
        with torch.no_grad():
            loss(z1[index], z2[index], index)
        found.append((loss.tau if isinstance(loss, ISogCLR) else loss.tau_image).clone())
    return torch.stack(found)
