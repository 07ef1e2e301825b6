"""A study: the runs of several methods on the same draws, and what they say about each other.

The unit of replication is the draw: class order, images, initial weights, order of the data and
views come from its number, and all methods share them. Several seeds of one draw are averaged
before anything else, so that every interval is one over draws.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from dytemp import checks
from dytemp.lab import scales
from dytemp.lab.studies import claims, parallel, protocols, words
from dytemp.lab.studies.runs import Run, find
from dytemp.lab.studies.statistics import Estimate, mean_interval
from dytemp.lab.studies.words import METRICS
from dytemp.lab.training import Config

GROUPS = ("all", *words.GROUPS)
SCOPES = {"recorded": "scaled down", "small": "scaled down", "paper": "replication"}

Runs = Mapping[str, Mapping[int, Sequence[Run]]]  # by method and draw, one for each seed


def load(
    name: str,
    scale: str = "recorded",
    draws: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    store: str | os.PathLike[str] | None = None,
    **changes: Any,
) -> Study:
    """Return a study with its runs, recorded or trained now, as the scale says.

    Parameters
    ----------
    name : str
        A study of `dytemp.lab.studies.protocols.configs`.
    scale : str
        One of `dytemp.lab.scales.NAMES`.
    draws : sequence of int, optional
        By default the study's own at this scale; at scale ``recorded`` those that are recorded.
    methods : sequence of str, optional
        Some of the study's methods; by default all, and at scale ``recorded`` those that have every
        draw that is asked for.
    seeds : sequence of int, optional
        Several runs of each draw, in place of its own; for the noise within a draw.
    store : path, optional
        Folder of the results; by default that of the scale.
    **changes
        Settings of `dytemp.lab.training.Config` that replace the study's: ``epochs=100``.

    Raises
    ------
    FileNotFoundError
        If a run is not recorded at scale ``recorded``, or its data are missing.
    TypeError, ValueError
        For an unknown name, scale, method or setting.
    """
    configs = protocols.configs(name, scale, draws, seeds, **changes)
    for method in methods or ():
        checks.choice("method", method, tuple(configs))
    chosen = {method: configs[method] for method in methods or configs}
    folder = scales.store(scale) if store is None else store
    if draws is not None and methods is None and not scales.trains(scale):
        there = _so_far(chosen, folder)
        chosen = {m: by_draw for m, by_draw in chosen.items() if there.get(m) == by_draw} or chosen
    runs = _get(chosen, scale, folder, some=draws is None)
    ours = not changes and seeds is None and methods is None
    own = ours and (draws is None or tuple(draws) == protocols.default_draws(name, scale))
    return Study(name, scale, runs, recorded=own and scale == "recorded")


def _get(
    configs: protocols.Configs, scale: str, folder: str | os.PathLike[str], some: bool
) -> dict[str, dict[int, tuple[Run, ...]]]:
    """Return runs, recorded or trained as the scale says; `some`: recorded ones where there are."""
    trains = scales.trains(scale)
    chosen = _so_far(configs, folder) if some and not trains else configs
    flat = {
        f"{method}, draw {number}": list(group)
        for method, by_draw in chosen.items()
        for number, group in by_draw.items()
    }
    found = parallel.get_all(flat, folder, trains)
    return {
        method: {number: tuple(found[f"{method}, draw {number}"]) for number in by_draw}
        for method, by_draw in chosen.items()
    }


def _so_far(configs: protocols.Configs, folder: str | os.PathLike[str]) -> protocols.Configs:
    """Leave out the draws, and methods, that are not recorded yet; all, if nothing is."""
    found = {
        method: {
            number: group
            for number, group in by_draw.items()
            if all(find(config.key, folder) for config in group)
        }
        for method, by_draw in configs.items()
    }
    return {method: by_draw for method, by_draw in found.items() if by_draw} or configs


@dataclass(frozen=True)
class Study:
    """The runs of several methods on the same draws.

    Attributes
    ----------
    name, scale : str
        Of the study; see `load`.
    runs : mapping
        For each method and draw its runs, one for each seed.
    recorded : bool
        Whether these are all the runs that the study has at scale ``recorded``, and no others:
        then its verdicts are the package's.

    Raises
    ------
    ValueError
        If runs of one draw and seed differ in more than the loss and the learning rate.
    """

    name: str
    scale: str
    runs: Runs
    recorded: bool = False

    def __post_init__(self) -> None:
        shared: dict[tuple[int, int], dict[str, Any]] = {}
        for method, by_draw in self.runs.items():
            for number, group in by_draw.items():
                for run in group:
                    settings = run.config.to_dict()
                    del settings["loss"], settings["learning_rate"], settings["key_momentum"]
                    first = shared.setdefault((number, run.config.seed), settings)
                    if first != settings:
                        names = [name for name in settings if settings[name] != first[name]]
                        raise ValueError(
                            f"runs of draw {number} must share all but the loss, but those of "
                            f"{method} differ in {', '.join(names)}"
                        )

    # --- What it rests on ------------------------------------------------------------------------

    @property
    def methods(self) -> list[str]:
        """Names of the methods."""
        return list(self.runs)

    @property
    def fixed(self) -> dict[str, float]:
        """The methods with a fixed temperature of InfoNCE or CLIP, and their temperatures."""
        specs = {method: self.config(method).loss for method in self.runs}
        return {
            method: float(spec["temperature"])
            for method, spec in specs.items()
            if spec["name"] in ("NTXent", "CLIP")
            and isinstance(spec.get("temperature"), float | int)
        }

    @property
    def draws(self) -> list[int]:
        """Numbers of the draws that every method has."""
        each = [set(by_draw) for by_draw in self.runs.values()]
        return sorted(set.intersection(*each))

    @property
    def groups(self) -> tuple[str, ...]:
        """What accuracies are means over: all classes and, from three on, head, mid and tail."""
        measured = self.run().metrics
        return ("all", *(group for group in words.GROUPS if f"knn1_{group}" in measured))

    @property
    def all_runs(self) -> list[Run]:
        """All runs, method by method."""
        return [
            run for by_draw in self.runs.values() for group in by_draw.values() for run in group
        ]

    def config(self, method: str | None = None) -> Config:
        """Return a configuration of a method, or of the first one."""
        return self.run(method).config

    def run(self, method: str | None = None) -> Run:
        """Return one run of a method, or of the first one."""
        chosen = next(iter(self.runs)) if method is None else method
        checks.choice("method", chosen, self.methods)
        return next(iter(self.runs[chosen].values()))[0]

    @property
    def scope(self) -> str:
        """How far its verdicts reach; see `dytemp.lab.studies.claims.SCOPES`."""
        config = self.config()
        if config.data in ("prototypes", "scenes", "scene_sentences"):
            return "simulation"
        if config.pairs == "sentences":
            return "scaled down"  # no scale has the paper's pre-trained encoder
        return SCOPES.get(self.scale, "scaled down")

    @property
    def epochs(self) -> int:
        """Length of the training."""
        return self.config().epochs

    @property
    def updates(self) -> int:
        """Number of updates in a training."""
        run = self.run()
        return run.config.epochs * (sum(run.counts) // run.config.batch)

    def protocol(self, paper: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Return what was run, one setting a row, beside the paper's settings if they are given.

        Parameters
        ----------
        paper : mapping, optional
            The paper's settings under the same names; what it does not give stays empty.
        """
        run, config = self.run(), self.config()
        largest, smallest = max(run.counts), min(run.counts)
        processors = pd.Series([r.environment["processor"] for r in self.all_runs])
        precisions = sorted({r.environment["precision"] for r in self.all_runs})
        draws = [len(by_draw) for by_draw in self.runs.values()]
        number = [sum(map(len, by_draw.values())) for by_draw in self.runs.values()]
        rows = {
            "data": f"{words.data(config.data, run.counts)}, "
            f"{sum(run.counts):,} training {self._samples}",
            "imbalance": f"{largest} to {smallest} {self._samples} of a class",
            "encoder": words.encoder(config.encoder),
            "batch": config.batch,
            "epochs": config.epochs,
            "updates": f"{self.updates:,}",
            f"{self._samples} seen": f"{self.updates * config.batch:,}",
            "learning rate": self._rates(),
            "warm-up": _counted(config.warmup_epochs, "epoch"),
            "replicates": f"{_span(draws, 'draw')}, {_span(number, 'run')} of each method",
            "precision": ", ".join(precisions),
            "trained on": ", ".join(
                f"{_counted(n, 'run')} on {p}" for p, n in processors.value_counts().items()
            ),
        }
        table = pd.DataFrame({"here": pd.Series(rows)}).astype(str)
        if paper is not None:
            theirs = pd.Series(dict(paper), dtype=object).astype(str)
            table.insert(0, "the paper", theirs.reindex(table.index).fillna(""))
        return table

    @property
    def _samples(self) -> str:
        return "sentences" if self.config().pairs == "sentences" else "images"

    def _rates(self) -> str:
        rates = {method: self.config(method).learning_rate for method in self.runs}
        if len(set(rates.values())) == 1:
            return f"{next(iter(rates.values())):g}"
        return ", ".join(f"{method}: {rate:g}" for method, rate in rates.items())

    def __str__(self) -> str:
        run, config = self.run(), self.config()
        machines = sorted({r.environment["processor"] for r in self.all_runs})
        return (
            f"{self.name} at scale {self.scale}: {_counted(len(self.methods), 'method')} on "
            f"{words.data(config.data, run.counts)} ({sum(run.counts):,} {self._samples}), "
            f"{words.encoder(config.encoder)}, {_counted(config.epochs, 'epoch')} "
            f"({self.updates:,} updates), {_draws(self.draws)}, "
            f"{_counted(len(self.all_runs), 'run')} on {', '.join(machines)}"
        )

    def holding(self, metric: str) -> Study:
        """Return the study without the runs that were recorded before they held a metric.

        Raises
        ------
        ValueError
            If no run holds it.
        """
        runs = {
            method: {
                number: group
                for number, group in by_draw.items()
                if all(metric in run.metrics for run in group)
            }
            for method, by_draw in self.runs.items()
        }
        left = {method: by_draw for method, by_draw in runs.items() if by_draw}
        if not left:
            raise ValueError(f"no run of {self.name} holds {metric!r}")
        return replace(self, runs=left)

    def with_level(self, method: str = "iSogCLR", control: str = "SogCLR") -> Study:
        """Return the study with a control for the level of the temperatures that a method learns.

        The control is trained at one temperature for all samples: the mean of those that the method
        had learned at the end, in the same draw and seed. Its name is that of the control and "at
        mean τ". What is left between the two is not the level of the temperature.

        Parameters
        ----------
        method : str
            One that learns a temperature for every sample (of image-text pairs: two, and the mean
            is over both).
        control : str
            One whose loss has a temperature that can take the place.

        Raises
        ------
        FileNotFoundError
            If no such run is recorded, at scale ``recorded``.
        ValueError
            If the study lacks one of them, or the method learns no temperatures.
        """
        checks.choice("control", control, self.methods)
        checks.choice("method", method, self.methods)
        own, name = self.config(control), f"{control} at mean τ"
        configs = {
            number: tuple(
                replace(
                    run.config,
                    loss=dict(own.loss) | {"temperature": _level(run, method)},
                    learning_rate=own.learning_rate,
                )
                for run in group
            )
            for number, group in self.runs[method].items()
        }
        found = _get({name: configs}, self.scale, scales.store(self.scale), some=True)
        return replace(self, runs={**self.runs, **found})

    # --- Numbers by draw -------------------------------------------------------------------------

    def accuracy(
        self, method: str, metric: str = "knn1", group: str = "all", epoch: int | None = None
    ) -> pd.Series[float]:
        """Return a metric of a method, one value for each draw: the mean over its seeds.

        Parameters
        ----------
        method : str
            One of `methods`.
        metric : str
            A metric of `dytemp.lab.training.evaluation.Evaluation`, or "fullest_group": the share
            of the training images in the fullest group of directions of the sphere (see
            `coverage`). Accuracies and shares come in percent, all others (alignment, uniformity,
            ...) in their own unit.
        group : {"all", "head", "mid", "tail"}
            Classes that the accuracy is a mean over.
        epoch : int, optional
            An evaluated epoch; by default the last.

        Raises
        ------
        ValueError
            For an unknown method, metric, group, or an epoch that was not evaluated.
        """
        by_seed = self.by_seed(method, metric, group, epoch)
        return by_seed.groupby(level="draw").mean()

    def by_seed(
        self, method: str, metric: str = "knn1", group: str = "all", epoch: int | None = None
    ) -> pd.Series[float]:
        """Return a metric of a method, one value for each run; as `accuracy`."""
        checks.choice("method", method, self.methods)
        checks.choice("group", group, GROUPS)
        name = metric if group == "all" else f"{metric}_{group}"
        values = {
            (number, run.config.seed): _metric(run, name, epoch)
            for number, runs in self.runs[method].items()
            for run in runs
        }
        index = pd.MultiIndex.from_tuples(values, names=["draw", "seed"])
        return pd.Series(list(values.values()), index, dtype=float, name=name)

    def curve(self, method: str, metric: str = "knn1", group: str = "all") -> pd.DataFrame:
        """Return a metric over training: one row for each evaluated epoch, one column a draw."""
        name = metric if group == "all" else f"{metric}_{group}"
        epochs = [
            point["epoch"] for point in self.run(method).evaluations if name in point["metrics"]
        ]
        rows = {epoch: self.accuracy(method, metric, group, epoch) for epoch in epochs}
        return pd.DataFrame(rows).T.rename_axis(index="epoch", columns="draw")

    def temperature(self, method: str) -> pd.Series[float]:
        """Return the temperature that a method used, by epoch: the mean over its runs."""
        checks.choice("method", method, self.methods)
        runs = [run for group in self.runs[method].values() for run in group]
        mean = pd.DataFrame([run.curves["temperature"] for run in runs]).mean()
        epochs = self.config(method).curves_every * np.arange(1, len(mean) + 1)
        return mean.set_axis(epochs).rename_axis("epoch")

    def by_rank(self, method: str, metric: str = "knn1") -> pd.DataFrame:
        """Return the accuracy of each class in percent, the most frequent first; one row a draw."""
        rows = {}
        for number, group in self.runs[method].items():
            each = []
            for run in group:
                pairs = zip(run.counts, run.per_class[metric], strict=True)
                ranked = sorted(pairs, key=lambda pair: -pair[0])
                each.append([100 * accuracy for _, accuracy in ranked])
            rows[number] = pd.DataFrame(each).mean()
        table = pd.DataFrame(rows).T.rename_axis(index="draw", columns="rank")
        return table.set_axis(range(1, table.shape[1] + 1), axis="columns")

    def coverage(self, method: str, epoch: int | None = None) -> pd.DataFrame:
        """Return how the projections of the training images cover the sphere.

        Parameters
        ----------
        method : str
            One of `methods`, of a study whose runs record the geometry.
        epoch : int, optional
            An evaluated epoch; by default the last.

        Returns
        -------
        DataFrame
            One row a draw, one column for each group of ten of 500 random directions, the fullest
            first: the share of the images in percent (Fig. 1 of TS).
        """
        checks.choice("method", method, self.methods)
        rows = {
            number: pd.DataFrame([_shares(_at(run, epoch)) for run in group]).mean()
            for number, group in self.runs[method].items()
        }
        table = pd.DataFrame(rows).T.rename_axis(index="draw", columns="group")
        return table.set_axis(range(1, table.shape[1] + 1), axis="columns")

    def similarities(self, method: str, kind: str, epoch: int | None = None) -> pd.DataFrame:
        """Return how similar the projections of a kind of pairs are, of two views of test images.

        Parameters
        ----------
        method : str
            One of `methods`, of a study whose runs record the geometry.
        kind : {"positives", "false_negatives", "true_negatives"}
            Two views of one image; of different images of one class; of different classes.
        epoch : int, optional
            A completely evaluated epoch; by default the last.

        Returns
        -------
        DataFrame
            One row a draw, one column for each similarity, evenly spaced from -1 to 1: the share
            of the pairs.
        """
        checks.choice("method", method, self.methods)
        checks.choice("kind", kind, ("positives", "false_negatives", "true_negatives"))
        rows = {}
        for number, group in self.runs[method].items():
            found = [_at(run, epoch).get("geometry", {}) for run in group]
            if not all(kind in each for each in found):
                raise ValueError("the runs of this study do not record how similar their pairs are")
            rows[number] = pd.DataFrame([each[kind] for each in found]).mean()
        table = pd.DataFrame(rows).T.rename_axis(index="draw", columns="similarity")
        table = table.set_axis(np.linspace(-1, 1, table.shape[1]), axis="columns")
        return table.div(table.sum(axis="columns"), axis="index")

    @property
    def class_sizes(self) -> pd.DataFrame:
        """Training images of each class, one row a draw."""
        runs = {number: group[0] for number, group in self.runs[self.methods[0]].items()}
        table = pd.DataFrame({number: run.counts for number, run in runs.items()})
        return table.T.rename_axis(index="draw", columns="class")

    def learned(self, method: str, name: str = "tau") -> pd.DataFrame:
        """Return the mean learned temperature of each class, one row a draw.

        Parameters
        ----------
        method : str
            One that learns a temperature for every sample.
        name : str
            ``"tau"``, for image-text pairs ``"tau_image"`` or ``"tau_text"``.
        """
        rows = {
            number: pd.DataFrame(
                [pd.Series(tau).groupby(labels).mean() for _, labels, tau in group]
            ).mean()
            for number, group in self._learned(method, name)
        }
        return pd.DataFrame(rows).T.rename_axis(index="draw", columns="class")

    def learned_trend(
        self, method: str, name: str = "tau", against: str = "class size"
    ) -> pd.Series[float]:
        """Return Spearman's rank correlation of learned temperature and frequency, by draw.

        Parameters
        ----------
        method, name : str
            As in `learned`.
        against : {"class size", "rarest word"}
            Which frequency a training sample has: the size of its class, or how often the rarest
            word of its caption occurs.
        """
        checks.choice("against", against, ("class size", "rarest word"))
        rows: dict[int, float] = {}
        for number, group in self._learned(method, name):
            found = []
            for run, (sizes, labels, tau) in zip(self.runs[method][number], group, strict=True):
                words_ = against == "rarest word"
                frequency = run.arrays["rarest_word"] if words_ else sizes[labels]
                found.append(spearmanr(frequency, tau).statistic)
            rows[number] = float(np.mean(found))
        return pd.Series(rows, name=name).rename_axis("draw")

    def _learned(self, method: str, name: str) -> Iterator[tuple[int, list[tuple[Any, Any, Any]]]]:
        """Yield each draw with the class sizes, labels and temperatures of its runs."""
        checks.choice("method", method, self.methods)
        for number, group in self.runs[method].items():
            checks.choice("name", name, sorted(k for k in group[0].arrays if k.startswith("tau")))
            found = [(np.array(r.counts), r.arrays["labels"], r.arrays[name]) for r in group]
            yield number, found

    # --- Comparisons -----------------------------------------------------------------------------

    def difference(
        self,
        method: str,
        control: str,
        metric: str = "knn1",
        group: str = "all",
        epoch: int | tuple[int, int] | None = None,
    ) -> Estimate:
        """Estimate the paired difference of two methods, with its interval over draws.

        Parameters
        ----------
        method, control : str
            The difference is the method minus the control, on the draws and seeds that both have.
        metric, group
            As in `accuracy`.
        epoch : int or two of them, optional
            Evaluated epoch of both, or of the method and of the control; by default the last.
        """
        return mean_interval(self.differences(method, control, metric, group, epoch).tolist())

    def differences(
        self,
        method: str,
        control: str,
        metric: str = "knn1",
        group: str = "all",
        epoch: int | tuple[int, int] | None = None,
    ) -> pd.Series[float]:
        """Return the paired difference of two methods in each draw; as `difference`."""
        when, then = epoch if isinstance(epoch, tuple) else (epoch, epoch)
        ours = self.by_seed(method, metric, group, when)
        theirs = self.by_seed(control, metric, group, then)
        paired = (ours - theirs).dropna()  # a seed that one of them lacks has no partner
        if paired.empty:
            raise ValueError(f"{method} and {control} share no draw and seed")
        return paired.groupby(level="draw").mean()

    def bends(
        self, method: str, control: str, period: float, phase: float, metric: str = "knn1"
    ) -> dict[str, pd.Series[float]]:
        """Return how far the difference of two methods bends inside each period of the method.

        The bend is the difference at the evaluated epoch nearest to `phase` of a period, minus the
        straight line between the difference at the ends of the period: what the phase does beyond
        the trend of the training. The first period has no beginning and is left out, and so are
        periods whose ends were not evaluated.

        Parameters
        ----------
        method, control, metric : str
            As in `difference`.
        period : float
            Of the method's schedule, in epochs.
        phase : float
            In (0, 1).

        Returns
        -------
        dict
            For each period in words its bends in points, by draw.
        """
        gap = self.curve(method, metric) - self.curve(control, metric)
        found = {}
        for k in range(1, round(self.epochs / period)):
            start, last = round(k * period), round((k + 1) * period)
            inside = [epoch for epoch in gap.index if start < epoch < last]
            if inside and {start, last} <= set(gap.index):
                wanted = start + phase * (last - start)
                _, at = min((abs(epoch - wanted), epoch) for epoch in inside)
                part = (at - start) / (last - start)
                line = (1 - part) * gap.loc[start] + part * gap.loc[last]
                found[f"period {k + 1}: epoch {at} (phase {part:.2f})"] = gap.loc[at] - line
        return found

    def contrast(self, contrast: claims.Contrast) -> pd.Series[float]:
        """Return the paired difference in each draw that a contrast of a claim asks for."""
        control = self.best_fixed() if contrast.control == "best fixed" else contrast.control
        return self.differences(contrast.method, control, contrast.metric, contrast.group)

    def best_fixed(
        self, metric: str | None = None, inside: tuple[float, float] = (0, math.inf)
    ) -> str:
        """Return the fixed temperature with the highest mean accuracy on the validation images.

        Means are over the draws that all fixed temperatures there have. Image-text pairs are judged
        by recall at 1, the mean of both directions.

        Where a study has no validation images the test images choose, which flatters the control;
        `chosen_on` says which.

        Parameters
        ----------
        metric : str, optional
            What is judged by instead.
        inside : pair of float
            The temperatures among which is chosen, ends included: those of a rule's range.

        Raises
        ------
        ValueError
            If the study has no fixed temperature there, or they share no draw.
        """
        judge, (low, high) = metric or self.chosen_on, inside
        among = [method for method, tau in self.fixed.items() if low <= tau <= high]
        if not among:
            raise ValueError(f"{self.name} has no fixed temperature from {low:g} to {high:g}")
        means = self._means(judge, among)
        return max(among, key=lambda method: means[method])

    @property
    def chosen_on(self) -> str:
        """The metric that the best fixed temperature is chosen by."""
        found = self.run().metrics
        judges = ("validation_recall1", "validation_knn1", "knn1")
        return next(judge for judge in judges if judge in found)

    def trend(self, order: Mapping[str, float], metric: str = "knn1") -> pd.Series[float]:
        """Return Spearman's rank correlation of accuracy with an order of methods, by draw.

        Parameters
        ----------
        order : mapping
            For each method the number that its accuracy should rise with.
        metric : str
            As in `accuracy`.

        Returns
        -------
        Series
            In [-1, 1]; 0 in a draw in which all methods are equal.

        Raises
        ------
        ValueError
            If the order does not tell two methods apart.
        """
        expected = pd.Series(dict(order), dtype=float)
        if expected.nunique() < 2:
            raise ValueError(f"order must tell methods apart, got {dict(order)}")
        table = pd.DataFrame({method: self.accuracy(method, metric) for method in order})
        unequal = table[table.nunique(axis="columns") > 1]
        found: pd.Series[float] = unequal.corrwith(expected, axis="columns", method="spearman")
        return found.reindex(table.index, fill_value=0.0)

    # --- Tables ----------------------------------------------------------------------------------

    def table(
        self, metrics: Mapping[str, str] | None = None, methods: Iterable[str] | None = None
    ) -> pd.DataFrame:
        """Return the mean of several metrics over the draws that all methods have, one row each.

        Parameters
        ----------
        metrics : mapping, optional
            Metrics and their names as columns; by default `METRICS`, after the validation's.
        methods : iterable of str, optional
            By default all.

        Raises
        ------
        ValueError
            If the methods share no draw.
        """
        if metrics is None:
            found = self.run().metrics
            metrics = {each: words.metric(each) for each in (self.chosen_on, *METRICS)}
            metrics = {each: label for each, label in metrics.items() if each in found}
        chosen = list(methods or self.runs)
        return pd.DataFrame({label: self._means(name, chosen) for name, label in metrics.items()})

    def _means(self, metric: str, methods: Sequence[str]) -> dict[str, float]:
        """Return the means over the draws that all these methods have."""
        shared = sorted(set.intersection(*(set(self.runs[method]) for method in methods)))
        if not shared:
            raise ValueError(f"these methods of {self.name} share no draw: {', '.join(methods)}")
        return {m: float(self.accuracy(m, metric).loc[shared].mean()) for m in methods}

    def difference_table(
        self,
        methods: Iterable[str],
        control: str | Sequence[str],
        metrics: Mapping[str, str] | None = None,
        groups: Sequence[str] = ("all",),
        epoch: int | tuple[int, int] | None = None,
    ) -> pd.DataFrame:
        """Return paired differences to a control: one row for each method, metric and group.

        The columns are those that `dytemp.lab.book.figures.differences` draws: ``mean``, ``low``,
        ``high`` (points) and ``draws``. With several controls the rows say which one is meant.
        """
        one = isinstance(control, str)
        rows = {}
        for method, other in itertools.product(methods, [control] if one else control):
            for (metric, label), group in itertools.product((metrics or METRICS).items(), groups):
                found = self.difference(method, str(other), metric, group, epoch)
                pair = method if one else f"{method} minus {other}"
                rows[pair, label if group == "all" else f"{label}, {group}"] = as_row(found)
        table = pd.DataFrame(rows).T
        table.index.names = ["method", "metric"]
        return table.astype({"draws": int})

    def against(
        self, method: str, controls: Iterable[str], metric: str = "knn1", group: str = "all"
    ) -> pd.DataFrame:
        """Return paired differences of a method to several controls: one row for each.

        Runs that were recorded before they held the metric are left out, and so are controls that
        have no run. The columns are those of `difference_table`.
        """
        held = self.holding(metric)
        there = [each for each in dict.fromkeys(controls) if each in held.runs and each != method]
        found = {each: held.difference(method, each, metric, group) for each in there}
        return estimates(found)

    # --- Verdicts --------------------------------------------------------------------------------

    def judge(
        self,
        paper: str,
        claim: str,
        notebook: str,
        effects: Mapping[str, Sequence[float] | pd.Series[float]] | None = None,
        note: str = "",
    ) -> claims.Finding:
        """Judge a claim by the contrasts that are fixed for it in ``claims.csv``.

        Parameters
        ----------
        paper, claim : str
            For example ``"ts"``, ``"C8"``.
        notebook : str
            The chapter that asks.
        effects : mapping, optional
            For a claim that is no paired difference: its effects, one value for each draw.
        note : str
            What the reader must know beside what the verdict says itself.

        Returns
        -------
        Finding
            It is recorded if this is the whole recorded study.
        """
        rule = claims.rule(paper, claim)
        found = (
            {str(each): self.contrast(each).tolist() for each in rule.contrasts}
            if effects is None
            else {name: list(values) for name, values in effects.items()}
        )
        finding = claims.judge(
            rule,
            found,
            scope=self.scope,
            runs=[run.key for run in self.all_runs],
            notebook=notebook,
            note=" ".join(part for part in (note, f"{self}.") if part),
        )
        if self.recorded:
            claims.record(finding)
        return finding


