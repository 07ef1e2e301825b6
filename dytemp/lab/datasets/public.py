"""Public data sets that torchvision can read and download."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dytemp.lab.datasets.types import Dataset


@dataclass(frozen=True)
class Public:
    """A public data set that torchvision can read and download."""

    builder: str
    folder: str
    archive: str
    size: str
    parts: tuple[Mapping[str, Any], Mapping[str, Any]]


_CIFAR_PARTS = ({"train": True}, {"train": False})
PUBLIC = {
    "cifar10": Public(
        "CIFAR10",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "170 MB to download, 360 MB on disk",
        _CIFAR_PARTS,
    ),
    "cifar100": Public(
        "CIFAR100",
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        "169 MB to download, 360 MB on disk",
        _CIFAR_PARTS,
    ),
    "stl10": Public(
        "STL10",
        "stl10_binary",
        "stl10_binary.tar.gz",
        "2.6 GB to download, 5.8 GB on disk",
        ({"split": "train"}, {"split": "test"}),
    ),
}


def from_torchvision(name: str, public: Public, folder: Path, download: bool) -> Dataset:
    """Read torchvision's own folder, which it checks file by file (md5)."""
    import torchvision

    builder = getattr(torchvision.datasets, public.builder)
    try:
        train, test = (builder(folder, download=download, **part) for part in public.parts)
    except RuntimeError as error:
        files = [*builder.train_list, *builder.test_list]
        if hasattr(builder, "meta"):  # CIFAR keeps the class names in a file of their own
            files.append((builder.meta["filename"], builder.meta["md5"]))
        damaged = _damaged(folder / public.folder, files) or [folder / public.archive]
        raise ValueError(
            f"{damaged[0]} is missing or damaged. Delete {folder / public.folder} and the archive "
            f"beside it, then get the data set again with `python -m dytemp fetch {name} --to "
            f"{folder}` ({public.size}), or unpack a copy of {public.archive} there."
        ) from error
    except OSError as error:
        if not download:
            raise
        raise OSError(
            f"the download of {public.archive} to {folder} failed ({error}). Place a copy of it "
            f"there ({public.size}) and try again."
        ) from error
    return Dataset(
        name=name,
        train_images=_torchvision_images(train),
        test_images=_torchvision_images(test),
        train_labels=_torchvision_labels(train),
        test_labels=_torchvision_labels(test),
        class_names=tuple(train.classes),
    )


def file_names(public: Public, folder: Path) -> list[str]:
    """Return the names that CIFAR's training images had as files, in the order of the images."""
    import torchvision

    builder = getattr(torchvision.datasets, public.builder)
    files = builder.train_list
    if damaged := _damaged(folder / public.folder, files):
        raise ValueError(f"{damaged[0]} is missing or damaged")
    found: list[str] = []
    for file, _ in files:  # the sums were checked: these are the files that all the world has
        with (folder / public.folder / file).open("rb") as batch:
            found += pickle.load(batch, encoding="latin1")["filenames"]
    return found


def _damaged(folder: Path, files: Sequence[Sequence[str]]) -> list[Path]:
    """Name the files that are missing or whose md5 sum is wrong."""
    from torchvision.datasets.utils import check_integrity

    return [folder / file for file, md5 in files if not check_integrity(folder / file, md5)]


def _torchvision_images(part: Any) -> Tensor:
    """Bring the images to (N, C, H, W): CIFAR has its channels last, STL-10 has them first."""
    images = torch.from_numpy(part.data)
    return (images if images.shape[1] == 3 else images.permute(0, 3, 1, 2)).contiguous()


def _torchvision_labels(part: Any) -> Tensor:
    """CIFAR calls them targets, a list; STL-10 calls them labels, an array."""
    labels = part.targets if hasattr(part, "targets") else part.labels
    return torch.as_tensor(labels).to(torch.int64)
