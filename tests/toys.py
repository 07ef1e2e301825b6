"""Data and settings small enough that a training run takes a fraction of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dytemp.lab.training import Config

CLASSES = 3


def write_data(folder: Path) -> Path:
    """Write ``toy.npz``: noisy 8 x 8 pictures of 3 kinds, 40 to train and 10 to test of each."""
    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 200, (CLASSES, 8, 8, 1))
    arrays = {}
    for part, count in (("train", 40), ("test", 10)):
        labels = np.repeat(np.arange(CLASSES), count)
        noise = generator.integers(0, 56, (len(labels), 8, 8, 1))
        arrays[f"{part}_images"] = (patterns[labels] + noise).astype(np.uint8)
        arrays[f"{part}_labels"] = labels
    np.savez(folder / "toy.npz", **arrays)
    return folder


def config(**settings: Any) -> Config:
    """Return a run of two epochs of four updates on the toy data."""
    small = {"data": "toy", "n_max": 40, "ratio": 0.5, "batch": 16, "epochs": 2}
    return Config.from_dict({**small, "projection_dim": 16, **settings})
