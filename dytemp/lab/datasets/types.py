"""What a data set is: images or sentences as tensors, with classes, perhaps with captions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
    """Images with captions; the label is the class or the main concept of a scene.

    Attributes
    ----------
    train_captions, test_captions : list of str
    train_tokens, test_tokens : int64 tensor (N, L)
        The words of the captions as positions in `vocabulary`, filled up with 0.
    vocabulary : tuple of str
        Position 0 is the padding.
    test_groups : int64 tensor (N,), optional
        Equal for test images with equal captions, which are matches of each other in retrieval. By
        default only an image's own caption is one.
    """

    train_captions: list[str]
    test_captions: list[str]
    train_tokens: Tensor
    test_tokens: Tensor
    vocabulary: tuple[str, ...]
    test_groups: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Sentences(Dataset):
    """Sentences with classes; what is read stands where other data sets have their images.

    Held-out sentences come in two wordings, row by row, so that one can be looked for by the other.

    Attributes
    ----------
    train_images, test_images : int64 tensor (N, L)
        The words of the sentences as positions in `vocabulary`, filled up with 0.
    test_others : int64 tensor (N, L)
        The test sentences in their other wording.
    validation, validation_others : int64 tensor (N, L)
        Further held-out sentences in both wordings, to choose by.
    vocabulary : tuple of str
        Position 0 is the padding.
    """

    test_others: Tensor
    validation: Tensor
    validation_others: Tensor
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
