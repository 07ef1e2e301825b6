"""Losses of the softmax family with a second temperature, which weighs instead of scaling.

`DCLW` weighs the positives of a batch, `HardNegative` the negatives of an anchor and
`DualTemperature` the anchors. Each is one formula on a similarity matrix, a plain function that
autograd differentiates, and a short module that feeds it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dytemp import checks
from dytemp.losses.infonce import _TwoViewLoss, decoupled, model_aware
from dytemp.losses.pairs import PairLoss, held
from dytemp.schedules import Temperature

# --------------------------------------------------------------------------------------- formulas


def weighted_decoupled(
    similarity: Tensor,
    positives: Tensor,
    tau: Tensor | float,
    sigma: float,
    excluded: Tensor | None = None,
) -> Tensor:
    r"""DCLW of each anchor: `decoupled` with a weight on the attraction of its positive.

    .. math:: L_i = -w_i \frac{s_{i+}}{\tau} + \log \sum_j \exp(s_{ij} / \tau), \qquad
        w_i = 2 - n \, \mathrm{softmax}_i(s_{i+} / \sigma)

    with j over the negatives and the softmax over the n anchors. The weights have mean 1; that of
    a pair much more similar than the others is negative (Yeh et al., 2022).

    Parameters
    ----------
    similarity, positives, tau, excluded
        As for `dytemp.losses.infonce.info_nce`.
    sigma : float
        Temperature of the softmax over the positives, above 0.

    Returns
    -------
    Tensor
        Losses of shape (anchors,).
    """
    positive = similarity.gather(1, positives[:, None])
    weights = 2 - len(similarity) * (positive / sigma).softmax(dim=0)
    own = (torch.ones_like(similarity) / tau).gather(1, positives[:, None])  # 1 / tau of the pair
    excess = (1 - weights) * positive * own
    return decoupled(similarity, positives, tau, excluded) + excess[:, 0]


def hard_negative(
    similarity: Tensor,
    positives: Tensor,
    tau: Tensor | float,
    beta: float,
    prior: float,
    excluded: Tensor | None = None,
) -> Tensor:
    r"""HCL of each anchor: negatives weighted by hardness, corrected for the false among them.

    .. math:: L_i = \log(1 + G_i / e^{s_{i+} / \tau}), \qquad
        G_i = \max\left(\frac{R_i - \pi N e^{s_{i+} / \tau}}{1 - \pi},\; N e^{-1 / \tau}\right)

    where R_i is N times the mean of exp(s / tau) over the N negatives, weighted by
    exp(beta s / tau), and pi the `prior`. Computed in logarithms. An anchor on the floor of the
    maximum passes no gradient to its negatives (Robinson et al., 2021).

    Parameters
    ----------
    similarity, positives, tau, excluded
        As for `dytemp.losses.infonce.info_nce`.
    beta : float
        How much harder negatives count, at least 0.
    prior : float
        The share of negatives that are assumed to be false, in [0, 1).

    Returns
    -------
    Tensor
        Losses of shape (anchors,).
    """

    def excess(similarity: Tensor) -> Tensor:
        """Return the logarithm of a sum over the negatives, divided by the positive."""
        return decoupled(similarity, positives, tau, excluded)

    log_n = excess(torch.zeros_like(similarity))
    hard = excess((1 + beta) * similarity) - excess(beta * similarity) + log_n
    # log(R - pi N pos) = log R + log(1 - exp(gap)), where that is a number.
    gap = log_n + (math.log(prior) if prior else -math.inf) - hard
    above = gap < 0
    share = torch.where(above, gap, -1).expm1().neg().log()
    corrected = torch.where(above, hard + share - math.log1p(-prior), -math.inf)
    own = similarity.gather(1, positives[:, None])
    floor = excess(torch.full_like(similarity, -1).scatter(1, positives[:, None], own))
    return -F.logsigmoid(-torch.maximum(corrected, floor))


def dual_temperature(
    similarity: Tensor,
    positives: Tensor,
    tau: Tensor | float,
    ratio: float,
    excluded: Tensor | None = None,
) -> Tensor:
    r"""InfoNCE of each anchor at tau, weighted by how hard it is at ratio tau (SimCo).

    .. math:: L_i = \mathrm{sg}\left(\frac{1 - Q_i}{1 - P_i}\right) (-\log P_i)

    with P the softmax probability of the positive at tau and Q that at ratio tau: `model_aware`
    with the weight 1 - Q (Zhang et al., 2022).

    Parameters
    ----------
    similarity, positives, tau, excluded
        As for `dytemp.losses.infonce.info_nce`.
    ratio : float
        The second temperature in units of the first, above 0.

    Returns
    -------
    Tensor
        Losses of shape (anchors,).
    """
    log_odds = decoupled(similarity.detach() / ratio, positives, tau, excluded)
    share = torch.sigmoid(log_odds).detach()  # 1 - Q
    return share * model_aware(similarity, positives, tau, excluded)


# ----------------------------------------------------------------------------------------- losses


class DCLW(_TwoViewLoss):
    """Decoupled contrastive loss with weighted positives (Yeh et al., 2022).

    Far positives are pulled more than near ones; the gradient goes through the weights too.

    Parameters
    ----------
    temperature : float, Tensor or Temperature
        As for `DCL`.
    sigma : float
        Temperature of the softmax over the batch's positives that the weights come from.

    Notes
    -----
    *Relations.* As sigma grows, or with positives that are equally similar, it is `DCL`. The public
    code goes one way, from the first view to both; this is the mean of both ways.
    """

    def __init__(self, temperature: float | Tensor | Temperature = 0.1, sigma: float = 0.5) -> None:
        super().__init__(temperature)
        self.sigma = checks.number("sigma", sigma, above=0)

    def rows(self, similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
        """Return the loss of each anchor."""
        return weighted_decoupled(similarity, positives, tau, self.sigma, itself)


class HardNegative(_TwoViewLoss):
    """Contrastive loss with hard negatives, debiased (HCL; Robinson et al., 2021).

    The weights of an anchor's negatives are a softmax at tau / beta, a second temperature that
    only chooses; with exp(s / tau) together they fall off as at tau / (1 + beta). Where the
    correction by the prior would leave nothing of the negatives, a floor takes its place and the
    anchor stops learning: at low temperatures that happens to most anchors with a positive closer
    than all negatives.

    Parameters
    ----------
    temperature : float, Tensor or Temperature
        As for `NTXent`, but no similarity schedule (images: 0.5).
    beta : float
        How much harder negatives count, at least 0; it multiplies s / tau.
    prior : float
        The share of negatives that are assumed to be false, in [0, 1); the paper's tau+.

    Notes
    -----
    *Relations.* With beta = 0 it is the debiased contrastive loss (Chuang et al., 2020), with prior
    = 0 as well `NTXent`.
    """

    def __init__(
        self,
        temperature: float | Tensor | Temperature = 0.5,
        beta: float = 1.0,
        prior: float = 0.1,
    ) -> None:
        super().__init__(temperature)
        self.fitting(temperature, "time", "sample", "batch", "embedding")
        self.beta = checks.number("beta", beta, at_least=0)
        self.prior = checks.number("prior", prior, at_least=0, below=1)

    def rows(self, similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
        """Return the loss of each anchor."""
        return hard_negative(similarity, positives, tau, self.beta, self.prior, itself)


class DualTemperature(PairLoss):
    """InfoNCE between two views with one temperature within an anchor and one between anchors.

    The loss of SimCo (Zhang et al., 2022): tau shapes the push among the negatives of an anchor,
    ratio tau decides how much the anchors count against each other. An anchor's candidates are
    the rows of the other view; mean over both directions. The weights are constants in the
    gradient, so the value need not fall.

    Parameters
    ----------
    temperature : float or Temperature
        A number or a time schedule; not learned, as nothing measures the second temperature.
    ratio : float
        The second temperature in units of the first, above 0.

    Notes
    -----
    *Relations.* With ratio = 1 it is `CLIP`; as the ratio grows, InfoNCE between the views with the
    weight of `MACL`, times (B - 1) / B.
    """

    def __init__(self, temperature: float | Temperature = 0.1, ratio: float = 10.0) -> None:
        super().__init__()
        self.hold(temperature, "time")
        self.ratio = checks.number("ratio", ratio, above=0)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        similarity = z1 @ z2.T
        tau = held(self.temperature, similarity, index)
        self.tau_now = tau.mean()
        positives = torch.arange(len(z1), device=z1.device)
        first, second = (
            dual_temperature(s, positives, tau, self.ratio) for s in (similarity, similarity.T)
        )
        return (first.mean() + second.mean()) / 2
