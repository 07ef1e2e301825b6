"""Asks for runs from several processes: run by test_runs.

Usage: asking_processes.py FOLDER, which holds the toy data; results go to FOLDER/together and
FOLDER/killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from toys import config

from dytemp.lab.studies import runs

CONFIG = config(loss={"name": "ISogCLR"})


def main(folder: Path) -> None:
    together = [start(lambda: ask(folder, "together")) for _ in range(2)]
    for process in together:
        assert os.waitpid(process, 0)[1] == 0

    process = start(lambda: ask_and_die(folder))
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL
    left = sorted(path.name for path in (folder / "killed").iterdir())
    assert left == [".work", f"{CONFIG.key}.npz"], left
    assert os.waitpid(start(lambda: ask(folder, "killed")), 0)[1] == 0


def start(function: Callable[[], None]) -> int:
    """Call a function in a new process, forked before torch has done anything."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    return process


def ask(folder: Path, name: str) -> None:
    run = runs.get(CONFIG, folder / name, root=folder, device="cpu")
    line = f"{name}: {run.key} {run.curves['loss'][-1]!r} {np.ptp(run.arrays['tau'])!r}"
    os.write(1, f"{line}\n".encode())  # in one piece: two processes write at the same time


def ask_and_die(folder: Path) -> None:
    """Die after the arrays are written and before the JSON is."""
    write = os.replace

    def replace(source: Path, target: Path) -> None:
        if target.suffix == ".json":
            os.kill(os.getpid(), signal.SIGKILL)
        write(source, target)

    os.replace = replace
    ask(folder, "killed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
