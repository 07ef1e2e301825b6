"""Recorded runs: a configuration goes in, its result comes out, from the record or by training.

A result is one JSON file named after the configuration's key, with an ``.npz`` beside it where the
loss learns temperatures. Files appear whole or not at all, and two processes that ask for the same
run train it once.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

import dytemp
from dytemp import checks
from dytemp.lab import datasets, scales, training
from dytemp.lab.training import distributed, hardware
from dytemp.lab.training.configuration import Config, describe

if TYPE_CHECKING:
    import pandas as pd

ACCURACY_TOLERANCE = 0.05  # between machines; see `verify`


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
        Versions, processor, threads, device and precision.
    code : str
        Version of dytemp and, from a clone, the commit.
    arrays : dict of arrays
        Learned temperatures and labels of the training samples; empty for losses without.
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
    arrays: dict[str, np.ndarray[Any, Any]]

    def curve(self, metric: str) -> tuple[list[int], list[float]]:
        """Return the epochs at which a metric was measured, and its values."""
        points = [(e["epoch"], e["metrics"]) for e in self.evaluations if metric in e["metrics"]]
        if not points:
            raise ValueError(f"metric must be one of {', '.join(self.metrics)}, got {metric!r}")
        return [epoch for epoch, _ in points], [metrics[metric] for _, metrics in points]

    def __str__(self) -> str:
        return (
            f"run {self.key} {describe(self.config.loss)} seed {self.config.seed}: "
            f"kNN@1 {100 * self.metrics['knn1']:.1f} %, {sum(self.seconds.values()):.1f} s"
        )


def get(
    config: Config | Mapping[str, Any],
    store: str | os.PathLike[str] | None = None,
    train: bool = True,
    device: str = "auto",
    root: str | os.PathLike[str] | None = None,
) -> Run:
    """Return the recorded result of a run, or train and record it.

    Parameters
    ----------
    config : Config or mapping
        The run; a mapping is read by `Config.from_dict`.
    store : path, optional
        Folder of the results; by default ``data/results`` of the repository. Checkpoints live in
        its folder ``.work`` until the run is finished.
    train : bool
        Whether to train a run that is not recorded.
    device, root
        As for `dytemp.lab.training.train`.

    Raises
    ------
    FileNotFoundError
        If the run is not recorded and `train` is False, or its data set is missing.
    ValueError
        If the recorded result cannot be read, or as `dytemp.lab.training.train`.
    """
    if not isinstance(config, Config):
        config = Config.from_dict(config)
    folder = results_folder(store)
    file = folder / f"{config.key}.json"
    with distributed.processes():
        if distributed.from_first(file.is_file()):
            return load(file)
        if not train:
            raise FileNotFoundError(_how_to_train(config, folder))
        work = folder / ".work" / config.key
        work.mkdir(parents=True, exist_ok=True)
        first = distributed.rank() == 0
        with FileLock(f"{work}.lock") if first else nullcontext():
            if not distributed.from_first(file.is_file()):
                outcome = training.train(config, work, device, root)
                if first:
                    _record(config, outcome, folder)
                    print(load(file), flush=True)
            if first:
                shutil.rmtree(work, ignore_errors=True)
            distributed.wait_for_all()
        return load(file)


def load(file: Path) -> Run:
    """Read a recorded result.

    Raises
    ------
    ValueError
        If the file, or the arrays beside it, cannot be read or belong to another configuration.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        config = Config.from_dict(record["config"])
        if not config.key == record["key"] == file.stem:
            raise ValueError(f"its configuration has the key {config.key}")
        names = record.pop("arrays")
        arrays = {}
        if names:
            with np.load(file.with_suffix(".npz"), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in names}
        return Run(**record | {"config": config, "arrays": arrays})
    except (*datasets.DAMAGE, TypeError, KeyError) as error:
        raise ValueError(
            f"{file} is not a readable result ({type(error).__name__}: {error}): restore it with "
            "git, or delete it to train the run again"
        ) from error


def recorded(store: str | os.PathLike[str] | None = None) -> list[Run]:
    """Return all recorded runs of a folder, in the order of their keys."""
    return [load(file) for file in sorted(results_folder(store).glob("*.json"))]


def frame(runs: Iterable[Run]) -> pd.DataFrame:
    """Return a table with one row a run: key, settings, metrics at the last epoch, seconds."""
    import pandas as pd

    return pd.DataFrame(
        {
            "key": run.key,
            **run.config.to_dict(),
            "loss": describe(run.config.loss),
            **run.metrics,
            "seconds": sum(run.seconds.values()),
            "images_per_second": run.images_per_second,
        }
        for run in runs
    )


