"""Bad input is refused at the door, in words: one table for the library.

Each row names a call, the error, and words that the message must contain: the argument and what
is allowed. The metrics and the laboratory have tables of the same kind in their own files.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import registry
import torch
from torch import Tensor, nn

from dytemp import checks, losses, schedules
from dytemp.losses import (
    CLIP,
    DCL,
    DCLW,
    MACL,
    BimodalISogCLR,
    BimodalRGCL,
    BimodalSogCLR,
    CyCLIP,
    DualTemperature,
    HardNegative,
    ISogCLR,
    MoCo,
    NTXent,
    SigLIP,
    SogCLR,
    Spectral,
    TwoConstants,
)
from dytemp.schedules import (
    Alignment,
    Constant,
    Cosine,
    HalfCosine,
    Individual,
    InvertedSimilarityCosine,
    Linear,
    LogScale,
    PerClass,
    PositiveDistance,
    Random,
    ShiftedSimilarityCosine,
    SimilarityCosine,
    SimilarityExponential,
    SimilarityLinear,
    SimilarityRoot,
    Step,
    TemperatureNetwork,
    Triangle,
    as_temperature,
    as_time,
)

NAN, INF = float("nan"), float("inf")
Z = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [1.0, 0.0, 1.0]])
INDEX, LABELS = torch.arange(4), torch.tensor([0, 1, 1, 0, 2, 0])
LEARNED = nn.Parameter(torch.tensor(0.1))
NETWORK = TemperatureNetwork(3)


def with_entry(value: float) -> Tensor:
    """Return embeddings whose third row holds a bad number."""
    z = Z.clone()
    z[2, 1] = value
    return z


def zero_row() -> Tensor:
    z = Z.clone()
    z[[1, 3]] = 0
    return z


# What is wrong with the two views -> the views, the error, words of the message. Every loss.
VIEWS: dict[str, tuple[object, object, type[Exception], list[str]]] = {
    "a list": ([[1.0, 2.0]], Z, TypeError, ["z1 must be a tensor", "list"]),
    "nothing": (Z, None, TypeError, ["z2 must be a tensor", "NoneType"]),
    "integers": (Z.long(), Z.long(), TypeError, ["z1", "real floating-point", "int64"]),
    "complex": (Z, Z.to(torch.complex64), TypeError, ["z2", "real floating-point", "complex64"]),
    "booleans": (Z > 1, Z, TypeError, ["z1", "real floating-point", "bool"]),
    "one dimension": (Z[0], Z, ValueError, ["z1 must have shape (N, D)", "(3,)"]),
    "three dimensions": (Z, Z[None], ValueError, ["z2 must have shape (N, D)", "(1, 4, 3)"]),
    "an empty batch": (Z[:0], Z[:0], ValueError, ["z1", "at least 2 rows", "(0, 3)"]),
    "a batch of one": (Z[:1], Z[:1], ValueError, ["z1", "at least 2 rows", "(1, 3)"]),
    "no columns": (Z[:, :0], Z[:, :0], ValueError, ["z1", "1 column", "(4, 0)"]),
    "NaN": (with_entry(NAN), Z, ValueError, ["z1 must be finite", "NaN"]),
    "inf": (Z, with_entry(INF), ValueError, ["z2 must be finite", "inf"]),
    "-inf": (with_entry(-INF), Z, ValueError, ["z1 must be finite", "inf"]),
    "zero rows": (Z, zero_row(), ValueError, ["z2", "zero rows", "[1, 3]"]),
    "unequal batches": (Z, Z[:3], ValueError, ["z1 and z2", "same shape", "(4, 3)", "(3, 3)"]),
    "unequal columns": (Z, Z[:, :2], ValueError, ["z1 and z2", "same shape", "(4, 2)"]),
    "unequal dtypes": (Z, Z.double(), TypeError, ["z1 and z2", "one dtype", "float64"]),
}


@pytest.mark.parametrize("loss", registry.LOSSES)
@pytest.mark.parametrize("wrong", VIEWS)
def test_every_loss_refuses_bad_views(loss: str, wrong: str) -> None:
    z1, z2, error, words = VIEWS[wrong]
    built = registry.build(*next(case for case in registry.CASES if case[0] == loss), dim=3)
    before = {key: value.clone() for key, value in built.state_dict().items()}
    with pytest.raises(error) as caught:
        built(z1, z2, INDEX)
    assert all(word in str(caught.value) for word in words)
    for key, value in built.state_dict().items():
        assert torch.equal(value, before[key])


INDICES: dict[str, tuple[object, type[Exception], list[str]]] = {
    "missing": (None, ValueError, ["index is needed", "int64 tensor of shape (4,)"]),
    "a number": (3, TypeError, ["index must be an int64 tensor", "int"]),
    "words": (["a", "b"], TypeError, ["index must be an int64 tensor", "['a', 'b']"]),
    "a string": ("0123", TypeError, ["index must be an int64 tensor", "str"]),
    "floating": (INDEX.float(), TypeError, ["index must be an int64 tensor", "float32"]),
    "a floating list": ([0.0, 1.0, 2.0, 3.0], TypeError, ["int64 tensor", "list of torch.float32"]),
    "numbers beyond int64": ([0, 1, 2, 10**30], TypeError, ["index must be an int64 tensor"]),
    "booleans": (INDEX > 1, TypeError, ["index must be an int64 tensor", "bool"]),
    "too short": (INDEX[:3], ValueError, ["index must have shape (4,)", "(3,)"]),
    "a row": (INDEX[None], ValueError, ["index must have shape (4,)", "(1, 4)"]),
    "negative": (INDEX - 1, ValueError, ["index must lie in 0 .. 23", "-1 .. 2"]),
    "beyond the data set": (INDEX + 21, ValueError, ["index must lie in 0 .. 23", "21 .. 24"]),
}
NEED_INDEX = {case[0]: case for case in registry.CASES if registry.build(*case).needs_index}


@pytest.mark.parametrize("loss", NEED_INDEX)
@pytest.mark.parametrize("wrong", INDICES)
def test_every_loss_with_state_per_sample_refuses_a_bad_index(loss: str, wrong: str) -> None:
    index, error, words = INDICES[wrong]
    built = registry.build(*NEED_INDEX[loss], dim=3)
    before = {key: value.clone() for key, value in built.state_dict().items()}
    with pytest.raises(error) as caught:
        built(Z, Z, index)
    assert all(word in str(caught.value) for word in words)
    for key, value in built.state_dict().items():
        assert torch.equal(value, before[key])


# The bounds of a single number, as the messages say them.
ABOVE_0, NOT_BELOW_0, UP_TO_1 = "finite, above 0", "finite, at least 0", "above 0, at most 1"

Row = tuple[Callable[[], object], type[Exception], list[str]]

REFUSED: list[Row] = [
    # ---- losses
    (lambda: NTXent(0), ValueError, ["temperature", ABOVE_0, "got 0"]),
    (lambda: NTXent(-0.1), ValueError, ["temperature", ABOVE_0, "got -0.1"]),
    (lambda: NTXent("0.1"), TypeError, ["temperature must be a number", "'0.1'"]),
    (lambda: TwoConstants(0, 0.1), ValueError, ["tau_positive", ABOVE_0, "got 0"]),
    (lambda: TwoConstants(0.2, -0.1), ValueError, ["tau_negative", ABOVE_0, "got -0.1"]),
    (lambda: NTXent(Cosine), TypeError, ["temperature must be a number", "or a Temperature"]),
    (lambda: NTXent(True), TypeError, ["temperature must be a number", "True"]),
    (
        lambda: NTXent(torch.ones(3)),
        ValueError,
        ["temperature", "tensor without dimensions", "(3,)"],
    ),
    (lambda: NTXent(torch.tensor(1)), ValueError, ["temperature", "floating tensor", "int64"]),
    (lambda: NTXent(torch.tensor(-1.0)), ValueError, ["temperature", ABOVE_0]),
    (lambda: DCL(NAN), ValueError, ["temperature", ABOVE_0, "nan"]),
    (lambda: DCL(0.1, "both"), ValueError, ["variant", "'joint', 'split'", "'both'"]),
    (lambda: MoCo(INF, 3, 4), ValueError, ["temperature", ABOVE_0, "inf"]),
    (lambda: MoCo(0.1, 0, 4), ValueError, ["dim must be at least 1", "got 0"]),
    (lambda: MoCo(0.1, 3, 1), ValueError, ["queue_size must be at least 2", "got 1"]),
    (lambda: MoCo(0.1, 3, 1e4), TypeError, ["queue_size must be an integer", "float"]),
    (lambda: MoCo(0.1, 5, 8)(Z, Z), ValueError, ["z2 must have 5 columns", "got 3"]),
    (lambda: MoCo(0.1, 3, 3)(Z, Z), ValueError, ["z2 must fit the queue of 3 keys", "got 4"]),
    (lambda: MACL(0.0), ValueError, ["tau0", ABOVE_0]),
    (lambda: MACL(0.1, alpha=-1), ValueError, ["alpha", NOT_BELOW_0]),
    (lambda: MACL(0.1, 0.5, a0=2), ValueError, ["a0", "at least -1, at most 1"]),
    (lambda: MACL(0.05, 2, 0.8)(Z, -Z), ValueError, ["tau must be above 0", "smaller alpha or a0"]),
    (lambda: CLIP(None), TypeError, ["temperature must be a number"]),
    (lambda: CyCLIP(0.1, inmodal=-1), ValueError, ["inmodal", NOT_BELOW_0]),
    (lambda: CyCLIP(0.1, crossmodal=NAN), ValueError, ["crossmodal", NOT_BELOW_0]),
    (lambda: SogCLR(0), ValueError, ["size must be at least 1", "got 0"]),
    (lambda: SogCLR(10.0), TypeError, ["size must be an integer", "float"]),
    (lambda: SogCLR(10, -1), ValueError, ["temperature", ABOVE_0]),
    (lambda: SogCLR(10, gamma=0), ValueError, ["gamma", UP_TO_1]),
    (lambda: SogCLR(10, gamma=1.5), ValueError, ["gamma", UP_TO_1]),
    (lambda: SogCLR(10, variant="new"), ValueError, ["variant", "'paper', 'official'", "'new'"]),
    (lambda: SogCLR(10, LEARNED), TypeError, ["temperature must not require a gradient"]),
    (
        lambda: SogCLR(10, SimilarityCosine(0.1, 0.2)),
        TypeError,
        ["temperature of SogCLR must depend on time or sample", "SimilarityCosine"],
    ),
    (lambda: ISogCLR(True), TypeError, ["size must be an integer", "bool"]),
    (lambda: ISogCLR(10, rho=-0.1), ValueError, ["rho", NOT_BELOW_0]),
    (lambda: ISogCLR(10, tau_init=0.01), ValueError, ["tau_init", "at least 0.05, at most 1"]),
    (lambda: ISogCLR(10, tau_init=2), ValueError, ["tau_init", "at least 0.05, at most 1"]),
    (lambda: ISogCLR(10, tau_min=0), ValueError, ["tau_min", ABOVE_0]),
    (lambda: ISogCLR(10, tau_max=NAN), ValueError, ["tau_max", ABOVE_0]),
    (
        lambda: ISogCLR(10, tau_min=0.5, tau_max=0.1),
        ValueError,
        ["tau_min <= tau_max", "0.5 > 0.1"],
    ),
    (lambda: ISogCLR(10, eta=-1), ValueError, ["eta", NOT_BELOW_0]),
    (lambda: ISogCLR(10, beta=0), ValueError, ["beta", UP_TO_1]),
    (lambda: ISogCLR(10, beta=1.1), ValueError, ["beta", UP_TO_1]),
    (lambda: ISogCLR(10, gamma=0), ValueError, ["gamma", UP_TO_1]),
    (lambda: SogCLR(10, gamma="1"), TypeError, ["gamma must be a number", "'1'"]),
    (lambda: SogCLR(10, gamma=HalfCosine(1.1, 0.2, 9)), ValueError, ["gamma", UP_TO_1, "1.1"]),
    (
        lambda: ISogCLR(10, gamma=SimilarityCosine(0.1, 0.2)),
        TypeError,
        ["gamma must be a number or a time schedule", "SimilarityCosine"],
    ),
    (lambda: ISogCLR(10, clip=0), ValueError, ["clip", ABOVE_0]),
    (lambda: ISogCLR(10, variant=None), ValueError, ["variant", "'paper', 'official'", "None"]),
    (lambda: ISogCLR(10).set_epoch(-1), ValueError, ["epoch", NOT_BELOW_0]),
    (lambda: BimodalSogCLR(-1), ValueError, ["size must be at least 1", "got -1"]),
    (lambda: BimodalSogCLR(10, 0), ValueError, ["temperature", ABOVE_0]),
    (lambda: BimodalSogCLR(10, LEARNED), TypeError, ["temperature must not require a gradient"]),
    (lambda: BimodalSogCLR(10, gamma=-1), ValueError, ["gamma", UP_TO_1]),
    (lambda: BimodalSogCLR(10, variant=1), ValueError, ["variant", "'paper', 'official'"]),
    (lambda: BimodalISogCLR(10, rho=NAN), ValueError, ["rho", NOT_BELOW_0]),
    (lambda: BimodalISogCLR(10, tau_init=0.001), ValueError, ["tau_init", "at least 0.005"]),
    (lambda: BimodalISogCLR(10, clip="3"), TypeError, ["clip must be a number", "'3'"]),
    (lambda: BimodalISogCLR(10, gamma=2), ValueError, ["gamma", UP_TO_1]),
    (lambda: BimodalISogCLR(10, variant=""), ValueError, ["variant", "'paper', 'official'"]),
    (
        lambda: BimodalISogCLR(10, temperature=NETWORK),
        TypeError,
        ["temperature must be a pair of networks", "TemperatureNetwork"],
    ),
    (
        lambda: BimodalISogCLR(10, temperature=(NETWORK, 0.1)),
        TypeError,
        ["temperature of BimodalISogCLR must depend on embedding", "Constant"],
    ),
    (
        lambda: BimodalISogCLR(10, temperature=(NETWORK, NETWORK))(Z[:, :2], Z[:, :2], INDEX),
        ValueError,
        ["z must have shape (B, 3)", "(4, 2)"],
    ),
    (lambda: BimodalRGCL(0, 0.1), ValueError, ["size must be at least 1", "got 0"]),
    (lambda: BimodalRGCL(10, 0), ValueError, ["temperature", ABOVE_0]),
    (
        lambda: BimodalRGCL(10, SimilarityCosine(0.1, 0.2)),
        TypeError,
        ["temperature of BimodalRGCL must depend on time", "SimilarityCosine"],
    ),
    (lambda: BimodalRGCL(10, 0.1, rho=-1), ValueError, ["rho", NOT_BELOW_0]),
    (lambda: BimodalRGCL(10, 0.1, gamma=0), ValueError, ["gamma", UP_TO_1]),
    (lambda: BimodalRGCL(10, 0.1, eps=-1), ValueError, ["eps", NOT_BELOW_0]),
    (lambda: BimodalRGCL(10, 0.1, variant="v3"), ValueError, ["variant", "'paper', 'official'"]),
    (lambda: DCLW(-1), ValueError, ["temperature", ABOVE_0]),
    (lambda: DCLW(0.1, sigma=0), ValueError, ["sigma", ABOVE_0]),
    (lambda: HardNegative(0.5, beta=-1), ValueError, ["beta", NOT_BELOW_0]),
    (lambda: HardNegative(0.5, prior=1), ValueError, ["prior", "at least 0, below 1", "got 1"]),
    (lambda: HardNegative(0.5, prior=-0.1), ValueError, ["prior", "at least 0, below 1"]),
    (lambda: DualTemperature(0.1, ratio=0), ValueError, ["ratio", ABOVE_0]),
    (lambda: DualTemperature(LEARNED), TypeError, ["temperature must not require a gradient"]),
    (lambda: SigLIP(0.1, bias=NAN), ValueError, ["bias", "finite", "nan"]),
    (lambda: SigLIP(0.1, bias="no"), TypeError, ["bias must be a number", "'no'"]),
    (
        lambda: SigLIP(0.1, bias=nn.Parameter(torch.zeros(2))),
        ValueError,
        ["bias", "without dimensions", "(2,)"],
    ),
    (lambda: Spectral(mu=0), ValueError, ["mu", ABOVE_0]),
    (lambda: Spectral(normalise=2), ValueError, ["normalise", "True, False", "2"]),
    (lambda: NTXent(Cosine(0.1, 1, 9)).set_epoch(NAN), ValueError, ["epoch", NOT_BELOW_0]),
    # ---- temperatures: time
    (lambda: Constant(0), ValueError, ["tau", ABOVE_0]),
    (lambda: Constant([0.1]), TypeError, ["tau must be a number", "list"]),
    (lambda: Constant(torch.tensor(INF)), ValueError, ["tau", ABOVE_0]),
    (lambda: LogScale(0), ValueError, ["tau", "at least 0.01, at most 1"]),
    (lambda: LogScale(0.07, 0.1, 0.01), ValueError, ["tau_min <= tau_max", "0.1 > 0.01"]),
    (lambda: LogScale(0.07, tau_min=0), ValueError, ["tau_min", ABOVE_0]),
    (lambda: SogCLR(10, LogScale()), TypeError, ["temperature must not require a gradient"]),
    (lambda: Cosine(0, 1, 9), ValueError, ["tau_min", ABOVE_0]),
    (lambda: Cosine(0.1, INF, 9), ValueError, ["tau_max", ABOVE_0]),
    (lambda: Cosine(1.0, 0.1, 9), ValueError, ["tau_min <= tau_max", "1.0 > 0.1"]),
    (lambda: Cosine(0.1, 1, 0), ValueError, ["period", ABOVE_0]),
    (lambda: Cosine(0.1, 1, NAN), ValueError, ["period", ABOVE_0]),
    (lambda: Cosine(0.1, 1, 9).at(-1), ValueError, ["epoch", NOT_BELOW_0]),
    (lambda: Cosine(0.1, 1, 9).at(NAN), ValueError, ["epoch", NOT_BELOW_0]),
    (lambda: Cosine(0.1, 1, 9).set_epoch("3"), TypeError, ["epoch must be a number", "'3'"]),
    (lambda: Triangle(0.1, 1, -9), ValueError, ["period", ABOVE_0]),
    (lambda: Step(0.1, 1, "9"), TypeError, ["period must be a number"]),
    (lambda: Random(0.1, 1, seed=-1), ValueError, ["seed must be at least 0"]),
    (lambda: Random(0.1, 1, seed=0.5), TypeError, ["seed must be an integer"]),
    (lambda: Random(0.3, 0.1), ValueError, ["tau_min <= tau_max"]),
    (lambda: Linear(0, 1, 9), ValueError, ["start", ABOVE_0]),
    (lambda: Linear(1, -1, 9), ValueError, ["end", ABOVE_0]),
    (lambda: Linear(1, 2, 0), ValueError, ["epochs", ABOVE_0]),
    (lambda: Linear(1, 2, 9).at(-0.5), ValueError, ["epoch", NOT_BELOW_0]),
    (lambda: HalfCosine(0, 1, 9), ValueError, ["start", ABOVE_0]),
    (lambda: HalfCosine(1, NAN, 9), ValueError, ["end", ABOVE_0]),
    (lambda: HalfCosine(1, 2, -9), ValueError, ["epochs", ABOVE_0]),
    # ---- temperatures: similarity
    (lambda: InvertedSimilarityCosine(0.2, 0.1), ValueError, ["tau_min <= tau_max", "0.2 > 0.1"]),
    (lambda: SimilarityCosine(0.2, 0.1), ValueError, ["tau_min <= tau_max", "0.2 > 0.1"]),
    (lambda: SimilarityCosine(0, 0.1), ValueError, ["tau_min", ABOVE_0]),
    (lambda: SimilarityCosine(0.1, None), TypeError, ["tau_max must be a number"]),
    (lambda: SimilarityCosine(0.1, 0.2, 400), ValueError, ["detach", "True, False", "400"]),
    (lambda: SimilarityCosine(0.1, 0.2, Z > 1), ValueError, ["detach", "True, False", "tensor"]),
    (lambda: SimilarityLinear(0.1, 1, (Z > 1).numpy()), ValueError, ["detach", "array"]),
    (
        lambda: SimilarityCosine(SimilarityLinear(0.1, 0.2), 0.2),
        TypeError,
        ["tau_min must be a number or a time schedule", "SimilarityLinear"],
    ),
    (lambda: SimilarityCosine(0.1, LEARNED), TypeError, ["tau_max must not require a gradient"]),
    (lambda: ShiftedSimilarityCosine(0.1, 0.2, shift=2), ValueError, ["shift", "at most 1"]),
    (lambda: ShiftedSimilarityCosine(0.1, 0.2, width=0), ValueError, ["width", ABOVE_0]),
    (lambda: SimilarityLinear(0.1, NAN), ValueError, ["tau_max", ABOVE_0]),
    (lambda: SimilarityExponential(0.1, 0.2, rate=0), ValueError, ["rate", ABOVE_0]),
    (lambda: SimilarityRoot(0.2, 0.1), ValueError, ["tau_min <= tau_max", "0.2 > 0.1"]),
    # ---- temperatures: sample, batch and embedding
    (lambda: PerClass([], LABELS), ValueError, ["taus must be a list of numbers", "[]"]),
    (lambda: PerClass(0.1, LABELS), TypeError, ["taus must be a list of numbers", "0.1"]),
    (lambda: PerClass(LEARNED, LABELS), TypeError, ["taus must not require a gradient"]),
    (lambda: PerClass(Z[0, 0], LABELS), TypeError, ["taus must be a list of numbers", "1."]),
    (lambda: PerClass(["a"], LABELS), TypeError, ["taus must be a number", "str 'a'"]),
    (lambda: PerClass([True], LABELS), TypeError, ["taus must be a number", "bool True"]),
    (lambda: PerClass([[0.1]], LABELS), TypeError, ["taus must be a number", "list [0.1]"]),
    (lambda: PerClass([10**400], LABELS), ValueError, ["taus", ABOVE_0]),
    (lambda: PerClass([0.1, 0, 0.1], LABELS), ValueError, ["taus", ABOVE_0]),
    (lambda: PerClass([0.1, NAN, 1], LABELS), ValueError, ["taus", ABOVE_0]),
    (lambda: PerClass([0.1], LABELS), ValueError, ["labels must lie in 0 .. 0", "0 .. 2"]),
    (lambda: PerClass([0.1], "00"), TypeError, ["labels must be an int64 tensor", "str"]),
    (lambda: PerClass([0.1], LABELS.float()), TypeError, ["labels must be an int64 tensor"]),
    (lambda: PerClass([0.1], LABELS[None]), ValueError, ["labels", "shape (N,)", "(1, 6)"]),
    (lambda: PerClass([0.1], LABELS[:0]), ValueError, ["labels", "at least 1 sample"]),
    (
        lambda: NTXent(PerClass([0.1] * 3, LABELS))(Z, Z, INDEX + 3),
        ValueError,
        ["index must lie in 0 .. 5", "3 .. 6"],
    ),
    (lambda: PerClass([0.1] * 3, LABELS)(Z), ValueError, ["index is needed", "shape (4,)"]),
    (lambda: Individual(0, 0.1, 0.1, 1), ValueError, ["size must be at least 1"]),
    (lambda: Individual(9, 0.1, 0.2, 1), ValueError, ["tau_init", "at least 0.2, at most 1"]),
    (lambda: Individual(9, 0.1, 0.1, 1, eta=NAN), ValueError, ["eta", NOT_BELOW_0]),
    (lambda: Individual(9, 0.1, 0.1, 1, clip=-1), ValueError, ["clip", ABOVE_0]),
    (lambda: Alignment(0, 1, 0), ValueError, ["tau0", ABOVE_0]),
    (lambda: Alignment(0.1, NAN, 0), ValueError, ["alpha", NOT_BELOW_0]),
    (lambda: Alignment(0.1, 1, -2), ValueError, ["a0", "at least -1, at most 1"]),
    (lambda: Alignment(0.1, 2, 0.8).at(0.3), ValueError, ["tau must be above 0", "smaller alpha"]),
    (lambda: Alignment(0.1, 1, 0)(Z), ValueError, ["must be observed first", "observe(positives)"]),
    (lambda: PositiveDistance(0), ValueError, ["tau_min", ABOVE_0]),
    (lambda: PositiveDistance()(Z), ValueError, ["must be observed first"]),
    (lambda: TemperatureNetwork(0), ValueError, ["dim must be at least 1"]),
    (lambda: TemperatureNetwork(3, 0), ValueError, ["prototypes must be at least 1"]),
    (lambda: TemperatureNetwork(3, tau_min=0.1), ValueError, ["tau_min <= tau_max"]),
    (lambda: TemperatureNetwork(3, dropout=1), ValueError, ["dropout", "at least 0, below 1"]),
    (
        lambda: TemperatureNetwork(3)(Z @ Z.T),
        ValueError,
        ["must belong to anchors", "see(anchors)"],
    ),
    (lambda: TemperatureNetwork(3).at(Z[0]), ValueError, ["z must have shape (B, 3)", "(3,)"]),
    (lambda: SigLIP(NETWORK), TypeError, ["temperature of SigLIP must depend on", "on embedding"]),
    # ---- helpers and checks
    (lambda: CLIP(torch.ones(2)), ValueError, ["temperature", "without dimensions", "(2,)"]),
    (lambda: SimilarityCosine(torch.tensor(0.0), 1), ValueError, ["tau_min", ABOVE_0]),
    (lambda: SimilarityLinear(0.1, 1).at(0.5), TypeError, ["similarity must be a tensor"]),
    (lambda: Constant(0.1).at("3"), TypeError, ["epoch must be a number", "'3'"]),
    (lambda: BimodalISogCLR(10).set_epoch(-1), ValueError, ["epoch", NOT_BELOW_0]),
    (lambda: Constant(10**400), ValueError, ["tau", ABOVE_0]),
    (lambda: as_temperature(-1, "tau0"), ValueError, ["tau0", ABOVE_0]),
    (lambda: as_time(Alignment(0.1, 1, 0), "high"), TypeError, ["high", "a time schedule"]),
    (
        lambda: checks.alike("z1", Z, "z2", Z.to("meta")),
        ValueError,
        ["z1 and z2 must be on one device", "cpu", "meta"],
    ),
    (lambda: checks.number("n", 1j), TypeError, ["n must be a number", "complex"]),
    (lambda: checks.number("n", 3, at_most=2), ValueError, ["n must be finite, at most 2", "3"]),
    (lambda: checks.integers("n", LABELS, 5), ValueError, ["n must have shape (5,)", "(6,)"]),
]


@pytest.mark.parametrize(("call", "error", "words"), REFUSED)
def test_refused(call: Callable[[], object], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert [word for word in words if word not in str(caught.value)] == []


def test_a_learned_temperature_that_crosses_zero_is_refused() -> None:
    tau = nn.Parameter(torch.tensor(0.1))
    loss = NTXent(tau)
    with torch.no_grad():
        tau.fill_(-0.01)
    with pytest.raises(ValueError, match="tau must be finite, above 0"):
        loss(Z, -Z)
    assert "tau=-0.01" in repr(loss)


def test_every_public_loss_and_temperature_has_a_refusal() -> None:
    mentioned = set().union(*(call.__code__.co_names for call, *_ in REFUSED))
    bases = {"Temperature", "OfTime", "OfSimilarity", "OfBatch"}
    temperatures = {
        name
        for name, value in vars(schedules).items()
        if inspect.isclass(value)
        and issubclass(value, schedules.Temperature)
        and not name.startswith("_")
    }
    assert set(losses.__all__) | temperatures - bases <= mentioned
    assert len(REFUSED) >= 60
