"""Captions as words: the stated rule by which own captions become tokens.

Words are runs of letters, digits and apostrophes, in lower case. The vocabulary holds the words
that occur at least `MINIMUM_COUNT` times in the training captions; every other word is `UNKNOWN`.
A caption is cut off after `LONGEST` words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from dytemp.lab.datasets.types import Captioned, Dataset

PADDING, UNKNOWN = "", "<unknown>"  # at places 0 and 1 of a vocabulary
MINIMUM_COUNT = 5
LONGEST = 32  # words

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def words(caption: str) -> list[str]:
    """Return the words of a caption, in lower case, without punctuation."""
    return _WORD.findall(caption.lower())


def vocabulary(captions: Sequence[str], minimum: int = MINIMUM_COUNT) -> tuple[str, ...]:
    """Return padding, the unknown word, then the words that occur often enough, frequent first."""
    counts = Counter(word for caption in captions for word in words(caption))
    often = sorted((-count, word) for word, count in counts.items() if count >= minimum)
    return PADDING, UNKNOWN, *(word for _, word in often)


def tokenise(captions: Sequence[str], known: Sequence[str], length: int) -> Tensor:
    """Return the words of captions as positions in a vocabulary.

    Parameters
    ----------
    captions : sequence of str
    known : sequence of str
        From `vocabulary`.
    length : int
        Words beyond it are cut off.

    Returns
    -------
    int64 tensor (N, length)
        Filled up with 0.
    """
    position = {word: place for place, word in enumerate(known)}
    tokens = torch.zeros(len(captions), length, dtype=torch.int64)
    for row, caption in zip(tokens, captions, strict=True):
        found = [position.get(word, 1) for word in words(caption)[:length]]
        row[: len(found)] = torch.tensor(found, dtype=torch.int64)
    return tokens


def rarest(tokens: Tensor, known: Sequence[str]) -> Tensor:
    """Return how often the rarest word of each caption occurs in all of them, int64 (N,).

    A word that is not in the vocabulary `known` is rarer than every other: 0.
    """
    counts = tokens.flatten().bincount(minlength=len(known))
    counts[0] = tokens.numel()  # padding, which is no word
    if UNKNOWN in known:
        counts[known.index(UNKNOWN)] = 0
    return counts[tokens].amin(dim=1)


def longest(captions: Sequence[str]) -> int:
    """Return the length to which captions are tokenised: of the longest, at most `LONGEST`."""
    return max(1, min(LONGEST, max(len(words(caption)) for caption in captions)))


def attach(data: Dataset, train: list[str], test: list[str]) -> Captioned:
    """Return a data set with its captions, tokenised by the words of the training captions."""
    known, length = vocabulary(train), longest(train)
    return Captioned(
        name=data.name,
        train_images=data.train_images,
        test_images=data.test_images,
        train_labels=data.train_labels,
        test_labels=data.test_labels,
        class_names=data.class_names,
        train_captions=train,
        test_captions=test,
        train_tokens=tokenise(train, known, length),
        test_tokens=tokenise(test, known, length),
        vocabulary=known,
        test_groups=equal(test),
    )


def equal(captions: Sequence[str]) -> Tensor:
    """Return for each caption the place of the first one that is equal to it, int64 (N,)."""
    first = {caption: place for place, caption in reversed(list(enumerate(captions)))}
    return torch.tensor([first[caption] for caption in captions])


def splice(tokens: Tensor, strangers: Tensor, shares: Tensor) -> Tensor:
    """Return sentences of which a given share is left: their beginnings, ended by other sentences.

    Parameters
    ----------
    tokens, strangers : int64 tensor (N, L)
        Sentences, and those that end them.
    shares : Tensor
        In [0, 1], shape (N,): how much of a sentence stays in front; as much of the stranger, from
        its beginning, makes room for it.

    Returns
    -------
    int64 tensor (N, L)
    """
    spliced = torch.zeros_like(tokens)
    for row, ours, theirs, share in zip(spliced, tokens, strangers, shares.tolist(), strict=True):
        ours, theirs = ours[ours != 0], theirs[theirs != 0]
        words = torch.cat([ours[: round(share * len(ours))], theirs[round(share * len(theirs)) :]])
        row[: len(words)] = words[: len(row)]
    return spliced
