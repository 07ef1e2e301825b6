"""Independent runs side by side: on the cores of this machine, or on a Dask cluster.

A training of this size uses one core better than two, so that several at once finish sooner. Each
worker records its run as soon as it is finished: a worker that is killed loses its own run alone,
and the next call goes on from that run's last checkpoint.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib

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
        variable ``DYTEMP_JOBS``, or 1: one after the other, in this process, on all cores.
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
    if jobs is None:
        jobs = _jobs_of_the_environment()
    checks.integer("jobs", jobs, at_least=1)
    if train and (jobs > 1 or scheduler):
        folder = runs.results_folder(store)
        every = {config.key: config for group in configs.values() for config in group}
        missing = [c for key, c in every.items() if not (folder / f"{key}.json").is_file()]
        with _backend(jobs, scheduler):
            _train(missing, folder)
    return {
        method: [runs.get(config, store, train) for config in group]
        for method, group in configs.items()
    }


def _jobs_of_the_environment() -> int:
    value = os.environ.get(JOBS) or "1"
    if not value.isdecimal():
        raise ValueError(f"{JOBS} must be a whole number, at least 1, got {value!r}")
    return int(value)


def _train(missing: Sequence[Config], folder: Path) -> None:
    """Train runs and say so as each is finished, in whatever order that is."""
    backend, _ = joblib.parallel.get_active_backend()
    streams = {"return_as": "generator_unordered"} if backend.supports_return_generator else {}
    tasks = (joblib.delayed(_work)(config, folder) for config in missing)
    for line in joblib.Parallel(**streams)(tasks):
        print(line, flush=True)


def _work(config: Config, folder: Path) -> str:
    """Train one run in a worker, quietly, and return its line."""
    with contextlib.redirect_stdout(io.StringIO()):
        return str(runs.get(config, folder))


@contextlib.contextmanager
def _backend(jobs: int, scheduler: str | None) -> Iterator[None]:
    """Choose who does the work; a worker has its share of the cores, and not more."""
    if scheduler is None:
        threads = max(1, (os.cpu_count() or 1) // jobs)
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
    import torch

    torch.set_num_threads(1)
