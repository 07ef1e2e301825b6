"""Losses of the softmax family: InfoNCE with any temperature, and its relatives.

The plain functions at the top are the textbook formulas on a similarity matrix, for reading and
for experiments of your own (autograd differentiates them, through tau too). The modules compute
the same values with the gradients written down, a block of rows or a tile at a time, for the
temperatures whose derivative is known, and from the formula on the whole matrix for all others.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dytemp import checks
from dytemp.losses.pairs import PairLoss, blockwise, fused, one_temperature, symmetric
from dytemp.schedules import Alignment, Temperature, learned

# ------------------------------------------------------------------- formulas on a whole matrix


def info_nce(
    similarity: Tensor, positives: Tensor, tau: Tensor | float, excluded: Tensor | None = None
) -> Tensor:
    r"""InfoNCE of each anchor (TS, Eq. 1).

    .. math:: L_i = -\log \frac{\exp(s_{i+} / \tau_{i+})}{\sum_j \exp(s_{ij} / \tau_{ij})}

    Parameters
    ----------
    similarity : Tensor
        Cosine similarities of shape (anchors, candidates).
    positives : Tensor
        The column of each anchor's positive, int64, shape (anchors,).
    tau : Tensor or float
        Temperatures, broadcastable to `similarity`.
    excluded : Tensor, optional
        Boolean, shape of `similarity`: True where a candidate does not count (the anchor itself).

    Returns
    -------
    Tensor
        Losses of shape (anchors,).
    """
    return F.cross_entropy(_logits(similarity, tau, excluded), positives, reduction="none")


def decoupled(
    similarity: Tensor, positives: Tensor, tau: Tensor | float, excluded: Tensor | None = None
) -> Tensor:
    """InfoNCE without the positive in the denominator (DCL).

    Arguments and result as for `info_nce`: losses of shape (anchors,).
    """
    logits = _logits(similarity, tau, excluded)
    positive = logits.gather(1, positives[:, None])
    negatives = logits.scatter(1, positives[:, None], -torch.inf)
    return (negatives - positive).logsumexp(dim=1)


def decoupled_by_view(
    similarity: Tensor, positives: Tensor, tau: Tensor | float, excluded: Tensor | None = None
) -> Tensor:
    """`decoupled` with one log-sum-exp over the left half of the candidates and one over the right.

    Arguments and result as for `info_nce`; each half holds the candidates of one view.
    """
    logits = _logits(similarity, tau, excluded)
    positive = logits.gather(1, positives[:, None])
    one, other = logits.scatter(1, positives[:, None], -torch.inf).chunk(2, dim=1)
    return (one - positive).logsumexp(dim=1) + other.logsumexp(dim=1)


def model_aware(
    similarity: Tensor, positives: Tensor, tau: Tensor | float, excluded: Tensor | None = None
) -> Tensor:
    r"""InfoNCE of each anchor over the probability that it leaves to the negatives (MACL).

    .. math:: L_i = -\frac{\log P_i}{\mathrm{sg}(1 - P_i)}

    Arguments and result as for `info_nce`. It tends to 1 with P, where both parts vanish.
    """
    log_odds = decoupled(similarity, positives, tau, excluded)  # log (1 - P) / P
    log_odds = log_odds + (log_odds.clamp(min=-40) - log_odds).detach()
    return F.softplus(log_odds) / torch.sigmoid(log_odds).detach()


def pair_similarities(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the (2B, 2B) similarities of two views, the column of each positive, the diagonal.

    Rows and columns hold z1, then z2. The three results are the first, second and last argument
    of `info_nce` and `decoupled`.
    """
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    return z @ z.T, partners(len(z), z.device), itself


def _logits(similarity: Tensor, tau: Tensor | float, excluded: Tensor | None) -> Tensor:
    logits = similarity / (tau if isinstance(tau, Tensor) else checks.number("tau", tau, above=0))
    return logits if excluded is None else logits.masked_fill(excluded, -torch.inf)


