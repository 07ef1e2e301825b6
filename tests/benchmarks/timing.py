"""What all benchmarks share: turns in time, fresh processes, peak memory, and one form of result.

A benchmark is a module with a function ``measure(**settings)`` that returns two lists, made by
`rows` and `aim`. `record` adds the machine and the versions, ready for JSON.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import torch

from dytemp.lab.training import hardware

PACKAGES = ("dytemp", "torch", "torchvision", "pillow", "lightly", "pytorch-metric-learning")
MIB = 2**20

_all_ready: Any = None  # the barrier of the processes that `apart` has started


# --- measuring ----------------------------------------------------------------------------------


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return by name the seconds of each call, after one that warms up.

    The contenders take turns, so that a disturbance of the machine meets all of them. Each round
    has another order, so that none always finds what the same other has left in caches and memory.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    generator = random.Random(0)
    for repetition in range(repetitions + 1):
        for name in generator.sample(list(contenders), len(contenders)):
            start = clock()
            contenders[name]()
            if repetition:
                seconds[name].append(clock() - start)
    return seconds


def apart(
    function: Callable[..., Any], *arguments: Any, processes: int = 1, threads: int | None = None
) -> list[Any]:
    """Call a function in fresh processes at the same time; return the result of each.

    By default each process has as many threads as this one.
    """
    context = get_context("spawn")
    settings = (threads or torch.get_num_threads(), context.Barrier(processes))
    with ProcessPoolExecutor(processes, context, _prepare, settings) as pool:
        futures = [pool.submit(function, *arguments) for _ in range(processes)]
        return [future.result() for future in futures]


def _prepare(threads: int, barrier: Any) -> None:
    global _all_ready
    torch.set_num_threads(threads)
    _all_ready = barrier


def wait_for_the_others() -> None:
    """Wait in a process of `apart` until all of them have come this far."""
    _all_ready.wait()


def peak_memory(call: Callable[[], object]) -> float:
    """Return by how many MiB a call raises the resident memory of this process at most (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
    before = _peak()
    call()
    return (_peak() - before) / 1024


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak)


class MemoryOfChildren(threading.Thread):
    """Watches how much memory the processes started by this one take, within a ``with``.

    Attributes
    ----------
    peak : float
        The largest sum in MiB; what processes share is counted once.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self._finished = threading.Event()

    def __enter__(self) -> MemoryOfChildren:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._finished.set()
        self.join()

    def run(self) -> None:
        while not self._finished.wait(0.25):
            children = psutil.Process().children(recursive=True)
            self.peak = max(self.peak, sum(map(_proportional, children)) / MIB)


def _proportional(process: psutil.Process) -> int:
    """Return the bytes of a process, shared ones divided by the number of those who share them."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:  # it has just ended
        return 0


# --- results ------------------------------------------------------------------------------------


def rows(
    group: str, values: Mapping[str, Sequence[float]], unit: str, scale: float = 1.0
) -> list[dict[str, Any]]:
    """Return one row of a table for each name: median, least and greatest of its values.

    The values are multiplied by `scale`. The first row of a group is what the report compares the
    others with.
    """
    return [
        {
            "group": group,
            "name": name,
            "unit": unit,
            "median": scale * statistics.median(series),
            "min": scale * min(series),
            "max": scale * max(series),
            "repetitions": len(series),
        }
        for name, series in values.items()
    ]


def aim(
    text: str, measured: float, at_least: float | None = None, at_most: float | None = None
) -> dict[str, Any]:
    """Return what was wanted beside what was measured; one of the two bounds is given."""
    if at_least is not None:
        return _aim(text, f"at least {at_least:g}", measured, measured >= at_least)
    assert at_most is not None
    return _aim(text, f"at most {at_most:g}", measured, measured <= at_most)


def _aim(text: str, wanted: str, measured: float, met: bool) -> dict[str, Any]:
    return {"aim": text, "wanted": wanted, "measured": measured, "met": met}


def record(benchmark: ModuleType, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Run a benchmark and return all there is to say about it, ready for JSON."""
    title, _, text = str(inspect.getdoc(benchmark)).partition("\n\n")
    machine = describe_machine()
    measurements, aims = benchmark.measure(**settings)
    parameters = inspect.signature(benchmark.measure).parameters
    return {
        "title": title.rstrip("."),
        "text": text,
        "machine": machine,
        "settings": {name: default.default for name, default in parameters.items()} | settings,
        "aims": aims,
        "measurements": measurements,
    }


def describe_machine() -> dict[str, Any]:
    """Return what the numbers may depend on; the load is that of the minute before."""
    found = hardware.environment()
    return {
        "processor": found["processor"],
        "cores": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "threads": found["threads"],
        "load before": round(os.getloadavg()[0], 1),
        "platform": found["platform"],
        "python": found["python"],
        **{name: version for name in PACKAGES if (version := _version(name))},
        "code": hardware.code(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
