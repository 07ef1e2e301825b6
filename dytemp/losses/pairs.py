"""What all losses share: the door, the gathering of processes, and one similarity matrix.

A loss of views z1, z2 (B, D) is a function of cosine similarities alone. `PairLoss` checks and
normalises the embeddings and, on several processes, gathers them; `blockwise` computes the
similarity matrix a few rows at a time together with the gradient, so that memory grows with the
batch and not with its square. `symmetric` does the same from one triangle, where all pairs have one
temperature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from dytemp import checks
from dytemp.schedules import Constant, OfTime, Temperature

# A block holds at most this many similarities (2 MiB in float32: it stays in the cache).
BLOCK = 1 << 19
# Rows and columns of a tile of a symmetric matrix, and how many entries of the matrix are kept
# between its two passes; those of larger ones are computed twice.
TILE, KEPT = 512, 1 << 24

Block: TypeAlias = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(similarities of some rows, number of the first row) -> (sum of their losses, gradient)."""


class PairLoss(nn.Module):
    """Base of all losses: ``loss(z1, z2)`` or ``loss(z1, z2, index)``.

    Attributes
    ----------
    needs_index : bool
        Whether the loss or its temperature keeps something per sample and asks for `index`.
    """

    needs_index = False
    tau_now: Tensor | None = None

    def forward(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of a batch of pairs.

        Parameters
        ----------
        z1, z2 : Tensor
            Raw embeddings of the two views, shape (B, D), B >= 2; row i of one belongs to row i
            of the other. They are normalised here. Half precision is computed in float32.
        index : Tensor, optional
            Positions of the samples in the data set, int64, shape (B,), no repetition.

        Returns
        -------
        Tensor
            Scalar. On several processes (``torch.distributed`` is initialised) each passes its
            part of the batch, all of one size; each gets the loss of the whole batch, and as
            gradient of its part exactly the rows of the gradient of the whole: sum, do not
            average, over processes. A learned temperature has its whole gradient on each.

        Raises
        ------
        TypeError, ValueError
            For embeddings or an index that are not as described.
        """
        z1, z2 = checks.views(z1, z2)
        _check_parts(z1)
        if self.needs_index:
            index = gather(checks.index(index, len(z1)))
        z1, z2 = gather(z1), gather(z2)
        with torch.autocast(z1.device.type, enabled=False):
            return self.from_unit(self.prepare(z1), self.prepare(z2), index)

    def prepare(self, z: Tensor) -> Tensor:
        """Project the rows of z to the unit sphere."""
        return normalise(z)

    def from_unit(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the loss of embeddings that are normalised (and gathered) already."""
        raise NotImplementedError

    def set_epoch(self, epoch: float) -> None:
        """Set the time, in epochs, for the temperatures of this loss."""
        checks.number("epoch", epoch, at_least=0)
        for module in self.modules():
            if isinstance(module, Temperature):
                module.set_epoch(epoch)

    @property
    def temperature_now(self) -> float:
        """The mean temperature of the last call; NaN before the first."""
        return float("nan") if self.tau_now is None else float(self.tau_now)

    def use(self, temperature: Temperature, *kinds: str) -> None:
        """Take a temperature, or refuse it if it is none of the `kinds` that fit this loss."""
        self.temperature = self.fitting(temperature, *kinds)
        self.needs_index = temperature.depends_on == "sample"

    def fitting(self, temperature: Temperature, *kinds: str) -> Temperature:
        """Return a temperature if it is one of the `kinds` that fit this loss."""
        if temperature.depends_on not in kinds:
            raise TypeError(
                f"temperature of {type(self).__name__} must depend on {' or '.join(kinds)}, "
                f"got {type(temperature).__name__}, which depends on {temperature.depends_on}"
            )
        return temperature


def normalise(z: Tensor) -> Tensor:
    """Project the rows of z to the unit sphere, in float32 at least."""
    if z.dtype in (torch.float16, torch.bfloat16):
        z = z.float()
    # Dividing by the largest entry first keeps the squares from overflowing.
    return F.normalize(z / z.detach().abs().amax(dim=1, keepdim=True), dim=1)


class _Gather(torch.autograd.Function):
    """Rows of all processes; backward keeps the rows of this one.

    Each process computes the whole loss, hence the whole gradient: its own rows are all it needs.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        ctx.start, ctx.length = dist.get_rank() * len(part), len(part)
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].narrow(0, ctx.start, ctx.length)


def _is_alone() -> bool:
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1


def _check_parts(z1: Tensor) -> None:
    """Refuse parts of different sizes: gathering them would abort the processes, or hang."""
    if _is_alone():
        return
    rows = torch.tensor([len(z1), -len(z1)], device=z1.device)
    dist.all_reduce(rows, dist.ReduceOp.MAX)
    most, fewest = int(rows[0]), -int(rows[1])
    if most != fewest:
        raise ValueError(f"z1 must have as many rows on every process, got from {fewest} to {most}")


def gather(part: Tensor) -> Tensor:
    """Concatenate the rows of all processes in the order of their ranks."""
    if _is_alone():
        return part
    gathered: Tensor = _Gather.apply(part)
    return gathered


class _Blockwise(torch.autograd.Function):
    """Sum of row losses of ``rows @ columns.T``; the gradient is computed on the way."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, tau: Tensor | None, block: Block
    ) -> Tensor:
        d_rows, d_columns = torch.empty_like(rows), torch.zeros_like(columns)
        d_tau = torch.zeros_like(tau) if tau is not None else None
        total = rows.new_zeros(())
        step = max(1, BLOCK // len(columns))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            similarity = part @ columns.T
            value, gradient = block(similarity, start)
            total += value
            if d_tau is not None and tau is not None:
                # A loss of s / tau: its slope in tau follows from its slope in s.
                d_tau -= (gradient * similarity).sum() / tau
            torch.mm(gradient, columns, out=d_rows[start : start + step])
            d_columns.addmm_(gradient.T, part)
        ctx.save_for_backward(d_rows, d_columns, d_tau)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        return *(None if g is None else scale * g for g in gradients), None


def learned(temperature: Temperature) -> Tensor | None:
    """Return the tensor of a learned temperature that asks for a gradient."""
    tau = temperature.tau if isinstance(temperature, Constant) else None
    return tau if isinstance(tau, Tensor) and tau.requires_grad else None


def blockwise(rows: Tensor, columns: Tensor, temperature: Temperature, block: Block) -> Tensor:
    """Return the sum over the rows of a loss of their similarities to the columns.

    Parameters
    ----------
    rows, columns : Tensor
        Unit vectors of shapes (M, D) and (N, D).
    temperature : Temperature
        Passes its gradient on if it is a learned `Constant`.
    block : callable
        Takes similarities (m, N) of the rows from number `start` on; returns the sum of their
        losses and its gradient with respect to the similarities.
    """
    total: Tensor = _Blockwise.apply(rows, columns, learned(temperature), block)
    return total


class _Symmetric(torch.autograd.Function):
    """What `symmetric` returns; the gradient is computed on the way."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, tau: float, offsets: Sequence[int], learned_tau: Tensor | None
    ) -> Tensor:
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
            if len(z) ** 2 <= KEPT:
                kept[top, left] = part

        positives = z.roll(len(z) // 2, dims=0)
        total = totals.log().sum() + (1 - (z * positives).sum(dim=1)).sum() / tau
        weights, gradient = 1 / totals, positives.mul_(-2)
        for top, left in places:
            rows, columns = slice(top, top + TILE), slice(left, left + TILE)
            part = kept.pop((top, left)) if kept else tile(top, left)
            part *= weights[rows, None] + weights[columns]
            gradient[rows].addmm_(part, z[columns])
            if top < left:
                gradient[columns].addmm_(part.T, z[rows])
        gradient /= tau
        # z . gradient counts the slope of each similarity twice; see `_Blockwise` for the rest.
        d_tau = None if learned_tau is None else (z * gradient).sum().to(learned_tau) / (-2 * tau)
        ctx.save_for_backward(gradient, d_tau)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradient, d_tau = ctx.saved_tensors
        return scale * gradient, None, None, None if d_tau is None else scale * d_tau


def symmetric(
    z: Tensor, tau: float, offsets: Sequence[int], learned_tau: Tensor | None = None
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
    learned_tau : Tensor, optional
        The same temperature, if it is to have a gradient.
    """
    total: Tensor = _Symmetric.apply(z, tau, offsets, learned_tau)
    return total


def one_temperature(temperature: Temperature, length: int) -> float | None:
    """Return the temperature of a matrix of `length` rows if `symmetric` should compute it.

    It needs one number for all pairs, and large enough: exp(-2 / tau), the smallest exponential,
    must not vanish in float32. A matrix of a single block gains nothing.
    """
    if length**2 <= BLOCK or not isinstance(temperature, OfTime):
        return None
    tau = temperature.at(temperature.epoch)
    return tau if 2 / tau < 80 else None