def as_row(estimate: Estimate) -> dict[str, float]:
    """Return an estimate as a row of a table."""
    return {
        "mean": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "draws": estimate.count,
    }


def estimates(effects: Mapping[Any, Sequence[float] | pd.Series[float] | Estimate]) -> pd.DataFrame:
    """Return effects with their intervals, one row each, as `Study.difference_table` does.

    Parameters
    ----------
    effects : mapping
        For each name the values of an effect, one for each draw, or its estimate.
    """
    found = {
        name: value if isinstance(value, Estimate) else mean_interval(list(value))
        for name, value in effects.items()
    }
    rows = {name: as_row(each) for name, each in found.items()}
    # Of no effects it is an empty table with the same columns.
    table = pd.DataFrame(rows, index=["mean", "low", "high", "draws"]).T
    return table.astype({"draws": int})


def _level(run: Run, method: str) -> float:
    """Return the mean of the temperatures that a run learned, to three digits after the point."""
    learned = [values for name, values in run.arrays.items() if name.startswith("tau")]
    if not learned:
        raise ValueError(f"{method} learns no temperatures")
    return round(float(np.mean([values.mean() for values in learned])), 3)


def _metric(run: Run, name: str, epoch: int | None) -> float:
    """Return a metric of a run, accuracies in percent."""
    point = _at(run, epoch)
    if name == "fullest_group":
        return _shares(point)[0]
    metrics = point["metrics"]
    if name not in metrics:
        raise ValueError(f"metric must be one of {', '.join(metrics)}, got {name!r}")
    percent = words.bare(name).startswith((*words.ACCURACIES, "graded"))
    return float((100 if percent else 1) * metrics[name])


