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


def _network(low: float, high: float, dim: int = 5) -> Temperature:
    generator = torch.Generator().manual_seed(dim)
    network = schedules.TemperatureNetwork(dim, 6, low, high, dropout=0.0).double()
    for parameter in network.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.copy_(drawn)
    return network


# Each builds a temperature that stays between two bounds; equal bounds leave nothing to vary.
# (`PositiveDistance` knows no upper one: it is what the data are.)
TEMPERATURES: dict[str, Callable[[float, float], Temperature]] = {
    "Constant": lambda low, high: Constant((low + high) / 2),
    "Constant, learned": _learned,
    "LogScale": lambda low, high: schedules.LogScale((low + high) / 2, low, high),
    "Cosine": lambda low, high: schedules.Cosine(low, high, period=10),
    "Triangle": lambda low, high: schedules.Triangle(low, high, period=10),
    "Step": lambda low, high: schedules.Step(low, high, period=10),
    "Random": lambda low, high: schedules.Random(low, high, seed=1),
    "Linear": lambda low, high: schedules.Linear(low, high, epochs=10),
    "HalfCosine": lambda low, high: schedules.HalfCosine(high, low, epochs=10),
    "SimilarityCosine": schedules.SimilarityCosine,
    "SimilarityCosine, full": lambda low, high: schedules.SimilarityCosine(low, high, detach=False),
    "SimilarityCosine, nested": _nested,
    "InvertedSimilarityCosine": schedules.InvertedSimilarityCosine,
    "InvertedSimilarityCosine, full": lambda low, high: schedules.InvertedSimilarityCosine(
        low, high, detach=False
    ),
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
    "SimilarityRoot": schedules.SimilarityRoot,
    "SimilarityRoot, full": lambda low, high: schedules.SimilarityRoot(low, high, detach=False),
    "PerClass": lambda low, high: schedules.PerClass([low, high, (low + high) / 2, low], LABELS),
    "Individual": _individual,
    "Alignment": lambda low, high: schedules.Alignment(
        (low + high) / 2, alpha=(high - low) / (high + low), a0=0
    ),
    "PositiveDistance": lambda low, high: schedules.PositiveDistance(low),
    "TemperatureNetwork": _network,
}


def kind(temperature: Temperature) -> str:
    """Return what a temperature depends on, or "learned" if it is a number that autograd learns."""
    if temperature.depends_on == "embedding":
        return "embedding"
    learned = any(parameter.requires_grad for parameter in temperature.parameters())
    return "learned" if learned else temperature.depends_on


@dataclass(frozen=True)
class Loss:
    """How to build a loss.

    build: takes a temperature (None where the loss brings its own) and the dimension.
    takes: the kinds of temperature that fit, see `kind`.
    surrogate: the value is not the objective, its gradient is.
    own: the loss brings a temperature of its own if none is given.
    """

    build: Callable[[Temperature, int], PairLoss]
    takes: tuple[str, ...] = ()
    surrogate: bool = False
    own: bool = False


def _moco(temperature: Temperature, dim: int) -> PairLoss:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return losses.MoCo(temperature, dim, QUEUE)


def _bimodal(variant: str) -> Callable[[Temperature | None, int], PairLoss]:
    def build(temperature: Temperature | None, dim: int) -> PairLoss:
        # One for both: swapping the views changes nothing.
        pair = None if temperature is None else (temperature, temperature)
        return losses.BimodalISogCLR(SIZE, rho=0.5, tau_init=0.3, variant=variant, temperature=pair)

    return build


ANY = ("time", "learned", "similarity", "sample", "batch", "embedding")
GIVEN = ("time", "sample")

LOSSES: dict[str, Loss] = {
    "NTXent": Loss(lambda t, dim: losses.NTXent(t), ANY),
    "TwoConstants": Loss(lambda t, dim: losses.TwoConstants(0.6, 0.2), own=True),
    "DCL, joint": Loss(lambda t, dim: losses.DCL(t), ANY),
    "DCL, split": Loss(lambda t, dim: losses.DCL(t, "split"), ANY),
    "MoCo": Loss(_moco, ANY),
    "CLIP": Loss(lambda t, dim: losses.CLIP(t), ANY),
    "CyCLIP": Loss(lambda t, dim: losses.CyCLIP(t), ANY),
    "MACL": Loss(lambda t, dim: losses.MACL(0.3, 0.5, 0.1), own=True),
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
    "ISogCLR, paper": Loss(
        lambda t, dim: losses.ISogCLR(SIZE, tau_init=0.3), surrogate=True, own=True
    ),
    "ISogCLR, official": Loss(
        lambda t, dim: losses.ISogCLR(SIZE, tau_init=0.3, variant="official"),
        surrogate=True,
        own=True,
    ),
    "BimodalISogCLR, paper": Loss(_bimodal("paper"), ("embedding",), surrogate=True, own=True),
    "BimodalISogCLR, official": Loss(
        _bimodal("official"), ("embedding",), surrogate=True, own=True
    ),
    "BimodalRGCL, paper": Loss(
        lambda t, dim: losses.BimodalRGCL(SIZE, t, rho=0.5), ("time", "learned"), surrogate=True
    ),
    "BimodalRGCL, official": Loss(
        lambda t, dim: losses.BimodalRGCL(SIZE, t, rho=0.5, variant="official"),
        ("time", "learned"),
        surrogate=True,
    ),
    "DCLW": Loss(lambda t, dim: losses.DCLW(t), ANY),
    "HardNegative": Loss(
        lambda t, dim: losses.HardNegative(t),
        ("time", "learned", "sample", "batch", "embedding"),
    ),
    "DualTemperature": Loss(lambda t, dim: losses.DualTemperature(t), ("time",)),
    "SigLIP": Loss(lambda t, dim: losses.SigLIP(t), ("time", "learned", "similarity", "batch")),
    "Spectral": Loss(lambda t, dim: losses.Spectral(), own=True),
}

OWN = "own temperature"


def _fitting(row: Loss) -> list[str]:
    return [name for name, make in TEMPERATURES.items() if kind(make(0.1, 0.2)) in row.takes]


CASES = [(loss, name) for loss, row in LOSSES.items() for name in _fitting(row) + [OWN] * row.own]


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
    if isinstance(given, schedules.TemperatureNetwork):
        given = _network(low, high, dim)
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
