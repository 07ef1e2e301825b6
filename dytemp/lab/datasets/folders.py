"""Own data, from folders of image files.

``<root>/<name>/train/<class>/*.png`` and ``<root>/<name>/test/<class>/*.png`` are images by class.
With a table ``<root>/<name>/captions.csv`` (columns ``file``, ``caption``, and if you like
``class``; a file is given as ``train/0001.png``) they are images with captions.

Every image is cropped to its central square, resized to a stated side and brought to colour.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dytemp.lab.datasets import captions
from dytemp.lab.datasets.types import Captioned, Dataset

SIDE = 32  # pixels, where none is stated
TYPES = (".png", ".jpg", ".jpeg", ".webp")
TABLE = "captions.csv"
_PARTS = ("train", "test")
_DAMAGE = (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError)


def from_folder(name: str, folder: Path, side: int = SIDE) -> Dataset:
    """Read a folder of images by class, or of images with captions.

    Parameters
    ----------
    name : str
        Of the data set.
    folder : Path
        ``<root>/<name>``.
    side : int
        Height and width of the images, in pixels.

    Raises
    ------
    ValueError
        If a part or a class is missing, a file is damaged, or the table of captions does not fit:
        the message names the files.
    """
    return (
        _captioned(name, folder, side)
        if (folder / TABLE).is_file()
        else _by_class(name, folder, side)
    )


def files_of(folder: Path) -> list[Path]:
    """Return everything that a data set is read from, in a fixed order."""
    table = [folder / TABLE] if (folder / TABLE).is_file() else []
    return table + [file for part in _PARTS for file in _images_in(folder / part)]


def _by_class(name: str, folder: Path, side: int) -> Dataset:
    files: dict[str, list[Path]] = {}
    for part in _PARTS:
        files[part] = [
            file for file in _images_in(folder / part) if file.parent.parent == folder / part
        ]
        if not files[part]:
            raise ValueError(
                f"{folder / part} must hold a folder of images ({', '.join(TYPES)}) for each "
                "class, such as train/cat/1.png; there is none"
            )
    class_names = sorted({file.parent.name for file in files["train"]})
    strangers = sorted({file.parent.name for file in files["test"]} - set(class_names))
    if strangers:
        raise ValueError(
            f"{folder / 'test'} has classes that train has not: {', '.join(strangers)}"
        )
    position = {each: place for place, each in enumerate(class_names)}
    images = {part: _read(files[part], side) for part in _PARTS}
    labels = {
        part: torch.tensor([position[file.parent.name] for file in files[part]]) for part in _PARTS
    }
    return Dataset(
        name=name,
        train_images=images["train"],
        test_images=images["test"],
        train_labels=labels["train"],
        test_labels=labels["test"],
        class_names=tuple(class_names),
    )


def _captioned(name: str, folder: Path, side: int) -> Captioned:
    rows = _table(folder / TABLE)
    parts = {part: [row for row in rows if row["file"].startswith(f"{part}/")] for part in _PARTS}
    for part, found in parts.items():
        if not found:
            raise ValueError(f"{folder / TABLE} names no file of {part}/, such as {part}/0001.png")
    class_names = sorted({row["class"] for row in parts["train"]})
    strangers = sorted({row["class"] for row in parts["test"]} - set(class_names))
    if strangers:
        raise ValueError(f"{folder / TABLE}: test has classes that train has not: {strangers}")
    position = {each: place for place, each in enumerate(class_names)}
    images = {
        part: _read([folder / row["file"] for row in found], side) for part, found in parts.items()
    }
    labels = {
        part: torch.tensor([position[row["class"]] for row in found])
        for part, found in parts.items()
    }
    return captions.attach(
        Dataset(
            name=name,
            train_images=images["train"],
            test_images=images["test"],
            train_labels=labels["train"],
            test_labels=labels["test"],
            class_names=tuple(class_names),
        ),
        [row["caption"] for row in parts["train"]],
        [row["caption"] for row in parts["test"]],
    )


def _table(file: Path) -> list[dict[str, str]]:
    """Read the table of captions; without classes all images are of one."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file} is no CSV table in UTF-8 ({error})") from error
    for number, row in enumerate(rows, start=2):
        if not row.get("file") or not row.get("caption"):
            raise ValueError(f"{file}, line {number}: needs a file and a caption, got {row}")
    names = [row["file"] for row in rows]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{file} has files more than once: {', '.join(twice[:5])}")
    return [
        {"file": row["file"], "caption": row["caption"], "class": row.get("class") or "all"}
        for row in rows
    ]


def _images_in(folder: Path) -> list[Path]:
    """Return the image files below a folder, in a fixed order; hidden ones are left alone."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in TYPES and not file.name.startswith(".")
    )


def _read(files: Sequence[Path], side: int) -> Tensor:
    """Read images, uint8 (N, 3, side, side), and name all damaged files at once."""
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda file: _pixels(file, side), files))
    damaged = [
        f"{file} ({why})" for file, why in zip(files, found, strict=True) if isinstance(why, str)
    ]
    if damaged:
        more = f" and {len(damaged) - 5} more" if len(damaged) > 5 else ""
        raise ValueError(f"cannot read {len(damaged)} image(s): {', '.join(damaged[:5])}{more}")
    pixels = np.stack([each for each in found if not isinstance(each, str)])
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def _pixels(file: Path, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | str:
    """Return an image as (side, side, 3), or why it cannot be read."""
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            square = ImageOps.fit(upright, (side, side), Image.Resampling.BICUBIC)
            return np.asarray(square, dtype=np.uint8)
    except _DAMAGE as error:
        return str(error) or type(error).__name__