def _at(run: Run, epoch: int | None) -> dict[str, Any]:
    """Return the evaluation of a run at an epoch, or its last one."""
    at = [point for point in run.evaluations if epoch in (None, point["epoch"])]
    if not at:
        raise ValueError(
            f"epoch must be one of {[point['epoch'] for point in run.evaluations]}, got {epoch}"
        )
    return at[-1]


def _shares(point: Mapping[str, Any]) -> list[float]:
    """Return the share of the images in each group of directions, the fullest first, in percent."""
    if "geometry" not in point:
        raise ValueError("the runs of this study do not record where their images lie")
    counts = point["geometry"]["coverage"]
    return [100 * count / sum(counts) for count in counts]


def _span(numbers: Sequence[int], what: str) -> str:
    """Write a number of things, or the least and the most of several numbers."""
    least, most = min(numbers), max(numbers)
    return _counted(most, what) if least == most else f"{least} to {_counted(most, what)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _draws(numbers: Sequence[int]) -> str:
    """Write the numbers of draws, those that follow each other as a range."""
    first, *more = numbers
    if len(more) > 1 and list(numbers) == list(range(first, numbers[-1] + 1)):
        return f"draws {first} to {numbers[-1]}"
    return f"draw{'s' if more else ''} {', '.join(map(str, numbers))}"
