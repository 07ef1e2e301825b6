"""Training: our loop against a loop from the usual building blocks and against lightly's.

The same encoder is trained for the same epochs with the same augmentation, batch size, optimiser,
schedule and temperature, by

- `dytemp`: the training loop of this package,
- the usual loop: torchvision's transforms on Pillow images in a data loader with two workers,
  float32, and the textbook loss,
- `lightly`: the same with its SimCLR transform, projection head and loss.

Each run has a process of its own; the contenders take turns, one seed after the other. Seconds are
those of training without evaluation; the accuracy is that of the 10 nearest neighbours on test
images, measured after the same epochs for all. Memory is the largest that a run and its workers
take together, libraries included. The encoder alone, forward and backward on views that are
already there, is the limit.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import step
from benchmarks.augmentation import pipeline
from benchmarks.timing import MemoryOfChildren, aim, apart, interleaved, rows
from dytemp.lab import datasets, training
from dytemp.lab.training import augment, encoders, hardware, optimizers, pairings
from dytemp.lab.training.evaluation import evaluate
from dytemp.losses.infonce import info_nce, pair_similarities

DATA = "benchmark"
TAU = 0.2
SIDE = 32
NEIGHBOURS = "knn10"
T_QUANTILE = 2.78  # 95 %, two-sided, four degrees of freedom: two means over three seeds

Result = tuple[float, dict[int, float]]  # seconds of training; accuracy by epoch


# --- data ---------------------------------------------------------------------------------------


def write_data(folder: Path, images: int, tests: int) -> str:
    """Write a data set of this size that all contenders read; return where it comes from."""
    try:
        data = datasets.load("cifar10")
    except FileNotFoundError:
        data = synthetic(images, tests)
    arrays = {}
    for part, count in (("train", images), ("test", tests)):
        pictures, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
        chosen = datasets.content_keys(pictures, seed=0).argsort()[:count]
        arrays[f"{part}_images"] = pictures[chosen].permute(0, 2, 3, 1).numpy()
        arrays[f"{part}_labels"] = labels[chosen].numpy()
    np.savez(folder / f"{DATA}.npz", **arrays)
    return data.name


def synthetic(images: int, tests: int) -> datasets.Dataset:
    """Return pictures of the size of CIFAR's: a smooth pattern for each class, under noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = F.interpolate(torch.rand(10, 3, 4, 4, generator=generator), SIDE, mode="bilinear")
    labels = torch.arange(images + tests) % 10
    noise = torch.rand(len(labels), 3, SIDE, SIDE, generator=generator)
    pictures = (127 * (patterns[labels] + noise)).to(torch.uint8)
    return datasets.Dataset(
        name="synthetic pictures",
        train_images=pictures[:images],
        test_images=pictures[images:],
        train_labels=labels[:images],
        test_labels=labels[images:],
        class_names=tuple("0123456789"),
    )


# --- contenders ---------------------------------------------------------------------------------


def ours(config: training.Config, root: Path) -> Result:
    """Train with the loop of this package."""
    history = training.train(config, device="cpu", root=root).history
    scores = {e["epoch"]: e["metrics"][NEIGHBOURS] for e in history.evaluations}
    return history.seconds["training"], scores


def usual(config: training.Config, root: Path) -> Result:
    """Train as one usually would."""
    operations = pipeline(augment.PRESETS[config.augmentation], SIDE, transforms)
    view = transforms.Compose([*operations, transforms.ToTensor()])

    def loss(z1: Tensor, z2: Tensor) -> Tensor:
        similarity, positives, itself = pair_similarities(z1, z2)
        return info_nce(similarity, positives, TAU, itself).mean()

    return loop(config, root, lambda picture: (view(picture), view(picture)), loss)


def lightlys(config: training.Config, root: Path) -> Result:
    """Train with the SimCLR building blocks of lightly, at the same strengths."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    strengths = augment.PRESETS[config.augmentation]
    brightness, contrast, saturation, hue = strengths.jitter
    views = SimCLRTransform(
        SIDE,
        cj_prob=strengths.jitter_probability,
        cj_bright=brightness,
        cj_contrast=contrast,
        cj_sat=saturation,
        cj_hue=hue,
        min_scale=strengths.crop_scale[0],
        random_gray_scale=strengths.grey,
        gaussian_blur=strengths.blur,
        sigmas=strengths.blur_sigma,
        normalize=None,  # the encoder does it
    )
    return loop(config, root, views, NTXentLoss(TAU), SimCLRProjectionHead)


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Pillow images that become two views."""

    def __init__(self, images: Tensor, views: Callable[[Any], Any]) -> None:
        arrays = images.permute(0, 2, 3, 1).numpy()
        self.pictures = [Image.fromarray(array) for array in arrays]
        self.views = views

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        first, second = self.views(self.pictures[place])
        return first, second


