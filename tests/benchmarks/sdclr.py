"""SDCLR: what a second, pruned branch costs beside SimCLR, in time and memory.

Self-damaging contrastive learning (Jiang et al., ICML 2021) sends one view through the encoder and
the other through a pruned copy: the same weights, of which nine tenths, those of least magnitude in
all convolutions together, are set to zero anew in each epoch, and batch normalisations of its own.
It is measured in two ways:

- *both branches*: one loss, one backward pass through both branches at once;
- *in turns*: as the released code does, each branch by itself against the other's projections
  without a gradient, so that the pruned branch goes forward twice.

The contenders take turns, epoch by epoch, at scale small on noise. An epoch is as long as one of
long-tailed CIFAR-10 and includes the pruning at its beginning, which is also timed alone. Memory is
what the first steps of a run add in a process of their own: activations, gradients, momentum, masks
and second normalisations. This measures cost; no run is trained to an end, and no accuracy is
compared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.step import session
from benchmarks.timing import apart, interleaved, peak_memory, rows
from dytemp.lab.studies.statistics import mean_interval
from dytemp.lab.training import encoders, loop

SIMCLR, BOTH, TURNS = "SimCLR", "SDCLR, both branches", "SDCLR, in turns"
NAMES = (SIMCLR, BOTH, TURNS)
PRUNED = 0.9  # of the weights
RATIO = "time over that of SimCLR: mean of paired epochs, 95 % interval"
MEMORY = "memory that the first steps take"


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


def memory(name: str, batch: int, steps: int) -> float:
    """Return by how many MiB the first steps of a contender raise the memory of this process."""
    session(2 * batch, batch).train_epoch(1)  # what torch sets up at its first step is not counted
    return peak_memory(lambda: epoch(run_of(name, batch, steps)))


def measure(
    batch: int = 256, steps: int = 43, repetitions: int = 12, processes: int = 3
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims; an epoch has `steps` steps of `batch` pairs."""
    runs = {name: run_of(name, batch, steps) for name in NAMES}
    seconds = interleaved({name: partial(epoch, run) for name, run in runs.items()}, repetitions)
    prune = interleaved({"pruning": partial(runs[BOTH].model.prune, PRUNED)}, repetitions)
    peaks = {
        name: [peak for _ in range(processes) for peak in apart(memory, name, batch, 2)]
        for name in NAMES
    }
    ratios = {}
    for name in (BOTH, TURNS):
        found = mean_interval(np.divide(seconds[name], seconds[SIMCLR]).tolist())
        ratios[name] = [found.low, found.mean, found.high]
    measurements = [
        *rows(f"an epoch of {steps} steps of {batch} pairs", seconds, "s"),
        *rows(RATIO, ratios, "times"),
        *rows("choosing the pruned weights, once an epoch", prune, "ms", 1e3),
        *rows(MEMORY, peaks, "MiB"),
    ]
    return measurements, []
