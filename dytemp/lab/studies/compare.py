"""A rule from a file of one's own on the draws of a study, beside its recorded controls."""

from __future__ import annotations

import dataclasses
import inspect
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dytemp.lab import scales
from dytemp.lab.studies import parallel, protocols, runs
from dytemp.lab.studies.statistics import Estimate, deviation, holm, pairs_needed
from dytemp.lab.studies.study import Study, as_row
from dytemp.lab.training import Config, own
from dytemp.lab.training.configuration import build_loss
from dytemp.schedules import Temperature


def specification(file: Path, epochs: int) -> dict[str, Any]:
    """Return the loss that a file defines; a temperature stands in InfoNCE.

    A class with an argument ``epochs`` gets the length of the training.

    Raises
    ------
    dytemp.lab.training.own.RuleError
        If the file defines no rule, or several, or fails.
    FileNotFoundError
        If there is no such file.
    """
    content = file.read_bytes()
    try:
        source = content.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise own.RuleError(line, "the file is no text in UTF-8") from error
    kind = own.load(source)
    rule: dict[str, Any] = {"name": kind.__name__, "source": source}
    if "epochs" in inspect.signature(kind).parameters:
        rule["epochs"] = epochs
    return {"name": "NTXent", "temperature": rule} if issubclass(kind, Temperature) else rule


