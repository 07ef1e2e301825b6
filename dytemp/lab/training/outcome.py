"""What a training run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dytemp.lab.training import pairings


@dataclass
class History:
    """What a run has left behind so far; it is kept in the checkpoint.

    Attributes
    ----------
    epoch : int
        Number of finished epochs.
    curves : dict
        One value for each epoch: ``loss`` and ``temperature`` (means over the epoch) and
        ``learning_rate`` (at its end), or for each `curves_every` epochs. ``temperature`` is empty
        for a loss that has none.
    evaluations : list of dict
        One for each evaluated epoch, in the form of `dytemp.lab.training.evaluation.Evaluation`.
    seconds : dict
        Wall-clock time of ``training`` and of ``evaluation``.
    parts : list of dict
        One for each stretch of epochs under the same conditions, so mostly one: its last ``epoch``,
        the ``environment`` and the ``code``.
    """

    epoch: int = 0
    curves: dict[str, list[float]] = field(
        default_factory=lambda: {"loss": [], "temperature": [], "learning_rate": []}
    )
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0})
    parts: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes
    ----------
    history : History
        Curves, evaluations and seconds.
    arrays : dict of arrays
        For losses that learn temperatures: one for each training sample (``tau``, or ``tau_image``
        and ``tau_text``), the samples' classes (``labels``) and their ``positions`` in the training
        images of the data set; with captions also ``rarest_word``, how often the rarest word of the
        caption occurs. Empty for the others.
    fingerprint : str
        Of the content of the data set, see `dytemp.lab.datasets.fingerprint`.
    counts, groups : list of int
        Training images of each class, and whether it is head (0), mid (1) or tail (2).
    images_per_second : float
        Training images (not views) per second, without evaluation.
    device, precision : str
        Where and in which numbers the encoder ran.
    model : nn.Module
        The trained encoders, see `dytemp.lab.training.pairings`.
    """

    history: History
    arrays: dict[str, np.ndarray[Any, Any]]
    fingerprint: str
    counts: list[int]
    groups: list[int]
    images_per_second: float
    device: str
    precision: str
    model: pairings.Pairing
