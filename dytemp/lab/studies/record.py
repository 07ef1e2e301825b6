"""The form of a recorded run: one JSON file, and an ``.npz`` beside it where the loss learns.

Reading trusts nothing: a number outside its range, a curve of another length or the arrays of
another run are refused, so that no figure is drawn from them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dytemp.lab import datasets, files, training
from dytemp.lab.studies import words
from dytemp.lab.training.configuration import Config, describe

Array = np.ndarray[Any, Any]

# Metrics with a range, beside accuracies; others are finite.
_RANGES = {
    "alignment": (0.0, 4.0),
    "uniformity": (-8.0, 1e-6),
    "tolerance": (-1.0, 1.0 + 1e-6),
    "silhouette": (-1.0, 1.0),
    "neighbour_agreement": (0.0, 1.0),
    "graded": (-1.0, 1.0),
}
_LARGEST = sys.float_info.max
_FINITE = (-_LARGEST, _LARGEST)
_CURVES = ("loss", "temperature", "learning_rate")
_NO_TEMPERATURE = ("Spectral",)  # losses that have none


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes
    ----------
    key : str
        The configuration's.
    config : Config
        What was run.
    metrics : dict
        Measurements at the last epoch, see `dytemp.lab.training.evaluation.Evaluation`.
    per_class : dict
        Accuracy of each class at the last epoch, for each kind of prediction.
    evaluations : list of dict
        ``epoch``, ``metrics`` and ``per_class`` of every evaluated epoch, the last one included.
    curves : dict
        ``loss``, ``temperature`` and ``learning_rate``, one value for each epoch.
    counts, groups : list of int
        Training images of each class; whether it is head (0), mid (1) or tail (2).
    seconds : dict
        Wall-clock time of ``training`` and ``evaluation``.
    images_per_second : float
        Training images per second.
    environment : dict
        Versions, processor, threads, device and precision; of the last part of the run.
    code : str
        Version of dytemp and, from a clone, the commit; of the last part of the run.
    arrays : dict of arrays
        Learned temperatures, labels of the training samples and their positions in the data set;
        empty for losses without.
    fingerprint : str
        Of the content of the data set, see `dytemp.lab.datasets.fingerprint`; empty in runs that
        were recorded before it was kept.
    earlier : list of dict
        Parts of the run before it was resumed with another environment or code: the last ``epoch``
        of each, its ``environment`` and its ``code``. Mostly empty.
    """

    key: str
    config: Config
    metrics: dict[str, float]
    per_class: dict[str, list[float]]
    evaluations: list[dict[str, Any]]
    curves: dict[str, list[float]]
    counts: list[int]
    groups: list[int]
    seconds: dict[str, float]
    images_per_second: float
    environment: dict[str, Any]
    code: str
    arrays: dict[str, Array]
    fingerprint: str = ""
    earlier: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"run {self.key} {describe(self.config.loss)} seed {self.config.seed}: "
            f"kNN@1 {100 * self.metrics['knn1']:.1f} %, {sum(self.seconds.values()):.1f} s"
        )


def write(config: Config, outcome: training.Outcome, folder: Path, scratch: Path) -> Path:
    """Record a finished run in `folder`; what is unfinished lies in `scratch`.

    The arrays come first, so that a JSON file never lacks them.
    """
    history = outcome.history
    *earlier, last = history.parts
    record = {
        "key": config.key,
        "config": config.to_dict(),
        "fingerprint": outcome.fingerprint,
        "metrics": history.evaluations[-1]["metrics"],
        "per_class": history.evaluations[-1]["per_class"],
        "evaluations": history.evaluations,
        "curves": history.curves,
        "counts": outcome.counts,
        "groups": outcome.groups,
        "seconds": history.seconds,
        "images_per_second": outcome.images_per_second,
        "environment": last["environment"],
        "code": last["code"],
        "earlier": earlier,
        "arrays": {name: digest(array) for name, array in sorted(outcome.arrays.items())},
    }
    file, unfinished = folder / f"{config.key}.json", scratch / "result"
    arrays: dict[str, Any] = outcome.arrays
    if arrays:
        with files.replacing(file.with_suffix(".npz"), unfinished) as stream:
            np.savez_compressed(stream, **arrays)
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in record.items())
    with files.replacing(file, unfinished) as stream:
        stream.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())
    return file


