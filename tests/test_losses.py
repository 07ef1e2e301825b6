"""The losses: double loops, gradients, low precision, identities, what they remember."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import pytest
import registry
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from registry import batch, build, evaluate
from torch import Tensor, nn
from torch.nn import functional as F

from dytemp import metrics
from dytemp.losses import (
    CLIP,
    DCL,
    MACL,
    BimodalISogCLR,
    BimodalSogCLR,
    CyCLIP,
    ISogCLR,
    MoCo,
    NTXent,
    SogCLR,
    Spectral,
    TwoConstants,
    pairs,
)
from dytemp.losses.infonce import decoupled, info_nce, pair_similarities
from dytemp.losses.pairs import PairLoss
from dytemp.losses.sogclr import robust_objective
from dytemp.schedules import (
    Alignment,
    Constant,
    Cosine,
    HalfCosine,
    Linear,
    OfBatch,
    OfSimilarity,
    OfTime,
    PerClass,
    SimilarityCosine,
    Temperature,
    TemperatureNetwork,
)

same = torch.testing.assert_close


def cases(*names: str) -> list[tuple[str, str]]:
    """Return the cases of these rows of the table of losses."""
    return [case for case in registry.CASES if case[0] in names]


SURROGATES = [name for name, row in registry.LOSSES.items() if row.surrogate]
OBJECTIVES = [name for name in registry.LOSSES if name not in SURROGATES]
LEARNING = [  # the official variant has another gradient: the golden values test it
    name
    for name, row in registry.LOSSES.items()
    if "learned" in row.takes and name != "BimodalRGCL, official"
]


# --------------------------------------------------------------- double loops from the equations

Tau = Callable[[int, float], float]  # (number of the anchor's pair, similarity) -> temperature


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def loop_two_views(z1: Tensor, z2: Tensor, tau: Tau, own: bool) -> float:
    """Eq. 1 of TS for 2B anchors; `own`: whether the positive stands in the denominator."""
    z = z1.tolist() + z2.tolist()
    total = 0.0
    for i in range(len(z)):
        partner = (i + len(z1)) % len(z)
        logit = {}
        for j in range(len(z)):
            s = cosine(z[i], z[j])
            logit[j] = s / tau(i % len(z1), s)
        negatives = math.fsum(math.exp(logit[j]) for j in logit if j not in (i, partner))
        total += math.log(negatives + own * math.exp(logit[partner])) - logit[partner]
    return total / len(z)


def loop_split(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    """DCL with one sum over the negatives of each view, the two logarithms added."""
    views, total = (z1.tolist(), z2.tolist()), 0.0
    for view, others in (views, views[::-1]):
        for i, anchor in enumerate(view):
            s = cosine(anchor, others[i])
            total -= s / tau(i, s)
            for candidates in (view, others):
                terms = []
                for j, candidate in enumerate(candidates):
                    s = cosine(anchor, candidate)
                    terms += [math.exp(s / tau(i, s))] * (i != j)
                total += math.log(math.fsum(terms))
    return total / (2 * len(z1))


def loop_cross(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    """CLIP: each image among all texts, and each text among all images."""
    views, total = (z1.tolist(), z2.tolist()), 0.0
    for view, others in (views, views[::-1]):
        for i, anchor in enumerate(view):
            similarity = [cosine(anchor, other) for other in others]
            logits = [s / tau(i, s) for s in similarity]
            total += math.log(math.fsum(map(math.exp, logits))) - logits[i]
    return total / (2 * len(z1))


def loop_cyclip(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    images, texts, total = z1.tolist(), z2.tolist(), 0.0
    for i in range(len(images)):
        for j in range(len(images)):
            within = cosine(images[i], images[j]) - cosine(texts[i], texts[j])
            across = cosine(images[i], texts[j]) - cosine(images[j], texts[i])
            total += 0.25 * within**2 + 0.25 * across**2
    return loop_cross(z1, z2, tau) + total / len(images)


def loop_weighted(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    """DCLW: the attraction of each pair weighted by 2 - B softmax(s / 0.5)."""
    first, second = z1.tolist(), z2.tolist()
    positive = [cosine(a, b) for a, b in zip(first, second, strict=True)]
    total = math.fsum(math.exp(s / 0.5) for s in positive)
    weights = [2 - len(positive) * math.exp(s / 0.5) / total for s in positive]
    excess = [
        (1 - w) * s / tau(i, s) for i, (w, s) in enumerate(zip(weights, positive, strict=True))
    ]
    return loop_two_views(z1, z2, tau, own=False) + math.fsum(excess) / len(excess)


def loop_hard(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    """HCL with beta 1 and prior 0.1."""
    z, total = z1.tolist() + z2.tolist(), 0.0
    for i in range(len(z)):
        partner = (i + len(z1)) % len(z)
        t = tau(i % len(z1), 0.0)
        terms = [math.exp(cosine(z[i], z[j]) / t) for j in range(len(z)) if j not in (i, partner)]
        n, positive = len(terms), math.exp(cosine(z[i], z[partner]) / t)
        hard = n * math.fsum(x * x for x in terms) / math.fsum(terms)
        rest = max((hard - 0.1 * n * positive) / 0.9, n * math.exp(-1 / t))
        total += math.log1p(rest / positive)
    return total / len(z)


def loop_dual(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    """SimCo with ratio 10."""
    views, total = (z1.tolist(), z2.tolist()), 0.0
    for view, others in (views, views[::-1]):
        for i, anchor in enumerate(view):
            wrong = []
            for ratio in (1, 10):
                terms = [math.exp(cosine(anchor, other) / tau(i, 0) / ratio) for other in others]
                wrong.append((math.fsum(terms) - terms[i]) / math.fsum(terms))
            total -= wrong[1] / wrong[0] * math.log1p(-wrong[0])
    return total / (2 * len(z1))


def loop_sigmoid(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    images, texts, total = z1.tolist(), z2.tolist(), 0.0
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            s = cosine(image, text)
            total += math.log1p(math.exp((-1) ** (i == j) * (s / tau(i, s) - 10)))
    return total / len(images)


def loop_spectral(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    n, total = len(z1), 0.0
    for i, a in enumerate(z1.tolist()):
        for j, b in enumerate(z2.tolist()):
            s = cosine(a, b)
            total += -2 * s / n if i == j else s * s / (n * (n - 1))
    return total


def loop_queue(z1: Tensor, z2: Tensor, tau: Tau) -> float:
    queue = build("MoCo", "Constant", dim=z1.shape[1]).queue.double().tolist()
    total = 0.0
    for i, (anchor, key) in enumerate(zip(z1.tolist(), z2.tolist(), strict=True)):
        similarity = [cosine(anchor, candidate) for candidate in [key, *queue]]
        logits = [s / tau(i, s) for s in similarity]
        total += math.log(math.fsum(map(math.exp, logits))) - logits[0]
    return total / len(z1)


LOOPS: dict[str, Callable[[Tensor, Tensor, Tau], float]] = {
    "NTXent": lambda z1, z2, tau: loop_two_views(z1, z2, tau, own=True),
    "DCL, joint": lambda z1, z2, tau: loop_two_views(z1, z2, tau, own=False),
    "DCL, split": loop_split,
    "MoCo": loop_queue,
    "CLIP": loop_cross,
    "CyCLIP": loop_cyclip,
    "DCLW": loop_weighted,
    "HardNegative": loop_hard,
    "DualTemperature": loop_dual,
    "SigLIP": loop_sigmoid,
    "Spectral": loop_spectral,
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize(("pairs_", "dim"), [(2, 1), (2, 3), (3, 16), (6, 5)])
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_losses_equal_double_loops(name: str, pairs_: int, dim: int, tau: float) -> None:
    z1, z2, index = batch(pairs_, dim)
    loss = at_temperature(name, tau, dim).double()
    assert loss(z1, z2, index).item() == pytest.approx(LOOPS[name](z1, z2, lambda i, s: tau))


@pytest.mark.parametrize(
    ("name", "temperature"),
    [case for case in cases(*LOOPS) if case[1] in ("SimilarityCosine", "PerClass")],
)
def test_losses_equal_double_loops_with_temperatures_that_vary(name, temperature) -> None:
    z1, z2, index = batch(6)
    by_class = [0.2, 0.6, 0.4, 0.2]
    tau: dict[str, Tau] = {
        "SimilarityCosine": lambda i, s: 0.4 - 0.2 * math.cos(math.pi * s),
        "PerClass": lambda i, s: by_class[registry.LABELS[index[i]]],
    }
    loss = build(name, temperature, low=0.2, high=0.6).double()
    expected = LOOPS[name](z1, z2, tau[temperature])
    assert loss(z1, z2, index).item() == pytest.approx(expected)


def test_info_nce_with_any_excluded_candidates() -> None:
    """Excluding candidates is leaving their columns away."""
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randn(4, 7, generator=generator, dtype=torch.float64)
    excluded = torch.zeros(4, 7, dtype=torch.bool)
    excluded[:, [2, 5]] = True
    kept, positives = [0, 1, 3, 4, 6], torch.tensor([0, 1, 3, 4])
    for formula in (info_nce, decoupled):
        same(
            formula(similarity, positives, 0.3, excluded),
            formula(similarity[:, kept], torch.tensor([0, 1, 2, 3]), 0.3),
        )


# ------------------------------------------------------- gradients: written down, against autograd


def split_dcl(similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
    logits = similarity / tau
    is_positive = F.one_hot(positives, len(similarity)).bool()
    first, second = logits.masked_fill(itself | is_positive, -torch.inf).chunk(2, dim=1)
    return first.logsumexp(dim=1) + second.logsumexp(dim=1) - logits[is_positive]


def macl(similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
    losses = info_nce(similarity, positives, tau, itself)
    return losses / (1 - torch.exp(-losses)).detach()


def two_constants(similarity: Tensor, positives: Tensor, tau: Tensor, itself: Tensor) -> Tensor:
    both = tau.expand_as(similarity).scatter(1, positives[:, None], 0.6)
    return info_nce(similarity, positives, both, itself)


FORMULAS = {
    "NTXent": info_nce,
    "TwoConstants": two_constants,
    "DCL, joint": decoupled,
    "DCL, split": split_dcl,
    "MACL": macl,
}


@pytest.mark.parametrize(("name", "temperature"), cases(*FORMULAS))
@pytest.mark.parametrize("block", [1, 27, 1 << 19])
def test_written_gradients_equal_autograd(
    name: str, temperature: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "BLOCK", block)  # 27 entries: 3 of 8 rows, then 3, then 2
    z1, z2, index = batch(4)
    loss = build(name, temperature)
    value, d1, d2 = evaluate(loss, z1, z2, index)
    written = [p.grad for p in loss.parameters()]

    def plain(z1: Tensor, z2: Tensor, index: Tensor) -> Tensor:
        similarity, positives, itself = pair_similarities(z1, z2)
        loss.temperature.observe(similarity.detach()[torch.arange(8), positives])
        tau = loss.temperature(similarity, torch.cat([index, index]))
        return FORMULAS[name](similarity, positives, tau, itself).mean()

    loss.zero_grad()
    for measured, expected in zip((value, d1, d2), evaluate(plain, z1, z2, index), strict=True):
        same(measured, expected, rtol=1e-9, atol=1e-14)
    for measured, parameter in zip(written, loss.parameters(), strict=True):
        same(measured, parameter.grad, rtol=1e-9, atol=1e-14)


def test_two_equal_constants_are_one_temperature() -> None:
    z1, z2, _ = batch(6)
    same(TwoConstants(0.3, 0.3)(z1, z2), NTXent(0.3)(z1, z2), rtol=1e-12, atol=0)


def one_temperature() -> list[tuple[str, str]]:
    """Return the cases with a single number for all pairs."""
    kinds = {name: registry.kind(registry.temperature(name)) for name in registry.TEMPERATURES}
    return [case for case in cases("NTXent", "DCL, joint") if kinds[case[1]] in ("time", "learned")]


@pytest.mark.parametrize(("name", "temperature"), one_temperature())
@pytest.mark.parametrize("tile", [3, 4, 5, 512])
@pytest.mark.parametrize("kept", [0, 1 << 24])
def test_one_triangle_equals_all_rows(
    name: str, temperature: str, tile: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles that do not divide the rows, that a diagonal crosses at an angle, kept or not."""
    z1, z2, index = batch(7)
    loss = build(name, temperature)
    by_rows = evaluate(loss, z1, z2, index)
    slopes = [parameter.grad.clone() for parameter in loss.parameters()]
    tau = loss.temperature_now
    loss.zero_grad()
    monkeypatch.setattr(pairs, "BLOCK", 1)
    monkeypatch.setattr(pairs, "TILE", tile)
    monkeypatch.setattr(pairs, "KEPT", kept)
    same(evaluate(loss, z1, z2, index), by_rows, rtol=1e-11, atol=1e-14)
    for parameter, slope in zip(loss.parameters(), slopes, strict=True):
        same(parameter.grad, slope, rtol=1e-11, atol=1e-14)
    assert loss.temperature_now == pytest.approx(tau)


