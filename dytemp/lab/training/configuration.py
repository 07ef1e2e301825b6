"""What a run is: a flat configuration, checked on construction, with a key of its own."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from dytemp import checks, losses, schedules
from dytemp.lab.training import augment, optimizers, own
from dytemp.losses.pairs import PairLoss

PAIRS = ("views", "captions", "sentences")
ENCODERS = ("tiny", "small", "wide", "resnet18", "resnet50", "dense", "transformer")
PRECISIONS = ("auto", "float32", "bfloat16")
PROBES = ("few_shot", "long_tail")


@dataclass(frozen=True)
class Config:
    """All settings of a run; the same configuration gives the same run.

    Runs that differ in `loss` alone are paired: they see the same images, initial weights, order
    of the data and augmentations.

    Raises
    ------
    TypeError, ValueError
        For a value that is not allowed; the message names the setting, the value and what is.
    """

    # Data
    data: str = "mnist5k"  # a name that datasets.load knows
    # "views": two views of an image; "captions": an image and its caption; "sentences": a sentence
    # twice through the dropout of its encoder
    pairs: str = "views"
    n_max: int | None = 400  # training images of the most frequent class; None: all there are
    ratio: float = 0.01  # training images of the rarest class over that, in (0, 1]
    permutation: int | None = None  # class order, see datasets.class_order; None: class 0 leads
    split_seed: int = 0  # chooses the images
    # Training images of each class that are set aside first; without n_max a tenth at most
    validation_per_class: int = 0

    # Model
    encoder: str = "tiny"  # a name that encoders.build knows
    projection_dim: int = 128  # length of the embeddings that the loss sees

    # Loss: name and arguments; a temperature is a number or again name and arguments
    loss: Mapping[str, Any] = field(default_factory=lambda: {"name": "NTXent", "temperature": 0.2})
    key_momentum: float | None = None  # MoCo: weight of the past in the key encoder; None: no such

    # Training
    augmentation: str = "digits"  # a name in augment.PRESETS; without meaning for sentences
    epochs: int = 20
    batch: int = 256  # pairs in an update, over all processes; what is left of an epoch is dropped
    optimizer: str = "sgd"  # "sgd", "lars" or "adamw"
    learning_rate: float = 0.5  # after the warm-up; a cosine brings it down to 1e-6
    momentum: float = 0.9  # of sgd and lars
    weight_decay: float = 1e-4
    warmup_epochs: int = 1  # epochs of linear warm-up
    precision: str = "auto"  # of the encoder; "auto": bfloat16 where the processor computes in it
    seed: int = 0  # chooses initial weights, order of the data and augmentations

    # Evaluation: kNN and geometry at the chosen epochs, the probes at the last and at evaluate_at
    evaluate_every: int = 0  # epochs between two points of the curves; 0: none
    evaluate_at: tuple[int, ...] = ()  # epochs of further complete evaluations
    probes: tuple[str, ...] = ()  # linear SVMs, on "few_shot" or "long_tail" training images
    prompts: tuple[str, ...] = ("{}",)  # texts round the name of a class; zero-shot averages them
    geometry: bool = False  # at each evaluation also where the training images lie on the sphere
    curves_every: int = 1  # epochs between two points of loss, temperature and learning rate

    def __post_init__(self) -> None:
        if not isinstance(self.data, str):
            raise TypeError(f"data must be a string, got {type(self.data).__name__} {self.data!r}")
        for name, least in _INTEGERS.items():
            if getattr(self, name) is not None or name not in _OPTIONAL:
                whole = checks.integer(name, getattr(self, name), at_least=least, at_most=_LARGEST)
                object.__setattr__(self, name, whole)
        for name, bounds in _NUMBERS.items():
            if getattr(self, name) is not None or name not in _OPTIONAL:
                value = checks.number(name, getattr(self, name), **bounds)
                object.__setattr__(self, name, value)
        for name, allowed in (
            ("pairs", PAIRS),
            ("encoder", ENCODERS),
            ("augmentation", tuple(augment.PRESETS)),
            ("optimizer", optimizers.NAMES),
            ("precision", PRECISIONS),
        ):
            checks.choice(name, getattr(self, name), allowed)
        if not isinstance(self.geometry, bool):
            raise TypeError(f"geometry must be True or False, got {self.geometry!r}")
        for name in ("evaluate_at", "probes"):
            object.__setattr__(self, name, _listed(name, getattr(self, name)))
        within = {"at_least": 1, "at_most": self.epochs}
        epochs = tuple(checks.integer("evaluate_at", k, **within) for k in self.evaluate_at)
        object.__setattr__(self, "evaluate_at", epochs)
        for probe in self.probes:
            checks.choice("probes", probe, PROBES)
        object.__setattr__(self, "prompts", _listed("prompts", self.prompts))
        for prompt in self.prompts or (None,):
            if not isinstance(prompt, str) or prompt.count("{}") != 1:
                raise ValueError(
                    f"prompts must be texts that hold {{}} once, for the name of a class, at least "
                    f"one, got {self.prompts!r}"
                )
        if len(set(self.probes)) < len(self.probes):
            raise ValueError(f"probes must not repeat a name, got {self.probes!r}")
        checks.number("warmup_epochs", self.warmup_epochs, at_most=self.epochs - 1)
        object.__setattr__(self, "loss", _plain("loss", self.loss))
        _resolve(self.loss, losses, "loss")
        try:
            # A trial, so that a mistake shows up here; but reading a record must execute nothing.
            with torch.random.fork_rng(devices=[]):
                if not any(own.rules(self.loss)):
                    labels = torch.zeros(2, dtype=torch.int64)
                    build_loss(self.loss, size=2, labels=labels, dim=2)
        except (RuntimeError, OverflowError) as error:  # a size that no memory holds
            first = str(error).splitlines()[0]
            raise ValueError(f"{describe(self.loss)} cannot be built: {first:.120}") from error
        self._refuse_contradictions()

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Config:
        """Return the configuration with these settings, all others at their defaults.

        Raises
        ------
        TypeError, ValueError
            For an unknown setting, a value of the wrong type or one that is not allowed.
        """
        if not isinstance(settings, Mapping):
            raise TypeError(
                f"settings must be a mapping of names to values, "
                f"got {type(settings).__name__} {settings!r}"
            )
        known = [setting.name for setting in fields(cls)]
        for name in settings:
            checks.choice("setting", name, known)
        return cls(**settings)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings, ready for JSON."""
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return settings

    @property
    def key(self) -> str:
        """Name of the run: 16 hexadecimal digits of the SHA-256 of the settings, as JSON.

        Settings at their default are left out, so a setting that is added later does not rename
        the runs that were recorded before. (For the same reason a default must never change.)
        """
        default = _defaults()
        chosen = {name: value for name, value in self.to_dict().items() if value != default[name]}
        text = json.dumps(_canonical(chosen), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _refuse_contradictions(self) -> None:
        """Refuse settings that have no meaning together."""
        if self.n_max is None and self.permutation is not None:
            raise ValueError("n_max must be a number where permutation is given, got None")
        if self.key_momentum is not None and self.pairs != "views":
            raise ValueError(
                f"key_momentum must be None for pairs {self.pairs!r}, got {self.key_momentum!r}"
            )
        if (self.pairs == "sentences") != (self.encoder == "transformer"):
            raise ValueError(
                "pairs 'sentences' need the encoder 'transformer', and it reads nothing else, got "
                f"pairs {self.pairs!r} and encoder {self.encoder!r}"
            )


@functools.cache
def _defaults() -> dict[str, Any]:
    return Config().to_dict()


_INTEGERS = {  # and the least value that is allowed
    "n_max": 1,
    "permutation": 1,
    "split_seed": 0,
    "validation_per_class": 0,
    "projection_dim": 1,
    "epochs": 1,
    "batch": 2,
    "warmup_epochs": 0,
    "seed": 0,
    "evaluate_every": 0,
    "curves_every": 1,
}
_NUMBERS = {  # and their bounds, as `checks.number` takes them
    "ratio": {"above": 0, "at_most": 1},
    "key_momentum": {"at_least": 0, "at_most": 1},
    "learning_rate": {"above": 0},
    "momentum": {"at_least": 0, "at_most": 1},
    "weight_decay": {"at_least": 0},
}
_LARGEST = 2**62  # torch counts in 64 bits
_OPTIONAL = ("n_max", "permutation", "key_momentum")  # may be None


def build_loss(
    spec: Mapping[str, Any],
    size: int | None = None,
    labels: Tensor | None = None,
    dim: int | None = None,
) -> PairLoss:
    """Return the loss that a specification describes.

    Parameters
    ----------
    spec : mapping
        ``{"name": "NTXent", "temperature": 0.2}``: a class of `dytemp.losses` and its arguments.
        A temperature other than a number is described in the same way, with a class of
        `dytemp.schedules`, and so are the bounds of a temperature that are schedules themselves.
        With a ``source``, the text of a file, the class is the one that it defines.
    size, labels, dim
        Number of training samples, their classes (int64), length of the embeddings: passed to the
        classes that take them, unless the specification does.

    Raises
    ------
    TypeError, ValueError
        For an unknown name or argument, a missing argument, or a value the class refuses.
    """
    known = {"size": size, "labels": labels, "dim": dim}
    given = {name: value for name, value in known.items() if value is not None}
    return cast(PairLoss, _build(spec, losses, given))


def describe(spec: Mapping[str, Any]) -> str:
    """Return a specification in one line: ``NTXent(temperature=Cosine(tau_min=0.1, ...))``."""

    def text(value: object) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(text, value))}]"
        return describe(value) if isinstance(value, Mapping) else str(value)

    short = dict(spec) | ({"source": own.digest(spec["source"])} if "source" in spec else {})
    arguments = (f"{name}={text(value)}" for name, value in short.items() if name != "name")
    return f"{spec['name']}({', '.join(arguments)})"


