"""Files that appear whole or not at all."""

from __future__ import annotations

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


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_on_a_full_disk(file, tmp_path / "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def write_on_a_full_disk(file: Path, unfinished: Path) -> None:
    with files.replacing(file, unfinished) as stream:
        stream.write(b"half of it")
        raise OSError(28, "No space left on device")
