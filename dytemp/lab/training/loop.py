"""One training loop for every loss: image pairs and image-text pairs, one process or many.

Everything random in an epoch comes from generators seeded with (seed, epoch), so the end of an
epoch is all that a checkpoint has to hold: a run that was killed and started again ends with the
same bits as one that was not, and runs that differ in their loss alone see the same data.
"""

from __future__ import annotations

import io
import math
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from dytemp.lab import datasets, files
from dytemp.lab.datasets.long_tails import as_bytes
from dytemp.lab.training import augment, distributed, hardware, optimizers, own, pairings
from dytemp.lab.training.configuration import Config, build_loss, describe
from dytemp.lab.training.evaluation import evaluate
from dytemp.lab.training.outcome import History, Outcome
from dytemp.schedules import LogScale

__all__ = ["Config", "History", "Outcome", "build_loss", "choose_split", "train"]

ORDER, VIEWS, DROPOUT = range(3)  # what a generator is for
CHECKPOINT_SECONDS = 1.0  # between two checkpoints, at least: an epoch can be shorter than a write


def train(
    config: Config,
    folder: Path | None = None,
    device: str = "auto",
    root: str | os.PathLike[str] | None = None,
    label: str | None = "",
) -> Outcome:
    """Train and evaluate one run.

    Under ``torchrun`` every process calls it with the same arguments and takes its part of each
    batch; the result is that of a single process.

    Parameters
    ----------
    config : Config
        The run.
    folder : Path, optional
        Where a checkpoint is written at the end of epochs, at most once a second. If there is one
        of this run already, the run goes on from there. None: no checkpoints.
    device : str
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` or ``"mps"``.
    root : path, optional
        Where the data sets are; see `dytemp.lab.datasets.load`.
    label : str, optional
        What the progress bar calls the run; by default its loss and its seed. None: no bar.

    Returns
    -------
    Outcome

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        For data, settings or a checkpoint that cannot be used, or that are not the same for all
        processes.
    FloatingPointError
        If the embeddings or the loss are no longer finite.
    MemoryError
        If there is too little memory for a run of this size.
    """
    with distributed.processes(), own.blamed(config.loss), _enough_memory():
        dataset = datasets.load(config.data, root)
        content = datasets.fingerprint(dataset)
        distributed.agree({"configuration": config.key, "data": content})
        split = choose_split(config, dataset)
        session = _Session(config, dataset, content, split, hardware.device(device), label)
        checkpoint = None if folder is None else folder / "checkpoint.pt"
        if checkpoint is not None and checkpoint.is_file():
            session.load(checkpoint)
        saved = -math.inf
        for epoch in range(session.history.epoch + 1, config.epochs + 1):
            with session.dropout(epoch):
                session.train_epoch(epoch)
            session.evaluate_if_due(epoch)
            due = epoch == config.epochs or time.monotonic() - saved >= CHECKPOINT_SECONDS
            if checkpoint is not None and due and distributed.rank() == 0:
                session.save(checkpoint)
                saved = time.monotonic()
            distributed.wait_for_all()
        session.bar.close()
        return session.outcome()


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Say in a sentence that memory is short; torch raises many words about its allocator."""
    try:
        yield
    except RuntimeError as error:
        if "alloc" not in str(error) and "out of memory" not in str(error):
            raise
        first = str(error).splitlines()[0]
        raise MemoryError(
            f"too little memory for this run ({first:.120}): try a smaller batch, projection_dim, "
            "queue or encoder"
        ) from error


def choose_split(config: Config, dataset: datasets.Dataset) -> datasets.Split:
    """Return the images that a run trains and evaluates on.

    Raises
    ------
    ValueError
        If the data cannot be split as the configuration asks, or a batch is larger than the
        training set.
    """
    if len(dataset.class_names) < 2 and config.pairs == "views":
        raise ValueError(
            f"{dataset.name!r} has a single class, and the accuracy of images needs two; "
            "images with captions can do without: pairs 'captions' are measured by recall"
        )
    if config.n_max is None:
        split = _whole(dataset, config.split_seed, config.validation_per_class)
    else:
        order = None
        if config.permutation is not None:
            classes = len(dataset.class_names)
            order = datasets.class_order(config.data, config.permutation, classes)
        settings = (config.n_max, config.ratio, order, config.split_seed)
        split = datasets.split(dataset, *settings, config.validation_per_class)
    if config.batch > len(split.train):
        raise ValueError(
            f"batch must be at most {len(split.train)}, the number of training images, "
            f"got {config.batch}"
        )
    return split


def _whole(dataset: datasets.Dataset, seed: int, validation_per_class: int) -> datasets.Split:
    """Take all training images, with their own frequencies, in an order that content decides.

    The first ones of each class validate: as many as asked for, but at most a tenth of the class.
    """
    labels = dataset.train_labels
    keys = datasets.content_keys(as_bytes(dataset.train_images), seed)
    counts = labels.bincount(minlength=len(dataset.class_names))
    if not counts.all():
        empty = (counts == 0).nonzero().flatten().tolist()
        names = ", ".join(f"{k} ({dataset.class_names[k]!r})" for k in empty)
        raise ValueError(
            f"n_max None takes all training images of {dataset.name!r}, but there is none of class "
            f"{names}: labels count from 0, and every class needs an image"
        )
    groups = torch.empty_like(counts)
    for group, members in enumerate(counts.argsort(descending=True, stable=True).tensor_split(3)):
        groups[members] = group
    order = keys.argsort(stable=True)
    held_out = torch.zeros(len(order), dtype=torch.bool)
    for label, count in enumerate((counts // 10).clamp(max=validation_per_class).tolist()):
        held_out[(labels[order] == label).nonzero().flatten()[:count]] = True
    train = order[~held_out]
    few_shot = train
    if len(counts) > 1:
        least = int(labels[train].bincount().min())
        few_shot = train[datasets.long_tail_indices(labels[train], keys[train], 1, least)]
    return datasets.Split(
        train=train,
        validation=order[held_out],
        few_shot=few_shot,
        groups=groups,
    )


class _Session:
    """A run in progress: data, encoders, loss, optimiser and history."""

    def __init__(
        self,
        config: Config,
        dataset: datasets.Dataset,
        fingerprint: str,
        split: datasets.Split,
        device: torch.device,
        label: str | None,
    ) -> None:
        if config.batch % distributed.world_size():
            raise ValueError(
                f"batch must be a multiple of the {distributed.world_size()} processes, "
                f"got {config.batch}"
            )
        if config.pairs == "sentences" and distributed.world_size() > 1:
            raise ValueError(
                "pairs 'sentences' are trained by one process, since each would draw its own "
                f"dropout, got {distributed.world_size()}"
            )
        self.config, self.dataset, self.split, self.device = config, dataset, split, device
        self.precision = hardware.precision(config.precision, device)
        self.fingerprint = fingerprint
        self.history = History(parts=[self._conditions()])
        self.augmentation = augment.PRESETS[config.augmentation]
        self.images = dataset.train_images[split.train].to(device)
        self.labels = dataset.train_labels[split.train]
        self.steps = len(self.images) // config.batch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            model = pairings.build(config, dataset)
            loss = build_loss(config.loss, len(self.images), self.labels, config.projection_dim)
        # State per sample is in float64, which Apple's GPUs do not have.
        self.loss = (loss.float() if device.type == "mps" else loss).to(device)
        if distributed.world_size() > 1:
            distributed.share_batch_statistics(model)
        self.model = model.to(device).to(memory_format=torch.channels_last)
        groups: list[dict[str, Any]] = [{"params": list(self.model.parameters())}]
        if learned := list(self.loss.parameters()):  # temperatures and biases: no decay
            groups.append({"params": learned, "weight_decay": 0.0})
        self.optimizer = optimizers.build(
            config.optimizer,
            groups,
            config.learning_rate,
            config.momentum,
            config.weight_decay,
        )
        # Not into a log file; the environment's TQDM_DISABLE counts too, as for any bar.
        watched = sys.stderr.isatty() or type(sys.stderr).__module__ == "ipykernel.iostream"
        shown = watched and label is not None and distributed.rank() == 0
        silent = {} if shown else {"disable": True}
        label = label or f"{describe(config.loss)} seed {config.seed}"
        self.bar = tqdm(total=config.epochs * self.steps, desc=label, unit="batch", **silent)

    def train_epoch(self, epoch: int) -> None:
        """Go through the training images once."""
        start = time.perf_counter()
        config = self.config
        self.loss.set_epoch(epoch)
        order = torch.randperm(len(self.images), generator=self._generator(ORDER, epoch))
        batches = order[: self.steps * config.batch].view(self.steps, config.batch)
        generator = self._generator(VIEWS, epoch)
        total_loss = total_temperature = rate = 0.0
        for step, rows in enumerate(batches.to(self.device), start=1 + (epoch - 1) * self.steps):
            warmup, total = config.warmup_epochs * self.steps, config.epochs * self.steps
            rate = optimizers.learning_rate(step, config.learning_rate, warmup, total)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            total_loss += self._update(rows, generator)
            total_temperature += self.loss.temperature_now
            self.bar.update()
        loss, temperature = total_loss / self.steps, total_temperature / self.steps
        history = self.history
        history.epoch = history.parts[-1]["epoch"] = epoch
        if epoch % config.curves_every == 0:
            history.curves["loss"].append(loss)
            if not math.isnan(temperature):  # a loss may have none
                history.curves["temperature"].append(temperature)
            history.curves["learning_rate"].append(rate)
        history.seconds["training"] += time.perf_counter() - start
        self.bar.set_postfix_str(f"epoch {epoch}, loss {loss:.3f}, tau {temperature:.3g}")

    def _update(self, rows: Tensor, generator: torch.Generator) -> float:
        """Take one step on a batch, given as positions in the training images; return its loss."""
        own = distributed.own_rows(len(rows))
        first, second = self._pairs(rows[own], own, len(rows), generator)
        with self._autocast():
            z1, z2 = self.model(first, second)
        self._refuse_infinite(torch.cat([z1, z2]), "embeddings")
        loss = self.loss(z1, z2, rows[own])  # computes in float32 at least
        self._refuse_infinite(loss, "loss")
        self.optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(self.model.parameters())
        self.optimizer.step()
        for module in self.loss.modules():
            if isinstance(module, LogScale):
                module.clamp_()
        return float(loss.detach())

    def _pairs(
        self, rows: Tensor, own: slice, batch: int, generator: torch.Generator
    ) -> pairings.Pair:
        """Return the inputs of the encoders for this process's rows of a batch."""
        images = self.images[rows]
        if self.config.pairs == "sentences":
            return images, images

        def view() -> Tensor:
            # All processes draw for the whole batch and carry out their part, as one would.
            height, width = images.shape[2:]
            choices = augment.draw(self.augmentation, batch, height, width, generator)
            choices = augment.Choices(*(choice[own] for choice in choices))
            return augment.apply(images, choices, self.augmentation.interpolation)

        if isinstance(self.dataset, datasets.Captioned) and self.config.pairs == "captions":
            tokens = self.dataset.train_tokens[self.split.train[rows.cpu()]]
            return view(), tokens.to(self.device)
        return view(), view()

    def evaluate_if_due(self, epoch: int) -> None:
        """Evaluate at the last epoch and at the chosen ones; process 0 does it for all."""
        start = time.perf_counter()
        every = self.config.evaluate_every
        complete = epoch == self.config.epochs or epoch in self.config.evaluate_at
        if complete or (every and epoch % every == 0):
            found: dict[str, Any] = {}
            if distributed.rank() == 0:
                found = evaluate(
                    epoch,
                    self.model,
                    self.dataset,
                    self.split,
                    self.config.probes if complete else (),
                    self.augmentation if complete else None,
                    self._autocast,
                    self.config.geometry,
                    self.config.prompts,
                ).to_dict()
            self.history.evaluations.append(distributed.from_first(found))
        self.history.seconds["evaluation"] += time.perf_counter() - start

    def save(self, file: Path) -> None:
        """Write a checkpoint; a reader sees the old one or the new one, never a part."""
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self._parts().items()}
        state |= {"key": self.config.key, "fingerprint": self.fingerprint}
        content = io.BytesIO()  # torch does not say that a disk is full
        torch.save(state | {"history": asdict(self.history)}, content)
        with files.replacing(file, file.with_suffix(".unfinished")) as stream:
            stream.write(content.getbuffer())

    def load(self, file: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            If the file is damaged, or belongs to another run or to other data.
        OSError
            If the file cannot be read.
        """
        advice = "delete the file to start the run again"
        content = file.read_bytes()
        try:
            _refuse_wrong_sums(content)
            state = torch.load(io.BytesIO(content), map_location=self.device, weights_only=True)
            key, fingerprint = state["key"], state.get("fingerprint", self.fingerprint)
        except Exception as error:  # the unpickler raises many unrelated types
            raise ValueError(f"{file} is not a readable checkpoint ({error}): {advice}") from error
        if key != self.config.key:
            raise ValueError(f"{file} belongs to run {key}: {advice}")
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"{file} was trained on other data that were called {self.config.data!r} too: "
                f"{advice} with the data that are here now"
            )
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            history = History(**state["history"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{file} does not fit this version of dytemp ({error!s:.200}): {advice}"
            ) from error
        # A checkpoint from before conditions were kept says nothing about them.
        unknown = {"epoch": history.epoch, "environment": {}, "code": "unknown"}
        history.parts = history.parts or [unknown]
        now = self._conditions()
        if history.parts[-1] | {"epoch": 0} != now:
            history.parts.append(now | {"epoch": history.epoch})
        self.history = history
        self.bar.update(self.history.epoch * self.steps)

    def outcome(self) -> Outcome:
        """Return the result of the finished run."""
        names = ("tau", "tau_image", "tau_text")
        learned = {name: getattr(self.loss, name, None) for name in names}
        arrays = {
            name: value.detach().float().cpu().numpy()
            for name, value in learned.items()
            if isinstance(value, Tensor) and value.shape == self.labels.shape
        }
        if arrays:
            arrays["labels"] = self.labels.numpy()
            arrays["positions"] = self.split.train.numpy()
            if isinstance(self.dataset, datasets.Captioned):
                spoken = self.dataset.train_tokens[self.split.train]
                arrays["rarest_word"] = datasets.captions.rarest(
                    spoken, self.dataset.vocabulary
                ).numpy()
        images = self.config.epochs * self.steps * self.config.batch
        return Outcome(
            history=self.history,
            arrays=arrays,
            fingerprint=self.fingerprint,
            counts=self.labels.bincount(minlength=len(self.split.groups)).tolist(),
            groups=self.split.groups.tolist(),
            images_per_second=images / self.history.seconds["training"],
            device=self.device.type,
            precision=self.precision,
            model=self.model,
        )

    def _conditions(self) -> dict[str, Any]:
        """Return what the bits of the coming epochs depend on beside the configuration."""
        environment = hardware.environment()
        environment |= {"device": self.device.type, "precision": self.precision}
        if distributed.world_size() > 1:
            environment["processes"] = distributed.world_size()
        return {"epoch": 0, "environment": environment, "code": hardware.code()}

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "loss": self.loss, "optimizer": self.optimizer}

    def _autocast(self) -> torch.autocast:
        wanted = self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted)

    @contextmanager
    def dropout(self, epoch: int) -> Iterator[None]:
        """Seed torch's own generator, the only one that dropout takes, for an epoch."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self._seed(DROPOUT, epoch))
            yield

    def _generator(self, purpose: int, epoch: int) -> torch.Generator:
        """Return a generator on the processor, so that every device sees the same data."""
        return torch.Generator().manual_seed(self._seed(purpose, epoch))

    def _seed(self, purpose: int, epoch: int) -> int:
        state = np.random.SeedSequence((self.config.seed, epoch, purpose)).generate_state(1)
        return int(state[0])

    def _refuse_infinite(self, values: Tensor, what: str) -> None:
        if not bool(torch.isfinite(values).all()):
            rate = self.optimizer.param_groups[0]["lr"]
            raise FloatingPointError(
                f"{what} must be finite, got NaN or inf after {self.history.epoch} finished "
                f"epochs, at learning rate {rate:.3g} with {describe(self.config.loss)}: try a "
                "smaller learning_rate or a longer warm-up"
            )


def _refuse_wrong_sums(checkpoint: bytes) -> None:
    """Compare the check sums in a checkpoint, a zip archive, with its content; torch does not."""
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"wrong check sum of {damaged}")