def _build(spec: Mapping[str, Any], module: ModuleType, known: Mapping[str, Any]) -> nn.Module:
    if "source" in spec:
        kind = own.load(spec["source"])
        if issubclass(kind, schedules.Temperature) != (module is schedules):
            raise ValueError(f"{kind.__name__} is no name in {module.__name__}")
    else:
        kind = _resolve(spec, module, module.__name__)
    wanted = inspect.signature(kind).parameters
    arguments = {name: value for name, value in known.items() if name in wanted}

    def made(value: object) -> object:
        if isinstance(value, list):
            return [made(entry) for entry in value]
        return _build(value, schedules, known) if isinstance(value, Mapping) else value

    named = {name: value for name, value in spec.items() if name not in ("name", "source")}
    arguments |= {name: made(value) for name, value in named.items()}
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        raise TypeError(f"{spec['name']}: {error}; it takes {', '.join(wanted)}") from None
    return own.watched(kind(**arguments)) if "source" in spec else kind(**arguments)


def _resolve(spec: object, module: ModuleType, where: str) -> type[nn.Module]:
    """Return the class that a specification names; refuse unknown names and arguments."""
    if not isinstance(spec, Mapping) or "name" not in spec:
        raise ValueError(f"{where} must be a mapping with a name, got {spec!r}")
    if "source" in spec:  # what is in it shows where it is built
        if not isinstance(spec["name"], str) or not isinstance(spec["source"], str):
            raise ValueError(f"{where} from a file must have a name and a text, got {spec!r}")
        return nn.Module
    names = list(_public(module))
    checks.choice(f"name of {where}", spec["name"], names)
    kind: type[nn.Module] = getattr(module, spec["name"])
    allowed = ["name", *inspect.signature(kind).parameters]
    for name, value in spec.items():
        checks.choice(f"argument of {spec['name']}", name, allowed)
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Mapping):
                _resolve(entry, schedules, f"{spec['name']}.{name}")
    return kind


def _public(module: ModuleType) -> Iterable[str]:
    """Return the names of the losses or temperatures of a module that can be built."""
    bases = ("Timed", "Temperature", "OfTime", "OfSimilarity", "OfBatch")
    for name, value in vars(module).items():
        is_public = isinstance(value, type) and not name.startswith("_")
        if is_public and issubclass(value, nn.Module) and name not in bases:
            yield name


def _plain(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `value` as JSON has it."""
    try:
        copy = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold names, numbers and lists only: {error}") from None
    return dict(copy)


def _canonical(value: Any) -> Any:
    """Write whole numbers as integers, so that 1 and 1.0 are the same setting."""
    if isinstance(value, dict):
        return {name: _canonical(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _listed(name: str, value: object) -> tuple[Any, ...]:
    """Return a list as a tuple."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a list, got {type(value).__name__} {value!r}")
    return tuple(value)
