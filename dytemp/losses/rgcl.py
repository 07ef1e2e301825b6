"""One learned temperature for all samples of a global contrastive loss: FastCLIP-v3."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dytemp import checks
from dytemp.losses.pairs import surrogate
from dytemp.losses.sogclr import _Global, _Side
from dytemp.schedules import Bound, Temperature


class BimodalRGCL(_Global):
    r"""Robust global contrastive loss of image-text pairs with one temperature (RGCL-g).

    .. math:: F = \tau \left( \frac{1}{2B} \sum_i
        (\log u^I_i + \log u^T_i) + \rho \right)

    with u the moving averages of mean_j exp(h_ij / tau), as in `BimodalSogCLR`, whose gradient is
    twice that of the encoder here. A learned tau settles where the mean KL divergence of the
    negatives' weights from uniform is rho: `BimodalISogCLR` with all temperatures tied. In a batch
    of B pairs the divergence is at most log(B - 1): a larger `rho` only raises tau.

    The value is F at the current averages; the gradient estimates that of F for the embeddings
    and for tau.

    Parameters
    ----------
    size : int
        Number of pairs in the data set: `index` runs from 0 to size - 1.
    temperature : float, Tensor or Temperature
        `dytemp.schedules.LogScale()` in the paper, a number, a learned tensor or a time schedule.
    rho : float
        Target of the mean KL divergence, in nats.
    gamma
        As for `BimodalSogCLR`.
    eps : float
        Added to u in the weights, at least 0. Not harmless: an anchor with u below it stops
        teaching the encoder.
    variant : {"paper", "official"}
        ``"official"`` counts the data term of tau's gradient twice, as the released code does
        (its value holds the encoder's part twice too). tau then does not settle where the mean
        divergence is rho, and where positives are well aligned it falls to its lower bound.

    Notes
    -----
    *Relations.* Wei et al., *FastCLIP*, 2024, v3. The encoder's gradient is half of that of
    `BimodalSogCLR` at the same temperature, and the temperature follows the mean over the samples
    of the slopes that `BimodalISogCLR` gives to each. ``"official"`` is fast_clip's code, whose
    value and slope in tau are no longer those of one objective.
    """

    def __init__(
        self,
        size: int,
        temperature: float | Tensor | Temperature,
        rho: float = 6.5,
        gamma: Bound = 0.2,
        eps: float = 1e-14,
        variant: str = "paper",
    ) -> None:
        super().__init__(size, gamma, variant)
        self.use(temperature, "time")
        self.image = _Side(self.size, self.temperature, "paper")  # the released code's average too
        self.text = _Side(self.size, self.temperature, "paper")
        self.rho: float = checks.number("rho", rho, at_least=0)
        self.eps = checks.number("eps", eps, at_least=0)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        index = self._positions(index, len(z1))
        similarity = z1 @ z2.T
        tau = checks.scalar("temperature", self.tau_of(similarity, z1, index))
        fixed = self.tau_now = tau.detach()
        gamma, log_eps = self._gamma_now(), math.log(self.eps) if self.eps else -math.inf
        pull = log_average = total = z1.new_zeros(())
        for side, s in ((self.image, similarity), (self.text, similarity.T)):
            h = s - s.diagonal()[:, None]
            with torch.no_grad():
                weights, average = side._paper(h / fixed, index, gamma)
                weights *= torch.sigmoid(average - log_eps)[:, None]  # u / (u + eps)
                weights /= 2 * len(h) * (len(h) - 1)
            pull = pull + (weights * h).sum()
            total = total + weights.sum()
            log_average = log_average + average.mean() / 2
        doubled = self.variant == "official"
        slope = log_average + self.rho - (1 + doubled) * pull.detach() / fixed
        value = fixed * (log_average + self.rho + 2 * doubled * total)
        gradient = pull + slope * tau  # a term without value
        return surrogate(value + gradient - gradient.detach())
