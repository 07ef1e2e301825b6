"""SDCLR: what a second, pruned branch costs beside SimCLR, in time and memory.

Self-damaging contrastive learning (Jiang et al., ICML 2021) sends one view through the encoder and
the other through a pruned copy: the same weights, of which nine tenths, those of least magnitude in
all convolutions together, are set to zero anew in each epoch, and batch normalisations of its own.
It is measured in two ways:

- *both branches*: one loss, one backward pass through both branches at once;
- *in turns*: as the released code does, each branch by itself against the other's projections
  without a gradient, so that the pruned branch goes forward twice.

The contenders take turns at scale small on noise. The choice of the pruned weights, once an epoch,
is timed alone. Seconds are those of the processor, which other work disturbs less than those of the
clock. Memory is what a step has to keep: weights with their gradients and momentum, masks, and what
the forward pass keeps for the backward pass, at its highest; it is counted, and not what the
allocator takes. This measures cost: no run is trained to an end, and no accuracy is compared.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.step import session
from benchmarks.timing import MIB, interleaved, rows
from dytemp.lab.studies.statistics import mean_interval
from dytemp.lab.training import encoders, loop

SIMCLR, BOTH, TURNS = "SimCLR", "SDCLR, both branches", "SDCLR, in turns"
NAMES = (SIMCLR, BOTH, TURNS)
PRUNED = 0.9  # of the weights
RATIO = "time over that of SimCLR: mean of paired repetitions, 95 % interval"
MEMORY = "memory that a step has to keep, counted"


class DenseAndPruned(nn.Module):
    """An encoder for the first view, and its pruned copy for the second.

    The copy has no weights of its own but those of its batch normalisations.
    """

    def __init__(self, image: encoders.Encoder) -> None:
        super().__init__()
        self.image = image
        self.norms = nn.ModuleDict(
            {
                name.replace(".", "/"): copy.deepcopy(module)
                for name, module in image.named_modules()
                if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
            }
        )
        self.masks: dict[str, Tensor] = {}
        self.prune(0.0)

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        for name, module in self.image.named_modules():
            if isinstance(module, nn.Conv2d):
                yield f"{name}.weight", module.weight

    def prune(self, share: float) -> None:
        """Choose the weights of least magnitude, this share of all, which the copy lacks."""
        weights = dict(self._weights())
        sizes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
        count = round(share * len(sizes))
        threshold = sizes.kthvalue(count).values if count else -1.0
        self.masks = {name: weight.detach().abs() > threshold for name, weight in weights.items()}

    def pruned(self, images: Tensor) -> Tensor:
        """Return the projections of the pruned copy."""
        own = {name: weight * self.masks[name] for name, weight in self._weights()}
        for place, norm in self.norms.items():
            name = place.replace("/", ".")
            own |= {f"{name}.{key}": value for key, value in norm.named_parameters()}
            own |= {f"{name}.{key}": value for key, value in norm.named_buffers()}
        output: Tensor = functional_call(self.image, own, (images,))
        return output

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projections of both views."""
        return self.image(first), self.pruned(second)


def run_of(name: str, batch: int, steps: int) -> loop._Session:
    """Return a run of a contender on noise, ready to be trained."""
    run = session(batch * steps, batch)
    if name != SIMCLR:
        run.model = DenseAndPruned(run.model.image).to(memory_format=torch.channels_last)
        run.optimizer.add_param_group({"params": list(run.model.norms.parameters())})
    if name == TURNS:
        run._update = partial(_in_turns, run)
    return run


def epoch(run: loop._Session) -> None:
    """Prune, if the run does, and go through the images once."""
    if isinstance(run.model, DenseAndPruned):
        run.model.prune(PRUNED)
    run.train_epoch(1 + run.history.epoch % run.config.epochs)


def _in_turns(run: loop._Session, rows: Tensor, generator: torch.Generator) -> float:
    """Take one step: the gradient of each branch by itself, then one update."""
    first, second = run._pairs(rows, slice(len(rows)), len(rows), generator)
    run.optimizer.zero_grad()
    with torch.no_grad(), run._autocast():
        other = run.model.pruned(second)
    with run._autocast():
        z1 = run.model.image(first)
    loss = run.loss(z1, other, rows)
    loss.backward()
    with run._autocast():
        z2 = run.model.pruned(second)
    run.loss(z1.detach(), z2, rows).backward()
    run.optimizer.step()
    return float(loss.detach())


class Kept:
    """Counts the bytes that are kept for the backward pass, within a ``with``.

    Attributes
    ----------
    peak : int
        The highest count; what shares its memory is counted once, and the weights not at all.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.peak = 0
        self._weights = {weight.untyped_storage().data_ptr() for weight in weights}
        self._users: Counter[tuple[int, int]] = Counter()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, _Held.get)

    def __enter__(self) -> Kept:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _keep(self, tensor: Tensor) -> _Held:
        storage = tensor.untyped_storage()
        place = (storage.data_ptr(), storage.nbytes())
        if place[0] not in self._weights:
            self._users[place] += 1
            self.peak = max(self.peak, sum(size for _, size in self._users))
        return _Held(self, tensor, place)

    def release(self, place: tuple[int, int]) -> None:
        """Count what one user of a memory no longer keeps."""
        self._users[place] -= 1
        if self._users[place] <= 0:
            del self._users[place]


class _Held:
    """A tensor that is kept, and says when it no longer is."""

    def __init__(self, kept: Kept, tensor: Tensor, place: tuple[int, int]) -> None:
        self._kept, self._tensor, self._place = kept, tensor, place

    def get(self) -> Tensor:
        return self._tensor

    def __del__(self) -> None:
        self._kept.release(self._place)


def memory(name: str, batch: int) -> float:
    """Return how many MiB a step of a contender has to keep."""
    run = run_of(name, batch, 2)
    with Kept(run.model.parameters()) as kept:
        epoch(run)
    weights = sum(weight.nbytes for weight in run.model.parameters())
    masks = sum(mask.nbytes for mask in getattr(run.model, "masks", {}).values())
    return (3 * weights + masks + kept.peak) / MIB


def measure(
    batch: int = 256, steps: int = 43, repetitions: int = 12
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims; `steps` steps of `batch` pairs are timed at once."""
    runs = {name: run_of(name, batch, steps) for name in NAMES}
    for run in runs.values():
        epoch(run)
    calls = {name: partial(run.train_epoch, 2) for name, run in runs.items()}
    seconds = interleaved(calls, repetitions, time.process_time)
    choose = {"pruning": partial(runs[BOTH].model.prune, PRUNED)}
    prune = interleaved(choose, repetitions, time.process_time)
    kept = {name: [memory(name, batch)] for name in NAMES}
    ratios = {}
    for name in (BOTH, TURNS):
        found = mean_interval(np.divide(seconds[name], seconds[SIMCLR]).tolist())
        ratios[name] = [found.low, found.mean, found.high]
    measurements = [
        *rows(f"{steps} steps of {batch} pairs", seconds, "s"),
        *rows(RATIO, ratios, "times"),
        *rows("choosing the pruned weights, once an epoch", prune, "ms", 1e3),
        *rows(MEMORY, kept, "MiB"),
    ]
    return measurements, []
