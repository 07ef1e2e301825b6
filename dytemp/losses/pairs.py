"""What all losses share: the door, the gathering of processes, and one similarity matrix.

A loss of views z1, z2 (B, D) is a function of cosine similarities alone. `PairLoss` checks and
normalises the embeddings and, on several processes, gathers them; `blockwise` computes the
similarity matrix a few rows at a time together with the gradient, so that memory grows with the
batch and not with its square. `symmetric` does the same from one triangle, where all pairs have one
temperature.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from dytemp import checks
from dytemp.schedules import OfTime, Temperature, Timed, as_temperature, learned

# A block holds at most this many similarities (2 MiB in float32: it stays in the cache).
BLOCK = 1 << 19
# Rows and columns of a tile of a symmetric matrix, and how many entries of the matrix are kept
# between its two passes; those of larger ones are computed twice.
TILE, KEPT = 512, 1 << 24
KINDS = ("time", "similarity", "sample", "batch", "embedding")  # what a temperature may look at

Block: TypeAlias = Callable[[Tensor, int, bool], tuple[Tensor, Tensor]]
"""(similarities of some rows, number of the first, is a gradient wanted) -> (sum of losses, it)."""
Plain: TypeAlias = Callable[[Tensor], Tensor]
"""All vectors -> the sum of all losses, by operations that autograd knows."""


class PairLoss(Timed):
    """Base of all losses: ``loss(z1, z2)`` or ``loss(z1, z2, index)``.

    On several processes (``torch.distributed`` is initialised) each calls the loss with its own
    rows, all with the same number of them, and gets the loss of the whole batch. What the
    parameters get is the gradient of one process with the whole batch, if the encoder is wrapped in
    ``DistributedDataParallel``, which averages: the gradient of a process's own rows is scaled by
    the number of processes, that of a learned temperature (inside the wrapped module or outside)
    is the whole one on each. Who adds up the gradients of the encoder divides by that number.

    Attributes
    ----------
    needs_index : bool
        Whether the loss or its temperature keeps something per sample and asks for `index`.
    gathering : {"training", "always", "never"}
        When the rows of all processes are gathered: in training mode (the default: in evaluation
        mode a process may call the loss alone), always, or never (each process has a loss of its
        own rows, and what is remembered differs between processes).
    """

    needs_index = False
    remembers = False  # whether a call in training mode changes what the next one returns
    gathering: str = "training"
    tau_now: Tensor | None = None

    def forward(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of a batch of pairs.

        Parameters
        ----------
        z1, z2 : Tensor
            Raw embeddings of the two views, shape (B, D), B >= 2; row i of one belongs to row i
            of the other. They are normalised here. Half precision is computed in float32.
        index : Tensor, array or list, optional
            Positions of the samples in the data set, integers, shape (B,). A loss that remembers
            something of each sample takes each at most once in training.

        Returns
        -------
        Tensor
            Scalar.

        Raises
        ------
        TypeError, ValueError
            For embeddings or an index that are not as described, on all processes if on one.
        RuntimeError
            If a loss that remembers is computed again inside ``torch.utils.checkpoint``, or a
            second derivative is asked for where there is none.
        """
        z1, z2, index = self.enter(z1, z2, index)
        with torch.autocast(z1.device.type, enabled=False):
            return self.from_unit(self.prepare(z1), self.prepare(z2), index)

    def enter(
        self, z1: Tensor, z2: Tensor, index: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Check what was passed, on all processes that take part, and gather it."""
        if self.remembers and self.training:
            _refuse_recomputation(type(self).__name__)
        with self.agreed(z1):
            z1, z2 = checks.views(z1, z2)
            index = checks.index(index, len(z1), None, z1.device) if self.needs_index else None
        return self.gathered(z1), self.gathered(z2), None if index is None else self.gathered(index)

    def _gathers(self) -> bool:
        checks.choice("gathering", self.gathering, ("training", "always", "never"))
        asked = self.gathering == "always" or (self.gathering == "training" and self.training)
        return asked and not _is_alone()

    def agreed(self, part: object) -> AbstractContextManager[None]:
        """Return a context in which this process checks its part, all together if they gather."""
        return _agreement(part) if self._gathers() and checks.enabled() else nullcontext()

    def gathered(self, part: Tensor) -> Tensor:
        """Return the rows of all processes, or those of this one if it is on its own."""
        return cast(Tensor, _Gather.apply(part)) if self._gathers() else part

    def prepare(self, z: Tensor) -> Tensor:
        """Project the rows of z to the unit sphere."""
        return normalise(z)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised (and gathered) already."""
        raise NotImplementedError

    @property
    def temperature_now(self) -> float:
        """The mean temperature of the last call; NaN before the first."""
        return float("nan") if self.tau_now is None else float(self.tau_now)

    def use(self, temperature: float | Tensor | Temperature, *kinds: str) -> None:
        """Take a temperature, or refuse it if it is none of the `kinds` that fit this loss."""
        self.temperature = self.fitting(temperature, *kinds)
        self.needs_index = type(self).needs_index or self.temperature.depends_on == "sample"

    def hold(self, temperature: float | Tensor | Temperature, *kinds: str) -> None:
        """Take a temperature as `use` does, and refuse one that autograd would learn."""
        self.use(temperature, *kinds)
        if learned(self.temperature) is not None:
            name = type(self).__name__
            raise TypeError(f"temperature must not require a gradient: {name} holds it constant")

    def fitting(self, temperature: float | Tensor | Temperature, *kinds: str) -> Temperature:
        """Return a temperature if it is one of the `kinds` (all, if none is named) that fit."""
        temperature, kinds = as_temperature(temperature), kinds or KINDS
        if temperature.depends_on not in kinds:
            raise TypeError(
                f"temperature of {type(self).__name__} must depend on {' or '.join(kinds)}, "
                f"got {type(temperature).__name__}, which depends on {temperature.depends_on}"
            )
        return temperature

    def tau_of(self, similarity: Tensor, anchors: Tensor, index: Tensor | None) -> Tensor:
        """Return the temperatures of the rows of a similarity matrix, with all their gradients."""
        self.temperature.see(anchors.detach())
        return cast(Tensor, self.temperature(similarity, index))


def normalise(z: Tensor) -> Tensor:
    """Project the rows of z to the unit sphere, in float32 at least."""
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    # Dividing by the largest entry first keeps the squares from overflowing.
    return F.normalize(z / z.detach().abs().amax(dim=1, keepdim=True), dim=1)


class _Gather(torch.autograd.Function):
    """Rows of all processes; backward keeps the rows of this one, times the number of processes.

    Each process computes the whole loss, hence the whole gradient: its own rows are all it needs.
    The factor makes up for the average over processes that follows.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        ctx.start, ctx.length = dist.get_rank() * len(part), len(part)
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].narrow(0, ctx.start, ctx.length) * dist.get_world_size()


def _is_alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


@contextmanager
def _agreement(z1: object) -> Iterator[None]:
    """Refuse on all processes what is refused inside on one, and parts that do not fit together.

    Otherwise the others would wait for rows that never come.
    """
    error: Exception | None = None
    try:
        yield
    except (TypeError, ValueError) as caught:
        error = caught
    facts = [0, 0, 0]
    if error is None and isinstance(z1, Tensor):
        facts = [*z1.shape, zlib.crc32(str(z1.dtype).encode())]
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    extremes = torch.tensor([error is not None, *facts, *(-fact for fact in facts)], device=device)
    dist.all_reduce(extremes, dist.ReduceOp.MAX)
    failed, *numbers = extremes.tolist()
    if failed:
        messages: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(messages, None if error is None else str(error))
        if error is not None:
            raise error
        rank, message = next((k, m) for k, m in enumerate(messages) if m is not None)
        raise ValueError(f"process {rank} refused its part of the batch: {message}")
    names = ("as many rows", "as many columns", "the same dtype")
    for name, most, fewest in zip(names, numbers[:3], numbers[3:], strict=True):
        if most != -fewest:
            found = f": got from {-fewest} to {most}" if name != "the same dtype" else ""
            raise ValueError(f"z1 must have {name} on every process{found}")


def _refuse_recomputation(name: str) -> None:
    """Refuse to run a second time, in the backward pass, what has changed its state in the first.

    ``torch.utils.checkpoint`` runs a function again while autograd is at work.
    """
    if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() >= 0:
        raise RuntimeError(
            f"{name} changes its state in each call and cannot be computed again in the backward "
            "pass: call it outside of torch.utils.checkpoint (the encoder may stay inside)"
        )


class _WithGradient(torch.autograd.Function):
    """A value whose gradient for z is known already; tau is a learned temperature or None."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, tau: Tensor | None, value: Tensor, d_z: Tensor | None, plain: Plain
    ) -> Tensor:
        ctx.plain = plain
        ctx.save_for_backward(z, tau, d_z)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        z, tau, d_z = ctx.saved_tensors
        if torch.is_grad_enabled():
            # For second derivatives. What is known are numbers; autograd finds the same again, with
            # its dependence on the inputs, from the plain formula.
            inputs = [each for each in (z, tau) if each is not None and each.requires_grad]
            found = iter(torch.autograd.grad(ctx.plain(z), inputs, scale, create_graph=True))
            return (*(next(found) if wanted else None for wanted in ctx.needs_input_grad),)
        # A loss of s / tau: its slope in tau follows from that in s, which z . d_z counts twice.
        d_tau = None if tau is None else scale * ((z * d_z).sum().to(tau) / (-2 * tau))
        return scale * d_z, d_tau, None, None, None