def loop(
    config: training.Config,
    root: Path,
    views: Callable[[Any], Any],
    loss: Callable[[Tensor, Tensor], Tensor],
    head: Callable[..., nn.Module] | None = None,
) -> Result:
    """Train with a data loader, in float32, by the settings of `config`."""
    dataset = datasets.load(config.data, root)
    split = training.choose_split(config, dataset)
    torch.manual_seed(config.seed)
    image = encoders.build(config.encoder, 3, config.projection_dim)
    if head is not None:
        image.head = head(image.feature_dim, image.feature_dim, config.projection_dim)
    model = pairings.TwoViews(image)
    loader = DataLoader(
        Pictures(dataset.train_images[split.train], views),
        batch_size=config.batch,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        multiprocessing_context="fork",  # starts at once; what Linux does unless told otherwise
        persistent_workers=True,
    )
    optimiser = torch.optim.SGD(
        model.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay
    )
    warmup, total = config.warmup_epochs * len(loader), config.epochs * len(loader)
    updates, seconds, scores = 0, 0.0, {}
    for epoch in range(1, config.epochs + 1):
        start = time.perf_counter()
        for first, second in loader:
            updates += 1
            rate = optimizers.learning_rate(updates, config.learning_rate, warmup, total)
            optimiser.param_groups[0]["lr"] = rate
            value = loss(*model(first, second))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        seconds += time.perf_counter() - start
        if epoch % config.evaluate_every == 0 or epoch == config.epochs:
            found = evaluate(epoch, model, dataset, split, (), None, nullcontext)
            scores[epoch] = found.metrics[NEIGHBOURS]
    return seconds, scores


def encoder_alone(batch: int, repetitions: int) -> list[float]:
    """Return training images per second if there were nothing but the encoder."""
    precision = hardware.precision("auto", torch.device("cpu"))
    call = step.encoder_step(step.encoder("channels_last"), batch, precision)
    return [batch / seconds for seconds in interleaved({"": call}, repetitions)[""]]


OURS, USUAL, LIGHTLY, LIMIT = "dytemp", "the usual loop", "lightly", "the encoder alone"
CONTENDERS = {USUAL: usual, LIGHTLY: lightlys, OURS: ours}


# --- measurement --------------------------------------------------------------------------------


def measure(
    images: int = 4096,
    tests: int = 2000,
    batch: int = 256,
    epochs: int = 15,
    evaluate_every: int = 1,
    seeds: int = 3,
    target: float = 0.36,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims; `target` is the accuracy that is to be reached."""
    results: dict[str, list[Result]] = {name: [] for name in CONTENDERS}
    memory: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    rates: dict[str, list[float]] = {LIMIT: []}
    with tempfile.TemporaryDirectory() as folder:
        source = write_data(Path(folder), images, tests)
        for seed in range(seeds):
            config = step.small(
                data=DATA,
                batch=batch,
                epochs=epochs,
                evaluate_every=evaluate_every,
                loss={"name": "NTXent", "temperature": TAU},
                seed=seed,
            )
            for name, contender in CONTENDERS.items():
                with MemoryOfChildren() as watch:
                    results[name] += apart(contender, config, Path(folder))
                memory[name].append(watch.peak)
            rates[LIMIT] += apart(encoder_alone, batch, 20)[0]

    seen = epochs * (images // batch) * batch
    rates |= {name: [seen / seconds for seconds, _ in runs] for name, runs in results.items()}
    accuracies = {name: [100 * scores[epochs] for _, scores in r] for name, r in results.items()}
    waits = {name: [time_to(target, epochs, *run) for run in r] for name, r in results.items()}
    reached = {name: [x for x in series if math.isfinite(x)] for name, series in waits.items()}
    median = {name: statistics.median(values) for name, values in rates.items()}
    about = f"{source}, {images} images, {epochs} epochs, batch {batch}"
    measurements = [
        *rows(f"training images per second: {about}", rates, "images/s"),
        *rows(
            f"training time to an accuracy of {target:.0%}, in the runs that reach it",
            {name: series for name, series in reached.items() if series},
            "s",
        ),
        *rows(f"accuracy after {epochs} epochs", accuracies, "%"),
        *rows("memory, with workers and libraries", memory, "MiB"),
    ]
    aims = [
        aim(f"images per second, {OURS} over {USUAL}", median[OURS] / median[USUAL], at_least=5),
        aim(
            f"images per second, {OURS} over {LIGHTLY}", median[OURS] / median[LIGHTLY], at_least=6
        ),
        aim(f"images per second, {OURS} over {LIMIT}", median[OURS] / median[LIMIT], at_least=0.8),
    ]
    if seeds > 1:
        aims += [
            aim(
                f"accuracy, {OURS} and {other}: difference over its standard error",
                distance(accuracies[OURS], accuracies[other]),
                at_most=T_QUANTILE,
            )
            for other in (USUAL, LIGHTLY)
        ]
    return measurements, aims


def time_to(target: float, epochs: int, seconds: float, scores: dict[int, float]) -> float:
    """Return the seconds of training until the accuracy is first seen to be reached, or inf."""
    first = min((epoch for epoch, score in scores.items() if score >= target), default=math.inf)
    return seconds * first / epochs


def distance(first: list[float], second: list[float]) -> float:
    """Return the distance of two means in units of its standard error."""
    variance = sum(statistics.variance(series) / len(series) for series in (first, second))
    difference = abs(statistics.mean(first) - statistics.mean(second))
    return difference / math.sqrt(variance) if variance else math.inf
