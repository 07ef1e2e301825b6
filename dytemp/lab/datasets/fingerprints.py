"""What a data set holds, in one word that changes with any of it."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from torch import Tensor

from dytemp.lab.datasets.folders import files_of
from dytemp.lab.datasets.loading import own_source, read_own
from dytemp.lab.datasets.long_tails import as_bytes, content_keys
from dytemp.lab.datasets.types import Captioned, Dataset, Sentences


def fingerprint(dataset: Dataset) -> str:
    """Return 32 hexadecimal digits that stand for images, labels, captions and class names.

    The order of the images does not count, as it does not when a subset is chosen: a shuffled copy
    has the same fingerprint. Neither does the name of the data set.

    Parameters
    ----------
    dataset : Dataset

    Returns
    -------
    str
        BLAKE2b hash of the sorted content keys with their labels.
    """
    whole = hashlib.blake2b(json.dumps(dataset.class_names).encode(), digest_size=16)
    for part in ("train", "test"):
        images: Tensor = getattr(dataset, f"{part}_images")
        columns = [
            getattr(dataset, f"{part}_labels").numpy(),
            content_keys(as_bytes(images), 0, "fingerprint").numpy(),
        ]
        if isinstance(dataset, Captioned):
            words = as_bytes(getattr(dataset, f"{part}_tokens"))
            columns.append(content_keys(words, 0, "fingerprint").numpy())
        if isinstance(dataset, Sentences) and part == "test":
            words = as_bytes(dataset.test_others)
            columns.append(content_keys(words, 0, "fingerprint").numpy())
        table = np.stack(columns).astype("<i8")
        whole.update(str(tuple(images.shape)).encode())
        whole.update(np.ascontiguousarray(table[:, np.lexsort(table)]).tobytes())
    return whole.hexdigest()


def own_fingerprint(name: str, root: str | os.PathLike[str] | None = None) -> str | None:
    """Return the fingerprint of a data set if it is read from own files here, else None.

    Public and generated data sets are what their names say; files of one's own may change. They are
    read again only after they have.
    """
    source = own_source(name, root)
    if source is None:
        return None
    files = [source] if source.is_file() else files_of(source)
    stats = [(file, file.stat()) for file in files]
    return _of_files(name, source, tuple((f, s.st_mtime_ns, s.st_size) for f, s in stats))


@functools.lru_cache(maxsize=16)
def _of_files(name: str, source: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    return fingerprint(read_own(name, source))
