"""Noisy patterns of ten classes: a data set that trains for thousands of epochs in seconds.

A class is a random smooth pattern, its prototype: a sum of plane waves. An image shows the
prototype of its class turned, shifted and stretched, mixed with a smooth pattern of its own, at its
own contrast and brightness, with noise on the pixels. So a class is a curved family of images, and
no pixel tells the class by itself.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dytemp import checks
from dytemp.lab.datasets.types import Dataset

Array = npt.NDArray[np.float64]

SIDE = 8  # pixels
CLASSES = 10
WAVES = 5  # in a pattern
CYCLES = (0.4, 1.6)  # of a wave across the image
TURN = 0.25  # radians, to either side
SHIFT = 0.1  # of the side, to either side
STRETCH = 1.2  # greatest factor, and its inverse the least
OWN = 0.5  # an image's own pattern, over the prototype
NOISE = 1.25  # of each pixel, over the prototype
CONTRAST = (15.0, 40.0)  # grey values that one standard deviation of the prototype stands for
BRIGHTNESS = (88.0, 168.0)  # grey value of the mean


def prototypes(train_per_class: int = 300, test_per_class: int = 100, seed: int = 0) -> Dataset:
    """Draw the classes and their images.

    Parameters
    ----------
    train_per_class, test_per_class : int
        Images of each class in the two parts; both parts are balanced.
    seed : int
        Of the prototypes and of the images.

    Returns
    -------
    Dataset
        uint8 images of shape (N, 1, 8, 8), ordered by class.

    Raises
    ------
    TypeError, ValueError
        If a number of images is less than 1, or the seed is negative.
    """
    per_class = [
        checks.integer("train_per_class", train_per_class, at_least=1),
        checks.integer("test_per_class", test_per_class, at_least=1),
    ]
    rng = np.random.default_rng(checks.integer("seed", seed, at_least=0))
    classes = _waves(rng, CLASSES)
    labels = [np.arange(CLASSES).repeat(count) for count in per_class]
    images = [draw((classes[0][k], classes[1][k], classes[2][k]), rng) for k in labels]
    return Dataset(
        name="prototypes",
        train_images=_tensor(images[0]),
        test_images=_tensor(images[1]),
        train_labels=torch.from_numpy(labels[0]),
        test_labels=torch.from_numpy(labels[1]),
        class_names=tuple(f"pattern {k}" for k in range(CLASSES)),
    )


Waves = tuple[Array, Array, Array]  # frequencies (N, WAVES, 2), phases and weights (N, WAVES)


def draw(patterns: Waves, rng: np.random.Generator) -> Array:
    """Draw one image of each prototype, (N, SIDE, SIDE), in grey values."""
    count = len(patterns[1])

    def uniform(low: float, high: float, *shape: int) -> Array:
        return rng.uniform(low, high, (count, *shape))

    angle, stretch = uniform(-TURN, TURN), STRETCH ** uniform(-1, 1)
    cosine, sine = np.cos(angle) / stretch, np.sin(angle) / stretch
    turned = np.stack([np.stack([cosine, -sine], 1), np.stack([sine, cosine], 1)], 1)
    places = grid() @ turned.swapaxes(1, 2) + uniform(-SHIFT, SHIFT, 1, 2)
    shown = values(patterns, places) + OWN * values(_waves(rng, count), grid())
    shown += NOISE * rng.standard_normal(shown.shape)
    grey = uniform(*BRIGHTNESS, 1) + uniform(*CONTRAST, 1) * shown
    return grey.reshape(count, SIDE, SIDE)


def grid() -> Array:
    """Return the centres of the pixels, (SIDE * SIDE, 2), the image from -1/2 to 1/2."""
    line = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)


def values(patterns: Waves, places: Array) -> Array:
    """Return the height of patterns (N) at places, (N or none, P, 2): (N, P)."""
    frequencies, phases, weights = patterns
    angles = 2 * np.pi * (places @ frequencies.swapaxes(1, 2)) + phases[:, None]
    return np.asarray((np.cos(angles) * weights[:, None]).sum(axis=2))


def _waves(rng: np.random.Generator, count: int) -> Waves:
    """Draw patterns, each of a variance of 1 over all phases."""
    direction = rng.uniform(0, 2 * np.pi, (count, WAVES))
    cycles = rng.uniform(*CYCLES, (count, WAVES))
    frequencies = cycles[..., None] * np.stack([np.cos(direction), np.sin(direction)], axis=-1)
    weights = rng.standard_normal((count, WAVES))
    weights *= np.sqrt(2 / (weights**2).sum(axis=1, keepdims=True))
    return frequencies, rng.uniform(0, 2 * np.pi, (count, WAVES)), weights


def _tensor(grey: Array) -> Tensor:
    return torch.from_numpy(grey.round().clip(0, 255).astype(np.uint8))[:, None]