def read(file: Path) -> Run:
    """Read a recorded result.

    Raises
    ------
    ValueError
        If the file, or the arrays beside it, are damaged, hold what no run can have, or belong to
        another configuration.
    OSError
        If a file is there but cannot be read now.
    """
    arrays_file = file.with_suffix(".npz")
    try:
        text = file.read_bytes()
        record = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
        config = Config.from_dict(record["config"])
        if not config.key == record["key"] == file.stem:
            raise ValueError(f"its configuration has the key {config.key}")
        arrays = _read_arrays(arrays_file, record["arrays"])
        run = Run(**record | {"config": config, "arrays": arrays})
        _check(run)
    except (*datasets.DAMAGE, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) and error.errno:
            raise  # the file may be as it should; the error says why it cannot be read
        raise ValueError(
            f"{file} is not a readable result ({type(error).__name__}: {error}): restore it with "
            "git, or delete it to train the run again"
        ) from error
    return run


def digest(array: Array) -> str:
    """Return 16 hexadecimal digits that stand for the values of an array and their type."""
    head = f"{array.dtype.str} {array.shape}".encode()
    content = hashlib.blake2b(head, digest_size=8)
    content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def _read_arrays(file: Path, names: Mapping[str, str] | list[str]) -> dict[str, Array]:
    """Read the arrays; a list of names, without their digests, is the older form."""
    if not names:
        return {}
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in names}
    if isinstance(names, dict):
        for name, array in arrays.items():
            if digest(array) != names[name]:
                raise ValueError(f"{name} in {file.name} belongs to another run, or was changed")
    return arrays


def _check(run: Run) -> None:
    """Refuse what no run can have."""
    classes = len(run.counts)
    _need(classes > 0 and all(type(n) is int and n >= 0 for n in run.counts), "counts")
    _need(len(run.groups) == classes and set(run.groups) <= {0, 1, 2}, "groups")
    _need(set(run.seconds) == {"training", "evaluation"}, "seconds")
    _numbers("seconds", list(run.seconds.values()), 0)
    _numbers("images_per_second", [run.images_per_second], 0)
    _need(isinstance(run.environment, dict) and bool(run.environment), "environment")
    _need(isinstance(run.code, str) and bool(run.code), "code")
    _need(isinstance(run.fingerprint, str), "fingerprint")
    for part in run.earlier:
        _need({"epoch", "environment", "code"} == set(part), "earlier")

    _need(set(run.curves) == set(_CURVES), "curves")
    points = run.config.epochs // run.config.curves_every
    without = "temperature" if run.config.loss["name"] in _NO_TEMPERATURE else None
    for name, curve in run.curves.items():
        free = name == "temperature" and "source" in run.config.loss and not curve  # one's own
        wanted = 0 if name == without or free else points
        _need(len(curve) == wanted, f"curves: {name} has {len(curve)} points, not {wanted}")
        _numbers(f"curves: {name}", curve, -_LARGEST if name == "loss" else 0)

    epochs = [evaluation["epoch"] for evaluation in run.evaluations]
    _need(epochs == sorted(set(epochs)) and epochs[-1:] == [run.config.epochs], "evaluations")
    for evaluation in run.evaluations:
        _check_evaluation(evaluation, classes)
    last = run.evaluations[-1]
    _need(run.metrics == last["metrics"], "metrics: they are not those of the last evaluation")
    _need(run.per_class == last["per_class"], "per_class: it is not that of the last evaluation")

    for name, array in run.arrays.items():
        _need(array.shape == (sum(run.counts),), f"arrays: {name} has shape {array.shape}")
        _need(bool(np.isfinite(array).all()), f"arrays: {name} is not finite")
        _need(array.min(initial=0) >= 0, f"arrays: {name} has negative values")
    if "labels" in run.arrays:
        found = np.bincount(run.arrays["labels"], minlength=classes).tolist()
        _need(found == run.counts, "arrays: labels do not have the counts of the run")


def _check_evaluation(evaluation: Mapping[str, Any], classes: int) -> None:
    metrics, per_class = evaluation["metrics"], evaluation["per_class"]
    _need("knn1" in per_class, "per_class: without knn1")
    for name, value in metrics.items():
        kind = words.bare(name)
        low, high = (0, 1) if kind.startswith(words.ACCURACIES) else _RANGES.get(kind, _FINITE)
        _need(type(value) in (int, float) and low <= value <= high, f"{name}: {value!r}")
    for name, values in per_class.items():
        _need(len(values) == classes, f"per_class: {name} has {len(values)} classes")
        _numbers(f"per_class: {name}", values, 0, 1)
        mean = sum(values) / classes
        _need(abs(metrics[name] - mean) < 1e-9, f"{name}: it is not the mean over the classes")


def _numbers(
    name: str, values: Collection[Any], low: float = -_LARGEST, high: float = _LARGEST
) -> None:
    """Refuse what is no number, not finite or outside the range."""
    if not (set(map(type, values)) <= {int, float} and all(low <= v <= high for v in values)):
        _need(False, f"{name}: {values!r:.200}")


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"this cannot be: {what}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
