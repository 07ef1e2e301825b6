"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# The same examples every time, and no deadline: a busy machine must not fail a test.
settings.register_profile("dytemp", derandomize=True, deadline=None)
settings.load_profile("dytemp")


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's own data and results out of the tests, and theirs untouched."""
    for name in ("DYTEMP_HOME", "DYTEMP_BUILD", "DYTEMP_RESULTS", "DYTEMP_DATA", "DYTEMP_JOBS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def write_notebook() -> Callable[..., Path]:
    """Write a notebook; a source is a Markdown text (it starts with #) or code, maybe with tags."""

    def write(path: Path, *cells: str | tuple[str, list[str]]) -> Path:
        notebook = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            }
        )
        for cell in cells:
            source, tags = cell if isinstance(cell, tuple) else (cell, [])
            new = nbformat.v4.new_markdown_cell if source[0] == "#" else nbformat.v4.new_code_cell
            notebook.cells.append(new(source, metadata={"tags": tags}))
        nbformat.write(notebook, path)
        return path

    return write


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide an empty copy of the repository: data, scales, pages; no notebook, no results."""
    (tmp_path / "data").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data" / "papers").symlink_to(ROOT / "data" / "papers")
    (tmp_path / "book").symlink_to(ROOT / "book")
    (tmp_path / "notebooks" / "scales").symlink_to(ROOT / "notebooks" / "scales")
    monkeypatch.setenv("DYTEMP_HOME", str(tmp_path))
    # `reproduce` sets these for its kernels; setting them here first undoes that afterwards.
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("DYTEMP_JOBS", "")
    monkeypatch.setenv("DYTEMP_SCHEDULER", "")
    return tmp_path
