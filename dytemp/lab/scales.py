"""The four sizes at which every notebook runs, and what differs between them.

A notebook asks three questions only: where are the results of this scale (`store`), may I train
when one is missing (`trains`), and which settings do I ask for (`protocol`).
"""

from __future__ import annotations

import os
from pathlib import Path

from dytemp.lab import paths

RESULTS = "DYTEMP_RESULTS"  # environment variable
NAMES = ("recorded", "quick", "small", "paper")


def store(scale: str) -> Path:
    """Folder into which the results of a scale are written.

    The runs at scale ``quick`` are live, so theirs is a scratch folder; all other results are
    kept with the repository. The environment variable ``DYTEMP_RESULTS`` names a store of one's
    own in place of both, with the live runs in its folder ``quick``.
    """
    _check(scale)
    own = _own_store()
    if scale == "quick":
        return own / "quick" if own else paths.build() / "results"
    return own or _recorded()


def layers(store: Path) -> tuple[Path, ...]:
    """Return the folders in which a result of a store is looked for, in this order.

    A store of one's own lies over the recorded results, which show wherever it has none: nothing
    has to be copied, and nobody needs to write into the installation.
    """
    own = _own_store()
    return (store, _recorded()) if own and store.expanduser().resolve() == own else (store,)


def _own_store() -> Path | None:
    chosen = os.environ.get(RESULTS)
    return Path(chosen).expanduser().resolve() if chosen else None


def _recorded() -> Path:
    return paths.home() / "data" / "results"


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
