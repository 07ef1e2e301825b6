"""Trains a few runs, alone or under torchrun, and saves what came out: run by test_distributed.

Usage: distributed_training.py FOLDER OUTPUT, where FOLDER holds the toy data.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import torch
from toys import config

from dytemp.lab import datasets, training
from dytemp.lab.datasets.scenes import scenes
from dytemp.lab.studies import runs
from dytemp.lab.training import distributed

LOSSES = {
    "NTXent": {"temperature": {"name": "Cosine", "tau_min": 0.1, "tau_max": 1.0, "period": 2}},
    "ISogCLR": {},
    "BimodalISogCLR": {},
    "MoCo": {"temperature": 0.2, "queue_size": 64},
}


def main(folder: str, output: str) -> None:
    torch.set_default_dtype(torch.float64)  # nothing but the order of additions may differ
    results = {}
    with distributed.processes():
        for name, arguments in LOSSES.items():
            settings = {"loss": {"name": name, **arguments}, "precision": "float32"}
            if name == "BimodalISogCLR":
                settings |= {"pairs": "captions", "n_max": None, "augmentation": "scenes"}
            if name == "MoCo":
                settings |= {"key_momentum": 0.9}
            results[name] = run(settings, folder)
        recorded = runs.get(config(), Path(output).with_suffix(""), root=folder)
        results["recorded"] = {"key": recorded.key, "curves": recorded.curves}
        if distributed.rank() == 0:
            torch.save(results, output)


def run(settings: dict, folder: str) -> dict:
    toy = datasets.load("toy", folder)
    data = scenes(train=60, test=15, concepts=3) if settings.get("pairs") == "captions" else toy
    with mock.patch.object(datasets, "load", return_value=data):
        outcome = training.train(config(**settings), device="cpu")
    return {
        "curves": {name: torch.tensor(curve) for name, curve in outcome.history.curves.items()},
        "weights": outcome.model.state_dict(),
        "arrays": {name: torch.from_numpy(array) for name, array in outcome.arrays.items()},
        "metrics": outcome.history.evaluations[-1]["metrics"],
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
