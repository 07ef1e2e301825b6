"""Losses: forward and backward against the textbook, lightly and pytorch-metric-learning.

All get the same float32 embeddings and, where they compute the same loss, the same value, which is
checked first. The limit is three matrix products of the same shape: the similarities, and the
gradient with respect to their rows and to their columns. The textbook is the plain formula on the
whole matrix, differentiated by autograd. Memory is what one call adds to the resident memory of a
fresh process at most.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor

from benchmarks.timing import aim, apart, interleaved, peak_memory, rows
from dytemp.losses import DCL, ISogCLR, NTXent, SogCLR
from dytemp.losses.infonce import decoupled, info_nce, pair_similarities
from dytemp.schedules import Constant, Cosine, SimilarityCosine, Temperature

TAU = 0.2
SIZE = 50_000  # samples in the data set, for the losses with a state for each
LIMIT = "three matrix products"
OURS = ("NTXent", "NTXent, Cosine", "NTXent, SimilarityCosine", "DCL", "SogCLR", "iSogCLR")
# Ours and those of the others that must have the same value.
SAME = {
    "NTXent": ("textbook NTXent", "lightly NTXentLoss", "pytorch-metric-learning NTXentLoss"),
    "NTXent, SimilarityCosine": ("textbook NTXent, SimilarityCosine",),
    "DCL": ("textbook DCL", "lightly DCLLoss"),
}

Loss = Callable[[Tensor, Tensor], Tensor]


def losses(batch: int) -> dict[str, Loss]:
    """Return by name the losses of two views of shape (batch, D)."""
    from lightly.loss import DCLLoss, NTXentLoss

    index = torch.arange(batch)
    cosine = Cosine(0.1, 1.0, period=400)
    cosine.set_epoch(100)
    of_similarity = SimilarityCosine(0.1, 0.2)
    global_loss, learned = SogCLR(SIZE, TAU), ISogCLR(SIZE, tau_init=TAU)
    found: dict[str, Loss] = {
        "NTXent": NTXent(TAU),
        "NTXent, Cosine": NTXent(cosine),
        "NTXent, SimilarityCosine": NTXent(of_similarity),
        "DCL": DCL(TAU),
        "SogCLR": lambda z1, z2: global_loss(z1, z2, index),
        "iSogCLR": lambda z1, z2: learned(z1, z2, index),
        "textbook NTXent": textbook(info_nce, Constant(TAU)),
        "textbook NTXent, SimilarityCosine": textbook(info_nce, of_similarity),
        "textbook DCL": textbook(decoupled, Constant(TAU)),
        "lightly NTXentLoss": NTXentLoss(TAU),
        "lightly DCLLoss": DCLLoss(TAU),
    }
    # It compares each of the 2B positive pairs with all 2B (2B - 2) negative ones, in floats of
    # four bytes, in about five copies.
    if 5 * 4 * (2 * batch) ** 3 < psutil.virtual_memory().available:
        from pytorch_metric_learning.losses import NTXentLoss as OfPairs

        of_pairs, classes = OfPairs(TAU), torch.cat([index, index])
        found["pytorch-metric-learning NTXentLoss"] = lambda z1, z2: of_pairs(
            torch.cat([z1, z2]), classes
        )
    return found


def textbook(formula: Callable[..., Tensor], temperature: Temperature) -> Loss:
    """Return the plain formula of a loss, for autograd to differentiate."""

    def loss(z1: Tensor, z2: Tensor) -> Tensor:
        similarity, positives, itself = pair_similarities(z1, z2)
        return formula(similarity, positives, temperature(similarity), itself).mean()

    return loss


def views(batch: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return embeddings of two views that resemble each other."""
    generator = torch.Generator().manual_seed(0)
    z1, noise = torch.randn(2, batch, dim, generator=generator)
    return z1.requires_grad_(), (z1.detach() + noise).requires_grad_()


def update(loss: Loss, z1: Tensor, z2: Tensor) -> float:
    """Go forward and backward; return the loss."""
    z1.grad = z2.grad = None
    value = loss(z1, z2)
    value.backward()
    return float(value.detach())


def three_products(z1: Tensor, z2: Tensor) -> None:
    """Multiply as much as a loss at the limit would."""
    with torch.no_grad():
        z = torch.cat([z1, z2])
        similarity = z @ z.T
        similarity @ z
        similarity.T @ z


def contenders(batch: int, dim: int) -> dict[str, Callable[[], object]]:
    """Return by name what takes turns, the limit first."""
    z1, z2 = views(batch, dim)
    calls: dict[str, Callable[[], object]] = {LIMIT: partial(three_products, z1, z2)}
    return calls | {name: partial(update, loss, z1, z2) for name, loss in losses(batch).items()}


def check(batch: int, dim: int) -> None:
    """Make sure that equal things are compared."""
    z1, z2 = views(batch, dim)
    values = {name: update(loss, z1, z2) for name, loss in losses(batch).items()}
    for name, others in SAME.items():
        for other in others:
            torch.testing.assert_close(values[other], values[name], rtol=1e-4, atol=0)


def extra_memory(name: str, batch: int, dim: int) -> float:
    """Return the MiB that one call of a loss takes at most, beyond the embeddings."""
    update(losses(64)[name], *views(64, dim))  # threads and libraries are there from now on
    loss, (z1, z2) = losses(batch)[name], views(batch, dim)
    return peak_memory(lambda: update(loss, z1, z2))


def measure(
    batches: tuple[int, ...] = (256, 1024, 4096),
    repetitions: tuple[int, ...] = (50, 20, 5),
    dim: int = 128,
    memory_batch: int = 8192,
    large_batch: int = 32_768,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims; one number of repetitions for each batch."""
    check(64, dim)
    measurements, aims = [], []
    for batch, count in zip(batches, repetitions, strict=True):
        seconds = interleaved(contenders(batch, dim), count)
        measurements += rows(f"forward and backward, B = {batch}", seconds, "ms", 1e3)
        if batch == 1024:
            median = {name: statistics.median(values) for name, values in seconds.items()}
            aims += [
                aim(f"{name} over {LIMIT}, B = 1024", median[name] / median[LIMIT], at_most=2.5)
                for name in OURS
            ]
            aims += [
                aim(f"{other} over {name}, B = 1024", median[other] / median[name], at_least=4)
                for name, other in (("NTXent", "lightly NTXentLoss"), ("DCL", "lightly DCLLoss"))
            ]
    names = ("lightly NTXentLoss", "lightly DCLLoss", *OURS)
    memory = {name: apart(extra_memory, name, memory_batch, dim) for name in names}
    measurements += rows(f"extra memory, B = {memory_batch}", memory, "MiB")
    ratio = max(memory[name][0] for name in OURS) / memory["lightly NTXentLoss"][0]
    aims.append(
        aim(
            f"largest of ours over lightly NTXentLoss, memory, B = {memory_batch}",
            ratio,
            at_most=1 / 8,
        )
    )
    large = {"NTXent": apart(extra_memory, "NTXent", large_batch, dim)}
    measurements += rows(f"extra memory, B = {large_batch}", large, "MiB")
    aims.append(aim(f"NTXent, MiB, B = {large_batch}", large["NTXent"][0], at_most=2048))
    return measurements, aims
