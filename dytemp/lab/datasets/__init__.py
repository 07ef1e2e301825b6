"""Data sets as tensors, and long-tailed subsets of them that are chosen by content.

Images are uint8 tensors (N, C, H, W), sentences int64 tensors (N, L) of words, the whole data set
in memory.
"""

from dytemp.lab.datasets.fingerprints import fingerprint, own_fingerprint
from dytemp.lab.datasets.loading import load, nouns
from dytemp.lab.datasets.long_tails import (
    content_keys,
    long_tail_counts,
    long_tail_indices,
    split,
)
from dytemp.lab.datasets.own import DAMAGE
from dytemp.lab.datasets.permutations import TS_PERMUTATIONS, class_order
from dytemp.lab.datasets.types import Captioned, Dataset, Sentences, Split

__all__ = [
    "DAMAGE",
    "TS_PERMUTATIONS",
    "Captioned",
    "Dataset",
    "Sentences",
    "Split",
    "class_order",
    "content_keys",
    "fingerprint",
    "load",
    "long_tail_counts",
    "long_tail_indices",
    "nouns",
    "own_fingerprint",
    "split",
]
