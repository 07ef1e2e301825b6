"""Losses without a softmax: every pair of the batch is judged on its own."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dytemp import checks
from dytemp.losses.pairs import PairLoss
from dytemp.schedules import STATE, Temperature


class SigLIP(PairLoss):
    r"""Sigmoid loss of image-text pairs (Zhai et al., 2023): a yes or no for every pair.

    .. math:: L = -\frac1B \sum_{ij} \log \mathrm{sigmoid}(y_{ij} (s_{ij} / \tau + b)), \qquad
        y_{ij} = \pm 1

    with +1 for the pairs. Divided by B, not by the B^2 questions. There is no softmax, so a hard
    negative takes nothing away from the others.

    Parameters
    ----------
    temperature : float, Tensor or Temperature
        A number, a learned tensor (`dytemp.schedules.LogScale(0.1)` is the paper's), or any
        schedule of time, similarity or batch.
    bias : float or nn.Parameter
        b at the start. It is learned: the attribute ``bias`` is a parameter, which should not
        decay. About minus the logarithm of the number of negatives (paper: -10).

    Notes
    -----
    *Relations.* The value is that of ``SigLipLoss`` in open_clip with a ``logit_scale`` of 1 / tau
    and ``bias`` as its ``logit_bias``. `CLIP` shares its questions out within a row; here no pair
    takes weight from another.
    """

    def __init__(
        self,
        temperature: float | Tensor | Temperature = 0.1,
        bias: float | nn.Parameter = -10.0,
    ) -> None:
        super().__init__()
        self.use(temperature, "time", "similarity", "batch")
        if not isinstance(bias, nn.Parameter):
            bias = nn.Parameter(torch.tensor(checks.number("bias", bias), dtype=STATE))
        self.bias = cast(nn.Parameter, checks.scalar("bias", bias, above=-math.inf))

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        similarity = z1 @ z2.T
        self.temperature.observe(similarity.detach().diagonal())
        tau = self.tau_of(similarity, z1, index)
        self.tau_now = tau.detach().mean()
        answers = 2 * torch.eye(len(z1), dtype=z1.dtype, device=z1.device) - 1
        return -F.logsigmoid(answers * (similarity / tau + self.bias)).sum() / len(z1)


class Spectral(PairLoss):
    r"""Spectral contrastive loss (HaoChen et al., 2021): no temperature, a quadratic penalty.

    .. math:: L = \frac1\mu \left( -\frac2B \sum_i c_i \cdot c'_i +
        \frac{1}{B (B - 1)} \sum_{i \ne j} (c_i \cdot c'_j)^2 \right)

    with c and c' the embeddings of the two views, clipped to the length sqrt(mu). The control to
    all temperatures: a negative is pushed in proportion to its own similarity alone.

    Parameters
    ----------
    mu : float
        The square of the largest length, above 0 (CIFAR-10: 1; ImageNet: 10).
    normalise : bool
        True: the embeddings are normalised first, as in all losses here; `mu` then only scales.
        False: lengths up to sqrt(mu) count, as in the paper.

    Notes
    -----
    *Relations.* Where no embedding is clipped, mu times the loss is the mean squared similarity of
    different samples minus twice the mean similarity of the pairs: the quadratic in the place of
    the exponential of `CLIP`, without a temperature and without weights for hard negatives.
    """

    def __init__(self, mu: float = 1.0, normalise: bool = True) -> None:
        super().__init__()
        self.mu = checks.number("mu", mu, above=0)
        self.normalise = bool(checks.choice("normalise", normalise, (True, False)))

    def prepare(self, z: Tensor) -> Tensor:
        """Project the rows of z to the unit sphere, or into the ball of radius sqrt(mu)."""
        unit, radius = super().prepare(z), math.sqrt(self.mu)
        if self.normalise:
            return unit * min(radius, 1.0)
        z = z.to(unit.dtype)
        return torch.where(z.detach().norm(dim=1, keepdim=True) < radius, z, radius * unit)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are clipped already."""
        similarity = z1 @ z2.T
        pairs = len(similarity)
        itself = torch.eye(pairs, dtype=torch.bool, device=z1.device)
        penalty = similarity.masked_fill(itself, 0).square().sum() / (pairs * (pairs - 1))
        return (penalty - 2 * similarity.diagonal().mean()) / self.mu
