"""Files that appear whole or not at all, and that a power cut does not take back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(file: Path, unfinished: Path) -> Iterator[BinaryIO]:
    """Open `unfinished` for writing; in the end it takes the place of `file`.

    A reader sees the old file or the new one, never a part. When this returns, content and name
    are on the disk; when it raises, the old file is as it was.

    Parameters
    ----------
    file : Path
        What is to be written.
    unfinished : Path
        Where it is written first, on the same file system; no other writer may use this name.
    """
    try:
        with unfinished.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, file)
    except BaseException:
        unfinished.unlink(missing_ok=True)  # on a full disk its space is needed
        raise
    for folder in (file.parent, file.parent.parent):  # the folder may be new itself
        _sync(folder)


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk; only POSIX can, and not on every file system."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder above that may be entered but not read
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
