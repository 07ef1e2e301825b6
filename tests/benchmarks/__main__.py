"""Run benchmarks and write one JSON file each; the folder tests must be on Python's path.

``python -m benchmarks`` runs all, ``python -m benchmarks losses metrics`` some, and
``python -m benchmarks training --set epochs=2 seeds=1`` one with other settings.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks import timing
from dytemp.lab import paths

NAMES = (
    "losses",
    "metrics",
    "augmentation",
    "step",
    "schedule",
    "isogclr",
    "sdclr",
    "training",
)  # training is the longest


def main() -> None:
    options = _parser().parse_args()
    os.environ["TQDM_DISABLE"] = "1"  # in the processes that are started
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or NAMES:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        settings = _settings(benchmark, options.set)
        print(f"{name}: running", flush=True)
        start = time.perf_counter()
        record = timing.record(benchmark, settings)
        file = options.output / f"{name}.json"
        file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {file} ({time.perf_counter() - start:.0f} s)")
        for aim in record["aims"]:
            verdict = "met" if aim["met"] else "MISSED"
            print(f"    {verdict:7}{aim['aim']}: {aim['measured']:.3g}, {aim['wanted']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    # Not `choices`: some versions of Python refuse an empty list with them.
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="other settings")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=paths.build() / "benchmarks")
    return parser


def _settings(benchmark: ModuleType, assignments: list[str]) -> dict[str, Any]:
    """Read ``epochs=2`` or ``batches=[256,1024]``; only settings of the benchmark are allowed."""
    known = inspect.signature(benchmark.measure).parameters
    settings = {}
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        if name not in known:
            raise SystemExit(f"{benchmark.__name__} has the settings {', '.join(known)}: {name!r}?")
        settings[name] = json.loads(value)
    return settings


if __name__ == "__main__":
    main()
