"""Where the files of the repository are, whatever the working directory."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Root of the repository: the parent of the package, or the environment's ``DYTEMP_HOME``.

    Raises
    ------
    FileNotFoundError
        If the folder does not hold ``data/papers``, for example because the package was installed
        from a wheel, which carries the library but not the notebooks and the data.
    """
    chosen = os.environ.get("DYTEMP_HOME")
    root = Path(chosen).expanduser().resolve() if chosen else Path(__file__).resolve().parents[2]
    if not (root / "data" / "papers").is_dir():
        raise FileNotFoundError(
            f"{root} is not a copy of the dytemp repository: it has no folder data/papers. Install "
            "the package from a clone (pip install -e .), or set the environment variable "
            "DYTEMP_HOME to the root of a clone."
        )
    return root


def build() -> Path:
    """Folder for everything that can be made again: executed notebooks, reports, live runs.

    It is ``build`` in the repository, or the one that the environment's ``DYTEMP_BUILD`` names.
    """
    chosen = os.environ.get("DYTEMP_BUILD")
    return Path(chosen).expanduser().resolve() if chosen else home() / "build"
