"""Step: where the time of a training step at scale small goes, and what was tried to shorten it.

The first table takes the training loop itself apart: seconds per step over whole epochs. In the
others the first row is what the loop does, the following ones are the alternatives: other numbers
and memory layouts for the encoder (forward and backward), other loops for the optimiser,
`torch.compile` of the encoder (in a fresh process without its cache, so that the time to compile is
seen), two runs with one thread each side by side instead of one run with two threads, and features
and neighbours in the evaluation. The images are noise, which costs the same time.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import aim, apart, interleaved, rows, wait_for_the_others
from dytemp import metrics
from dytemp.lab import datasets, training
from dytemp.lab.studies import protocols
from dytemp.lab.studies.statistics import mean_interval
from dytemp.lab.training import encoders, hardware, loop
from dytemp.lab.training.evaluation import ROWS
from dytemp.losses.pairs import PairLoss

SIDE = 32
PROJECTION = 128
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
WHOLE, ENCODER, VIEWS = "whole step", "encoder, forward and backward", "augmentation"


def small(**changes: Any) -> training.Config:
    """Return the settings of scale small, on all images of a data set and without probes."""
    everything = {"n_max": None, "permutation": None, "validation_per_class": 0, "probes": ()}
    return training.Config(**protocols.SMALL | everything | changes)


def session(images: int, batch: int) -> loop._Session:
    """Return a run on noise, ready to be trained."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (images, 3, SIDE, SIDE), generator=generator).to(torch.uint8)
    labels = torch.arange(images) % 10
    dataset = datasets.Dataset("noise", noise, noise, labels, labels, tuple("0123456789"))
    config = small(batch=batch)
    split = training.choose_split(config, dataset)
    known = datasets.fingerprint(dataset)
    run = loop._Session(config, dataset, known, split, torch.device("cpu"), None)
    run.bar.disable = True
    return run


# --- the parts of a step ------------------------------------------------------------------------


def breakdown(batch: int, steps: int, epochs: int) -> dict[str, list[float]]:
    """Return by part the seconds per step, one value for each epoch after the first.

    The methods of a run are wrapped to take their time. The backward pass of the loss ends, and
    that of the encoder begins, when the gradient arrives at the embeddings.
    """
    run = session(batch * steps, batch)
    parts = dict.fromkeys((WHOLE, ENCODER, VIEWS, "loss", "optimiser", "rest"), 0.0)
    arrival = 0.0

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments)
            parts[part] += time.perf_counter() - start
            return result

        return measured

    def arrived(_: Tensor) -> None:
        nonlocal arrival
        arrival = time.perf_counter()

    def forward(*views: Tensor, call: Callable[..., Any] = run.model.forward) -> Any:
        embeddings = call(*views)
        for embedding in embeddings:
            embedding.register_hook(arrived)
        return embeddings

    def backward(loss: Tensor, call: Callable[..., Any] = Tensor.backward) -> None:
        start = time.perf_counter()
        call(loss)
        parts["loss"] += arrival - start
        parts[ENCODER] += time.perf_counter() - arrival

    seconds: dict[str, list[float]] = {part: [] for part in parts}
    with (
        mock.patch.object(run, "_pairs", timed(VIEWS, run._pairs)),
        mock.patch.object(run.model, "forward", timed(ENCODER, forward)),
        mock.patch.object(run.loss, "forward", timed("loss", run.loss.forward)),
        mock.patch.object(Tensor, "backward", backward),
        mock.patch.object(run.optimizer, "zero_grad", timed("optimiser", run.optimizer.zero_grad)),
        mock.patch.object(run.optimizer, "step", timed("optimiser", run.optimizer.step)),
    ):
        for epoch in range(epochs + 1):
            parts.update(dict.fromkeys(parts, 0.0))
            timed(WHOLE, run.train_epoch)(epoch + 1)
            parts["rest"] = 2 * parts[WHOLE] - sum(parts.values())
            for part, total in parts.items():
                if epoch:
                    seconds[part].append(total / steps)
    return seconds


def beside(
    contenders: dict[str, PairLoss],
    excess: tuple[str, str],
    batch: int,
    steps: int,
    repetitions: int,
) -> tuple[list[dict[str, Any]], float]:
    """Return the rows of two losses whose trainings take turns, and the ratio of their medians.

    Of each the seconds per step; then, under the group and name `excess`, by how many percent the
    second exceeds the first in paired epochs of `steps` steps.
    """
    runs = {name: session(batch * steps, batch) for name in contenders}
    for name, loss in contenders.items():
        runs[name].loss = loss

    def epoch(name: str) -> None:
        run = runs[name]
        run.train_epoch(1 + run.history.epoch % run.config.epochs)

    seconds = interleaved({name: lambda name=name: epoch(name) for name in runs}, repetitions)
    first, second = seconds.values()
    found = mean_interval((100 * np.log(np.divide(second, first))).tolist())
    per_step = {name: [value / steps for value in values] for name, values in seconds.items()}
    group, name = excess
    (interval,) = rows(group, {name: [found.low, found.mean, found.high]}, "%")
    interval["repetitions"] = found.count
    measurements = [*rows(f"a step of {batch} pairs", per_step, "ms", 1e3), interval]
    return measurements, statistics.median(second) / statistics.median(first)


# --- what was tried -----------------------------------------------------------------------------