def partners(rows: int, device: torch.device) -> Tensor:
    """Return for each row of [z1; z2] the row of its other view."""
    return torch.arange(rows, device=device).roll(rows // 2)


# ------------------------------------------------------------------ the same, with their gradient


def softmax_(logits: Tensor, reference: Tensor | float = 0.0) -> Tensor:
    """Turn logits into their softmax in place; return log-sum-exp minus a reference, (rows, 1).

    The reference is subtracted from the largest logit before the logarithm is added: a loss far
    below the size of the logits keeps its digits.
    """
    largest = logits.amax(dim=1, keepdim=True)
    total = logits.sub_(largest).exp_().sum(dim=1, keepdim=True)
    logits.div_(total)
    return (largest - reference) + total.log_()


class _TwoViewLoss(PairLoss):
    """A loss of the (2B, 2B) similarities of two views, mean over the 2B anchors.

    Attributes
    ----------
    diagonals : tuple of int
        Which candidates do not count, as diagonals of the matrix, in batches: 0 are the anchors
        themselves, -1 and 1 their positives. Empty for a loss that `symmetric` cannot compute.
    """

    diagonals: tuple[int, ...] = ()

    def __init__(self, temperature: float | Tensor | Temperature) -> None:
        super().__init__()
        self.use(temperature)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        z = torch.cat([z1, z2])
        owners = None if index is None else torch.cat([index, index])
        plain = partial(self._plain, owners=owners)
        if type(self).rows_ is _TwoViewLoss.rows_ or not fused(self.temperature):
            return plain(z) / len(z)
        if self.diagonals and (tau := one_temperature(self.temperature)):
            self.tau_now = z.new_full((), tau)
            offsets = [batches * len(z1) for batches in self.diagonals]
            return symmetric(z, tau, offsets, learned(self.temperature), plain) / len(z)
        others = partners(len(z), z.device)
        self.observe(z)
        # Room for what the blocks leave behind: small tensors allocated between the large ones
        # would keep these from being used again, and memory would grow with the square after all.
        mean_tau = z.new_zeros(())

        def block(similarity: Tensor, start: int, wanted: bool) -> tuple[Tensor, Tensor]:
            stop = start + len(similarity)
            tau = self.temperature(similarity, None if owners is None else owners[start:stop])
            mean_tau.add_(tau.mean(), alpha=len(similarity) / len(z))
            logits = similarity / tau
            logits.diagonal(start).fill_(-torch.inf)  # an anchor is no candidate of itself
            positives = others[start:stop, None]
            losses = self.rows_(logits, positives)  # logits now hold the slopes
            if wanted:
                logits.mul_(self.temperature.logit_slope(similarity, tau))
            return losses.sum(), logits

        loss = blockwise(z, self.temperature, block, plain) / len(z)
        self.tau_now = mean_tau
        return loss

    def observe(self, z: Tensor) -> None:
        """Show the temperature the positives, if it cares."""
        if type(self.temperature).observe is not Temperature.observe:
            first, second = z.detach().chunk(2)
            self.temperature.observe((first * second).sum(dim=1))

    def _plain(self, z: Tensor, owners: Tensor | None) -> Tensor:
        """Return the sum over all anchors from the formula on the whole matrix."""
        similarity = z @ z.T
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        self.observe(z)
        tau = self.tau_of(similarity, z, owners)
        self.tau_now = tau.detach().mean()
        return self.rows(similarity, partners(len(z), z.device), tau, itself).sum()

    def rows(self, similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
        """Return the losses (rows,) by one of the formulas above, for autograd."""
        raise NotImplementedError

    def rows_(self, logits: Tensor, positives: Tensor) -> Tensor:
        """Return the losses (rows, 1); overwrite the logits by the slopes of the losses in them.

        Optional: without it the whole gradient is left to autograd.
        """
        raise NotImplementedError


class NTXent(_TwoViewLoss):
    """InfoNCE of SimCLR: 2B anchors, each with one positive and 2B - 2 negatives.

    The loss of TS (with a time schedule), of DySTreSS (with a similarity schedule) and of the
    class oracle of TS (with `PerClass`).

    Parameters
    ----------
    temperature : float, Tensor or Temperature
        A number, a learned tensor without dimensions, or any temperature, your own included.

    Notes
    -----
    *Relations.* SimCLR (Chen et al., ICML 2020), after InfoNCE (van den Oord et al., 2018). As tau
    grows, the loss tends to log(2B - 1); as it falls to 0, tau times the loss tends to the hardest
    negative's similarity minus the positive's, or 0 (a triplet loss without margin). `DCL` leaves
    the positive out of the denominator; `CLIP` leaves out the candidates of the anchor's own view;
    `MACL` weighs the anchors. For one temperature the value is that of ``NTXentLoss`` in lightly
    and in pytorch-metric-learning (there with one label for each pair).
    """

    diagonals: tuple[int, ...] = (0,)

    def rows(self, similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
        """Return InfoNCE."""
        return info_nce(similarity, positives, tau, itself)

    def rows_(self, logits: Tensor, positives: Tensor) -> Tensor:
        """Slope: softmax minus one at the positive (TS, Eq. 2)."""
        positive = logits.gather(1, positives)
        losses = softmax_(logits, positive)
        logits.scatter_add_(1, positives, -torch.ones_like(positive))
        return losses


class TwoConstants(NTXent):
    r"""InfoNCE with one temperature for the positive and another one for all negatives.

    .. math:: L_i = -\log \frac{e^{s_{i+} / \tau_+}}{e^{s_{i+} / \tau_+}
        + \sum_{j \neq +} e^{s_{ij} / \tau_-}}

    What DySTreSS comes to for random negatives and aligned positives, hence its control: a rule of
    the similarity alone cannot tell a positive from a negative. ``temperature_now`` is that of the
    negatives.

    Parameters
    ----------
    tau_positive, tau_negative : float
        The two temperatures, above 0.

    Notes
    -----
    *Relations.* With equal temperatures it is `NTXent`.
    """

    diagonals = ()

    def __init__(self, tau_positive: float, tau_negative: float) -> None:
        tau_negative = checks.number("tau_negative", tau_negative, above=0)
        super().__init__(tau_negative)
        self.ratio = tau_negative / checks.number("tau_positive", tau_positive, above=0)

    def rows(self, similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
        """Return InfoNCE with the temperature of the positive at the positive."""
        logits, places = _logits(similarity, tau, itself), positives[:, None]
        logits = logits.scatter(1, places, self.ratio * logits.gather(1, places))
        return F.cross_entropy(logits, positives, reduction="none")

    def rows_(self, logits: Tensor, positives: Tensor) -> Tensor:
        """Slope: that of `NTXent`, with the temperature of the positive at the positive."""
        logits.scatter_(1, positives, self.ratio * logits.gather(1, positives))
        losses = super().rows_(logits, positives)
        logits.scatter_(1, positives, self.ratio * logits.gather(1, positives))
        return losses


class DCL(_TwoViewLoss):
    """Decoupled contrastive loss: the positive does not stand in the denominator.

    Parameters
    ----------
    temperature : float, Tensor or Temperature
        As for `NTXent`.
    variant : {"joint", "split"}
        ``"joint"`` has one log-sum-exp over all 2B - 2 negatives. ``"split"`` adds two, one over
        each view's negatives: the form of the library that the DySTreSS code builds on, and so
        the one of its published numbers.

    Notes
    -----
    *Relations.* Yeh et al., *Decoupled contrastive learning*, ECCV 2022. `NTXent` is log(1 +
    exp(L)) of this loss L of each anchor, so that the two agree where L is large, in large batches
    or at high temperatures; the gradient lacks NT-Xent's factor 1 - P, P the probability of the
    positive, which lets go of easy pairs. ``"joint"`` is ``DCLLoss`` of lightly today, ``"split"``
    that of lightly in 2023, which the DySTreSS code imports. The authors' own code goes one way;
    the mean of both orders of the views is this loss.
    """

    def __init__(self, temperature: float | Tensor | Temperature, variant: str = "joint") -> None:
        super().__init__(temperature)
        self.variant = cast(str, checks.choice("variant", variant, ("joint", "split")))
        self.diagonals = (-1, 0, 1) if variant == "joint" else ()

    def rows(self, similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
        """Return InfoNCE without the positive in the denominator."""
        formula = decoupled if self.variant == "joint" else decoupled_by_view
        return formula(similarity, positives, tau, itself)

    def rows_(self, logits: Tensor, positives: Tensor) -> Tensor:
        """Slope: softmax over the negatives, and minus one at the positive."""
        positive = logits.gather(1, positives)
        logits.scatter_(1, positives, -torch.inf)
        if self.variant == "split":
            same_view, other_view = logits.chunk(2, dim=1)
            losses = softmax_(same_view, positive) + softmax_(other_view)
        else:
            losses = softmax_(logits, positive)
        logits.scatter_(1, positives, -1)
        return losses


class MACL(DCL):
    r"""Model-aware contrastive loss: an alignment-dependent tau and reweighted InfoNCE.

    .. math:: L_i = -\frac{\log P_i}{\mathrm{sg}(1 - P_i)}

    with P the softmax probability of the positive. The weight makes the slopes those of `DCL` at
    the same temperature, which is how they are computed: nothing can overflow as P tends to 1.

    Parameters
    ----------
    tau0, alpha, a0 : float
        See `dytemp.schedules.Alignment` (images: 0.1, 0.5, 0).

    Notes
    -----
    *Relations.* Huang et al., *Model-aware contrastive learning*, ICML 2023. The gradient is that
    of `DCL` at the temperature of the moment, of ``DCL(tau0)`` with alpha = 0; the value is
    another. ``MACLLoss`` of lightly adds 1e-8 to 1 - P, and lets go of a pair whose 1 - P is
    smaller.
    """

    def __init__(self, tau0: float = 0.1, alpha: float = 0.5, a0: float = 0.0) -> None:
        super().__init__(Alignment(tau0, alpha, a0))

    def rows(self, similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
        """Return the reweighted InfoNCE."""
        return model_aware(similarity, positives, tau, itself)

    def rows_(self, logits: Tensor, positives: Tensor) -> Tensor:
        """Slope: that of DCL, whose value is log (1 - P) / P; the loss tends to 1 with P."""
        log_odds = super().rows_(logits, positives).clamp(min=-40)
        return F.softplus(log_odds) / torch.sigmoid(log_odds)


class MoCo(PairLoss):
    """InfoNCE against a queue of earlier keys: one positive and `queue_size` negatives.

    z1 are queries, z2 keys (of a momentum encoder, or detached, in the papers that use it); after
    each call in training mode the keys replace the oldest ones of the queue.

    Where the loss of a batch has two parts, compare first and enqueue once. A second call would
    find the keys of this batch among its negatives::

        loss = moco.compare(q1, k2) + moco.compare(q2, k1)
        moco.enqueue(k2)

    Parameters
    ----------
    temperature : float, Tensor or Temperature
        A number, a learned tensor without dimensions, or any schedule.
    dim : int
        Dimension of the embeddings.
    queue_size : int
        Number of keys in the queue (TS: 10000), at least the batch. It starts with random
        directions, drawn from torch's global generator.

    Notes
    -----
    *Relations.* He et al., *Momentum contrast*, CVPR 2020. `CLIP` in one direction with the queue
    in the place of the other rows: the keys of a batch are no negatives of each other, which sets
    it apart from `NTXent` and from MoCo v3. ``NTXentLoss`` of lightly with a memory bank has the
    same value where the bank holds the same keys.
    """

    remembers = True

    def __init__(
        self, temperature: float | Tensor | Temperature, dim: int, queue_size: int
    ) -> None:
        super().__init__()
        self.use(temperature)
        dim = checks.integer("dim", dim, at_least=1)
        queue_size = checks.integer("queue_size", queue_size, at_least=2)
        self.queue: Tensor = nn.Buffer(F.normalize(torch.randn(queue_size, dim), dim=1))
        self.oldest: Tensor = nn.Buffer(torch.zeros((), dtype=torch.int64))

    def compare(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss, as a call does, and leave the queue as it is."""
        z1, z2, index = self.enter(z1, z2, index)
        with torch.autocast(z1.device.type, enabled=False):
            return self._compare(self.prepare(z1), self.prepare(z2), index)

    def enqueue(self, keys: Tensor) -> None:
        """Put keys (B, D) into the queue, as a call in training mode does; those of all processes.

        Raises
        ------
        TypeError, ValueError
            For keys that are no embeddings, or do not fit the queue.
        """
        with self.agreed(keys):
            checks.vectors("keys", keys)
        keys = self.gathered(keys.detach())
        self._check("keys", keys)
        with torch.autocast(keys.device.type, enabled=False):
            self._enqueue(self.prepare(keys))

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised already."""
        loss = self._compare(z1, z2, index)
        if self.training:
            self._enqueue(z2.detach())
        return loss

    def _compare(self, z1: Tensor, z2: Tensor, index: Tensor | None) -> Tensor:
        self._check("z2", z2)
        positive = (z1 * z2).sum(dim=1, keepdim=True)
        similarity = torch.cat([positive, z1 @ self.queue.to(z1.dtype).T], dim=1)
        self.temperature.observe(positive.detach())
        tau = self.tau_of(similarity, z1, index)
        self.tau_now = tau.detach().mean()
        first = torch.zeros(len(z1), dtype=torch.int64, device=z1.device)
        return info_nce(similarity, first, tau).mean()

    def _check(self, name: str, keys: Tensor) -> None:
        size, dim = self.queue.shape
        if keys.shape[1] != dim:
            raise ValueError(f"{name} must have {dim} columns, got {keys.shape[1]}")
        if len(keys) > size:
            raise ValueError(f"{name} must fit the queue of {size} keys, got {len(keys)} rows")

    def _enqueue(self, keys: Tensor) -> None:
        # Outside of inference mode, whose tensors cannot take part in a later training step.
        with torch.inference_mode(False), torch.no_grad():
            places = (self.oldest + torch.arange(len(keys), device=keys.device)) % len(self.queue)
            # A new tensor: the old one is still needed by backward.
            self.queue = self.queue.index_copy(0, places, keys.to(self.queue.dtype))
            self.oldest.add_(len(keys)).remainder_(len(self.queue))