def no_second_derivative(_: Tensor) -> Tensor:
    """Refuse second derivatives of a surrogate, in place of its plain formula."""
    raise RuntimeError(
        "the value of this loss is a surrogate, of which only the first derivative has a meaning: "
        "for second derivatives differentiate the objective itself, the function "
        "dytemp.losses.sogclr.robust_objective of the similarities"
    )


def surrogate(value: Tensor) -> Tensor:
    """Return a value of which only the first derivative has a meaning; others are refused."""
    one, plain = torch.ones_like(value), no_second_derivative
    return cast(Tensor, _WithGradient.apply(value, None, value.detach(), one, plain))


def held(temperature: Temperature, similarity: Tensor, index: Tensor | None) -> Tensor:
    """Return temperatures for a loss that takes them as constants; refuse one that is none.

    Raises
    ------
    TypeError
        If the temperature has a gradient, for parameters or for the similarity, that would be lost.
    """
    leaf = similarity.detach()
    if not temperature.fused and not torch.is_inference_mode_enabled():
        leaf.requires_grad_()
    with torch.set_grad_enabled(leaf.requires_grad):
        tau: Tensor = temperature(leaf, index)
    if tau.requires_grad:
        raise TypeError(
            "temperature must not require a gradient here, where it counts as a constant: "
            f"detach what {type(temperature).__name__} returns, or take a loss such as NTXent"
        )
    return tau


