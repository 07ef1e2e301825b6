"""Files that appear whole or not at all, and that a power cut does not take back."""

from __future__ import annotations

import errno
import getpass
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout


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
    except BaseException as error:
        with suppress(OSError):
            unfinished.unlink()  # on a full disk its space is needed
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(file)
        raise
    for folder in (file.parent, file.parent.parent):  # the folder may be new itself
        _sync(folder)


@contextmanager
def alone(lock: Path, holder: Path, waiting: str, patience: float = 0) -> Iterator[None]:
    """Hold a lock between processes; say who holds it, if it does not come at once.

    Parameters
    ----------
    lock : Path
        The lock file; its folder is made if there is none.
    holder : Path
        Where it is written who holds the lock. Its folder is made once the lock is held.
    waiting : str
        What is said while waiting, with ``{}`` for the process that holds it.
    patience : float
        Seconds before it is said.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=patience)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "another process"
        print(waiting.replace("{}", who), file=sys.stderr, flush=True)
        held.acquire()
    try:
        holder.parent.mkdir(exist_ok=True)
        since = time.strftime("%H:%M")
        holder.write_text(f"process {os.getpid()} on {platform.node()} since {since}", "utf-8")
        yield
    finally:
        held.release()


class UnwritableError(OSError):
    """A folder that cannot be written, in a sentence that says what to do."""


@contextmanager
def explained(what: str, variable: str) -> Iterator[None]:
    """Turn the errors of a full disk or a forbidden folder into a sentence.

    Parameters
    ----------
    what : str
        What is kept all the same, and what happens next time.
    variable : str
        The environment variable that chooses another folder.

    Raises
    ------
    UnwritableError
        In place of the errors that the user can do something about.
    """
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "your share of the disk is used up",
            errno.EROFS: "it is on a read-only file system",
            errno.EACCES: f"{_user()} may not write there",
            errno.EPERM: f"{_user()} may not write there",
        }
        if error.errno not in reasons:
            raise
        raise UnwritableError(
            f"{error.filename} cannot be written, since {reasons[error.errno]}. {what} Make room "
            f"or get leave to write there, or choose another folder with the environment variable "
            f"{variable}."
        ) from error


def _user() -> str:
    try:
        return f"user {getpass.getuser()}"
    except (OSError, KeyError):  # in a container the user may have no name
        return "this user"


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
