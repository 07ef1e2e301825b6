"""The four sizes at which every notebook runs, and what differs between them.

A notebook asks three questions only: where are the results of this scale (`store`), may I train
when one is missing (`trains`), and which settings do I ask for (`protocol`).
"""

from __future__ import annotations

import os
from pathlib import Path

from dytemp.lab import paths

NAMES = ("recorded", "quick", "small", "paper")


def store(scale: str) -> Path:
    """Folder of the results of a scale.

    The runs at scale ``quick`` are live, so theirs is a scratch folder; all other results are
    kept with the repository. The environment variable ``DYTEMP_RESULTS`` replaces both.
    """
    _check(scale)
    chosen = os.environ.get("DYTEMP_RESULTS")
    if chosen:
        return Path(chosen).expanduser().resolve()
    return paths.build() / "results" if scale == "quick" else paths.home() / "data" / "results"


def trains(scale: str) -> bool:
    """Whether a missing result is trained; at scale ``recorded`` it is an error instead."""
    return _check(scale) != "recorded"


def protocol(scale: str) -> str:
    """Scale whose settings (data, encoder, epochs, seeds) the results of `scale` were made with."""
    return "quick" if _check(scale) == "recorded" else scale


def _check(scale: str) -> str:
    if scale not in NAMES:
        raise ValueError(f"scale must be one of {', '.join(NAMES)}; got {scale!r}")
    return scale
