"""How to build every public loss and temperature: the property tests go through these tables.

`test_registry.py` makes sure that nothing public is missing here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dytemp import losses, schedules
from dytemp.losses.pairs import PairLoss
from dytemp.schedules import Constant, Temperature

SIZE = 24  # samples in the imagined data set
LABELS = torch.arange(SIZE) % 4
QUEUE = 12  # keys in the queue of MoCo
EPOCH = 3  # where time schedules are looked at: between their bounds


def _learned(low: float, high: float) -> Temperature:
    return Constant(nn.Parameter(torch.tensor((low + high) / 2, dtype=torch.float64)))


def _individual(low: float, high: float) -> Temperature:
    temperature = schedules.Individual(SIZE, low, low, high)
    temperature.tau = torch.linspace(low, high, SIZE, dtype=torch.float64)
    return temperature


def _nested(low: float, high: float) -> Temperature:
    bound = schedules.Linear(low, high, epochs=10)
    return schedules.SimilarityCosine(bound, schedules.Cosine(high, high, period=5))


# Each builds a temperature that stays between two bounds; equal bounds leave nothing to vary.
TEMPERATURES: dict[str, Callable[[float, float], Temperature]] = {
    "Constant": lambda low, high: Constant((low + high) / 2),
    "Constant, learned": _learned,
    "Cosine": lambda low, high: schedules.Cosine(low, high, period=10),
    "Triangle": lambda low, high: schedules.Triangle(low, high, period=10),
    "Step": lambda low, high: schedules.Step(low, high, period=10),
    "Random": lambda low, high: schedules.Random(low, high, seed=1),
    "Linear": lambda low, high: schedules.Linear(low, high, epochs=10),
    "HalfCosine": lambda low, high: schedules.HalfCosine(high, low, epochs=10),
    "SimilarityCosine": schedules.SimilarityCosine,
    "SimilarityCosine, full": lambda low, high: schedules.SimilarityCosine(low, high, detach=False),
    "SimilarityCosine, nested": _nested,
    "ShiftedSimilarityCosine": schedules.ShiftedSimilarityCosine,
    "ShiftedSimilarityCosine, full": lambda low, high: schedules.ShiftedSimilarityCosine(
        low, high, detach=False
    ),
    "SimilarityLinear": schedules.SimilarityLinear,
    "SimilarityLinear, full": lambda low, high: schedules.SimilarityLinear(low, high, detach=False),
    "SimilarityExponential": schedules.SimilarityExponential,
    "SimilarityExponential, full": lambda low, high: schedules.SimilarityExponential(
        low, high, detach=False
    ),
    "PerClass": lambda low, high: schedules.PerClass([low, high, (low + high) / 2, low], LABELS),
    "Individual": _individual,
    "Alignment": lambda low, high: schedules.Alignment(
        (low + high) / 2, alpha=(high - low) / (high + low), a0=0
    ),
}


def kind(temperature: Temperature) -> str:
    """Return what a temperature depends on, or "learned" if autograd learns it."""
    learned = any(parameter.requires_grad for parameter in temperature.parameters())
    return "learned" if learned else temperature.depends_on


@dataclass(frozen=True)
class Loss:
    """How to build a loss.

    build: takes a temperature (None where the loss brings its own) and the dimension.
    takes: the kinds of temperature that fit, see `kind`.
    surrogate: the value is not the objective, its gradient is.
    """

    build: Callable[[Temperature, int], PairLoss]
    takes: tuple[str, ...] = ()
    surrogate: bool = False


def _moco(temperature: Temperature, dim: int) -> PairLoss:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return losses.MoCo(temperature, dim, QUEUE)


ANY = ("time", "learned", "similarity", "sample", "batch")
GIVEN = ("time", "sample")

LOSSES: dict[str, Loss] = {
    "NTXent": Loss(lambda t, dim: losses.NTXent(t), ANY),
    "TwoConstants": Loss(lambda t, dim: losses.TwoConstants(0.6, 0.2)),
    "DCL, joint": Loss(lambda t, dim: losses.DCL(t), ANY),
    "DCL, split": Loss(lambda t, dim: losses.DCL(t, "split"), ANY),
    "MoCo": Loss(_moco, ANY),
    "CLIP": Loss(lambda t, dim: losses.CLIP(t), ANY),
    "CyCLIP": Loss(lambda t, dim: losses.CyCLIP(t), ANY),
    "MACL": Loss(lambda t, dim: losses.MACL(0.3, 0.5, 0.1)),
    "SogCLR, paper": Loss(lambda t, dim: losses.SogCLR(SIZE, t), GIVEN, surrogate=True),
    "SogCLR, official": Loss(
        lambda t, dim: losses.SogCLR(SIZE, t, variant="official"), GIVEN, surrogate=True
    ),
    "BimodalSogCLR, paper": Loss(
        lambda t, dim: losses.BimodalSogCLR(SIZE, t), GIVEN, surrogate=True
    ),
    "BimodalSogCLR, official": Loss(
        lambda t, dim: losses.BimodalSogCLR(SIZE, t, variant="official"), GIVEN, surrogate=True
    ),
    "ISogCLR, paper": Loss(lambda t, dim: losses.ISogCLR(SIZE, tau_init=0.3), surrogate=True),
    "ISogCLR, official": Loss(
        lambda t, dim: losses.ISogCLR(SIZE, tau_init=0.3, variant="official"), surrogate=True
    ),
    "BimodalISogCLR, paper": Loss(
        lambda t, dim: losses.BimodalISogCLR(SIZE, rho=0.5, tau_init=0.3), surrogate=True
    ),
    "BimodalISogCLR, official": Loss(
        lambda t, dim: losses.BimodalISogCLR(SIZE, rho=0.5, tau_init=0.3, variant="official"),
        surrogate=True,
    ),
}

OWN = "own temperature"


def _fitting(row: Loss) -> list[str]:
    return [name for name, make in TEMPERATURES.items() if kind(make(0.1, 0.2)) in row.takes]


CASES = [(loss, name) for loss, row in LOSSES.items() for name in (_fitting(row) or [OWN])]


def temperature(name: str, low: float = 0.2, high: float = 0.6) -> Temperature:
    """Build a temperature and let it stand at `EPOCH`."""
    result = TEMPERATURES[name](low, high)
    result.set_epoch(EPOCH)
    return result


def build(
    loss: str, name: str = OWN, dim: int = 5, low: float = 0.2, high: float = 0.6
) -> PairLoss:
    """Build a loss with a temperature that stays between two bounds."""
    given = None if name == OWN else temperature(name, low, high)
    return LOSSES[loss].build(given, dim)


def batch(
    pairs: int = 4, dim: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Return two views, somewhat similar, and the positions of their samples."""
    generator = torch.Generator().manual_seed(seed)
    z1, noise = torch.randn(2, pairs, dim, generator=generator, dtype=torch.float64)
    index = torch.randperm(SIZE, generator=generator)[:pairs]
    return z1.to(dtype), (z1 + noise).to(dtype), index


def evaluate(
    loss: PairLoss, z1: Tensor, z2: Tensor, index: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the value of a loss and its gradients for both views."""
    z1, z2 = z1.detach().clone().requires_grad_(), z2.detach().clone().requires_grad_()
    value = loss(z1, z2, index)
    value.backward()
    return value.detach(), z1.grad, z2.grad
