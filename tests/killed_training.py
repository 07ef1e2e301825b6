"""Trains one run undisturbed and once with many interruptions: run by test_training.

Usage: killed_training.py FOLDER, which holds the toy data. Every start is a process of its own,
forked before torch has done anything.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from toys import config

from dytemp.lab.training import loop

CONFIG = config(
    loss={"name": "ISogCLR"}, epochs=4, evaluate_every=1, probes=["few_shot"], geometry=True
)
MOMENTS = (
    "update",
    "evaluation",
    "before the checkpoint is there",
    "after it is there",
    "update",
    "an epoch after the last checkpoint",
)


def main(folder: Path) -> None:
    start(lambda: train(folder, None, folder / "whole.pt"))
    for moment in MOMENTS:
        status = start(lambda moment=moment: train(folder, moment, folder / "never.pt"))
        print(moment, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "survived")
    start(lambda: train(folder, None, folder / "interrupted.pt"))


def start(function: Callable[[], None]) -> int:
    """Call a function in a new process; return how it ended."""
    process = os.fork()
    if process == 0:
        function()
        os._exit(0)
    return os.waitpid(process, 0)[1]


def train(folder: Path, moment: str | None, output: Path) -> None:
    checkpoints = None if output.name == "whole.pt" else folder / "checkpoints"
    session: Any = loop._Session
    if moment == "update":  # the second one of an epoch
        session._update = kill_in_call(2, session._update)
    if moment == "evaluation":
        loop.evaluate = kill_in_call(1, loop.evaluate)
    if moment == "an epoch after the last checkpoint":
        loop.CHECKPOINT_SECONDS = math.inf  # the first epoch of a process is always saved
        loop.evaluate = kill_in_call(2, loop.evaluate)
    if moment == "before the checkpoint is there":  # but the file is written
        os.replace = kill_in_call(1, os.replace)
    if moment == "after it is there":
        session.save = kill_after(session.save)
    outcome = loop.train(CONFIG, checkpoints, "cpu", folder)
    result = {
        "curves": outcome.history.curves,
        "evaluations": outcome.history.evaluations,
        "weights": outcome.model.state_dict(),
        "tau": torch.from_numpy(outcome.arrays["tau"]),
    }
    torch.save(result, output)


def kill_in_call(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(1, number + 1))

    def wrapper(*arguments: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)

    return wrapper


def kill_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*arguments: Any) -> None:
        function(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    return wrapper


if __name__ == "__main__":
    main(Path(sys.argv[1]))
