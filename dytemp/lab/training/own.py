"""A rule from a file of one's own: its text is part of the run, and so is who is to blame.

In a configuration it is ``{"name": "Rule", "source": "the text of the file"}``, in the place of a
loss or of a temperature. So another version of the file is another run, every process can build it,
and a record is complete. The text is executed where the loss is built, never where a record is
read.
"""

from __future__ import annotations

import hashlib
import inspect
import linecache
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from dytemp.losses.pairs import PairLoss
from dytemp.schedules import Temperature

_VALUES = ("forward", "at", "height", "_of", "from_unit", "rows")  # methods that give the value
_classes: dict[str, type[nn.Module]] = {}  # by the text that defines them


class RuleError(ValueError):
    """A file misbehaves, in a line, for a reason."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line, self.problem = line, problem

    def __str__(self) -> str:
        return f"line {self.line} of the rule: {self.problem}"


def rules(spec: object) -> Iterator[Mapping[str, Any]]:
    """Yield the rules from files, wherever they stand in a specification."""
    if isinstance(spec, Mapping):
        if "source" in spec:
            yield spec
        for value in spec.values():
            yield from rules(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from rules(value)


def digest(source: str) -> str:
    """Return 8 hexadecimal digits that stand for a text."""
    return hashlib.sha256(source.encode()).hexdigest()[:8]


def load(source: str) -> type[nn.Module]:
    """Execute a text and return the one temperature or loss that it defines.

    Raises
    ------
    RuleError
        If it fails, or defines none or several; helpers have names that begin with ``_``.
    """
    if source in _classes:
        return _classes[source]
    if "\0" in source:  # Python refuses it without a line
        raise RuleError(1 + source[: source.index("\0")].count("\n"), "a NUL byte: this is no text")
    file = _file(source)
    module = sys.modules[file] = ModuleType(file)  # where dataclasses, for one, look it up
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    with blamed({"source": source}):
        exec(compile(source, file, "exec"), vars(module))
    found = [
        value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and not name.startswith("_")
        if value.__module__ == file
    ]
    if not found:
        raise RuleError(
            1, "the file defines no temperature (a subclass of Temperature) and no loss (nn.Module)"
        )
    if len(found) > 1:
        names = " and ".join(kind.__name__ for kind in found)
        advice = "one file is one rule, and helpers have names that begin with _"
        raise RuleError(_head(found[1]), f"the file defines {names}, but {advice}")
    _classes[source] = found[0]
    return found[0]


def watched(rule: nn.Module) -> PairLoss | Temperature:
    """Return a temperature or loss whose every answer is checked; it is told the time."""

    def check(module: nn.Module, arguments: tuple[Any, ...], value: object) -> None:
        wanted = arguments[0].shape if isinstance(rule, Temperature) else ()
        if problem := _problem(value, wanted, positive=isinstance(rule, Temperature)):
            raise RuleError(_line(type(rule)), f"{type(rule).__name__} returned {problem}")

    rule.register_forward_hook(check)
    return rule if isinstance(rule, (Temperature, PairLoss)) else _Called(rule)


def _problem(value: object, wanted: tuple[int, ...], positive: bool) -> str:
    if not isinstance(value, Tensor):
        return f"{type(value).__name__}, not a tensor"
    fits = value.ndim <= len(wanted) and all(
        own in (1, size) for own, size in zip(value.shape[::-1], wanted[::-1], strict=False)
    )
    if not fits:
        asked = f"which does not fit {tuple(wanted)}" if wanted else "not a single number"
        return f"shape {tuple(value.shape)}, {asked}"
    if not bool(torch.isfinite(value).all()):
        return "NaN or inf"
    return "a temperature that is not above 0" if positive and bool((value <= 0).any()) else ""


class _Called(PairLoss):
    """A loss that is any module with ``forward(z1, z2)`` or ``forward(z1, z2, index)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.needs_index = "index" in inspect.signature(inner.forward).parameters

    def set_epoch(self, epoch: float) -> None:
        super().set_epoch(epoch)
        for module in self.inner.modules():
            if callable(tell := getattr(module, "set_epoch", None)):
                tell(epoch)

    def forward(self, z1: Tensor, z2: Tensor, index: Tensor | None = None) -> Tensor:
        z1, z2, index = self.enter(z1, z2, index)
        if z1.dtype in (torch.float16, torch.bfloat16):
            z1, z2 = z1.float(), z2.float()
        with torch.autocast(z1.device.type, enabled=False):
            value: Tensor = self.inner(z1, z2, index) if self.needs_index else self.inner(z1, z2)
        return value


# ------------------------------------------------------------------------------- who is to blame


@contextmanager
def blamed(spec: Mapping[str, Any], always: bool = False) -> Iterator[None]:
    """Turn what goes wrong in a rule of a specification into a `RuleError`, which names the line.

    It went wrong there if a line of the file was at work, or code that was handed the rule, and a
    training that diverges under a rule is the rule's, too; `always`: nothing else is at work.
    """
    try:
        yield
    except RuleError:
        raise
    except (Exception, SystemExit) as error:
        for rule in rules(spec):
            if line := _blame(error, rule["source"], always):
                first = (str(error).splitlines() or [""])[0]
                problem = f"{type(error).__name__}: {first}" if first else type(error).__name__
                raise RuleError(line, problem) from error
        raise


def _blame(error: BaseException, source: str, always: bool) -> int | None:
    """Return the line of a text that an error comes from, if it does."""
    if isinstance(error, SyntaxError) and error.filename == _file(source):
        return error.lineno or 1
    kind, line = _classes.get(source), None
    near = always or isinstance(error, FloatingPointError)
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _file(source):
            line = trace.tb_lineno
        elif kind is not None:
            values = list(trace.tb_frame.f_locals.values())
            near = near or any(value is kind or isinstance(value, kind) for value in values)
        trace = trace.tb_next
    return line or (_line(kind) if near and kind is not None else None)


def _line(kind: type[nn.Module]) -> int:
    """Return the line of the method that gives a rule's value, or else that of the class."""
    methods = [vars(kind)[name] for name in _VALUES if hasattr(vars(kind).get(name), "__code__")]
    return int(methods[0].__code__.co_firstlineno) if methods else _head(kind)


def _head(kind: type[nn.Module]) -> int:
    """Return the line in which a class begins."""
    lines = enumerate(linecache.getlines(kind.__module__), start=1)
    words = ("class", kind.__name__)
    return next((n for n, line in lines if tuple(re.findall(r"\w+", line)[:2]) == words), 1)


def _file(source: str) -> str:
    return f"<rule {digest(source)}>"
