"""Global contrastive losses: SogCLR, and iSogCLR, which learns a temperature for every sample.

Both contrast an anchor i with the whole data set through a moving average s_i of
``mean_j exp(h_ij / tau_i)``. It is stored as its logarithm, so that nothing overflows or vanishes
at any temperature, and ``-inf`` says that the sample has not been seen.

The returned value is the surrogate of the papers' algorithms, a weighted mean of similarities
whose *gradient* estimates that of the objective; it may be negative and need not fall.
``variant="paper"`` is the algorithm as written; ``variant="official"`` does what the authors'
released code does, its oddities included (each is named where it happens).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dytemp import checks
from dytemp.losses.infonce import partners, softmax_
from dytemp.losses.pairs import PairLoss, blockwise, held, no_second_derivative, surrogate
from dytemp.schedules import STATE, Bound, Individual, Temperature, Timed, as_time

# --------------------------------------------------------------------------------------- formulas


def moving_log_average(old: Tensor, new: Tensor, gamma: float, restart: Tensor) -> Tensor:
    """Return log((1 - gamma) exp(old) + gamma exp(new)), or `new` where `restart` is true.

    All of shape (B,); gamma in (0, 1].
    """
    keep = math.log1p(-gamma) if gamma < 1 else -math.inf
    return torch.where(restart, new, torch.logaddexp(old + keep, new + math.log(gamma)))


def robust_objective(h: Tensor, tau: Tensor | float, rho: float) -> Tensor:
    r"""Robust global contrastive loss of one anchor, the dual of a KL-constrained worst case.

    .. math:: \tau \log \frac{1}{m} \sum_j \exp(h_j / \tau) + \tau \rho

    Parameters
    ----------
    h : Tensor
        Similarity of each negative minus that of the positive, last axis of length m.
    tau : Tensor or float
        Temperatures, broadcastable to the other axes of `h`.
    rho : float
        Radius of the KL ball, in nats.

    Returns
    -------
    Tensor
        The shape of `h` without its last axis.
    """
    tau = torch.as_tensor(tau, dtype=h.dtype, device=h.device)
    log_mean = torch.logsumexp(h / tau[..., None], dim=-1) - math.log(h.shape[-1])
    return tau * log_mean + tau * rho


# ---------------------------------------------------------------------------------- one modality


class _Global(PairLoss):
    """A loss that remembers something of every sample."""

    needs_index = True
    remembers = True

    def __init__(self, size: int, gamma: Bound, variant: str) -> None:
        super().__init__()
        self.size = checks.integer("size", size, at_least=1)
        if not isinstance(gamma, Temperature):
            checks.number("gamma", gamma, above=0, at_most=1)
        self.gamma = as_time(gamma, "gamma")
        self._gamma_now()
        self.variant = cast(str, checks.choice("variant", variant, ("paper", "official")))

    def _gamma_now(self) -> float:
        """Return the weight of the newest batch in the current epoch."""
        return checks.number("gamma", self.gamma.at(self.gamma.epoch), above=0, at_most=1)

    def _positions(self, index: Tensor | None, batch: int) -> Tensor:
        """Return the positions of the batch; in training none may occur twice."""
        checked = checks.index(index, batch, self.size)
        if self.training:
            checks.unrepeated(checked)
        return checked


class SogCLR(_Global):
    """Global contrastive loss of images (SogCLR): 2B anchors, 2B - 2 negatives each.

    The value is the sum over the two views, the mean over the images, as in the authors' code.
    Similarities enter the average without the positive's subtracted; that leaves the objective as
    it is, and it is what both published implementations do.

    Parameters
    ----------
    size : int
        Number of samples in the data set: `index` runs from 0 to size - 1.
    temperature : float or Temperature
        A number, a time schedule or `PerClass`.
    gamma : float or time schedule
        Weight of the newest batch in the moving average, in (0, 1].
    variant : {"paper", "official"}
        ``"official"`` starts the average at 0 instead of at its first value, and stores the sum
        of the two views' averages instead of their mean.

    Notes
    -----
    *Relations.* Yuan et al., *Provable stochastic optimization for global contrastive learning*,
    ICML 2022. With gamma = 1, or on the first visit of all samples, the gradient is 2 tau times
    that of `DCL`, whose mean is over the 2B anchors. ``GCLoss("unimodal")`` of LibAUC has the same
    value and state while all samples of a batch are new or all are known; it takes the first value
    for new ones only where the whole batch is new.
    """

    rho: float | None = None

    def __init__(
        self,
        size: int,
        temperature: float | Temperature = 0.1,
        gamma: Bound = 0.9,
        variant: str = "paper",
    ) -> None:
        super().__init__(size, gamma, variant)
        self.hold(temperature, "time", "sample")
        self.log_average: Tensor = nn.Buffer(torch.full((self.size,), -torch.inf, dtype=STATE))

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        index = self._positions(index, len(z1))
        z, owners = torch.cat([z1, z2]), torch.cat([index, index])
        old, gamma = self.log_average[owners, None].to(z.dtype), self._gamma_now()
        official, learns = self.variant == "official", self.rho is not None
        # Which averages start with the newest value: with learned temperatures the released code
        # starts all of them anew in epoch 0 and none later, otherwise none at all.
        starts = torch.full_like(old, learns and self.epoch == 0).bool()
        restart = starts if official else torch.isinf(old)
        others, negatives = partners(len(z), z.device), len(z) - 2
        # Room from the start, as in the losses of the softmax family.
        averages, tau_slopes, taus = z.new_empty(3, len(z), 1)

        def block(similarity: Tensor, start: int, wanted: bool) -> tuple[Tensor, Tensor]:
            rows = slice(start, start + len(similarity))
            tau = held(self.temperature, similarity, owners[rows])
            weights = similarity / tau
            positives = others[rows, None]
            weights.diagonal(start).fill_(-torch.inf)  # neither the anchor itself
            weights.scatter_(1, positives, -torch.inf)  # nor its other view is a negative
            newest = softmax_(weights) - math.log(negatives)
            average = moving_log_average(old[rows], newest, gamma, restart[rows])
            weights.mul_(torch.exp(newest - average))  # = exp(s / tau) / (m average)
            pull = (weights * similarity).sum(dim=1, keepdim=True)
            averages[rows], tau_slopes[rows], taus[rows] = average, average - pull / tau, tau
            weights.scatter_(1, positives, -1)
            return pull.sum() - similarity.gather(1, positives).sum(), weights

        loss = blockwise(z, self.temperature, block, no_second_derivative) / len(z1)
        self.tau_now = taus.mean()
        if self.training:
            first, second = averages[:, 0].to(self.log_average).chunk(2)
            both = torch.logaddexp(first, second)
            stores_sum = official and not learns
            self.log_average[index] = both if stores_sum else both - math.log(2)
            if self.rho is not None:
                tau_slope = tau_slopes[:, 0].view(2, -1).mean(dim=0) + self.rho
                cast(Individual, self.temperature).descend(index, tau_slope)
        return loss


class ISogCLR(SogCLR):
    r"""Robust global contrastive loss with a learned temperature for every image (iSogCLR).

    .. math:: F = \frac1n \sum_i \tau_i \log E_j \exp(h_{ij} / \tau_i) + \tau_i \rho

    minimised over the encoder (by autograd) and over every tau_i (here, one step a call, with
    momentum and a projection to the bounds).

    Parameters
    ----------
    size : int
        Number of samples in the data set.
    rho : float
        Radius of the KL ball in nats; each anchor ends with exp(-rho) of the negatives as its
        effective number. Images: 0.1 to 0.5.
    tau_init, tau_min, tau_max : float
        Start and bounds of the temperatures.
    eta, beta : float
        Step size, and weight of the newest gradient in its moving average.
    gamma : float or time schedule
        Weight of the newest batch in the moving average of the objective, in (0, 1].
    clip : float or None
        Bound of the gradient for tau (the code has 3; None for the algorithm as written).
    variant : {"paper", "official"}
        ``"official"`` restarts the moving average only in epoch 0, which the released driver
        never reaches (it counts from 1, and so does this loss until `set_epoch` is called).

    Attributes
    ----------
    tau : Tensor
        The temperatures, shape (size,).

    Notes
    -----
    *Relations.* Qiu et al., ICML 2023. With ``eta=0`` it is `SogCLR` at tau_init (but for the
    official variants, which store another average). Where it comes to rest between its bounds, the
    KL divergence of each anchor's weights from uniform ones is rho. ``GCLoss("unimodal",
    enable_isogclr=True)`` of LibAUC is the paper variant with ``clip=None``, with the difference in
    first visits that `SogCLR` names.
    """

    def __init__(
        self,
        size: int,
        rho: float = 0.4,
        tau_init: float = 0.1,
        tau_min: float = 0.05,
        tau_max: float = 1.0,
        eta: float = 0.03,
        beta: float = 0.5,
        gamma: Bound = 0.8,
        clip: float | None = 3.0,
        variant: str = "paper",
    ) -> None:
        individual = Individual(size, tau_init, tau_min, tau_max, eta, beta, clip)
        super().__init__(size, individual, gamma, variant)
        self.rho = checks.number("rho", rho, at_least=0)
        self.epoch: float = 1

    @property
    def tau(self) -> Tensor:
        """The temperature of every sample, shape (size,)."""
        return cast(Tensor, self.temperature.tau)


# --------------------------------------------------------------------------- images and their texts


class _Side(Timed):
    """The anchors of one modality: their moving averages, and maybe their temperatures."""

    def __init__(self, size: int, temperature: Temperature, variant: str) -> None:
        super().__init__()
        self.variant, self.temperature = variant, temperature
        self._network = temperature.depends_on == "embedding"
        self.log_average: Tensor = nn.Buffer(torch.full((size,), -torch.inf, dtype=STATE))
        if variant == "official":
            self.average: Tensor = nn.Buffer(torch.zeros(size, dtype=STATE))
            self.shift: Tensor = nn.Buffer(torch.zeros(size, dtype=STATE))

    def forward(
        self, anchors: Tensor, similarity: Tensor, index: Tensor, gamma: float, rho: float | None
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of the rows of a (B, B) matrix, and their temperatures.

        Temperatures are learned if there is a `rho` to learn them by: a table takes its step here,
        a network is given its gradient by a term without value.
        """
        h = similarity - similarity.diagonal()[:, None]
        others = len(h) - 1
        self.temperature.see(anchors.detach())
        tau = self.temperature(h, index) if self._network else held(self.temperature, h, index)
        with torch.no_grad():
            rule = self._official if self.variant == "official" else self._paper
            weights, log_average = rule(h / tau, index, gamma)
        pulls = (weights * h).sum(dim=1) / others
        loss = pulls.mean()
        if rho is not None:
            tau_slope = log_average + rho - (pulls / tau[:, 0]).detach()
            if self._network:
                lesson = (tau_slope * tau[:, 0]).mean()
                loss = loss + lesson - lesson.detach()
            elif self.training:
                cast(Individual, self.temperature).descend(index, tau_slope)
        return loss, tau.detach()

    def _paper(self, logits: Tensor, index: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        """Average over the negatives alone, from its first value on; overwrites the logits."""
        logits.fill_diagonal_(-torch.inf)
        newest = logits.logsumexp(dim=1) - math.log(len(logits) - 1)
        old = self.log_average[index].to(logits.dtype)
        average = moving_log_average(old, newest, gamma, torch.isinf(old))
        if self.training:
            self.log_average[index] = average.to(self.log_average)
        return logits.sub_(average[:, None]).exp_(), average

    def _official(self, logits: Tensor, index: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
        """Follow the released code: positive in the sum, start at 0, a shift that never falls.

        That of TempNet has no positive in the sum, restarts in epoch 0, and has a floor.
        """
        network, others = self._network, len(logits) - 1
        old_shift = self.shift[index].to(logits.dtype)
        shift = torch.maximum(old_shift, logits.amax(dim=1))
        terms = torch.exp(logits - shift[:, None])
        if network:
            terms.fill_diagonal_(0)
            gamma = gamma if self.temperature.epoch else 1.0
        newest = terms.sum(dim=1) / others
        average = self.average[index].to(logits.dtype) * torch.exp(old_shift - shift)
        average = (1 - gamma) * average + gamma * newest
        if self.training:
            self.average[index] = average.to(self.average)
            self.shift[index] = shift.to(self.shift)
        average = average.clamp(min=1e-14 / others) if network else average
        floor = 0 if network else 1e-10
        return terms / (average[:, None] + floor), average.log() + shift


class BimodalSogCLR(_Global):
    """Global contrastive loss of image-text pairs: z1 are images, z2 texts.

    The value is the mean over the images plus the mean over the texts.

    Parameters
    ----------
    size, temperature, gamma
        As for `SogCLR`.
    variant : {"paper", "official"}
        ``"official"`` leaves the positive in the average over the negatives, starts the average
        at 0, and shifts exponents by a maximum that never falls (which can push exp to 0).

    Notes
    -----
    *Relations.* Yuan et al., ICML 2022, as released with iSogCLR. With gamma = 1 the gradient is
    tau times that of a decoupled `CLIP` (the positive is no candidate), summed over the directions.
    ``GCLoss("bimodal")`` of LibAUC averages the modalities and does not divide by B - 1: its value
    is (B - 1) / 2 times this one, and a learning rate means another thing in each batch size.
    FastCLIP v1 is 1 / (2 tau) times this one, with gamma = ``HalfCosine(1.0, gamma_min, epochs)``.
    """

    rho: float | None = None

    def __init__(
        self,
        size: int,
        temperature: float | Temperature = 0.07,
        gamma: Bound = 0.8,
        variant: str = "paper",
    ) -> None:
        super().__init__(size, gamma, variant)
        self.hold(temperature, "time", "sample")
        self.image = _Side(self.size, self.temperature, variant)
        self.text = _Side(self.size, self.temperature, variant)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        index = self._positions(index, len(z1))
        similarity, gamma = z1 @ z2.T, self._gamma_now()
        image_loss, tau_image = self.image(z1, similarity, index, gamma, self.rho)
        text_loss, tau_text = self.text(z2, similarity.T, index, gamma, self.rho)
        self.tau_now = (tau_image.mean() + tau_text.mean()) / 2
        return surrogate(image_loss + text_loss)


class BimodalISogCLR(BimodalSogCLR):
    """iSogCLR for image-text pairs: a learned temperature for every image and every text.

    Parameters
    ----------
    size, rho, tau_init, tau_min, tau_max, eta, beta, gamma, clip
        As for `ISogCLR`, here with the values of the authors' example for image-text pairs. In a
        batch of B pairs the KL divergence is at most log(B - 1): a larger `rho` has no solution.
    variant : {"paper", "official"}
        See `BimodalSogCLR`. With networks, the code of TempNet: no positive in the average, which
        restarts in epoch 0 (as long as `set_epoch` says 0) and has a floor of 1e-14.
    temperature : pair of TemperatureNetwork, optional
        Networks for the images and the texts take the place of the two tables (TempNet); what
        describes the tables has no effect then. The embeddings learn from the loss and the
        networks from their own slope, d tau_i / B times that of the objective: one backward
        serves both, and any optimiser the networks.

    Attributes
    ----------
    tau_image, tau_text : Tensor
        The temperatures, shape (size,) each; with networks those of the last call, shape (B,).

    Notes
    -----
    *Relations.* Qiu et al., ICML 2023. With ``eta=0`` it is `BimodalSogCLR` at tau_init.
    ``GCLoss("bimodal", enable_isogclr=True)`` of LibAUC is the paper variant with ``clip=None``,
    times (B - 1) / 2. FastCLIP v2 drops the factor tau of each anchor and takes Adam for tau.
    """

    def __init__(
        self,
        size: int,
        rho: float = 6.0,
        tau_init: float = 0.01,
        tau_min: float = 0.005,
        tau_max: float = 1.0,
        eta: float = 0.03,
        beta: float = 0.9,
        gamma: Bound = 0.8,
        clip: float | None = 5.0,
        variant: str = "paper",
        temperature: Sequence[Temperature] | None = None,
    ) -> None:
        _Global.__init__(self, size, gamma, variant)
        settings = (size, tau_init, tau_min, tau_max, eta, beta, clip)
        pair: Sequence[Temperature]
        if temperature is None:
            pair = Individual(*settings), Individual(*settings)
        elif isinstance(temperature, Sequence) and len(temperature) == 2:
            pair = [self.fitting(network, "embedding") for network in temperature]
        else:
            raise TypeError(f"temperature must be a pair of networks, got {temperature!r}")
        self.image, self.text = (_Side(self.size, each, variant) for each in pair)
        self.rho = checks.number("rho", rho, at_least=0)

    @property
    def tau_image(self) -> Tensor:
        """The temperature of every image, shape (size,)."""
        return cast(Tensor, self.image.temperature.tau)

    @property
    def tau_text(self) -> Tensor:
        """The temperature of every text, shape (size,)."""
        return cast(Tensor, self.text.temperature.tau)