@pytest.mark.parametrize("tau", [0.03, 0.0251, 0.0249, 0.005])
@pytest.mark.parametrize("make", [NTXent, DCL])
def test_small_temperatures_lose_nothing_in_float32(make: type, tau: float) -> None:
    """512 rows are one block, 1024 are not; among these are opposite and equal vectors."""
    z1, z2, _ = batch(512, 16)
    z1[1], z2[1] = -z1[0], -z1[0]
    z1[3] = z2[3] = z1[2]
    exact = evaluate(make(tau), z1, z2, None)
    single = evaluate(make(tau), z1.float(), z2.float(), None)
    assert all(torch.isfinite(each).all() for each in single)
    same(single[0].double(), exact[0], rtol=2e-6, atol=1e-6)
    for found, wanted in zip(single[1:], exact[1:], strict=True):
        # The rounding of a similarity is amplified by 1 / tau.
        same(found.double(), wanted, rtol=0, atol=3e-7 / tau * float(wanted.abs().max()))


def test_which_temperatures_are_computed_from_one_triangle() -> None:
    cosine = Cosine(0.02, 1.0, period=10)
    assert pairs.one_temperature(Constant(0.2)) == 0.2
    assert pairs.one_temperature(cosine) == 1.0
    cosine.set_epoch(5)
    assert pairs.one_temperature(cosine) is None  # exp(-2 / 0.02) vanishes in float32
    assert pairs.one_temperature(SimilarityCosine(0.1, 0.2)) is None