def fused(temperature: Temperature) -> bool:
    """Say whether a loss computes the gradient itself, or leaves it to autograd.

    A compiler does better with plain formulas, which it fuses as it likes.
    """
    return temperature.fused and not torch.compiler.is_compiling()


def blockwise(z: Tensor, temperature: Temperature, block: Block, plain: Plain) -> Tensor:
    """Return the sum over the rows of a loss of their similarities to each other.

    Parameters
    ----------
    z : Tensor
        Unit vectors of shape (N, D).
    temperature : Temperature
        Passes its gradient on if it is a learned `Constant`.
    block : callable
        Takes similarities (m, N) of the rows from number `start` on, and whether a gradient is
        wanted; returns the sum of their losses and its gradient with respect to the similarities.
    plain : callable
        The same sum as a function of z, for second derivatives.
    """
    tau = learned(temperature)
    total, d_z = _from_rows(z, block, _wanted(z, tau))
    return cast(Tensor, _WithGradient.apply(z, tau, total, d_z, plain))


def _wanted(z: Tensor, tau: Tensor | None) -> bool:
    return torch.is_grad_enabled() and (z.requires_grad or tau is not None)


@torch.no_grad()
def _from_rows(z: Tensor, block: Block, wanted: bool) -> tuple[Tensor, Tensor]:
    """Return the sum of `blockwise` and, if it is wanted, its gradient."""
    total, step = z.new_zeros(()), max(1, BLOCK // len(z))
    d_rows, d_columns = torch.empty_like(z), torch.zeros_like(z)
    for start in range(0, len(z), step):
        part = z[start : start + step]
        value, gradient = block(part @ z.T, start, wanted)
        total += value
        if wanted:
            torch.mm(gradient, z, out=d_rows[start : start + step])
            d_columns.addmm_(gradient.T, part)
    return total, d_rows.add_(d_columns)


@torch.no_grad()
def _from_triangle(
    z: Tensor, tau: float, offsets: Sequence[int], wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the sum of `symmetric` and, if it is wanted, its gradient."""
    scaled = z / tau
    starts = range(0, len(z), TILE)
    places = [(top, left) for top in starts for left in starts if top <= left]
    kept: dict[tuple[int, int], Tensor] = {}

    def tile(top: int, left: int) -> Tensor:
        exponentials = scaled[top : top + TILE] @ z[left : left + TILE].T
        exponentials.sub_(1 / tau).exp_()
        for offset in (top - left + offset for offset in offsets):
            if -len(exponentials) < offset < exponentials.shape[1]:
                exponentials.diagonal(offset).zero_()
        return exponentials

    totals = z.new_zeros(len(z))
    for top, left in places:
        part = tile(top, left)
        totals[top : top + TILE] += part.sum(dim=1)
        if top < left:
            totals[left : left + TILE] += part.sum(dim=0)
        if wanted and len(z) ** 2 <= KEPT:
            kept[top, left] = part

    positives = z.roll(len(z) // 2, dims=0)
    total = totals.log().sum() + (1 - (z * positives).sum(dim=1)).sum() / tau
    if not wanted:
        return total, None
    weights, gradient = 1 / totals, positives.mul_(-2)
    for top, left in places:
        rows, columns = slice(top, top + TILE), slice(left, left + TILE)
        part = kept.pop((top, left)) if kept else tile(top, left)
        part *= weights[rows, None] + weights[columns]
        gradient[rows].addmm_(part, z[columns])
        if top < left:
            gradient[columns].addmm_(part.T, z[rows])
    return total, gradient.div_(tau)


def symmetric(
    z: Tensor, tau: float, offsets: Sequence[int], learned_tau: Tensor | None, plain: Plain
) -> Tensor:
    r"""Return a sum of softmax losses between the vectors of one set, at one temperature.

    .. math:: \sum_i \left( \log T_i + \frac{1 - s_{ip(i)}}{\tau} \right), \qquad
        T_i = \sum_j e_{ij}, \qquad e_{ij} = \exp \frac{s_{ij} - 1}{\tau}

    The matrix e is symmetric, so that one triangle of it is enough: an exponential counts in the
    total of its row and in that of its column. As s_ij stands in the losses of i and of j, its
    slope is e_ij (1 / T_i + 1 / T_j) / tau, symmetric again, and serves the gradients of both.

    Parameters
    ----------
    z : Tensor
        Unit vectors of shape (2B, D); the positive p(i) of row i is B rows away.
    tau : float
        The temperature, from `one_temperature`.
    offsets : sequence of int
        Diagonals of the matrix that do not count in T; with one comes its mirror image.
    learned_tau : Tensor or None
        The same temperature, if it is to have a gradient.
    plain : callable
        The same sum as a function of z, for second derivatives.
    """
    total, d_z = _from_triangle(z, tau, offsets, _wanted(z, learned_tau))
    return cast(Tensor, _WithGradient.apply(z, learned_tau, total, d_z, plain))


def one_temperature(temperature: Temperature) -> float | None:
    """Return the temperature of all pairs if `symmetric` can compute with it.

    It must be large enough: exp(-2 / tau), the smallest exponential, must not vanish in float32.
    And it must be known here: without checks, no one waits for a GPU to tell a learned one.
    """
    unknown = isinstance(getattr(temperature, "tau", None), Tensor) and not checks.enabled()
    if unknown or not isinstance(temperature, OfTime):
        return None
    tau = temperature.now
    return tau if 2 / tau < 80 else None
