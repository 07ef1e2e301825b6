"""Metrics: nearest neighbours and the geometry of the sphere against one matrix product.

The nearest neighbours of as many queries in a bank are compared with the product of the two, which
holds all similarities at once. Uniformity and tolerance are compared with one Gram matrix of the
features. Memory is what one call adds to the resident memory of a fresh process at most.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import aim, apart, interleaved, peak_memory, rows
from dytemp import metrics

CLASSES = 10
PRODUCT, GRAM = "one matrix product", "one Gram matrix"
GEOMETRY = ("uniformity", "tolerance")


def contenders(
    samples: int, dim: int, neighbours: tuple[int, ...]
) -> dict[str, Callable[[], object]]:
    """Return by name what is to be measured, on random features of shape (samples, dim)."""
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(2, samples, dim, generator=generator)
    labels = torch.arange(samples) % CLASSES
    found: dict[str, Callable[[], object]] = {
        PRODUCT: lambda: queries @ bank.T,
        GRAM: lambda: queries @ queries.T,
        "uniformity": lambda: metrics.uniformity(queries),
        "tolerance": lambda: metrics.tolerance(queries, labels),
    }
    for k in neighbours:
        found[_nearest(k)] = lambda k=k: metrics.knn_predict(bank, labels, queries, k)
    return found


def _nearest(k: int) -> str:
    return f"{k} nearest neighbours" if k > 1 else "nearest neighbour"


def extra_memory(name: str, samples: int, dim: int, neighbours: tuple[int, ...]) -> float:
    """Return the MiB that one call takes at most, beyond the features."""
    contenders(max(neighbours), dim, neighbours)[name]()  # threads are there from now on
    return peak_memory(contenders(samples, dim, neighbours)[name])


def measure(
    samples: int = 10_000,
    dims: tuple[int, ...] = (128, 512),
    neighbours: tuple[int, ...] = (1, 10, 200),
    repetitions: int = 9,
    memory: bool = True,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims, for each number of dimensions."""
    measurements, aims = [], []
    nearest = [_nearest(k) for k in neighbours]
    for dim in dims:
        seconds = interleaved(contenders(samples, dim, neighbours), repetitions)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        for limit, names in ((PRODUCT, nearest), (GRAM, GEOMETRY)):
            chosen = {name: seconds[name] for name in (limit, *names)}
            measurements += rows(f"{samples} samples, D = {dim}: {limit}", chosen, "ms", 1e3)
            aims += [
                aim(f"{name} over {limit}, D = {dim}", median[name] / median[limit], at_most=2)
                for name in names
            ]
    if memory:
        sizes = {
            name: apart(extra_memory, name, samples, dims[0], neighbours)
            for name in (GRAM, *nearest, *GEOMETRY)
        }
        measurements += rows(f"extra memory, {samples} samples, D = {dims[0]}", sizes, "MiB")
    return measurements, aims