def try_out(config: Config) -> None:
    """Let the loss of a run meet random embeddings in every epoch, before anything is trained.

    Raises
    ------
    dytemp.lab.training.own.RuleError
        If it fails, or returns a wrong shape, NaN, or something without a finite gradient.
    """
    size, dim = 16, config.projection_dim
    with torch.random.fork_rng(devices=[]), own.blamed(config.loss, always=True):
        torch.manual_seed(0)
        loss = build_loss(config.loss, size, torch.arange(size) % 10, dim)
        for epoch in range(1, config.epochs + 1):
            z = torch.randn(2, size // 2, dim, requires_grad=True)
            loss.set_epoch(epoch)
            loss(*z, torch.randperm(size)[: size // 2]).backward()
            if z.grad is None or not torch.isfinite(z.grad).all():
                raise FloatingPointError("its gradient must be finite, got NaN or inf")


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Say of an error in a rule which file it is in."""
    try:
        yield
    except own.RuleError as error:
        raise ValueError(f"{file}, line {error.line}: {error.problem}") from error


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a comparison needs, and what of it is recorded.

    Attributes
    ----------
    method : str
        What the rule is called: the name of its file.
    configs : dict
        The runs, by method and draw: of the rule, of the methods that it needs (of the comparison
        the main ones), and of each other method that is recorded on all draws.
    found : dict
        The files of those that are recorded, by key.
    store : Path
        Where the others will be recorded.
    name, scale : str
        Of the study; see `dytemp.lab.studies.study.load`.
    """

    method: str
    configs: protocols.Configs
    found: Mapping[str, Path]
    store: Path
    name: str
    scale: str

    @property
    def missing(self) -> dict[str, list[Config]]:
        """The runs that are to be trained, by method."""
        needed = {
            method: [c for group in by_draw.values() for c in group if c.key not in self.found]
            for method, by_draw in self.configs.items()
        }
        return {method: group for method, group in needed.items() if group}

    def __str__(self) -> str:
        total = sum(len(group) for by_draw in self.configs.values() for group in by_draw.values())
        here = f"{len(self.found)} of {total} runs of {len(self.configs)} methods are recorded"
        if not self.missing:
            return f"{here}: nothing is to be trained."
        what = ", ".join(f"{method}: {len(group)}" for method, group in self.missing.items())
        count = sum(map(len, self.missing.values()))
        cost = "none is recorded at this scale, so that their cost is not known"
        if self.found:
            each = statistics.median(
                sum(runs.load(file).seconds.values()) for file in self.found.values()
            )
            cost = f"{each:.3g} s each as recorded, {count * each / 60:.2g} minutes of one core"
        return f"{here}.\nTo be trained, {count} runs ({what}):\n{cost}."

    def study(self) -> Study:
        """Train what is missing, and return the study."""
        parallel.get_all(self.missing, self.store)
        done = {
            method: {
                number: tuple(runs.load(self._file(config)) for config in group)
                for number, group in by_draw.items()
            }
            for method, by_draw in self.configs.items()
        }
        return Study(self.name, self.scale, done)

    def _file(self, config: Config) -> Path:
        file = self.found.get(config.key) or runs.find(config.key, self.store)
        assert file is not None
        return file


def plan(
    file: Path, scale: str, draws: Sequence[int] | None = None, name: str = "comparison"
) -> Plan:
    """Try a rule out and return what its comparison needs.

    Parameters
    ----------
    file : Path
        Defines one subclass of `dytemp.schedules.Temperature`, or one loss.
    scale : str
        ``"quick"``, ``"small"`` or ``"paper"``.
    draws : sequence of int, optional
        By default those of the study at this scale.
    name : str
        The study, one with fixed temperatures.

    Raises
    ------
    dytemp.lab.training.own.RuleError
        If the file misbehaves.
    ValueError
        For an unknown study, one without a fixed temperature, or a file named as a method.
    """
    every = protocols.configs(name, scale, draws)
    if not any(method.startswith("fixed ") for method in every):
        raise ValueError(f"study {name!r} has no fixed temperature to compare a rule with")
    if file.name in every:
        raise ValueError(f"the file must not be named as a method of the study, got {file.name!r}")
    like = next(iter(every.values()))
    loss = specification(file, next(iter(like.values()))[0].epochs)
    mine = {k: tuple(dataclasses.replace(c, loss=loss) for c in g) for k, g in like.items()}
    try_out(next(iter(mine.values()))[0])
    store, found = scales.store(scale), {}
    needed = protocols.MAIN if name == "comparison" else tuple(every)
    configs = {file.name: mine}
    for method, by_draw in every.items():
        keys = [config.key for group in by_draw.values() for config in group]
        if method in needed or all(_recorded(key, store) for key in keys):
            configs[method] = by_draw
    for by_draw in configs.values():
        for config in (config for group in by_draw.values() for config in group):
            if where := _recorded(config.key, store):
                found[config.key] = where
    return Plan(file.name, configs, found, store, name, scale)


def _recorded(key: str, store: Path) -> Path | None:
    """Return the file of a run: of those trained here, or of those that came with the package."""
    return runs.find(key, store) or runs.find(key, scales.store("recorded"))


def differences(study: Study, method: str, metric: str = "knn1") -> pd.DataFrame:
    """Return the differences of a rule to the best fixed temperature and to every other rule.

    Returns
    -------
    DataFrame
        One row for each control and group of classes: ``mean``, ``low``, ``high`` (points),
        ``draws``, ``p (Holm)``, adjusted for all rows, and the ``draws for 1 point``: how many find
        a true difference of one point four times out of five. A difference that is the same on
        every draw has no interval: it does not say how it scatters.
    """
    best = study.best_fixed()
    controls = [best, *(m for m in study.methods if m not in {method, *study.fixed})]
    rows, p_values = {}, []
    for control in controls:
        for group in study.groups:
            found = study.difference(method, control, metric, group)
            row = as_row(found) | {"draws for 1 point": float("nan")}
            if spread := scatter(study.differences(method, control, metric, group)):
                row["draws for 1 point"] = pairs_needed(1.0, spread.mean)
            else:
                row |= {"low": float("nan"), "high": float("nan")}
            rows[control, group] = row
            p_values.append(found.p_value if spread else 1.0)
    table = pd.DataFrame(rows).T.rename_axis(index=["minus", "classes"])
    return table.assign(**{"p (Holm)": holm(p_values)}).astype({"draws": int})


def scatter(differences: pd.Series[float]) -> Estimate | None:
    """Return how differences scatter over draws; None for a single draw, or if all are equal.

    Accuracies on few images are often equal by chance, up to rounding: no sign of certainty.
    """
    if np.ptp(differences.to_numpy()) < 1e-9:
        return None
    return deviation(differences.tolist())


def loss_seconds(configs: Sequence[Config], size: int, repetitions: int = 20) -> list[float]:
    """Return how long the losses of some runs take for a batch, forward and backward, side by side.

    Each is the median of the repetitions, in which the losses take turns.
    """
    times: list[list[float]] = [[] for _ in configs]
    labels = torch.arange(size) % 10
    losses = [build_loss(c.loss, size, labels, c.projection_dim) for c in configs]
    for _ in range(repetitions):
        for config, loss, taken in zip(configs, losses, times, strict=True):
            z = torch.randn(2, config.batch, config.projection_dim, requires_grad=True)
            loss.set_epoch(1)
            index = torch.randperm(size)[: config.batch]
            start = time.perf_counter()
            loss(*z, index).backward()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]
