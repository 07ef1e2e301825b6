"""Independent runs side by side: on the cores of this machine, or on a Dask cluster.

A training of this size uses one core better than two, so that several at once finish sooner. Each
worker records its run as soon as it is finished: a worker that is killed loses its own run alone,
and the next call goes on from that run's last checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import torch
from tqdm.auto import tqdm

from dytemp import checks
from dytemp.lab.studies import runs
from dytemp.lab.training.configuration import Config

JOBS, SCHEDULER = "DYTEMP_JOBS", "DYTEMP_SCHEDULER"  # environment variables


def get_all(
    configs: Mapping[str, Sequence[Config]],
    store: str | os.PathLike[str] | None = None,
    train: bool = True,
    jobs: int | None = None,
    scheduler: str | None = None,
) -> dict[str, list[runs.Run]]:
    """Return the runs of several methods, training those that are missing side by side.

    Parameters
    ----------
    configs : mapping
        For each method its configurations, as `dytemp.lab.studies.protocols.configs` returns them.
    store, train
        As for `dytemp.lab.studies.runs.get`. The workers of a cluster must see the same folder.
    jobs : int, optional
        How many trainings run at once, each on its share of the cores; by default the environment
        variable ``DYTEMP_JOBS``, or one for each core (with a GPU: one). With 1 they follow each
        other in this process.
    scheduler : str, optional
        Address of the scheduler of a Dask cluster, which then does the work with one thread a
        run; by default the environment variable ``DYTEMP_SCHEDULER``, if it is set.

    Returns
    -------
    dict
        The runs, arranged as `configs`.

    Raises
    ------
    FileNotFoundError
        If a run is not recorded and `train` is False.
    ValueError
        If `jobs` is less than 1.
    """
    scheduler = scheduler or os.environ.get(SCHEDULER) or None
    jobs = _jobs_of_the_environment() if jobs is None else jobs
    checks.integer("jobs", jobs, at_least=1)
    folder = runs.results_folder(store)
    missing = {
        config.key: (config, method)
        for method, group in configs.items()
        for config in group
        if runs.find(config.key, folder) is None
    }
    labels = {
        key: f"{method}, run {number} of {len(missing)}"
        for number, (key, (_, method)) in enumerate(missing.items(), start=1)
    }
    jobs = min(jobs, len(missing))
    if train and (jobs > 1 or (scheduler and missing)):
        with runs.one_sentence(), _backend(jobs, scheduler):
            # The workers of this machine are children of this process, those of a cluster are not.
            parent = None if scheduler else os.getpid()
            _train([config for config, _ in missing.values()], folder, parent)
    return {
        method: [
            runs.get(config, store, train, label=labels.get(config.key, "")) for config in group
        ]
        for method, group in configs.items()
    }


def _jobs_of_the_environment() -> int:
    value = os.environ.get(JOBS) or str(1 if torch.cuda.is_available() else cores())
    if not value.isdecimal():
        raise ValueError(f"{JOBS} must be a whole number, at least 1, got {value!r}")
    return int(value)


def cores() -> int:
    """Return how many cores this process may use, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _train(missing: Sequence[Config], folder: Path, parent: int | None) -> None:
    """Train runs and say so as each is finished, in whatever order that is."""
    backend, _ = joblib.parallel.get_active_backend()
    streams = {"return_as": "generator_unordered"} if backend.supports_return_generator else {}
    tasks = (joblib.delayed(_work)(config, folder, parent) for config in missing)
    with tqdm(total=len(missing), desc="trainings side by side", unit="run") as bar:
        for line in joblib.Parallel(**streams)(tasks):
            bar.update()
            bar.write(line)


def _work(config: Config, folder: Path, parent: int | None) -> str:
    """Train one run in a worker, quietly, and return its line."""
    if parent is not None:
        _follow(parent)
        # No bars here; a lock between processes would be left behind, with a warning.
        tqdm.set_lock(threading.RLock())
    with contextlib.redirect_stdout(io.StringIO()):
        return str(runs.get(config, folder, label=None))


@functools.cache  # once in each worker
def _follow(parent: int) -> None:
    """End this process soon after its parent was killed, which could not tell it to."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _backend(jobs: int, scheduler: str | None) -> Iterator[None]:
    """Choose who does the work; a worker has the threads of this process or its share of cores."""
    if scheduler is None:
        threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // jobs))
        with joblib.parallel_config("loky", n_jobs=jobs, inner_max_num_threads=threads):
            yield
        return
    from distributed import Client

    with Client(scheduler) as client:  # type: ignore[no-untyped-call]
        client.run(_one_thread)
        settings: dict[str, Any] = {"wait_for_workers_timeout": 30}
        with joblib.parallel_config("dask", client=client, **settings):
            yield


def _one_thread() -> None:
    torch.set_num_threads(1)