def is_derivative(case: tuple[str, str]) -> bool:
    """Tell whether the gradient is that of the value: nothing in it is held constant."""
    name, temperature = case
    built = registry.temperature(temperature) if temperature != registry.OWN else None
    held = getattr(built, "detach", False) or isinstance(built, OfBatch | TemperatureNetwork)
    exact = name in OBJECTIVES and name not in ("MACL", "DualTemperature")
    return (exact or name == "BimodalRGCL, paper") and not held


@pytest.mark.parametrize(
    ("name", "temperature"), [case for case in registry.CASES if is_derivative(case)]
)
def test_gradcheck_of_the_embeddings(name: str, temperature: str) -> None:
    z1, z2, index = batch(3, 4)
    loss = build(name, temperature, dim=4).double().eval()
    inputs = z1.requires_grad_(), z2.requires_grad_()
    assert torch.autograd.gradcheck(lambda *z: loss(*z, index), inputs, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", LEARNING)
def test_gradcheck_of_the_temperature(name: str) -> None:
    z1, z2, index = batch(3, 4)

    def loss(z1: Tensor, z2: Tensor, tau: Tensor) -> Tensor:
        built = registry.LOSSES[name].build(Constant(tau), 4).double().eval()
        return built(z1, z2, index)

    inputs = [t.requires_grad_() for t in (z1, z2, torch.tensor(0.3, dtype=torch.float64))]
    assert torch.autograd.gradcheck(loss, inputs, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", LEARNING)
def test_temperature_is_pushed_to_where_the_loss_falls(name: str) -> None:
    z1, z2, index = batch(6)
    tau = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    loss = registry.LOSSES[name].build(Constant(tau), 5).double().eval()
    value = loss(z1, z2, index)
    value.backward()
    with torch.no_grad():
        tau -= 0.01 * tau.grad.sign()
    assert loss(z1, z2, index) < value


@pytest.mark.parametrize(("name", "temperature"), registry.CASES)
def test_gradients_are_tangent_scale_with_the_loss_and_leave_the_inputs_alone(
    name: str, temperature: str
) -> None:
    z1, z2, index = batch(4)
    before = z1.clone(), z2.clone(), index.clone()
    _, d1, d2 = evaluate(build(name, temperature), z1, z2, index)
    for z, d in ((z1, d1), (z2, d2)):  # only directions count, so nothing pulls along them
        same((z * d).sum(dim=1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-13)
    loss = build(name, temperature)
    _, e1, e2 = evaluate(lambda *batch: -3 * loss(*batch), z1, z2, index)
    same((e1, e2), (-3 * d1, -3 * d2))
    assert all(torch.equal(a, b) for a, b in zip(before, (z1, z2, index), strict=True))


@pytest.mark.parametrize(("name", "temperature"), registry.CASES)
def test_only_what_asks_for_a_gradient_gets_one(name: str, temperature: str) -> None:
    z1, z2, index = batch(4)
    _, expected, _ = evaluate(build(name, temperature), z1, z2, index)
    z1.requires_grad_()
    build(name, temperature)(z1, z2, index).backward()
    same(z1.grad, expected)
    assert z2.grad is None
    with torch.no_grad():
        assert not build(name, temperature)(z1, z2, index).requires_grad


# -------------------------------------------------- global losses against the papers' algorithms


class Naive:
    """SogCLR and iSogCLR as their algorithms are written: loops, bare exponentials, dictionaries.

    An anchor is a list of (similarity to a negative, ...) and the similarity to its positive.
    """

    def __init__(self, tau: Callable[[int], float], gamma: float, rho: float = 0.0) -> None:
        self.initial_tau, self.gamma, self.rho = tau, gamma, rho
        self.average: dict[int, float] = {}
        self.momentum: dict[int, float] = {}
        self.learned: dict[int, float] = {}
        self.from_zero = self.stores_sum = self.learns = False

    def tau(self, i: int) -> float:
        return self.learned.get(i, self.initial_tau(i))

    def step(self, samples: list[tuple[int, list[tuple[list[Tensor], Tensor]]]]) -> Tensor:
        """Take samples with the negatives and the positive of each of their anchors."""
        value = torch.zeros((), dtype=torch.float64)
        for i, anchors in samples:
            tau, averages, slopes = self.tau(i), [], []
            for negatives, positive in anchors:
                terms = [math.exp(s.item() / tau) for s in negatives]
                u = math.fsum(terms) / len(terms)
                if i in self.average or self.from_zero:
                    u = (1 - self.gamma) * self.average.get(i, 0.0) + self.gamma * u
                weights = [t / u / len(terms) for t in terms]
                pull = sum(w * s for w, s in zip(weights, negatives, strict=True))
                value = value + pull - positive
                averages.append(u)
                slopes.append(math.log(u) + self.rho - pull.item() / tau)
            self.average[i] = sum(averages) / (1 if self.stores_sum else len(averages))
            if self.learns:  # eta 0.1, beta 0.4, clip 0.5, bounds 0.2 and 0.9
                slope = min(max(sum(slopes) / len(slopes), -0.5), 0.5)
                self.momentum[i] = 0.6 * self.momentum.get(i, 0.0) + 0.4 * slope
                self.learned[i] = min(max(tau - 0.1 * self.momentum[i], 0.2), 0.9)
        return value / len(samples)


LEARN = {"tau_init": 0.5, "tau_min": 0.2, "tau_max": 0.9, "eta": 0.1, "beta": 0.4, "clip": 0.5}
BY_CLASS = [0.3, 0.5, 0.7, 0.4]


def unimodal_anchors(z1: Tensor, z2: Tensor, index: Tensor) -> list:
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    similarity, n = z @ z.T, len(z1)

    def anchor(a: int) -> tuple[list[Tensor], Tensor]:
        negatives = [similarity[a, b] for b in range(2 * n) if b % n != a % n]
        return negatives, similarity[a, (a + n) % (2 * n)]

    return [(i, [anchor(k), anchor(k + n)]) for k, i in enumerate(index.tolist())]


def bimodal_anchors(z1: Tensor, z2: Tensor, index: Tensor) -> tuple[list, list]:
    """Return the anchors of both modalities; here the positive is subtracted from the start."""
    similarity = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T
    zero = torch.zeros((), dtype=torch.float64)
    sides = []
    for s in (similarity, similarity.T):
        sides.append(
            [
                (i, [([s[k, j] - s[k, k] for j in range(len(s)) if j != k], zero)])
                for k, i in enumerate(index.tolist())
            ]
        )
    return sides[0], sides[1]


def overlapping_batches() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return six batches of 4 of 8 samples: most of them mix new and seen ones."""
    generator = torch.Generator().manual_seed(1)
    result = []
    for seed in range(6):
        z1, z2, _ = batch(4, 3, seed)
        result.append((z1, z2, torch.randperm(8, generator=generator)[:4]))
    return result


@pytest.mark.parametrize("variant", ["paper", "official"])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("block", [1, 27, 1 << 19])
def test_global_loss_equals_its_algorithm(
    variant: str, learns: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "BLOCK", block)
    labels = torch.arange(8) % 4
    if learns:
        loss = ISogCLR(8, rho=0.3, gamma=0.7, variant=variant, **LEARN)
        naive = Naive(lambda i: 0.5, 0.7, rho=0.3)
        naive.learns = True
    else:
        loss = SogCLR(8, PerClass(BY_CLASS, labels), 0.7, variant)
        naive = Naive(lambda i: BY_CLASS[labels[i]], 0.7)
        naive.stores_sum = variant == "official"
    naive.from_zero = variant == "official"
    for z1, z2, index in overlapping_batches():
        expected = evaluate(lambda *b: naive.step(unimodal_anchors(*b)), z1, z2, index)
        same(evaluate(loss, z1, z2, index), expected, rtol=1e-9, atol=1e-14)
        for i in range(8):
            average = naive.average.get(i, 0.0)
            assert loss.log_average[i].exp().item() == pytest.approx(average, rel=1e-9)
            if learns:
                assert loss.tau[i].item() == pytest.approx(naive.tau(i), rel=1e-9)
    assert len(naive.average) == 6  # two were never seen, the others twice or more


@pytest.mark.parametrize("learns", [False, True])
def test_bimodal_global_loss_equals_its_algorithm(learns: bool) -> None:
    labels = torch.arange(8) % 4
    if learns:
        loss = BimodalISogCLR(8, rho=0.3, gamma=0.7, **LEARN)
        sides = [Naive(lambda i: 0.5, 0.7, rho=0.3) for _ in range(2)]
        sides[0].learns = sides[1].learns = True
    else:
        loss = BimodalSogCLR(8, PerClass(BY_CLASS, labels), 0.7)
        sides = [Naive(lambda i: BY_CLASS[labels[i]], 0.7) for _ in range(2)]

    def naive(z1: Tensor, z2: Tensor, index: Tensor) -> Tensor:
        images, texts = bimodal_anchors(z1, z2, index)
        return sides[0].step(images) + sides[1].step(texts)

    for z1, z2, index in overlapping_batches():
        expected = evaluate(naive, z1, z2, index)
        same(evaluate(loss, z1, z2, index), expected, rtol=1e-9, atol=1e-14)
        for side, module in zip(sides, (loss.image, loss.text), strict=True):
            for i in range(8):
                average = side.average.get(i, 0.0)
                assert module.log_average[i].exp().item() == pytest.approx(average, rel=1e-9)
                if learns:
                    assert module.temperature.tau[i].item() == pytest.approx(side.tau(i), rel=1e-9)


def hardness(z1: Tensor, z2: Tensor) -> Tensor:
    """Return h, (2B, 2B - 2): similarity to each negative minus that to the positive."""
    similarity, positives, itself = pair_similarities(z1, z2)
    is_positive = F.one_hot(positives, len(similarity)).bool()
    h = similarity - similarity[is_positive][:, None]
    return h[~(is_positive | itself)].view(len(h), -1)


def cross_hardness(z1: Tensor, z2: Tensor) -> Tensor:
    """Return h of the images and of the texts, (2, B, B - 1)."""
    similarity = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T
    negatives = ~torch.eye(len(z1), dtype=torch.bool)
    return torch.stack(
        [
            (s - s.diagonal()[:, None])[negatives].view(len(s), -1)
            for s in (similarity, similarity.T)
        ]
    )


@pytest.mark.parametrize(("gamma", "visits"), [(1.0, 3), (0.4, 1)])
@pytest.mark.parametrize("modalities", [1, 2])
def test_gradient_of_the_surrogate_is_that_of_the_objective(gamma, visits, modalities) -> None:
    """tau log mean exp(h / tau), summed over views, where the average is that of the batch."""
    temperature = PerClass(BY_CLASS, registry.LABELS)
    loss = (SogCLR if modalities == 1 else BimodalSogCLR)(registry.SIZE, temperature, gamma)

    def objective(z1: Tensor, z2: Tensor, index: Tensor) -> Tensor:
        tau = temperature.tau[index]
        if modalities == 1:
            return robust_objective(hardness(z1, z2), torch.cat([tau, tau]), 0.0).sum() / len(z1)
        return robust_objective(cross_hardness(z1, z2), tau.expand(2, -1), 0.0).sum() / len(z1)

    for visit in range(visits):
        z1, z2, _ = batch(5, seed=visit)
        index = torch.arange(5)
        _, *measured = evaluate(loss, z1, z2, index)
        _, *expected = evaluate(objective, z1, z2, index)
        same(measured, expected, rtol=1e-9, atol=1e-14)


@settings(max_examples=30)
@given(tau=st.floats(0.05, 5), rho=st.floats(0, 3), seed=st.integers(0, 99))
def test_slope_of_the_robust_objective_is_rho_minus_kl(tau: float, rho: float, seed: int) -> None:
    h = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    log_p = (h / tau).log_softmax(dim=0)
    kl = (log_p.exp() * (log_p + math.log(6))).sum().item()
    step = 1e-5 * tau
    left, middle, right = (robust_objective(h, tau + d, rho).item() for d in (-step, 0, step))
    assert (right - left) / (2 * step) == pytest.approx(rho - kl, rel=1e-5, abs=1e-6)
    assert left + right - 2 * middle > -1e-12  # convex in tau


@pytest.mark.parametrize("modalities", [1, 2])
def test_temperatures_step_down_the_slope_of_the_robust_objective(modalities: int) -> None:
    z1, z2, index = batch(5)
    settings_ = dict.fromkeys(("beta", "gamma"), 1.0) | {"clip": None, "eta": 0.01}
    family, h_of = [(ISogCLR, hardness), (BimodalISogCLR, cross_hardness)][modalities - 1]
    loss = family(registry.SIZE, rho=0.3, tau_init=0.4, tau_min=0.1, **settings_)
    h = h_of(z1, z2).view(2, 5, -1)  # two views of an image, or an image and its text
    right, left = (
        robust_objective(h, torch.tensor(0.4 + d, dtype=h.dtype), 0.3) for d in (1e-6, -1e-6)
    )
    slopes = (right - left) / 2e-6
    evaluate(loss, z1, z2, index)
    if modalities == 1:
        measured, slopes = [loss.tau[index]], slopes.mean(dim=0, keepdim=True)
    else:
        measured = [loss.tau_image[index], loss.tau_text[index]]
    for tau, slope in zip(measured, slopes, strict=True):
        same(tau, 0.4 - 0.01 * slope, rtol=1e-8, atol=0)


def kl_to_uniform(h: Tensor, tau: Tensor) -> Tensor:
    effective = metrics.effective_negatives(h.flatten(0, -2), tau.expand(h.shape[:-1]).flatten())
    return math.log(h.shape[-1]) - effective.log().view(h.shape[:-1])


def test_temperatures_converge_to_an_equal_effective_number_of_negatives() -> None:
    """On frozen embeddings: KL = rho, so exp(-rho) m negatives count for every anchor."""
    generator = torch.Generator().manual_seed(2)
    z1, z2 = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    index, rho = torch.tensor([4, 1, 7, 0, 2, 5]), 0.5
    settings_ = {"tau_init": 0.2, "gamma": 1.0, "beta": 0.5, "eta": 0.03, "clip": 3.0}
    equal_views = ISogCLR(8, rho, **settings_)
    two_views = ISogCLR(8, rho, **settings_)
    bimodal = BimodalISogCLR(8, rho, tau_min=0.05, **settings_)
    with torch.no_grad():
        for _ in range(1500):
            equal_views(z1, z1, index)
            two_views(z1, z2, index)
            bimodal(z1, z2, index)
    target = torch.full((6,), rho, dtype=torch.float64)

    def close(kl: Tensor) -> None:
        same(kl, target, rtol=0, atol=1e-8)

    h = hardness(z1, z1)[:6]
    close(kl_to_uniform(h, equal_views.tau[index]))
    effective = metrics.effective_negatives(h, equal_views.tau[index])
    same(effective, torch.full_like(effective, math.exp(-rho) * 10), rtol=1e-8, atol=0)
    assert equal_views.tau[index].std() > 0.02  # the temperatures themselves differ
    # Two views share one temperature: the mean of their divergences is rho.
    close(kl_to_uniform(hardness(z1, z2).view(2, 6, -1), two_views.tau[index]).mean(dim=0))
    images, texts = cross_hardness(z1, z2)
    close(kl_to_uniform(images, bimodal.tau_image[index]))
    close(kl_to_uniform(texts, bimodal.tau_text[index]))


# ----------------------------------------------------------------------------------- low precision


def at_temperature(name: str, tau: float, dim: int) -> PairLoss:
    """Build a row of the table at one temperature, also where the loss brings its own."""
    own: dict[str, Callable[[], PairLoss]] = {
        "Spectral": Spectral,
        "MACL": lambda: MACL(tau, 0.5, 0.0),
        "TwoConstants": lambda: TwoConstants(2 * tau, tau),
        "ISogCLR": lambda: ISogCLR(registry.SIZE, 0.3, tau, 0.004),
        "BimodalISogCLR": lambda: BimodalISogCLR(registry.SIZE, 0.3, tau, 0.004),
    }
    if "time" in registry.LOSSES[name].takes:
        return build(name, "Constant", dim, tau, tau)
    loss = own[name.split(",")[0]]()
    if name.endswith("official"):
        loss = type(loss)(registry.SIZE, 0.3, tau, 0.004, variant="official")
    return loss


def geometry(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    z1, z2, index = batch(6, 8)
    if kind == "similar":
        centre = z1[:1]
        return centre + 0.05 * z1, centre + 0.05 * z2, index
    if kind == "orthogonal":
        z1 = torch.eye(8, dtype=torch.float64)[:6]
        return z1, z1.clone(), index
    return z1, -z1, index


@pytest.mark.parametrize("name", registry.LOSSES)
@pytest.mark.parametrize("tau", [0.005, 0.01, 0.05, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["similar", "orthogonal", "opposite"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_low_precision_is_finite_and_right(name, tau, kind, dtype) -> None:
    z1, z2, index = geometry(kind)
    z1, z2 = z1.to(dtype), z2.to(dtype)
    narrow = evaluate(at_temperature(name, tau, 8), z1, z2, index)
    wide = evaluate(at_temperature(name, tau, 8).double(), z1.double(), z2.double(), index)
    assert all(tensor.isfinite().all() for tensor in (*narrow, *wide))
    # A similarity is known to 1e-7; the loss divides it by tau, its gradient by tau twice.
    assert narrow[0].dtype == torch.float32
    assert narrow[0].item() == pytest.approx(wide[0].item(), rel=1e-5, abs=1e-6 / tau)
    for measured, expected in zip(narrow[1:], wide[1:], strict=True):
        assert measured.dtype == dtype
        rounding = torch.finfo(dtype).eps
        same(measured.double(), expected, rtol=max(rounding, 1e-4), atol=1e-6 / tau**2)


@pytest.mark.parametrize("name", registry.LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_does_not_lower_the_precision(name: str, dtype: torch.dtype) -> None:
    z1, z2, index = batch(6, 8, dtype=dtype)
    plain = evaluate(at_temperature(name, 0.05, 8), z1, z2, index)
    loss = at_temperature(name, 0.05, 8)

    def inside(z1: Tensor, z2: Tensor, index: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss(z1, z2, index)

    same(evaluate(inside, z1, z2, index), plain, rtol=0, atol=0)


@pytest.mark.parametrize("name", registry.LOSSES)
@settings(max_examples=8)
@given(exponent=st.floats(-3, 3), seed=st.integers(0, 99))
def test_losses_are_finite_at_any_temperature(name: str, exponent: float, seed: int) -> None:
    tau = 10**exponent
    if registry.LOSSES[name].own:
        tau = min(max(tau, 0.004), 1.0)  # the bounds of the learned temperatures
    z1, z2, index = batch(4, seed=seed, dtype=torch.float32)
    assert all(t.isfinite().all() for t in evaluate(at_temperature(name, tau, 5), z1, z2, index))


@pytest.mark.parametrize("name", registry.LOSSES)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_long_and_very_short_embeddings(name: str, scale: float) -> None:
    z1, z2, index = batch(4, dtype=torch.float32)
    expected, d1, d2 = evaluate(at_temperature(name, 0.1, 5), z1, z2, index)
    value, e1, e2 = evaluate(at_temperature(name, 0.1, 5), scale * z1, scale * z2, index)
    same(value, expected, rtol=1e-5, atol=1e-6)
    same((e1 * scale, e2 * scale), (d1, d2), rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------- identities


def a_batch(test: Callable) -> Callable:
    """Run a test on every case of the tables, for drawn numbers of pairs, dimensions and seeds."""
    drawn = given(pairs_=st.integers(2, 5), dim=st.integers(1, 6), seed=st.integers(0, 999))
    every = pytest.mark.parametrize(("name", "temperature"), registry.CASES)
    return every(settings(max_examples=4)(drawn(test)))


@a_batch
def test_swap_of_the_views(name, temperature, pairs_, dim, seed) -> None:
    z1, z2, index = batch(pairs_, dim, seed)
    value, d1, d2 = evaluate(build(name, temperature, dim).double(), z1, z2, index)
    swapped, e2, e1 = evaluate(build(name, temperature, dim).double(), z2, z1, index)
    if name == "MoCo":  # a query and a key are not alike
        assert dim == 1 or not torch.isclose(value, swapped, rtol=1e-6)
    else:
        same((swapped, e1, e2), (value, d1, d2), rtol=1e-9, atol=1e-12)


@a_batch
def test_permutation_of_the_pairs(name, temperature, pairs_, dim, seed) -> None:
    z1, z2, index = batch(pairs_, dim, seed)
    order = torch.randperm(pairs_, generator=torch.Generator().manual_seed(seed))
    one, other = build(name, temperature, dim).double(), build(name, temperature, dim).double()
    value, d1, d2 = evaluate(one, z1, z2, index)
    permuted, e1, e2 = evaluate(other, z1[order], z2[order], index[order])
    same((permuted, e1, e2), (value, d1[order], d2[order]), rtol=1e-9, atol=1e-12)
    remembered = one.state_dict()
    for key, state in other.state_dict().items():
        if key == "queue":
            assert torch.equal(state[:pairs_], remembered[key][:pairs_][order])
        else:
            same(state, remembered[key], rtol=1e-9, atol=1e-12)


@a_batch
def test_positive_scaling_of_each_embedding(name, temperature, pairs_, dim, seed) -> None:
    z1, z2, index = batch(pairs_, dim, seed)
    generator = torch.Generator().manual_seed(seed)
    c1, c2 = 10 ** (200 * torch.rand(2, pairs_, 1, generator=generator, dtype=torch.float64) - 100)
    value, d1, d2 = evaluate(build(name, temperature, dim), z1, z2, index)
    scaled, e1, e2 = evaluate(build(name, temperature, dim), c1 * z1, c2 * z2, index)
    same((scaled, e1 * c1, e2 * c2), (value, d1, d2), rtol=1e-9, atol=1e-12)


@a_batch
def test_rotation_of_the_space(name, temperature, pairs_, dim, seed) -> None:
    z1, z2, index = batch(pairs_, dim, seed)
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    one, other = build(name, temperature, dim).double(), build(name, temperature, dim).double()
    if isinstance(other, MoCo):
        other.queue = other.queue @ turn
    for network in other.modules():
        if isinstance(network, TemperatureNetwork):
            network.proj.weight.data = network.proj.weight.data @ turn
    value, d1, d2 = evaluate(one, z1, z2, index)
    turned, e1, e2 = evaluate(other, z1 @ turn, z2 @ turn, index)
    same((turned, e1, e2), (value, d1 @ turn, d2 @ turn), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("name", "temperature"), registry.CASES)
def test_memory_layout_of_the_embeddings(name: str, temperature: str) -> None:
    z1, z2, index = batch(4)
    expected = build(name, temperature)(z1, z2, index)
    sparse1, sparse2 = torch.zeros(2, 8, 5, dtype=torch.float64)
    sparse1[::2], sparse2[::2] = z1, z2
    same(build(name, temperature)(sparse1[::2], sparse2[::2], index), expected)
    columns1, columns2 = z1.T.contiguous().T, z2.T.contiguous().T
    same(build(name, temperature)(columns1, columns2, index), expected)


@pytest.mark.parametrize("angle", [0.0, 0.7, math.pi / 2, 2.5, math.pi])
@pytest.mark.parametrize("tau", [0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_two_pairs_at_an_angle(angle: float, tau: float, dtype: torch.dtype) -> None:
    """Both views agree; the two samples are `angle` apart."""
    z = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    z, index, apart = z.to(dtype), torch.arange(2), (math.cos(angle) - 1) / tau
    tolerance = {"abs": 1e-2 if dtype == torch.float16 else 1e-5}
    for loss, expected in (
        (NTXent(tau), math.log1p(2 * math.exp(apart))),
        (DCL(tau), math.log(2) + apart),
        (DCL(tau, "split"), 2 * apart + 1 / tau),
        (CLIP(tau), math.log1p(math.exp(apart))),
        (CyCLIP(tau), math.log1p(math.exp(apart))),  # nothing to disagree about
        (SogCLR(2, tau), 2 * math.cos(angle) - 2),
        (BimodalSogCLR(2, tau), 2 * math.cos(angle) - 2),
    ):
        assert loss(z, z, index).item() == pytest.approx(expected, **tolerance)


def uniform_limit(name: str, pairs_: int, logit: float = 0.0) -> float:
    """Return the loss when all candidates weigh the same, and have this logit."""
    candidates = 2 * pairs_ - 1
    return {
        "NTXent": math.log(candidates),
        "DCL": math.log(candidates - 1),
        "DCL, split": 2 * math.log(pairs_ - 1) + logit,  # two logarithms, one positive
        "DCLW": math.log(candidates - 1),
        "DualTemperature": math.log(pairs_),
        "HardNegative": math.log(candidates),
        "SigLIP": pairs_ * math.log1p(math.exp(logit - 10)) - (logit - 10),
        "Spectral": -1.0,
        "MoCo": math.log(registry.QUEUE + 1),
        "CLIP": math.log(pairs_),
        "CyCLIP": math.log(pairs_),
        "MACL": math.log(candidates) / (1 - 1 / candidates),
        "TwoConstants": math.log(candidates),
    }[name.removesuffix(", joint")]


@pytest.mark.parametrize(("name", "temperature"), registry.CASES)
@pytest.mark.parametrize("pairs_", [2, 5])
def test_collapsed_embeddings(name: str, temperature: str, pairs_: int) -> None:
    z = torch.ones(pairs_, 5, dtype=torch.float64)
    loss = build(name, temperature).double()
    if isinstance(loss, MoCo):
        loss.queue = F.normalize(torch.ones_like(loss.queue), dim=1)
    value, d1, d2 = evaluate(loss, z, 2 * z, torch.arange(pairs_))
    if not registry.LOSSES[name].surrogate:
        logit = 0.0
        if temperature != registry.OWN:
            given_ = registry.temperature(temperature)
            given_.observe(torch.ones(pairs_))
            given_.see(F.normalize(z, dim=1))
            logit = (1 / given_(torch.ones(pairs_, 1), torch.arange(pairs_))).mean().item()
        expected = uniform_limit(name, pairs_, logit)
        if name == "TwoConstants":  # equal similarities, unequal logits
            expected = math.log1p((2 * pairs_ - 2) * math.exp(1 / 0.2 - 1 / 0.6))
        assert value.item() == pytest.approx(expected)
    elif name.endswith("paper"):  # weights 1/m: mean minus positive
        constant = loss.temperature_now * loss.rho if name.startswith("BimodalRGCL") else 0
        assert value.item() == pytest.approx(constant, abs=1e-12)
    same((d1, d2), (0 * z, 0 * z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in OBJECTIVES if n not in ("CyCLIP", "Spectral")])
def test_infinite_temperature(name: str) -> None:
    z1, z2, index = batch(5)
    value, d1, d2 = evaluate(at_temperature(name, 1e12, 5), z1, z2, index)
    assert value.item() == pytest.approx(uniform_limit(name, 5))
    same((d1, d2), (0 * z1, 0 * z2), rtol=0, atol=1e-11)


def test_infinite_temperature_of_global_losses_is_the_mean_hardness() -> None:
    z1, z2, index = batch(5)
    same(SogCLR(registry.SIZE, 1e9)(z1, z2, index), 2 * hardness(z1, z2).mean())
    same(BimodalSogCLR(registry.SIZE, 1e9)(z1, z2, index), cross_hardness(z1, z2).mean() * 2)


def test_zero_temperature_is_the_hardest_negative() -> None:
    z1, z2, index = batch(5)
    hardest = hardness(z1, z2).amax(dim=1)
    same(1e-4 * DCL(1e-4)(z1, z2), hardest.mean(), rtol=1e-3, atol=0)
    same(1e-4 * NTXent(1e-4)(z1, z2), hardest.relu().mean(), rtol=1e-3, atol=1e-9)
    same(SogCLR(registry.SIZE, 1e-4)(z1, z2, index), 2 * hardest.mean(), rtol=1e-3, atol=0)


GIVEN = [  # what has both bounds, and a loss that takes numbers too
    (name, temperature)
    for name, temperature in registry.CASES
    if temperature not in (registry.OWN, "PositiveDistance", "TemperatureNetwork")
]


@pytest.mark.parametrize(("name", "temperature"), GIVEN)
def test_every_dynamic_temperature_reduces_to_the_constant_one(name: str, temperature: str) -> None:
    reduced = build(name, temperature, low=0.3, high=0.3)
    constant = build(name, "Constant", low=0.3, high=0.3)
    for step in range(2):
        z1, z2, index = batch(4, seed=step)
        expected = evaluate(constant, z1, z2, index)
        same(evaluate(reduced, z1, z2, index), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("learning", "plain", "variant", "calls"),
    [
        (ISogCLR, SogCLR, "paper", 3),
        (ISogCLR, SogCLR, "official", 1),  # then the plain one has stored a sum, this one a mean
        (BimodalISogCLR, BimodalSogCLR, "paper", 3),
        (BimodalISogCLR, BimodalSogCLR, "official", 3),
    ],
)
def test_learned_temperatures_reduce_to_the_constant_one(learning, plain, variant, calls) -> None:
    fixed = plain(registry.SIZE, 0.3, 0.6, variant)
    frozen = learning(registry.SIZE, 0.4, 0.3, eta=0.0, gamma=0.6, variant=variant)
    for step in range(calls):
        z1, z2, index = batch(4, seed=step)
        same(evaluate(frozen, z1, z2, index), evaluate(fixed, z1, z2, index), rtol=0, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_macl_pulls_as_dcl_does(alpha: float) -> None:
    """Its weight 1 / (1 - P) makes the slopes of InfoNCE those of DCL; alpha = 0 fixes tau."""
    z1, z2, index = batch(5)
    _, *pull = evaluate(MACL(0.3, alpha, 0.1), z1, z2, index)
    _, *decoupled_pull = evaluate(DCL(Alignment(0.3, alpha, 0.1)), z1, z2, index)
    _, *constant_pull = evaluate(DCL(0.3), z1, z2, index)
    same(pull, decoupled_pull, rtol=1e-12, atol=0)
    assert torch.allclose(pull[0], constant_pull[0], rtol=1e-12, atol=0) == (alpha == 0)


def test_macl_of_a_perfect_pair_does_not_overflow() -> None:
    """-log P / (1 - P) tends to 1 as P tends to 1."""
    z = torch.eye(6, dtype=torch.float64)
    for tau, expected in ((0.2, None), (0.02, 1.0), (0.005, 1.0)):
        value, *gradients = evaluate(MACL(tau, 0.0, 0.0), z, z, torch.arange(6))
        p = 1 / (1 + 10 * math.exp(-1 / tau))
        assert value.item() == pytest.approx(expected or -math.log(p) / (1 - p), rel=1e-12)
        assert all(gradient.isfinite().all() for gradient in gradients)


# ------------------------------------------------------------------------- what a loss remembers


def snapshot(loss: PairLoss) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in loss.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


REMEMBERS = {"MoCo", *SURROGATES}


@pytest.mark.parametrize(("name", "temperature"), registry.CASES)
def test_only_training_mode_remembers(name: str, temperature: str) -> None:
    z1, z2, index = batch(4)
    loss = build(name, temperature)
    fresh = snapshot(loss)
    silent = evaluate(loss.eval(), z1, z2, index)
    assert equal(snapshot(loss), fresh)
    same(evaluate(loss.train(), z1, z2, index), silent, rtol=0, atol=0)
    assert equal(snapshot(loss), fresh) == (name not in REMEMBERS)


@pytest.mark.parametrize(("name", "temperature"), registry.CASES)
def test_state_survives_a_round_trip(name: str, temperature: str) -> None:
    loss = build(name, temperature)
    for step in range(3):
        evaluate(loss, *batch(4, seed=step))
    restored, copied = build(name, temperature), copy.deepcopy(loss)
    restored.load_state_dict(snapshot(loss))
    assert equal(snapshot(restored), snapshot(loss))
    expected = evaluate(loss, *batch(4, seed=9))
    for other in (restored, copied):
        same(evaluate(other, *batch(4, seed=9)), expected, rtol=0, atol=0)
        assert equal(snapshot(other), snapshot(loss))


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_state_per_sample_stays_in_float64_whatever_the_embeddings(name, dtype) -> None:
    loss = at_temperature(name, 0.3, 5)
    for step in range(3):
        z1, z2, index = batch(4, seed=step)
        evaluate(loss, z1.to(dtype), z2.to(dtype), index)
    assert {buffer.dtype for buffer in loss.buffers()} == {torch.float64}
    wide = at_temperature(name, 0.3, 5)
    for step in range(3):
        evaluate(wide, *batch(4, seed=step))
    for key, value in loss.state_dict().items():
        same(value, wide.state_dict()[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SURROGATES)
def test_state_per_sample_may_be_made_narrow(name: str) -> None:
    """For devices without float64: ``.float()`` on the module."""
    narrow, wide = at_temperature(name, 0.3, 5).float(), at_temperature(name, 0.3, 5)
    for step in range(3):
        z1, z2, index = batch(4, seed=step)
        measured = evaluate(narrow, z1.float(), z2.float(), index)
        expected = evaluate(wide, z1, z2, index)
        same([m.double() for m in measured], list(expected), rtol=1e-4, atol=1e-5)
    assert {buffer.dtype for buffer in narrow.buffers()} == {torch.float32}


@pytest.mark.parametrize("name", SURROGATES)
def test_samples_outside_the_batch_keep_their_state(name: str) -> None:
    loss = at_temperature(name, 0.3, 5)
    evaluate(loss, *batch(4, seed=0))
    before = snapshot(loss)
    z1, z2, index = batch(4, seed=1)
    evaluate(loss, z1, z2, index)
    outside = torch.ones(registry.SIZE, dtype=torch.bool).index_fill(0, index, False)
    for key, value in loss.state_dict().items():
        if value.ndim:
            assert torch.equal(value[outside], before[key][outside])
    if "log_average" in before:
        seen = torch.cat([index, batch(4, seed=0)[2]])
        unseen = torch.ones(registry.SIZE, dtype=torch.bool).index_fill(0, seen, False)
        assert torch.isneginf(loss.log_average[unseen]).all()
        assert loss.log_average[seen].isfinite().all()


@pytest.mark.parametrize("family", [ISogCLR, BimodalISogCLR])
@pytest.mark.parametrize("variant", ["paper", "official"])
@settings(max_examples=10)
@given(eta=st.floats(0, 100), rho=st.floats(0, 10), seed=st.integers(0, 99))
def test_learned_temperatures_stay_within_their_bounds(family, variant, eta, rho, seed) -> None:
    loss = family(registry.SIZE, rho, 0.1, 0.05, 0.7, eta=eta, clip=None, variant=variant)
    for step in range(4):
        evaluate(loss, *batch(4, seed=seed + step))
        learned = [loss.tau] if family is ISogCLR else [loss.tau_image, loss.tau_text]
        for tau in learned:
            assert tau.shape == (registry.SIZE,)
            assert ((tau >= 0.05) & (tau <= 0.7)).all()


@pytest.mark.parametrize("family", [ISogCLR, BimodalISogCLR])
def test_step_size_0_keeps_the_temperatures(family) -> None:
    loss = family(registry.SIZE, 0.3, 0.2, eta=0.0)
    for step in range(3):
        evaluate(loss, *batch(4, seed=step))
    tau = loss.tau if family is ISogCLR else torch.cat([loss.tau_image, loss.tau_text])
    assert torch.equal(tau, torch.full_like(tau, 0.2))


def test_official_average_restarts_in_epoch_0_only() -> None:
    z, _, index = batch(4)
    expected = ISogCLR(registry.SIZE, gamma=0.5)(z, z, index)
    loss = ISogCLR(registry.SIZE, gamma=0.5, eta=0.0, variant="official")
    assert loss(z, z, index) > expected + 0.1  # the average starts at 0, as under the driver
    loss.set_epoch(0)
    same(loss(z, z, index), expected)
    loss.set_epoch(2)
    same(loss(z, z, index), expected)  # half of an average that is right, and half of the newest


WITH_GAMMA = [SogCLR, ISogCLR, BimodalSogCLR, BimodalISogCLR]


@pytest.mark.parametrize("family", WITH_GAMMA)
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_gamma_may_be_a_schedule(family, variant) -> None:
    """Value, gradients and all that is remembered are those of the number of each epoch."""
    schedule, weights = HalfCosine(1.0, 0.2, epochs=2), [1.0, 0.6, 0.2, 0.2]
    moving = family(registry.SIZE, gamma=schedule, variant=variant)
    restored = family(registry.SIZE, gamma=schedule, variant=variant)
    state = snapshot(moving)
    for epoch, gamma in enumerate(weights):
        fixed = family(registry.SIZE, gamma=gamma, variant=variant)
        fixed.load_state_dict(state)
        for loss in (moving, fixed):
            loss.set_epoch(epoch)
        z1, z2, _ = batch(4, seed=epoch)
        index = torch.arange(4) + epoch
        expected = evaluate(fixed, z1, z2, index)
        same(evaluate(moving, z1, z2, index), expected, rtol=1e-12, atol=1e-14)
        same(snapshot(moving), snapshot(fixed), rtol=1e-12, atol=1e-14)
        state = snapshot(moving)
    restored.load_state_dict(state)
    assert equal(snapshot(restored), state)


@pytest.mark.parametrize("family", WITH_GAMMA)
def test_a_gamma_that_leaves_its_range_is_refused_then(family) -> None:
    loss = family(registry.SIZE, gamma=Linear(0.5, 1.5, epochs=2))
    evaluate(loss, *batch(4))
    loss.set_epoch(2)
    with pytest.raises(ValueError, match=r"gamma must be finite, above 0, at most 1, got 1\.5"):
        loss(*batch(4))


def test_moco_queue_forgets_the_oldest() -> None:
    loss = MoCo(0.2, dim=3, queue_size=5)
    same(loss.queue.norm(dim=1), torch.ones(5))
    keys = [batch(2, 3, seed, torch.float32)[1] for seed in range(4)]
    start = loss.queue.clone()
    contents = [*start]
    for step, z2 in enumerate(keys):
        loss(batch(2, 3, dtype=torch.float32)[0], z2)
        contents = [*contents[2:], *F.normalize(z2, dim=1)]
        assert loss.oldest == 2 * (step + 1) % 5
        in_order = loss.queue.roll(-int(loss.oldest), 0)
        same(in_order, torch.stack(contents))


def test_moco_takes_a_batch_as_large_as_its_queue() -> None:
    loss = MoCo(0.2, dim=5, queue_size=4).double()
    z1, z2, index = batch(4)
    loss(z1, z2, index)
    same(loss.queue, F.normalize(z2, dim=1))


def test_moco_queue_follows_the_global_seed() -> None:
    torch.manual_seed(3)
    first = MoCo(0.2, 4, 6).queue
    torch.manual_seed(3)
    assert torch.equal(MoCo(0.2, 4, 6).queue, first)
    assert not torch.equal(MoCo(0.2, 4, 6).queue, first)


# ------------------------------------------------------------------------------- time and progress


@pytest.mark.parametrize("name", [n for n, row in registry.LOSSES.items() if "time" in row.takes])
def test_losses_pass_the_epoch_on(name: str) -> None:
    z1, z2, index = batch(4)
    for given_ in (Linear(0.2, 0.6, epochs=10), SimilarityCosine(Linear(0.2, 0.6, 10), 0.6)):
        if registry.kind(given_) not in registry.LOSSES[name].takes:
            continue
        loss = registry.LOSSES[name].build(given_, 5)
        loss.set_epoch(10)
        expected = build(name, "Constant", low=0.6, high=0.6)(z1, z2, index)
        same(loss(z1, z2, index), expected)


@pytest.mark.parametrize(("name", "temperature"), registry.CASES)
def test_temperature_now_is_the_mean_of_the_last_call(name: str, temperature: str) -> None:
    z1, z2, index = batch(4)
    loss = build(name, temperature, low=0.2, high=0.6)
    assert math.isnan(loss.temperature_now)
    loss(z1, z2, index)
    assert type(loss.temperature_now) is float
    if name == "Spectral":  # it has none
        assert math.isnan(loss.temperature_now)
        return
    if temperature != "PositiveDistance":
        assert 0.2 - 1e-9 <= loss.temperature_now <= 0.6 + 1e-9
    if temperature in ("Constant", "LogScale", "Linear", "Alignment", "PositiveDistance"):
        alone = registry.temperature(temperature)
        alone.observe((F.normalize(z1) * F.normalize(z2)).sum(dim=1))
        assert loss.temperature_now == pytest.approx(alone(z1).item())
    if temperature == "PerClass":
        mean = registry.temperature(temperature).tau[index].mean().item()
        assert loss.temperature_now == pytest.approx(mean)


@pytest.mark.parametrize("name", registry.LOSSES)
def test_losses_say_whether_they_need_an_index(name: str) -> None:
    z1, z2, index = batch(4)
    for row, temperature in cases(name):
        needs = row in SURROGATES or temperature in ("PerClass", "Individual")
        assert build(row, temperature).needs_index == needs
        if not needs:
            same(build(row, temperature)(z1, z2), build(row, temperature)(z1, z2, index))


# ---------------------------------------------------------------------- temperatures of your own


class HalfLife(OfTime):
    def at(self, epoch: float) -> float:
        return 0.5 * 2**-epoch


class Parabola(OfSimilarity):
    def height(self, similarity: Tensor) -> Tensor:
        return similarity.square()


class ByNeighbours(Temperature):
    """A temperature of the row: higher for an anchor whose candidates are similar to it."""

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        return 0.3 + 0.1 * similarity.detach().mean(dim=1, keepdim=True)


@pytest.mark.parametrize("name", ["NTXent", "DCL, joint", "DCL, split"])
@pytest.mark.parametrize(
    "own", [HalfLife(), Parabola(0.2, 0.4), Parabola(0.2, 0.4, detach=False), ByNeighbours()]
)
def test_a_temperature_of_your_own(name: str, own: Temperature) -> None:
    z1, z2, index = batch(4)
    own.set_epoch(1)

    def plain(z1: Tensor, z2: Tensor, index: Tensor) -> Tensor:
        similarity, positives, itself = pair_similarities(z1, z2)
        return FORMULAS[name](similarity, positives, own(similarity), itself).mean()

    measured = evaluate(registry.LOSSES[name].build(own, 5), z1, z2, index)
    same(measured, evaluate(plain, z1, z2, index), rtol=1e-9, atol=1e-14)
