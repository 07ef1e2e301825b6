"""Runs side by side: the same results, and none that is finished gets lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import LocalCluster
from tqdm import tqdm

from dytemp.lab.studies import parallel, runs
from dytemp.lab.training import loop
from dytemp.lab.training.configuration import Config

QUICK = {"n_max": 60, "ratio": 0.5, "batch": 64, "projection_dim": 16, "precision": "float32"}


def some(count: int, epochs: int = 2) -> dict[str, list[Config]]:
    return {"fixed 0.2": [Config(**QUICK, epochs=epochs, seed=seed) for seed in range(count)]}


def test_two_jobs_give_what_one_after_the_other_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = some(3)
    together = parallel.get_all(configs, tmp_path / "two", jobs=2)["fixed 0.2"]
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in lines) == sorted(run.key for run in together)
    single = parallel.get_all(configs, tmp_path / "one", jobs=1)["fixed 0.2"]
    # Runs of this size get one thread, wherever they are trained.
    assert {run.environment["threads"] for run in together + single} == {1}
    for a, b in zip(together, single, strict=True):
        assert (a.key, a.curves, a.evaluations) == (b.key, b.curves, b.evaluations)


def test_the_bar_names_method_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def bar(**options: Any) -> tqdm:
        shown.append(options["desc"])
        return tqdm(**options)

    monkeypatch.setattr(loop, "tqdm", bar)
    runs.get(some(1)["fixed 0.2"][0], tmp_path)
    parallel.get_all(some(3), tmp_path, jobs=1)
    assert shown == [
        "NTXent(temperature=0.2) seed 0",
        "fixed 0.2, run 1 of 2",
        "fixed 0.2, run 2 of 2",
    ]


def test_without_a_wish_there_is_a_job_for_each_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def backend(jobs: int, scheduler: str | None) -> contextlib.nullcontext[None]:
        asked.append(jobs)
        return contextlib.nullcontext()

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(3), raising=False)
    monkeypatch.setattr(parallel, "_backend", backend)
    monkeypatch.setattr(parallel, "_train", lambda *arguments: None)
    monkeypatch.setattr(runs, "get", lambda *arguments, **options: None)
    for count in (5, 2, 1, 0):
        parallel.get_all(some(count), tmp_path)
    assert asked == [3, 2]  # a single run needs no other process


def test_a_dask_cluster_does_the_work(tmp_path: Path) -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        configs = some(2)
        done = parallel.get_all(configs, tmp_path, scheduler=cluster.scheduler_address)
    assert [run.key for run in done["fixed 0.2"]] == [c.key for c in configs["fixed 0.2"]]
    assert {run.environment["threads"] for run in done["fixed 0.2"]} == {1}


def test_killed_workers_lose_no_finished_run(tmp_path: Path) -> None:
    configs = {"short": some(1)["fixed 0.2"], "long": some(1, epochs=400)["fixed 0.2"]}
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_parallel import *;"
        "parallel.get_all({'short': some(1)['fixed 0.2'], 'long': some(1, 400)['fixed 0.2']},"
        " sys.argv[1], jobs=2)"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
    asking = subprocess.Popen(command, start_new_session=True)
    short, long = configs["short"][0].key, configs["long"][0].key
    finished = tmp_path / f"{short}.json"
    checkpoint = tmp_path / ".work" / long / "checkpoint.pt"
    wait_for(lambda: finished.is_file() and checkpoint.is_file(), asking)
    os.killpg(asking.pid, signal.SIGKILL)
    asking.wait()
    assert not (tmp_path / f"{long}.json").exists()
    first = finished.read_bytes()
    assert parallel.get_all({"short": configs["short"]}, tmp_path, train=False)["short"]
    assert finished.read_bytes() == first
    assert runs.load(finished).key == short


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[2]); from test_parallel import *;"
        "parallel.get_all(some(2, 4000), sys.argv[1], jobs=2)"
    )
    command = [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)]
    asking = subprocess.Popen(command, start_new_session=True)
    try:
        wait_for(lambda: len(list(tmp_path.glob(".work/*/checkpoint.pt"))) == 2, asking)
        workers = psutil.Process(asking.pid).children(recursive=True)
        assert len(workers) >= 2
        asking.kill()
        asking.wait()
        assert psutil.wait_procs(workers, timeout=30)[1] == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(asking.pid, signal.SIGKILL)


def wait_for(condition, process: subprocess.Popen) -> None:
    for _ in range(3000):  # a busy machine takes its time
        if condition():
            return
        assert process.poll() is None, "the process ended before it was killed"
        time.sleep(0.1)
    raise AssertionError("nothing happened for five minutes")


def test_a_missing_run_is_an_error_where_nothing_may_be_trained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not recorded"):
        parallel.get_all(some(1), tmp_path, train=False, jobs=2)


def test_a_wrong_number_of_jobs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(parallel.JOBS, "many")
    with pytest.raises(ValueError, match="DYTEMP_JOBS must be a whole number"):
        parallel.get_all(some(1), tmp_path)
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        parallel.get_all(some(1), tmp_path, jobs=0)
