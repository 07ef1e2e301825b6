"""Own data, from a file ``<root>/<name>.npz``."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dytemp.lab.datasets.captions import attach
from dytemp.lab.datasets.types import Dataset

# What NumPy and zipfile raise for a damaged archive (RuntimeError: a method that is not known).
DAMAGE = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
CAPTIONS = ("train_captions", "test_captions")
KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def from_npz(name: str, file: Path) -> Dataset:
    """Read and check ``<root>/<name>.npz``."""
    arrays = _read(file)
    train_images, test_images = (_images(file, part, arrays) for part in ("train", "test"))
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"{file}: test_images must have the height, width and channels of train_images, got "
            f"{arrays['test_images'].shape} and {arrays['train_images'].shape}"
        )
    train_labels, test_labels = (_labels(file, part, arrays) for part in ("train", "test"))
    class_names = _class_names(file, arrays)
    counts = train_labels[train_labels >= 0].bincount(minlength=1)
    if counts[0] == 0 and int(train_labels.min()) == 1:
        raise ValueError(
            f"{file}: labels must count from 0, but class 0 has no training image and the labels "
            f"are {int(train_labels.min())} .. {int(train_labels.max())}: take 1 from all of them"
        )
    for key, labels in (("train_labels", train_labels), ("test_labels", test_labels)):
        if not 0 <= int(labels.min()) <= int(labels.max()) < len(class_names):
            raise ValueError(
                f"{file}: {key} must lie in 0 .. {len(class_names) - 1} (the classes of "
                f"{'class_names' if 'class_names' in arrays else 'train_labels'}), got "
                f"{int(labels.min())} .. {int(labels.max())}"
            )
    data = Dataset(
        name=name,
        train_images=train_images,
        test_images=test_images,
        train_labels=train_labels,
        test_labels=test_labels,
        class_names=class_names,
    )
    if not any(key in arrays for key in CAPTIONS):
        return data
    return attach(data, *(_captions(file, key, arrays) for key in CAPTIONS))


def _captions(file: Path, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Check captions: one string per image."""
    if key not in arrays:
        raise ValueError(f"{file} must have both of {', '.join(CAPTIONS)}, or none; missing: {key}")
    found, images = arrays[key], arrays[key.replace("captions", "images")]
    if found.dtype.kind != "U" or found.shape != images.shape[:1]:
        raise ValueError(
            f"{file}: {key} must be strings, one per image, shape {images.shape[:1]}, got "
            f"{found.dtype} {found.shape}"
        )
    return [str(caption) for caption in found]


def _read(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays that we know; others, such as file names, are left alone."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            missing = [key for key in KEYS if key not in arrays]
            found = {key: arrays[key] for key in (*KEYS, *CAPTIONS, "class_names") if key in arrays}
    except (*DAMAGE, TypeError) as error:
        raise ValueError(
            f"{file} is damaged or no NumPy archive ({error}). Copy or make it again, with "
            "numpy.savez and without object arrays."
        ) from error
    if missing:
        raise ValueError(f"{file} must have the keys {', '.join(KEYS)}; missing: {missing}")
    return found


def _images(file: Path, part: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Tensor:
    """Check and bring images (N, H, W, C) or (N, H, W) to (N, C, H, W)."""
    key = f"{part}_images"
    images = arrays[key]
    if images.dtype != np.uint8:
        raise ValueError(f"{file}: {key} must have dtype uint8 (0 .. 255), got {images.dtype}")
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.size == 0:
        raise ValueError(
            f"{file}: {key} must have shape (N, H, W, C) with C = 1 or 3, or (N, H, W), and at "
            f"least one image, got {arrays[key].shape}"
        )
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _labels(file: Path, part: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Tensor:
    """Check labels: one integer per image."""
    key, labels = f"{part}_labels", arrays[f"{part}_labels"]
    if labels.dtype != np.int64:
        raise ValueError(f"{file}: {key} must have dtype int64, got {labels.dtype}")
    if labels.shape != arrays[f"{part}_images"].shape[:1]:
        raise ValueError(
            f"{file}: {key} must have one label per image, shape "
            f"{arrays[f'{part}_images'].shape[:1]}, got {labels.shape}"
        )
    return torch.from_numpy(labels)


def _class_names(file: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[str, ...]:
    """Class names of the file, or the numbers of the classes that occur in training."""
    if "class_names" not in arrays:
        return tuple(str(k) for k in range(int(arrays["train_labels"].max()) + 1))
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"{file}: class_names must be a vector of strings, got {names.dtype} {names.shape}"
        )
    return tuple(names.tolist())
