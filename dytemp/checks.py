"""Refusals: every public door of the library checks its arguments here, once.

Each function returns the checked value, or raises ``TypeError`` (wrong kind of thing) or
``ValueError`` (right kind, value not allowed). A message names the argument, what came and what
is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor


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
        allowed = _range(above, at_least, at_most, below)
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return result


def scalar(name: str, value: Tensor) -> Tensor:
    """Return a floating tensor without dimensions whose value is finite and above 0."""
    if value.ndim or not value.is_floating_point():
        raise ValueError(
            f"{name} must be a number or a floating tensor without dimensions, "
            f"got shape {tuple(value.shape)} and {value.dtype}"
        )
    number(name, value.item(), above=0)
    return value


def integer(name: str, value: object, *, at_least: int) -> int:
    """Return `value` as an int that is at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__} {value!r}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value!r}")
    return int(value)


def choice(name: str, value: object, allowed: Sequence[object]) -> object:
    """Return `value` if it is one of `allowed`."""
    try:
        known = value in allowed
    except (ValueError, RuntimeError):  # an array or a tensor, compared entry by entry
        known = False
    if not known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def bounds(low: float, high: float, names: str = "tau_min <= tau_max") -> None:
    """Refuse a lower bound above its upper bound."""
    if low > high:
        raise ValueError(f"{names} is needed, got {low!r} > {high!r}")


def vectors(name: str, value: object, *, at_least: int = 1) -> Tensor:
    """Return a floating (N, D) tensor with finite rows, none of them zero."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold real floating-point numbers, got {value.dtype}")
    if value.ndim != 2:
        raise ValueError(f"{name} must have shape (N, D), got {tuple(value.shape)}")
    if value.shape[0] < at_least or value.shape[1] < 1:
        raise ValueError(
            f"{name} must have at least {at_least} rows and 1 column, got {tuple(value.shape)}"
        )
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


def integers(name: str, value: object, length: int, size: int | None = None) -> Tensor:
    """Return an int64 (length,) tensor with values in 0 .. size - 1 (any, if `size` is None)."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be an int64 tensor, got {type(value).__name__}")
    if value.dtype != torch.int64:
        raise TypeError(f"{name} must be an int64 tensor, got {value.dtype}")
    if value.shape != (length,):
        raise ValueError(f"{name} must have shape ({length},), got {tuple(value.shape)}")
    if size is not None and length and not 0 <= int(value.min()) <= int(value.max()) < size:
        raise ValueError(
            f"{name} must lie in 0 .. {size - 1}, got {int(value.min())} .. {int(value.max())}"
        )
    return value


def index(value: object, batch: int, size: int | None = None) -> Tensor:
    """Return the int64 (B,) positions of a batch in its data set, each at most once."""
    if value is None:
        raise ValueError(f"index is needed: an int64 tensor of shape ({batch},), got None")
    result = integers("index", value, batch, size)
    if torch.unique(result).numel() != batch:
        raise ValueError("index must not repeat a sample within a batch (its state has one owner)")
    return result


def _range(above: float, at_least: float, at_most: float, below: float) -> str:
    """Say in words which numbers are allowed."""
    parts = ["finite"]
    if above > -math.inf:
        parts.append(f"above {above:g}")
    if at_least > -math.inf:
        parts.append(f"at least {at_least:g}")
    if at_most < math.inf:
        parts.append(f"at most {at_most:g}")
    if below < math.inf:
        parts.append(f"below {below:g}")
    return ", ".join(parts)
