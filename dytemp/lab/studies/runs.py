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
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dytemp import checks
from dytemp.lab import datasets, files, scales, training
from dytemp.lab.studies import record
from dytemp.lab.studies.record import Run
from dytemp.lab.studies.record import read as load
from dytemp.lab.training import distributed, hardware
from dytemp.lab.training.configuration import Config, describe

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Interrupted",
    "Run",
    "find",
    "get",
    "load",
    "recorded",
    "results_folder",
    "verify",
]

ACCURACY_TOLERANCE = 0.05  # between machines; see `verify`
SMALL = ("tiny", "dense", "transformer")  # encoders that are trained on one thread
PATIENCE = 5.0  # seconds, before it is said who trains the run
_KEPT = "Finished runs and the last checkpoint are kept, so that the same call goes on from there."


def get(
    config: Config | Mapping[str, Any],
    store: str | os.PathLike[str] | None = None,
    train: bool = True,
    device: str = "auto",
    root: str | os.PathLike[str] | None = None,
    label: str | None = "",
) -> Run:
    """Return the recorded result of a run, or train and record it.

    Parameters
    ----------
    config : Config or mapping
        The run; a mapping is read by `Config.from_dict`.
    store : path, optional
        Folder of the results; by default ``data/results`` of the repository. Checkpoints live in
        its folder ``.work`` until the run is finished. Where it is the store that the environment's
        ``DYTEMP_RESULTS`` names, a run that it lacks is read from ``data/results`` too.
    train : bool
        Whether to train a run that is not recorded.
    device, root, label
        As for `dytemp.lab.training.train`.

    Raises
    ------
    FileNotFoundError
        If the run is not recorded and `train` is False, or its data set is missing.
    ValueError
        If the recorded result cannot be read; if it may be trained and its data, a file of one's
        own, have changed since; or as `dytemp.lab.training.train`.
    OSError
        If the store cannot be written; the message says what is kept.
    """
    if not isinstance(config, Config):
        config = Config.from_dict(config)
    folder = results_folder(store)
    with distributed.processes():
        distributed.agree({"configuration": config.key})
        if file := distributed.from_first(find(config.key, folder)):
            run = load(file)
            if train:
                _refuse_changed_data(run, file, root)
            return run
        if not train:
            raise FileNotFoundError(_how_to_train(config, folder))
        with one_sentence(), files.explained(_KEPT, scales.RESULTS):
            return _train(config, folder, device, root, label)


def _train(
    config: Config,
    folder: Path,
    device: str,
    root: str | os.PathLike[str] | None,
    label: str | None,
) -> Run:
    """Train and record a run, unless another process has done it by now."""
    work = folder / ".work" / config.key
    first = distributed.rank() == 0
    with _alone(work) if first else nullcontext():
        file = distributed.from_first(find(config.key, folder))
        if file is None:
            with hardware.threads(threads_of(config)):
                outcome = training.train(config, work, device, root, label)
            file = folder / f"{config.key}.json"
            if first:
                record.write(config, outcome, folder, work)
                print(load(file), flush=True)
        if first:
            shutil.rmtree(work, ignore_errors=True)
        distributed.wait_for_all()
    return load(file)


def find(key: str, store: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the file of a recorded run, or None."""
    files = (layer / f"{key}.json" for layer in scales.layers(results_folder(store)))
    return next((file for file in files if file.is_file()), None)


def threads_of(config: Config) -> int:
    """Return the number of threads that a run is trained with, on a processor.

    An encoder of this size is fastest on one thread, and far so where others want the cores too.
    """
    return 1 if config.encoder in SMALL else torch.get_num_threads()


def _alone(work: Path) -> AbstractContextManager[None]:
    """Hold the lock of a run; say who holds it if that takes more than a few seconds."""
    waiting = f"run {work.name} is being trained by {{}}: waiting"
    return files.alone(Path(f"{work}.lock"), work / "holder", waiting, PATIENCE)


class Interrupted(KeyboardInterrupt):
    """An interrupt that a notebook shows as one sentence."""

    def _render_traceback_(self) -> list[str]:  # IPython asks for it
        return [str(self)]


@contextmanager
def one_sentence() -> Iterator[None]:
    """Say what an interrupt leaves, in place of the place where it came."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Interrupted. {_KEPT}") from None


def recorded(store: str | os.PathLike[str] | None = None) -> list[Run]:
    """Return the recorded runs of a store, by their keys; other files are left alone."""
    keys = "[0-9a-f]" * 16
    layers = reversed(scales.layers(results_folder(store)))
    found = {file.name: file for layer in layers for file in layer.glob(f"{keys}.json")}
    return [load(file) for _, file in sorted(found.items())]


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
        One row a run: ``key``, ``loss``, ``seed``, ``same_environment``, what has ``changed`` in
        it, the greatest ``difference`` of a mean accuracy, the ``verdict`` (``"equal"``: every bit
        of metrics and curves; ``"within tolerance"``; ``"differs"``; ``"no data"``: its data set is
        not here; ``"other data"``: another one of this name is) and whether the run ``agrees`` (it
        does unless it or its data differ).

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
        data = datasets.load(run.config.data, root)
    except FileNotFoundError:
        return row | {"verdict": "no data", "agrees": True}
    if run.fingerprint not in ("", datasets.fingerprint(data)):
        return row | {"verdict": "other data", "agrees": False}
    with hardware.threads(run.environment["threads"]):
        outcome = training.train(run.config, root=root)
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
    changed = _changed(run, again.parts[-1]["environment"])
    return row | {
        "same_environment": not changed,
        "changed": ", ".join(changed),
        "difference": difference,
        "verdict": "equal" if equal else "within tolerance" if close else "differs",
        "agrees": equal or close,
    }


def _changed(run: Run, now: Mapping[str, Any]) -> list[str]:
    """Return what is not as it was when the run was recorded, or changed while it was."""
    before = [part["environment"] for part in run.earlier] + [run.environment]
    names = dict.fromkeys(name for found in (*before, now) for name in found)
    return [name for name in names if any(found.get(name) != now.get(name) for found in before)]


def _refuse_changed_data(run: Run, file: Path, root: str | os.PathLike[str] | None) -> None:
    """Do not pass the result of other images off as that of the images that are here."""
    name = run.config.data
    if run.fingerprint and datasets.own_fingerprint(name, root) not in (None, run.fingerprint):
        raise ValueError(
            f"the data set {name!r} has changed since run {run.key} was recorded: give the changed "
            f"data another name, or delete {file} to train the run on them"
        )


def results_folder(store: str | os.PathLike[str] | None) -> Path:
    """Return the folder of the results: `store`, or the one of what is recorded."""
    return scales.store("recorded") if store is None else Path(store)


def _how_to_train(config: Config, folder: Path) -> str:
    return (
        f"run {config.key}, {describe(config.loss)} seed {config.seed}, is not recorded in "
        f"{folder}. This trains and records it:\n"
        f"    echo '{json.dumps(config.to_dict())}' > run.yaml && python -m dytemp train run.yaml"
    )