def verify(
    sample: int | None = None,
    store: str | os.PathLike[str] | None = None,
    root: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Train recorded runs again and compare.

    The same code on the same machine with the same number of threads, which is set to the
    recorded one, gives the same bits. Other rounding is amplified by training until it acts like
    another seed, so that elsewhere only mean accuracies are compared, and they may differ by 5
    points.

    Parameters
    ----------
    sample : int, optional
        How many runs to train, a choice that is always the same; by default all.
    store, root
        As for `get`.

    Returns
    -------
    DataFrame
        One row a run: ``key``, ``loss``, ``seed``, ``same_environment``, the greatest
        ``difference`` of a mean accuracy, the ``verdict`` (``"equal"``: every bit of metrics and
        curves; ``"within tolerance"``; ``"differs"``; ``"no data"``: its data set is not here)
        and whether the run ``agrees`` (it does unless it differs).

    Raises
    ------
    FileNotFoundError
        If nothing is recorded, or the data of all chosen runs are missing.
    """
    import pandas as pd

    count = None if sample is None else checks.integer("sample", sample, at_least=1)
    runs = recorded(store)
    if not runs:
        raise FileNotFoundError(f"no recorded runs in {results_folder(store)}")
    if count is not None:
        runs = random.Random(0).sample(runs, min(count, len(runs)))
    table = pd.DataFrame([_compare(run, root) for run in runs])
    if (table["verdict"] == "no data").all():
        names = ", ".join(sorted({run.config.data for run in runs}))
        raise FileNotFoundError(f"no run could be trained again: their data are missing ({names})")
    return table


def _compare(run: Run, root: str | os.PathLike[str] | None) -> dict[str, Any]:
    row = {"key": run.key, "loss": describe(run.config.loss), "seed": run.config.seed}
    try:
        with hardware.threads(run.environment["threads"]):
            outcome = training.train(run.config, root=root)
            environment = _environment(outcome)
    except FileNotFoundError:
        return row | {"verdict": "no data", "agrees": True}
    again = outcome.history
    last = again.evaluations[-1]
    difference = max(abs(run.metrics[name] - last["metrics"][name]) for name in run.per_class)
    equal = (again.curves, again.evaluations, last["metrics"], last["per_class"]) == (
        run.curves,
        run.evaluations,
        run.metrics,
        run.per_class,
    )
    close = difference <= ACCURACY_TOLERANCE
    return row | {
        "same_environment": run.environment == environment,
        "difference": difference,
        "verdict": "equal" if equal else "within tolerance" if close else "differs",
        "agrees": equal or close,
    }


def _record(config: Config, outcome: training.Outcome, folder: Path) -> None:
    """Write the result: the arrays first, so that a JSON file never lacks them."""
    history = outcome.history
    record = {
        "key": config.key,
        "config": config.to_dict(),
        "metrics": history.evaluations[-1]["metrics"],
        "per_class": history.evaluations[-1]["per_class"],
        "evaluations": history.evaluations,
        "curves": history.curves,
        "counts": outcome.counts,
        "groups": outcome.groups,
        "seconds": history.seconds,
        "images_per_second": outcome.images_per_second,
        "environment": _environment(outcome),
        "code": _code(),
        "arrays": sorted(outcome.arrays),
    }
    file = folder / f"{config.key}.json"
    unfinished = folder / ".work" / config.key / "result"
    arrays: dict[str, Any] = outcome.arrays
    if arrays:
        with unfinished.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        os.replace(unfinished, file.with_suffix(".npz"))
    lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in record.items())
    unfinished.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    os.replace(unfinished, file)


def _environment(outcome: training.Outcome) -> dict[str, Any]:
    found = hardware.environment()
    return found | {"device": outcome.device, "precision": outcome.precision}


def _code() -> str:
    """Return the version, with the commit if this is a clone ("+" if files have changed since)."""
    clone = Path(dytemp.__file__).parents[1]
    git = ["git", "-C", str(clone), "describe", "--always", "--dirty=+"]
    if not (clone / ".git").exists():
        return dytemp.__version__
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return dytemp.__version__
    return f"{dytemp.__version__} at {commit}"


def results_folder(store: str | os.PathLike[str] | None) -> Path:
    """Return the folder of the results: `store`, or the one of what is recorded."""
    return scales.store("recorded") if store is None else Path(store)


def _how_to_train(config: Config, folder: Path) -> str:
    return (
        f"run {config.key}, {describe(config.loss)} seed {config.seed}, is not recorded in "
        f"{folder}. This trains and records it:\n"
        f"    echo '{json.dumps(config.to_dict())}' > run.yaml && python -m dytemp train run.yaml"
    )
