"""Long-tailed subsets, chosen by content.

A subset is never chosen by position: a seeded hash of the pixels ranks the images of a class, so
the same seed gives the same images, in the same order, from any copy of the data.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dytemp import checks
from dytemp.lab.datasets.types import Dataset, Split

__all__ = ["content_keys", "long_tail_counts", "long_tail_indices", "split"]


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


def as_bytes(rows: Tensor) -> Tensor:
    """Return images, which are bytes already, or rows of words as bytes, for `content_keys`."""
    return rows.contiguous().view(torch.uint8)


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
    labels : integers (N,)
    keys : integers (N,)
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
    labels = checks.integers("labels", labels)
    if not len(labels):
        raise ValueError("labels must be an int64 tensor (N,), N >= 1, got no label")
    if permutation is not None:
        permutation = _whole_numbers(permutation)
    classes = int(labels.max()) + 1 if permutation is None else len(permutation)
    profile = long_tail_counts(n_max, classes, ratio)
    counts = _by_class(profile, _order(permutation, classes))
    return choose(labels, keys, counts, f"n_max {n_max}")


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
    validation = choose(labels, ranking, [per_class] * classes, "validation_per_class")
    rest = without(labels, validation)
    keys = content_keys(dataset.train_images, seed)
    train = rest[choose(labels[rest], keys[rest], counts, f"n_max {n_max}")]
    few = [min(counts)] * classes
    few_shot = train[choose(labels[train], keys[train], few, "the few-shot set")]

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


def choose(labels: Tensor, keys: Tensor, counts: Sequence[int], wanted_by: str) -> Tensor:
    """Positions of the `counts[k]` smallest keys of each class k, in ascending order of keys."""
    labels = checks.integers("labels", labels, size=len(counts))
    keys = checks.integers("keys", keys, len(labels))
    # Equal keys are equal images; the label decides between two such images of different classes.
    order = torch.from_numpy(np.lexsort((labels.numpy(), keys.numpy())))
    ranked = labels[order]
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for k, count in enumerate(counts):
        members = (ranked == k).nonzero().flatten()
        if len(members) < count:
            way_out = "; None (null in YAML) takes all images as they are"
            raise ValueError(
                f"class {k} has {len(members)} images, but {wanted_by} asks for {count} of them"
                + way_out * wanted_by.startswith("n_max")
            )
        chosen[members[:count]] = True
    return order[chosen]


def without(labels: Tensor, taken: Tensor) -> Tensor:
    """Positions that are not taken."""
    free = torch.ones(len(labels), dtype=torch.bool)
    free[taken] = False
    return free.nonzero().flatten()