def encoder(layout: str) -> nn.Module:
    """Return the encoder of scale small, always with the same weights."""
    torch.manual_seed(0)
    return encoders.build("small", 3, PROJECTION).to(memory_format=LAYOUTS[layout])


def encoder_step(model: nn.Module, batch: int, precision: str) -> Callable[[], None]:
    """Return a call that goes forward and backward through a model with two views of a batch."""
    views = torch.rand(2 * batch, 3, SIDE, SIDE)
    slopes = torch.randn(2 * batch, PROJECTION)

    def step() -> None:
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            embeddings = model(views)
        embeddings.backward(slopes.to(embeddings.dtype))

    return step


def precisions(batch: int, repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of the encoder by numbers and memory layout, ours first."""
    chosen = hardware.precision("auto", torch.device("cpu"))
    names = (chosen, *({"bfloat16", "float32"} - {chosen}))
    contenders = {
        f"{precision}, {layout}": encoder_step(encoder(layout), batch, precision)
        for precision in names
        for layout in LAYOUTS
    }
    return interleaved(contenders, repetitions)


def optimisers(batch: int, repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of an update of all weights, torch's own choice first."""
    contenders = {}
    options = {
        "torch's choice": {},
        "for-loop": {"foreach": False},
        "foreach": {"foreach": True},
        "fused": {"fused": True},
    }
    for name, option in options.items():
        model = encoder("channels_last")
        encoder_step(model, batch, "float32")()
        settings = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4}
        contenders[name] = torch.optim.SGD(model.parameters(), **settings, **option).step
    return interleaved(contenders, repetitions)


def compilation(batch: int, repetitions: int) -> tuple[float, dict[str, list[float]]]:
    """Return the seconds of the first step of a compiled encoder, and of the later ones."""
    precision = hardware.precision("auto", torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        compiled = encoder_step(torch.compile(encoder("channels_last")), batch, precision)
        start = time.perf_counter()
        compiled()
        first = time.perf_counter() - start
        eager = encoder_step(encoder("channels_last"), batch, precision)
        contenders = {"as it is": eager, "compiled": compiled}
        return first, interleaved(contenders, repetitions)


def training_rate(batch: int, steps: int) -> float:
    """Return training images per second of this process, while others of its kind run too."""
    run = session(batch * steps, batch)
    run.train_epoch(1)
    wait_for_the_others()
    start = time.perf_counter()
    run.train_epoch(2)
    return batch * steps / (time.perf_counter() - start)


def side_by_side(batch: int, steps: int, repetitions: int) -> dict[str, list[float]]:
    """Return training images per second of one run with all threads and of one run a thread."""
    threads = torch.get_num_threads()
    rates: dict[str, list[float]] = {
        f"1 run with {threads} threads": [],
        f"{threads} runs with 1 thread": [],
    }
    together, apart_ = rates.values()
    for _ in range(repetitions):
        together += apart(training_rate, batch, steps)
        apart_.append(sum(apart(training_rate, batch, steps, processes=threads, threads=1)))
    return rates


def evaluation(samples: int, repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of features and neighbours for as many training as test images."""
    images = torch.randint(0, 256, (samples, 3, SIDE, SIDE)).to(torch.uint8)
    model = encoder("channels_last").eval()
    bank, test = torch.randn(2, samples, 128)
    labels = torch.arange(samples) % 10

    def features(precision: str) -> None:
        enabled = precision == "bfloat16"
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            for part in images.split(ROWS):
                model.features(part / 255).float()

    contenders: dict[str, Callable[[], object]] = {
        f"features, {precision}": lambda precision=precision: features(precision)
        for precision in ("bfloat16", "float32")
    }
    for k in (1, 10):
        name = f"{k} nearest neighbours" if k > 1 else "nearest neighbour"
        contenders[name] = lambda k=k: metrics.knn_predict(bank, labels, test, k)
    return interleaved(contenders, repetitions)


def measure(
    batch: int = 256,
    steps: int = 16,
    epochs: int = 7,
    repetitions: int = 21,
    runs: int = 3,
    samples: int = 10_000,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims; a step has `batch` pairs."""
    parts = breakdown(batch, steps, epochs)
    share = {
        part: statistics.median(parts[part]) / statistics.median(parts[WHOLE])
        for part in (ENCODER, VIEWS)
    }
    measurements = [
        *rows(f"parts of a step, {batch} pairs", parts, "ms", 1e3),
        *rows("encoder, forward and backward", precisions(batch, repetitions), "ms", 1e3),
        *rows("optimiser, one update", optimisers(batch, repetitions), "ms", 1e3),
    ]
    if shutil.which("c++") or shutil.which("g++") or shutil.which("clang++"):
        ((first, seconds),) = apart(compilation, batch, repetitions)
        measurements += rows("encoder, torch.compile", seconds, "ms", 1e3)
        measurements += rows("encoder, torch.compile, first step", {"compiled": [first]}, "s")
    measurements += [
        *rows("runs side by side", side_by_side(batch, steps, runs), "images/s"),
        *rows(f"evaluation, {samples} images", evaluation(samples, 5), "s"),
    ]
    return measurements, [
        aim("share of the encoder in a step", share[ENCODER], at_least=0.8),
        aim("share of the augmentation in a step", share[VIEWS], at_most=0.15),
    ]
