"""Step sizes and the optimisers of the papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

NAMES = ("sgd", "lars", "adamw")
LAST_LEARNING_RATE = 1e-6


def learning_rate(step: int, base: float, warmup: int, total: int) -> float:
    """Return the learning rate of an update: a linear warm-up, then half a cosine, as TS.

    Parameters
    ----------
    step : int
        The update, counted from 1.
    base : float
        The highest rate, reached at the end of the warm-up.
    warmup, total : int
        Number of updates in the warm-up and in the whole training.
    """
    if step <= warmup:
        return base * step / warmup
    part = (step - warmup) / (total - warmup)
    return LAST_LEARNING_RATE + (base - LAST_LEARNING_RATE) * (1 + math.cos(math.pi * part)) / 2


def build(
    name: str,
    parameters: Iterable[Any],
    learning_rate: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Return the optimiser called `name`.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    parameters : iterable of parameters, or of groups of them
        As for ``torch.optim``. Weight decay acts on all, as in the code of TS and iSogCLR, but for
        groups that say otherwise.
    learning_rate, weight_decay : float
        As in ``torch.optim``.
    momentum : float
        Of ``sgd`` and ``lars``; AdamW keeps its own two.
    """
    if name == "lars":
        return LARS(parameters, learning_rate, momentum, weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(
            parameters, lr=learning_rate, weight_decay=weight_decay, fused=True
        )
    if name == "sgd":
        return torch.optim.SGD(
            parameters, learning_rate, momentum, weight_decay=weight_decay, fused=True
        )
    raise ValueError(f"name must be one of {', '.join(NAMES)}, got {name!r}")


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose rate is scaled, layer by layer, to the size of the weights.

    As in the iSogCLR code: the layer's rate is ``trust |w| / (|g| + weight_decay |w|)`` with the
    raw gradient g (1 where a norm is 0); the momentum collects ``g + weight_decay w``; no parameter
    is excluded.

    Parameters
    ----------
    parameters : iterable of Tensor, or of groups of them
        What to optimise.
    lr, momentum, weight_decay, trust : float
        The global rate, the momentum, the weight decay and the trust coefficient.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            decay = group["weight_decay"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                size, slope = weight.norm(), weight.grad.norm()
                scale = group["trust"] * size / (slope + decay * size)
                scale = torch.where((size > 0) & (slope > 0), scale, torch.ones_like(scale))
                state = self.state[weight]
                direction = weight.grad + decay * weight
                # That code starts the momentum at the first direction and then adds it once more.
                past = state.get("momentum", direction)
                state["momentum"] = group["momentum"] * past + direction
                weight.sub_(group["lr"] * scale * state["momentum"])
