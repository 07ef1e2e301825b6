"""Refusals: every public door of the library checks its arguments here, once.

Each function returns the checked value, or raises ``TypeError`` (wrong kind of thing) or
``ValueError`` (right kind, value not allowed). A message names the argument, what came and what
is allowed.

Looking at the values of a tensor makes a GPU wait for all work that it was given, and
``torch.compile`` break its graph. ``with checks.disabled():`` leaves these checks out, once a
training is known to work; shapes, types and numbers are still checked::

    with checks.disabled():
        for view1, view2 in loader:
            ...
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32)

_looks_at_values = True


@contextmanager
def disabled() -> Iterator[None]:
    """Leave out, inside a ``with`` block, every check that reads the values of a tensor.

    What they would refuse (NaN, a row of zeros, an index out of range or repeated) then has
    undefined results. On several processes nothing is exchanged before the embeddings are, so that
    parts of different sizes make the processes hang.
    """
    global _looks_at_values
    before, _looks_at_values = _looks_at_values, False
    try:
        yield
    finally:
        _looks_at_values = before


def enabled() -> bool:
    """Tell whether the values of tensors are checked."""
    return _looks_at_values


def number(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """Return `value` as a finite float inside the given bounds."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    try:
        result = float(value)
    except OverflowError:  # an integer or a fraction beyond the floating-point numbers
        result = math.inf
    if not (math.isfinite(result) and above < result < below and at_least <= result <= at_most):
        limits = {"above": above, "at least": at_least, "at most": at_most, "below": below}
        words = [f", {word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
        raise ValueError(f"{name} must be finite{''.join(words)}, got {value!r}")
    return result


def scalar(name: str, value: Tensor, *, above: float = 0) -> Tensor:
    """Return a floating tensor without dimensions whose value is finite and above a bound."""
    if value.ndim or not value.is_floating_point():
        raise ValueError(
            f"{name} must be a number or a floating tensor without dimensions, "
            f"got shape {tuple(value.shape)} and {value.dtype}"
        )
    if _looks_at_values:
        number(name, value.item(), above=above)
    return value


def integer(name: str, value: object, *, at_least: int, at_most: float = math.inf) -> int:
    """Return `value` as an int that is at least `at_least` and at most `at_most`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value!r}")
    if int(value) > at_most:
        raise ValueError(f"{name} must be at most {at_most}, got {value!r}")
    return int(value)


def choice(name: str, value: object, allowed: Sequence[object]) -> object:
    """Return `value` if it is one of `allowed`."""
    try:
        known = value in allowed
    except (ValueError, RuntimeError):  # an array or a tensor, compared entry by entry
        known = False
    if not known:
        names = [each for each in allowed if isinstance(each, str)]
        near = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}{hint}"
        )
    return value


def bounds(low: float, high: float, names: str = "tau_min <= tau_max") -> tuple[float, float]:
    """Return a lower and an upper bound that are in this order."""
    if low > high:
        raise ValueError(f"{names} is needed, got {low!r} > {high!r}")
    return low, high


def floating(name: str, value: object) -> Tensor:
    """Return a tensor of real floating-point numbers."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold real floating-point numbers, got {value.dtype}")
    return value


def vectors(name: str, value: object, *, at_least: int = 1) -> Tensor:
    """Return a floating (N, D) tensor with finite rows, none of them zero."""
    value = floating(name, value)
    if value.ndim != 2:
        raise ValueError(f"{name} must have shape (N, D), got {tuple(value.shape)}")
    if value.shape[0] < at_least or value.shape[1] < 1:
        raise ValueError(
            f"{name} must have at least {at_least} rows and 1 column, got {tuple(value.shape)}"
        )
    if not _looks_at_values:
        return value
    lengths = value.detach().abs().amax(dim=1)  # NaN and inf survive the maximum
    if not torch.isfinite(lengths).all():
        raise ValueError(f"{name} must be finite, got NaN or inf")
    if not lengths.all():
        rows = torch.nonzero(lengths == 0).flatten().tolist()
        raise ValueError(f"{name} must not contain zero rows (no direction), got them at {rows}")
    return value


def alike(name1: str, first: Tensor, name2: str, second: Tensor) -> None:
    """Refuse two tensors that differ in dtype or device."""
    if first.dtype != second.dtype:
        raise TypeError(
            f"{name1} and {name2} must have one dtype, got {first.dtype} and {second.dtype}"
        )
    if first.device != second.device:
        raise ValueError(
            f"{name1} and {name2} must be on one device, got {first.device} and {second.device}"
        )


def views(z1: object, z2: object) -> tuple[Tensor, Tensor]:
    """Return two (B, D) tensors of embeddings, B >= 2, that match row by row."""
    first, second = vectors("z1", z1, at_least=2), vectors("z2", z2, at_least=2)
    alike("z1", first, "z2", second)
    if first.shape != second.shape:
        raise ValueError(
            "z1 and z2 must have the same shape (B, D), "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    return first, second


def integers(
    name: str,
    value: object,
    length: int | None = None,
    size: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Return whole numbers as an int64 tensor (length,), between 0 and size - 1 if there is a size.

    Tensors and arrays of any integer type, lists of integers and columns (length, 1) are
    converted, and moved to the device if one is named. Nothing is rounded: numbers with a point
    and booleans are refused.
    """
    result = _whole_numbers(name, value)
    if result.ndim == 2 and result.shape[1] == 1:
        result = result[:, 0]
    if result.ndim != 1 or length not in (None, len(result)):
        wanted = "(N,)" if length is None else f"({length},)"
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(result.shape)}")
    if _looks_at_values and size is not None and len(result):
        low, high = int(result.min()), int(result.max())
        if not 0 <= low <= high < size:
            raise ValueError(f"{name} must lie in 0 .. {size - 1}, got {low} .. {high}")
    return result if device is None else result.to(device)


def _whole_numbers(name: str, value: object) -> Tensor:
    """Return a tensor, an array or a list of integers as an int64 tensor."""
    given: Any = value
    if not isinstance(value, Tensor | str) and hasattr(value, "__len__"):
        with suppress(TypeError, ValueError, KeyError, RuntimeError, OverflowError):
            given = torch.as_tensor(given)
            given = given if given.numel() else given.to(torch.int64)  # an empty list has no type
    if not isinstance(given, Tensor) or given.dtype not in WHOLE:
        found = f"of {given.dtype}" if isinstance(given, Tensor) else repr(value)
        wanted = "an int64 tensor, or integers to make one of"
        raise TypeError(f"{name} must be {wanted}, got {type(value).__name__} {found}")
    return given.to(torch.int64)


def index(
    value: object, batch: int, size: int | None = None, device: torch.device | None = None
) -> Tensor:
    """Return the positions (batch,) of a batch in its data set; see `integers`."""
    if value is None:
        raise ValueError(f"index is needed: an int64 tensor of shape ({batch},), got None")
    return integers("index", value, batch, size, device)


def unrepeated(index: Tensor) -> None:
    """Refuse positions that occur twice: what is remembered of a sample has one owner."""
    if _looks_at_values and torch.unique(index).numel() != len(index):
        raise ValueError(
            "index must not repeat a sample within a batch: what is remembered of it has one owner "
            "(a DistributedSampler repeats samples in the last batch unless drop_last=True)"
        )
