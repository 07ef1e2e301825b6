"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dytemp.lab import files


def test_content_and_name_are_on_the_disk_before_anything_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of a power cut: content, then name, then the folder that holds the name."""
    file, done = tmp_path / "folder" / "file", []
    file.parent.mkdir()
    replace, fsync = os.replace, os.fsync

    def note_sync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    def note_replace(source: Path, target: Path) -> None:
        replace(source, target)
        done.append(f"{source.name} becomes {target.name}")

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    with files.replacing(file, file.with_suffix(".new")) as stream:
        stream.write(b"content")
    assert file.read_bytes() == b"content"
    assert done[:3] == ["file.new", "file.new becomes file", "folder"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file, unfinished = tmp_path / "file", tmp_path / "new"
    file.write_text("old")
    unfinished.symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        write(file, unfinished)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def write(file: Path, unfinished: Path) -> None:
    with files.replacing(file, unfinished) as stream:
        stream.write(b"half of it")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "your share of the disk is used up"),
        (errno.EROFS, "read-only file system"),
        (errno.EACCES, "may not write there"),
    ],
)
def test_what_cannot_be_written_is_said_in_a_sentence(number: int, words: str) -> None:
    with pytest.raises(OSError, match=rf"^/x cannot .*{words}\. This is kept\..*VARIABLE\.$"):
        fail(number)


def fail(number: int) -> None:
    with files.explained("This is kept.", "VARIABLE"):
        raise OSError(number, os.strerror(number), "/x")


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(FileNotFoundError, match=r"\[Errno 2\]"):
        fail(errno.ENOENT)
