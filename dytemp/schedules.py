"""How the temperature is chosen: by time, similarity, sample, batch or embedding.

All of them answer one question with one call::

    tau = temperature(similarity, index)        # broadcastable to the similarity matrix

`similarity` is a block of cosine similarities, one anchor a row; `index` holds the positions of
the anchors in the data set and is needed only where the temperature depends on the sample. Time
is set from outside with ``set_epoch(epoch)``, as for torch's ``DistributedSampler``.

A temperature of your own is a subclass of `Temperature` with that one method (``forward``), a
subclass of `OfTime` with a method ``at``, or one of `OfSimilarity` with a method ``height``.
Autograd differentiates it: parameters in it are learned, and what is not detached counts. The
temperatures of this module, of which it is known what they depend on, are ``fused``: losses compute
their gradients themselves, faster and in less memory.
"""

from __future__ import annotations

import math
import random
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dytemp import checks

# State per sample is a few numbers an image: kept in float64, so that it never limits the accuracy
# of a float64 computation. For a device without float64 call ``.float()`` on the module first.
STATE = torch.float64


class Timed(nn.Module):
    """Base of all that knows the time: temperatures and losses.

    Attributes
    ----------
    epoch : float
        The time, in epochs; 0 until `set_epoch` is called. It is part of the state, so that a
        schedule goes on from a checkpoint where it stood.
    """

    def __init__(self) -> None:
        super().__init__()
        self.epoch: float = 0

    def set_epoch(self, epoch: float) -> None:
        """Set the time, in epochs, for this module and those nested in it."""
        self.epoch = checks.number("epoch", epoch, at_least=0)
        for module in self.modules():  # also those in a list of modules
            if isinstance(module, Timed):
                module.epoch = self.epoch
                module._epoch_has_changed()

    # The epoch stays a number, which can be read without waiting for a GPU; in the state it is a
    # tensor, as everything else there.

    def get_extra_state(self) -> Tensor:
        """Return the epoch, for the state."""
        return torch.tensor(self.epoch, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the epoch from the state."""
        self.epoch = float(state)
        self._epoch_has_changed()

    def _epoch_has_changed(self) -> None:
        """Do what follows from another epoch; nothing, in most modules."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # States that were saved before the epoch was part of them leave it as it is.
        state_dict.setdefault(f"{prefix}_extra_state", self.get_extra_state())
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Temperature(Timed):
    """Base of all temperatures.

    Attributes
    ----------
    depends_on : str
        What the temperature looks at: ``"time"``, ``"similarity"``, ``"sample"``, ``"batch"`` or
        ``"embedding"``. A loss refuses a kind that makes no sense for it.
    fused : bool
        Whether nothing in it is learned (but the number of a `Constant`) and `logit_slope` is the
        whole derivative, so that a loss need not ask autograd. A class says so for itself, with
        ``class Mine(Temperature, fused=True)``; it is not inherited.
    """

    depends_on = "time"
    fused = False

    def __init_subclass__(cls, fused: bool = False, **others: Any) -> None:
        super().__init_subclass__(**others)
        cls.fused = fused

    def observe(self, positives: Tensor) -> None:
        """Look at the (B,) similarities of the batch's positive pairs before they are used."""

    def see(self, anchors: Tensor) -> None:
        """Look at the (anchors, D) unit embeddings of the rows that `forward` is asked for next."""

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the temperatures for a block of similarities.

        Parameters
        ----------
        similarity : Tensor
            Cosine similarities of shape (anchors, candidates).
        index : Tensor, optional
            Positions of the anchors in the data set, int64, shape (anchors,).

        Returns
        -------
        Tensor
            Positive temperatures, broadcastable to `similarity`.
        """
        raise NotImplementedError

    def logit_slope(self, similarity: Tensor, tau: Tensor) -> Tensor:
        """Return the derivative of the logit s / tau with respect to s, given tau(s)."""
        return 1 / tau


Bound: TypeAlias = "float | OfTime"
Number = TypeVar("Number", float, Tensor)


# ------------------------------------------------------------------------------------------ time


class OfTime(Temperature):
    """A temperature that depends on the epoch alone: ``at(epoch)`` returns a float."""

    _at_epoch: Tensor | None = None

    def __init_subclass__(cls, **others: Any) -> None:
        super().__init_subclass__(**others)
        # One number for all pairs, checked to be one: there is nothing to differentiate.
        cls.fused = cls.fused or cls.forward is OfTime.forward

    def at(self, epoch: float) -> float:
        """Return the temperature at a time in epochs (fractions are allowed)."""
        raise NotImplementedError

    @property
    def now(self) -> float:
        """The temperature of the current epoch."""
        return checks.number("tau", self.at(self.epoch), above=0)

    def _epoch_has_changed(self) -> None:
        # For a compiled loss: another number would be a reason to compile again, a tensor is none.
        self._at_epoch = torch.tensor(self.now, dtype=torch.float64)

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the temperature of the current epoch as a tensor without dimensions."""
        if self._at_epoch is not None and torch.compiler.is_compiling():
            return self._at_epoch.to(similarity)
        return similarity.new_full((), self.now)


class Constant(OfTime, fused=True):
    """One temperature for everything, fixed or learned.

    Parameters
    ----------
    tau : float or Tensor
        The temperature, above 0. A tensor without dimensions that requires a gradient is learned:
        the loss passes a gradient to it (and an ``nn.Parameter`` is registered).
    """

    def __init__(self, tau: float | Tensor) -> None:
        super().__init__()
        if isinstance(tau, Tensor):
            self.tau: float | Tensor = checks.scalar("tau", tau)
        else:
            self.tau = checks.number("tau", tau, above=0)

    def at(self, epoch: float) -> float:
        """Return the temperature, whatever the epoch."""
        checks.number("epoch", epoch, at_least=0)
        return checks.number("tau", self._value(), above=0)

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the temperature without dimensions, connected to what is learned."""
        if not isinstance(self.tau, Tensor):
            return similarity.new_full((), self.tau)
        return checks.scalar("tau", self.tau)  # a learned one may have crossed 0

    def _epoch_has_changed(self) -> None:
        """Do nothing: what does not change with time needs no look, a learned one least."""

    def _value(self) -> float:
        return self.tau.item() if isinstance(self.tau, Tensor) else self.tau

    def extra_repr(self) -> str:
        """Show the value in ``repr``."""
        return f"tau={self._value():g}"


class LogScale(Constant):
    r"""A learned temperature, held as the logarithm of its inverse: tau = exp(-t).

    As CLIP (Radford et al., 2021) and SigLIP (Zhai et al., 2023) learn their scale 1 / tau: a step
    of t changes tau by a ratio, and tau cannot cross 0. Like them, call `clamp_` after each step
    of the optimiser, and let t not decay.

    Parameters
    ----------
    tau : float
        The temperature at the start, in [tau_min, tau_max].
    tau_min, tau_max : float
        Bounds that `clamp_` keeps.

    Attributes
    ----------
    t : nn.Parameter
        What is learned, without dimensions.
    """

    def __init__(self, tau: float = 0.07, tau_min: float = 0.01, tau_max: float = 1.0) -> None:
        Temperature.__init__(self)
        self.tau_min, self.tau_max = _bounds(tau_min, tau_max)
        tau = checks.number("tau", tau, at_least=tau_min, at_most=tau_max)
        self.t = nn.Parameter(torch.tensor(-math.log(tau), dtype=STATE))

    @property
    def tau(self) -> Tensor:  # type: ignore[override]
        """The temperature, connected to t."""
        return torch.exp(-self.t)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Bring the temperature back into its bounds."""
        self.t.clamp_(-math.log(self.tau_max), -math.log(self.tau_min))


class _Between(OfTime):
    """A time schedule between two temperatures."""

    def __init__(self, tau_min: float, tau_max: float) -> None:
        super().__init__()
        self.tau_min, self.tau_max = _bounds(tau_min, tau_max)

    def at(self, epoch: float) -> float:
        """Return the temperature at a time in epochs (fractions are allowed)."""
        epoch = checks.number("epoch", epoch, at_least=0)
        return self.tau_min + (self.tau_max - self.tau_min) * self._height(epoch)

    def _height(self, epoch: float) -> float:
        """Return where the schedule stands: 0 at tau_min, 1 at tau_max."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the bounds in ``repr``."""
        return f"tau_min={self.tau_min:g}, tau_max={self.tau_max:g}"


class _Periodic(_Between):
    """A schedule that repeats; it starts at tau_max and is at tau_min after half a period."""

    def __init__(self, tau_min: float, tau_max: float, period: float) -> None:
        super().__init__(tau_min, tau_max)
        self.period = checks.number("period", period, above=0)

    def phase(self, epoch: float) -> float:
        """Return the part of the current period that has passed, in [0, 1)."""
        return math.fmod(epoch, self.period) / self.period

    def extra_repr(self) -> str:
        """Show the parameters in ``repr``."""
        return f"{super().extra_repr()}, period={self.period:g}"


class Cosine(_Periodic):
    r"""The cosine schedule of TS (Eq. 5, Algorithm 1).

    .. math:: \tau(t) = \tau_- + (\tau_+ - \tau_-) \, (1 + \cos(2 \pi t / T)) / 2

    Parameters
    ----------
    tau_min, tau_max : float
        Bounds, 0 < tau_min <= tau_max (paper: 0.1 and 1.0).
    period : float
        T in epochs (paper: 400 of 2000). The released code's ``t_max`` is half of it.
    """

    def _height(self, epoch: float) -> float:
        return (1 + math.cos(2 * math.pi * self.phase(epoch))) / 2


class Triangle(_Periodic):
    """Linear oscillation from tau_max to tau_min and back in one period (TS, Table 5)."""

    def _height(self, epoch: float) -> float:
        return abs(1 - 2 * self.phase(epoch))


class Step(_Periodic):
    """tau_max during the first half of each period, tau_min in the second (TS, Table 5).

    The jump comes just after the half, as in the drawing beside the paper's table.
    """

    def _height(self, epoch: float) -> float:
        return 1.0 if self.phase(epoch) <= 0.5 else 0.0


class Random(_Between):
    """A new uniform draw in each epoch (TS, Table 5).

    Parameters
    ----------
    tau_min, tau_max : float
        Bounds of the draw.
    seed : int
        The same seed gives the same temperature in the same epoch, in any order of calls.
    """

    def __init__(self, tau_min: float, tau_max: float, seed: int = 0) -> None:
        super().__init__(tau_min, tau_max)
        self.seed = checks.integer("seed", seed, at_least=0)

    def _height(self, epoch: float) -> float:
        return random.Random(f"{self.seed}/{math.floor(epoch)}").random()


class _Once(OfTime):
    """A time schedule from `start` to `end` over `epochs`, then constant."""

    def __init__(self, start: float, end: float, epochs: float) -> None:
        super().__init__()
        self.start = checks.number("start", start, above=0)
        self.end = checks.number("end", end, above=0)
        self.epochs = checks.number("epochs", epochs, above=0)

    def passed(self, epoch: float) -> float:
        """Return the part of the way that lies behind, in [0, 1]."""
        return min(checks.number("epoch", epoch, at_least=0) / self.epochs, 1.0)

    def extra_repr(self) -> str:
        """Show the parameters in ``repr``."""
        return f"start={self.start:g}, end={self.end:g}, epochs={self.epochs:g}"


class Linear(_Once):
    """A straight line from `start` to `end` over `epochs`, then constant.

    As the lower bound of a `SimilarityCosine` it is the 'stabilised' rule that the DySTreSS code
    holds but does not use.

    Parameters
    ----------
    start, end : float
        The values at the start and from `epochs` on, above 0.
    epochs : float
        Length of the way, above 0.
    """

    def at(self, epoch: float) -> float:
        """Return the value at a time in epochs (fractions are allowed)."""
        return self.start + (self.end - self.start) * self.passed(epoch)


class HalfCosine(_Once):
    r"""Half a cosine from `start` to `end` over `epochs`, then constant.

    .. math:: v(t) = v_1 + (v_0 - v_1) \, (1 + \cos(\pi t / T)) / 2

    Flat at both ends, steepest in the middle. FastCLIP lowers the weight gamma of the moving
    average of a global contrastive loss in this way, so that the average forgets everything at
    first, while the encoder changes fast, and later spans epochs (Wei et al., *FastCLIP*, 2024):
    ``SogCLR(size, 0.1, gamma=HalfCosine(1.0, 0.2, epochs=18))``.

    Parameters
    ----------
    start, end : float
        The values v_0 and v_1, above 0.
    epochs : float
        T, above 0 (FastCLIP: about half of the training).
    """

    def at(self, epoch: float) -> float:
        """Return the value at a time in epochs (fractions are allowed)."""
        height = (1 + math.cos(math.pi * self.passed(epoch))) / 2
        return self.end + (self.start - self.end) * height


# ------------------------------------------------------------------------------------ similarity


class OfSimilarity(Temperature):
    """A temperature that depends on the similarity of the pair: ``at(s)`` is elementwise.

    Parameters
    ----------
    tau_min, tau_max : float or time schedule
        Bounds of the temperature; schedules such as `Linear` move them with the epoch.
    detach : bool
        True (the default, as in the DySTreSS code for NT-Xent): tau counts as a constant in the
        gradient. False: the full derivative, as in the paper's analysis and its DCL code.
    """

    depends_on = "similarity"

    def __init__(self, tau_min: Bound, tau_max: Bound, detach: bool = True) -> None:
        super().__init__()
        self.tau_min = as_time(tau_min, "tau_min")
        self.tau_max = as_time(tau_max, "tau_max")
        self.detach = bool(checks.choice("detach", detach, (True, False)))
        self.bounds()

    def bounds(self) -> tuple[float, float]:
        """Return tau_min and tau_max of the current epoch."""
        return checks.bounds(self.tau_min.now, self.tau_max.now)

    def at(self, similarity: Tensor) -> Tensor:
        """Return the temperature of each similarity, in a tensor of the same shape."""
        if not isinstance(similarity, Tensor):
            raise TypeError(f"similarity must be a tensor, got {type(similarity).__name__}")
        if torch.compiler.is_compiling():
            low, high = self.tau_min(similarity), self.tau_max(similarity)
        else:
            low, high = self.bounds()
        tau: Tensor = low + (high - low) * self.height(similarity)
        return tau

    def height(self, similarity: Tensor) -> Tensor:
        """Return where the temperature stands: 0 at tau_min, 1 at tau_max."""
        raise NotImplementedError

    def slope(self, similarity: Tensor) -> Tensor:
        """Return the derivative of tau with respect to the similarity."""
        with torch.inference_mode(False), torch.enable_grad():
            leaf = similarity.clone() if similarity.is_inference() else similarity
            leaf = leaf.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.at(leaf).sum(), leaf)
        return slope

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the temperature of each pair, detached if so asked."""
        return self.at(similarity.detach() if self.detach else similarity)

    def logit_slope(self, similarity: Tensor, tau: Tensor) -> Tensor:
        """Return the derivative of s / tau(s): 1 / tau, or (1 - s tau'(s) / tau) / tau in full."""
        if self.detach:
            return 1 / tau
        return (1 - similarity * self.slope(similarity) / tau) / tau


class SimilarityCosine(OfSimilarity, fused=True):
    r"""The temperature of DySTreSS: high for very similar and very dissimilar pairs.

    .. math:: \tau(s) = \tau_- + (\tau_+ - \tau_-) \, (1 + \cos(\pi (1 + s))) / 2

    Even in s, tau_min at s = 0 and tau_max at s = -1 and 1 (DySTreSS, Algorithm 1).
    """

    def height(self, similarity: Tensor) -> Tensor:
        """Return (1 - cos(pi s)) / 2."""
        return (1 - torch.cos(math.pi * similarity)) / 2


class InvertedSimilarityCosine(OfSimilarity, fused=True):
    """The cosine of DySTreSS upside down: tau_max at s = 0, tau_min at s = -1 and 1.

    The rule of its first public code for negatives, here for all pairs. Its slope has everywhere
    the sign opposite to the one that the paper's Proposition 1 asks for.
    """

    def height(self, similarity: Tensor) -> Tensor:
        """Return (1 + cos(pi s)) / 2."""
        return (1 + torch.cos(math.pi * similarity)) / 2


class ShiftedSimilarityCosine(OfSimilarity, fused=True):
    r"""DySTreSS with its minimum moved: tau_max above ``-shift``, a cosine below.

    .. math:: \tau(s) = \tau_- + (\tau_+ - \tau_-) \, (1 + \cos(\pi (s + shift) / width)) / 2

    for s <= -shift. The paper's best (Table 7) is shift = -0.4, width = 0.7: tau_max for
    s >= 0.4, the minimum at s = -0.3.

    Parameters
    ----------
    tau_min, tau_max, detach
        As in `OfSimilarity`.
    shift, width : float
        Where the cosine ends, and the distance from there to its minimum (above 0).
    """

    def __init__(
        self,
        tau_min: Bound,
        tau_max: Bound,
        shift: float = -0.4,
        width: float = 0.7,
        detach: bool = True,
    ) -> None:
        super().__init__(tau_min, tau_max, detach)
        self.shift = checks.number("shift", shift, at_least=-1, at_most=1)
        self.width = checks.number("width", width, above=0)

    def height(self, similarity: Tensor) -> Tensor:
        """Return the half cosine left of ``-shift`` and 1 right of it."""
        left = (similarity + self.shift).clamp(max=0)
        return (1 + torch.cos(math.pi * left / self.width)) / 2


class SimilarityLinear(OfSimilarity, fused=True):
    """``tau_min + (tau_max - tau_min) |s|``: the linear shape of the DySTreSS shape ablation.

    The paper's formula could not be read; this is its natural form.
    """

    def height(self, similarity: Tensor) -> Tensor:
        """Return ``|s|``."""
        return similarity.abs()


class SimilarityExponential(OfSimilarity, fused=True):
    r"""The exponential shape of the DySTreSS code.

    .. math:: \tau(s) = \tau_+ - (\tau_+ - \tau_-) \, e^{-rate |s|}

    tau_min at s = 0; tau_max is approached, not reached.

    Parameters
    ----------
    tau_min, tau_max, detach
        As in `OfSimilarity`.
    rate : float
        Steepness, above 0 (the code has 3.5).
    """

    def __init__(
        self, tau_min: Bound, tau_max: Bound, rate: float = 3.5, detach: bool = True
    ) -> None:
        super().__init__(tau_min, tau_max, detach)
        self.rate = checks.number("rate", rate, above=0)

    def height(self, similarity: Tensor) -> Tensor:
        """Return ``1 - exp(-rate |s|)``."""
        return -torch.expm1(-self.rate * similarity.abs())


class SimilarityRoot(OfSimilarity, fused=True):
    r"""The rule of TeMo (2025): the more similar a pair, the higher its temperature.

    .. math:: \tau(s) = \tau_- + (\tau_+ - \tau_-) \sqrt{(1 + s) / 2}

    Where the schedules of DySTreSS are even in s, this one rises all the way. Its slope is
    infinite at s = -1; within 1e-6 of that the root is replaced by its chord. The released code
    does not detach.
    """

    def height(self, similarity: Tensor) -> Tensor:
        """Return the root of (1 + s) / 2."""
        x, near = (1 + similarity) / 2, 5e-7
        return torch.where(x > near, x.clamp(min=near).sqrt(), x.clamp(min=0) / math.sqrt(near))


# ---------------------------------------------------------------------------------------- sample


class _OfSample(Temperature):
    """A temperature for every sample, held in the buffer ``tau``."""

    depends_on = "sample"
    tau: Tensor

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the temperature of each anchor, shape (anchors, 1)."""
        index = checks.index(index, len(similarity), len(self.tau), self.tau.device)
        return self.tau[index].to(similarity)[:, None]


class PerClass(_OfSample, fused=True):
    """One temperature for each class, chosen by the class of the anchor: the oracle of TS.

    Parameters
    ----------
    taus : sequence of float
        The temperature of each class, above 0 (TS, Fig. 3: 1.0 for the five most common classes,
        0.1 for the others).
    labels : Tensor, array or list
        The class of every training sample, integers, shape (samples,).
    """

    def __init__(self, taus: list[float] | tuple[float, ...] | Tensor, labels: Tensor) -> None:
        super().__init__()
        if isinstance(taus, Tensor) and taus.requires_grad:
            raise TypeError(
                "taus must not require a gradient, got a tensor that does: what is learned here is "
                "a Temperature of your own, whose forward looks the classes up"
            )
        try:
            entries = list(taus.tolist() if isinstance(taus, Tensor) else taus)
        except TypeError as error:
            raise TypeError(f"taus must be a list of numbers, one a class, got {taus!r}") from error
        if not entries:
            raise ValueError(f"taus must be a list of numbers, one a class, got {taus!r}")
        values = [checks.number("taus", tau, above=0) for tau in entries]
        labels = checks.integers("labels", labels, size=len(values))
        if not len(labels):
            raise ValueError("labels must hold the class of at least 1 sample, got none")
        self.tau = nn.Buffer(torch.tensor(values, dtype=STATE, device=labels.device)[labels])


class Individual(_OfSample, fused=True):
    """A temperature for every sample, held in the buffer ``tau``: the state of iSogCLR.

    Parameters
    ----------
    size : int
        The number of samples.
    tau_init : float
        Their temperature at the start, in [tau_min, tau_max].
    tau_min, tau_max : float
        Bounds; `descend` clips to them.
    eta : float
        Step size of `descend`.
    beta : float
        Weight of the newest gradient in the moving average, in (0, 1].
    clip : float or None
        Gradients are clipped to [-clip, clip]; None does not clip (the paper's algorithm).
    """

    def __init__(
        self,
        size: int,
        tau_init: float,
        tau_min: float,
        tau_max: float,
        eta: float = 0.03,
        beta: float = 0.5,
        clip: float | None = None,
    ) -> None:
        super().__init__()
        size = checks.integer("size", size, at_least=1)
        self.tau_min, self.tau_max = _bounds(tau_min, tau_max)
        tau_init = checks.number("tau_init", tau_init, at_least=tau_min, at_most=tau_max)
        self.eta = checks.number("eta", eta, at_least=0)
        self.beta = checks.number("beta", beta, above=0, at_most=1)
        self.clip = math.inf if clip is None else checks.number("clip", clip, above=0)
        self.tau = nn.Buffer(torch.full((size,), tau_init, dtype=STATE))
        self.momentum: Tensor = nn.Buffer(torch.zeros(size, dtype=STATE))

    @torch.no_grad()
    def descend(self, index: Tensor, gradient: Tensor) -> None:
        """Take one step of gradient descent with momentum (iSogCLR, steps 5 and 6).

        Parameters
        ----------
        index : Tensor
            The samples of the batch, int64, shape (B,).
        gradient : Tensor
            The gradient of the objective for their temperatures, shape (B,).
        """
        newest = gradient.clamp(-self.clip, self.clip).to(self.tau.dtype)
        momentum = (1 - self.beta) * self.momentum[index] + self.beta * newest
        self.momentum[index] = momentum
        self.tau[index] = (self.tau[index] - self.eta * momentum).clamp(self.tau_min, self.tau_max)


# ----------------------------------------------------------------------------------------- batch


class OfBatch(Temperature):
    """A temperature that follows the batch's mean positive similarity A, without gradient."""

    depends_on = "batch"

    def __init__(self) -> None:
        super().__init__()
        self.tau: Tensor | None = None

    def at(self, alignment: float) -> float:
        """Return the temperature for a mean similarity of the positives."""
        return self._of(float(alignment))

    def observe(self, positives: Tensor) -> None:
        """Set the temperature from the batch's positive similarities."""
        mean = positives.mean()
        if checks.enabled():
            self.at(mean.item())
        # Rounded once, at the end, where the device has float64.
        self.tau = self._of(mean if mean.device.type == "mps" else mean.double())

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the temperature of the batch that was observed last."""
        if self.tau is None:
            raise ValueError("similarity must be observed first: call observe(positives)")
        return self.tau.to(similarity)

    def _of(self, alignment: Number) -> Number:
        raise NotImplementedError


class Alignment(OfBatch, fused=True):
    """The temperature of MACL: it follows the mean similarity A of the batch's positives.

    tau = tau0 (1 + alpha (A - a0)), without gradient. For alpha (a0 - A) >= 1 it would not be
    positive, which happens to random embeddings with the settings for sentences
    (0.05, 2, 0.8); that is refused.

    Parameters
    ----------
    tau0 : float
        The temperature at A = a0, above 0.
    alpha : float
        How strongly it follows, at least 0.
    a0 : float
        The similarity of reference, in [-1, 1].
    """

    def __init__(self, tau0: float, alpha: float, a0: float) -> None:
        super().__init__()
        self.tau0 = checks.number("tau0", tau0, above=0)
        self.alpha = checks.number("alpha", alpha, at_least=0)
        self.a0 = checks.number("a0", a0, at_least=-1, at_most=1)

    def at(self, alignment: float) -> float:
        """Return the temperature for a mean similarity of the positives."""
        tau = super().at(alignment)
        if not tau > 0:
            raise ValueError(
                f"tau must be above 0, got {tau:g} at a mean positive similarity of "
                f"{float(alignment):g}: choose a smaller alpha or a0"
            )
        return tau

    def _of(self, alignment: Number) -> Number:
        return self.tau0 * (1 + self.alpha * (alignment - self.a0))


class PositiveDistance(OfBatch, fused=True):
    """The mean squared distance of the batch's positives, 2 (1 - A): the schedule PPS.

    exp(s / tau) is a Gaussian kernel of width sqrt(tau) on the sphere, and here its width is the
    root mean square distance of a positive: about 2 for random embeddings, small once positives
    have met. The opposite of `Alignment`, whose temperature grows with A. From a thesis of 2026;
    a formula without public code.

    Parameters
    ----------
    tau_min : float
        Floor of the temperature, above 0: identical views have no distance.
    """

    def __init__(self, tau_min: float = 0.01) -> None:
        super().__init__()
        self.tau_min = checks.number("tau_min", tau_min, above=0)

    def _of(self, alignment: Number) -> Number:
        excess = 2 * (1 - alignment) - self.tau_min
        return self.tau_min + (excess + abs(excess)) / 2  # at least tau_min


# ------------------------------------------------------------------------------------- embedding


class TemperatureNetwork(Temperature):
    r"""The temperature as a function of the anchor's embedding: TempNet (Qiu et al., 2024).

    .. math:: x = \mathrm{dropout}(\mathrm{sigmoid}(W z + b)), \quad a = P x, \quad
        w = \mathrm{softmax}(a / e^c), \quad
        q = \sum_m l_m (w_m - 1/M) \, \mathrm{sigmoid}(a_m) + l_0

    with z the detached unit embedding and the rows of P, the M prototypes, normalised;
    tau = tau_min + (tau_max - tau_min) sigmoid(q). Samples that look alike share a temperature,
    and one that was never seen has one. It learns the rule of iSogCLR, KL = rho:
    ``BimodalISogCLR(size, rho, temperature=(TemperatureNetwork(dim), TemperatureNetwork(dim)))``.

    Parameters
    ----------
    dim : int
        Dimension of the embeddings.
    prototypes : int
        M.
    tau_min, tau_max : float
        Bounds, 0 < tau_min <= tau_max.
    dropout : float
        Share of x that is dropped in training mode, in [0, 1).

    Attributes
    ----------
    tau : Tensor or None
        The temperatures of the last call, detached, shape (anchors,).
    """

    depends_on = "embedding"

    def __init__(
        self,
        dim: int,
        prototypes: int = 256,
        tau_min: float = 0.005,
        tau_max: float = 0.05,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        dim = checks.integer("dim", dim, at_least=1)
        prototypes = checks.integer("prototypes", prototypes, at_least=1)
        self.tau_min, self.tau_max = _bounds(tau_min, tau_max)
        self.dropout = checks.number("dropout", dropout, at_least=0, below=1)
        self.proj = nn.Linear(dim, dim)
        self.prototypes = nn.Parameter(torch.randn(prototypes, dim))
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(0.01)))  # c
        self.linear = nn.Linear(prototypes, 1)
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.anchors: Tensor | None = None
        self.tau: Tensor | None = None
        self.calls = 0

    def at(self, z: Tensor) -> Tensor:
        """Return the temperatures (B,) of embeddings (B, D), computed in the network's type."""
        if z.ndim != 2 or z.shape[1] != self.proj.in_features:
            wanted = f"(B, {self.proj.in_features})"
            raise ValueError(f"z must have shape {wanted}, got {tuple(z.shape)}")
        x = torch.sigmoid(self.proj(F.normalize(z.to(self.proj.weight), dim=1)))
        a = self._dropped(x) @ F.normalize(self.prototypes, dim=1).T
        w = (a / self.log_sharpness.exp()).softmax(dim=1) - 1 / a.shape[1]
        height = torch.sigmoid(self.linear(w * torch.sigmoid(a))[:, 0])
        return self.tau_min + (self.tau_max - self.tau_min) * height

    def _dropped(self, x: Tensor) -> Tensor:
        """Apply dropout in training mode.

        What is dropped follows from the numbers of the epoch and of the call alone: it is the same
        on all processes, and in a training that was interrupted.
        """
        if not (self.training and self.dropout):
            return x
        generator = torch.Generator().manual_seed(hash((self.epoch, self.calls)))
        self.calls += 1
        kept = torch.rand(x.shape, generator=generator) >= self.dropout
        return x * kept.to(x) / (1 - self.dropout)

    def _epoch_has_changed(self) -> None:
        self.calls = 0

    def see(self, anchors: Tensor) -> None:
        """Take the embeddings of the anchors whose temperatures are asked for next."""
        self.anchors = anchors

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the temperature of each anchor, shape (anchors, 1), connected to the network."""
        if self.anchors is None or len(self.anchors) != len(similarity):
            raise ValueError("similarity must belong to anchors that were seen: call see(anchors)")
        tau = self.at(self.anchors).to(similarity.dtype)
        self.tau = tau.detach()
        return tau[:, None]


# --------------------------------------------------------------------------------------- helpers


def _bounds(tau_min: float, tau_max: float) -> tuple[float, float]:
    """Return two temperatures, the lower one first."""
    low = checks.number("tau_min", tau_min, above=0)
    return checks.bounds(low, checks.number("tau_max", tau_max, above=0))


def as_temperature(value: float | Tensor | Temperature, name: str = "temperature") -> Temperature:
    """Return a temperature; numbers and tensors without dimensions become a `Constant`."""
    if isinstance(value, Temperature):
        return value
    if isinstance(value, Tensor):
        return Constant(checks.scalar(name, value))
    try:
        return Constant(checks.number(name, value, above=0))
    except TypeError:
        what = "a number, a tensor or a Temperature"
        raise TypeError(f"{name} must be {what}, got {value!r}") from None


def as_time(value: Bound, name: str) -> OfTime:
    """Return a time schedule; a number becomes a `Constant`."""
    temperature = as_temperature(value, name)
    if not isinstance(temperature, OfTime):
        raise TypeError(f"{name} must be a number or a time schedule, got {temperature!r}")
    if learned(temperature) is not None:
        raise TypeError(f"{name} must not require a gradient: only a temperature itself is learned")
    return temperature


def learned(temperature: Temperature) -> Tensor | None:
    """Return what autograd learns: the tensor of a `Constant`, if it requires a gradient."""
    tau = temperature.tau if isinstance(temperature, Constant) else None
    return tau if isinstance(tau, Tensor) and tau.requires_grad else None
