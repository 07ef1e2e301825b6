"""Processes under torchrun that do not train the same run: run by test_distributed.

Usage: disagreeing_processes.py FOLDER, which holds the toy data. Every process says how each case
ended; in the last one process 1 is killed while process 0 trains.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from toys import config

from dytemp.lab import datasets, training
from dytemp.lab.studies import runs
from dytemp.lab.training import distributed

SETTINGS: dict[str, tuple[Any, Any]] = {  # of process 0 and of process 1
    "learning_rate": (0.5, 0.4),
    "seed": (0, 1),
    "epochs": (2, 3),
    "loss": ({"name": "NTXent", "temperature": 0.2}, {"name": "NTXent", "temperature": 0.3}),
}


def main(folder: Path) -> None:
    with distributed.processes():
        me = distributed.rank()
        for name, values in SETTINGS.items():
            say(name, lambda name=name, values=values: get(folder, **{name: values[me]}))
        toy = datasets.load("toy", folder)
        images = toy.test_images.clone()
        images[0, 0, 0, 0] += me
        other = dataclasses.replace(toy, test_images=images)
        with mock.patch.object(datasets, "load", return_value=other):
            say("data", lambda: get(folder))
        say("nothing", lambda: get(folder))
        if me == 1:
            training.loop._Session.evaluate_if_due = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        get(folder, seed=7)


def get(folder: Path, **settings: Any) -> None:
    runs.get(config(**settings), folder / "results", root=folder, device="cpu", label=None)


def say(case: str, function: Any) -> None:
    try:
        function()
        end = "trained"
    except ValueError as error:
        end = str(error)
    os.write(1, f"{distributed.rank()}: {case}: {end}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
