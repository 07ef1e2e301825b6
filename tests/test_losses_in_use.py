"""Losses as people use them: own temperatures, second derivatives, inference, sampling, compiling.

What several processes do is in test_losses_distributed.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import registry
import torch
from registry import batch, build, evaluate
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.checkpoint import checkpoint

from dytemp import checks, losses, metrics
from dytemp.losses import CLIP, MACL, BimodalSogCLR, ISogCLR, MoCo, NTXent, SogCLR, pairs
from dytemp.losses.infonce import (
    decoupled,
    decoupled_by_view,
    info_nce,
    model_aware,
    pair_similarities,
)
from dytemp.losses.pairs import PairLoss
from dytemp.schedules import (
    Constant,
    Cosine,
    HalfCosine,
    Linear,
    OfSimilarity,
    OfTime,
    PerClass,
    Random,
    SimilarityCosine,
    Temperature,
)

same = torch.testing.assert_close
NAMES = list(registry.LOSSES)
SURROGATES = [name for name, row in registry.LOSSES.items() if row.surrogate]
LEARNING = [n for n, row in registry.LOSSES.items() if "learned" in row.takes and not row.surrogate]
FIRST = dict(reversed(registry.CASES))  # one temperature for each loss
HELD = [*SURROGATES, "MACL", "DualTemperature"]  # something in the gradient is held constant
FORMULAS = {
    "NTXent": info_nce,
    "DCL, joint": decoupled,
    "DCL, split": decoupled_by_view,
    "MACL": model_aware,
}


def parameter(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value, dtype=torch.float64))


# ---------------------------------------------------------------------- temperatures of one's own


class LogTau(Temperature):
    """One number, learned as its logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.log_tau = parameter(-1.0)

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        return self.log_tau.exp()


class OfAnchor(Temperature):
    """A learned temperature for each class of the anchor."""

    depends_on = "sample"

    def __init__(self) -> None:
        super().__init__()
        self.log_tau = nn.Parameter(torch.linspace(-1.5, -0.5, 4, dtype=torch.float64))

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        assert index is not None
        return self.log_tau[registry.LABELS[index]].exp()[:, None]


class OfPair(Temperature):
    """A learned function of the similarity, which is not detached."""

    depends_on = "similarity"

    def __init__(self) -> None:
        super().__init__()
        self.slope = parameter(0.3)

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        return 0.3 + self.slope * similarity.square()


class Height(OfSimilarity):
    """A shape between two bounds with a parameter in it, also where the shape is detached."""

    def __init__(self, detach: bool) -> None:
        super().__init__(0.2, 0.5, detach)
        self.power = parameter(2.0)

    def height(self, similarity: Tensor) -> Tensor:
        return (similarity.abs() + 0.1) ** self.power / 1.1**2


class OfEmbedding(Temperature):
    """A temperature that looks at the embedding of the anchor."""

    depends_on = "embedding"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.float64))

    def see(self, anchors: Tensor) -> None:
        assert not anchors.requires_grad
        self.anchors = anchors

    def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
        return 0.2 + 0.3 * torch.sigmoid(self.anchors @ self.weight)[:, None]


OWN: dict[str, Callable[[], Temperature]] = {
    "per batch": LogTau,
    "per anchor": OfAnchor,
    "per pair": OfPair,
    "parameter in a shape": lambda: Height(detach=False),
    "parameter in a detached shape": lambda: Height(detach=True),
    "of the embedding": OfEmbedding,
}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("name", LEARNING)
def test_whatever_a_temperature_returns_its_gradient_arrives(name: str, own: str) -> None:
    """Against finite differences, in the parameters and in the embeddings."""
    z1, z2, index = batch(4)
    temperature = OWN[own]()
    if temperature.depends_on not in registry.LOSSES[name].takes:
        with pytest.raises(TypeError, match="must depend on"):
            registry.LOSSES[name].build(temperature, 5)
        return
    loss = registry.LOSSES[name].build(temperature, 5).double().eval()
    (learned,) = temperature.parameters()

    def value(z1: Tensor, z2: Tensor, number: Tensor) -> Tensor:
        original = learned.data.clone()
        call = torch.func.functional_call
        (key,) = dict(temperature.named_parameters())
        result = call(loss, {f"temperature.{key}": number}, (z1, z2, index))
        assert torch.equal(original, learned)
        return result

    inputs = [t.detach().clone().requires_grad_() for t in (z1, z2, learned)]
    if own == "of the embedding" or getattr(temperature, "detach", False):
        # The embeddings and similarities that it looks at are held constant.
        inputs[0].requires_grad_(False), inputs[1].requires_grad_(False)
    assert torch.autograd.gradcheck(value, inputs, atol=1e-7, rtol=1e-6)
    _, d1, _ = evaluate(loss, z1, z2, index)
    assert learned.grad.norm() > 1e-4
    assert d1.norm() > 1e-4


@pytest.mark.parametrize("name", FORMULAS)
def test_own_temperatures_equal_those_of_the_library(name: str) -> None:
    """The plain path and the fused one, in value, gradients and mean temperature."""

    class Copy(SimilarityCosine):
        """The same, unknown to the library."""

    assert SimilarityCosine.fused
    assert not Copy.fused
    if name == "MACL":
        return
    z1, z2, index = batch(6)
    for detach in (True, False):
        own, known = (
            registry.LOSSES[name].build(kind(0.2, 0.5, detach), 5)
            for kind in (Copy, SimilarityCosine)
        )
        same(evaluate(own, z1, z2, index), evaluate(known, z1, z2, index), rtol=1e-12, atol=1e-14)
        assert own.temperature_now == pytest.approx(known.temperature_now, rel=1e-12)


class NotANumber(OfTime):
    """A schedule with a parameter in it, which would not be learned."""

    def __init__(self) -> None:
        super().__init__()
        self.start = parameter(0.3)

    def at(self, epoch: float) -> float:
        return self.start * (1 + epoch)  # type: ignore[return-value]


@pytest.mark.parametrize("name", [n for n in SURROGATES if "sample" in registry.LOSSES[n].takes])
@pytest.mark.parametrize("own", ["per batch", "per anchor"])
def test_losses_that_hold_the_temperature_constant_refuse_one_that_is_not(name, own) -> None:
    loss = registry.LOSSES[name].build(OWN[own](), 5)
    before = copy.deepcopy(loss.state_dict())
    with pytest.raises(TypeError, match="temperature must not require a gradient here"):
        loss(*batch(4))
    same(loss.state_dict(), before, rtol=0, atol=0)


def test_a_function_of_the_similarity_in_disguise_is_refused_too() -> None:
    class Disguised(Temperature):
        def forward(self, similarity: Tensor, index: Tensor | None = None) -> Tensor:
            return 0.3 + 0.1 * similarity.square()

    for loss in (SogCLR(registry.SIZE, Disguised()), BimodalSogCLR(registry.SIZE, Disguised())):
        with pytest.raises(TypeError, match="temperature must not require a gradient here"):
            loss(*batch(4))


def test_parameters_where_a_number_must_stand_are_refused() -> None:
    for call in (
        lambda: NTXent(NotANumber())(*batch(4)),
        lambda: Cosine(parameter(0.1), 1.0, 10),  # type: ignore[arg-type]
        lambda: Linear(0.1, parameter(0.5), 10),  # type: ignore[arg-type]
        lambda: PerClass(torch.ones(4).requires_grad_(), registry.LABELS),
        lambda: SogCLR(9, gamma=parameter(0.5)),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=r"must (be a number|not require a gradient)"):
            call()


# ---------------------------------------------------------------------------- second derivatives


def hessian_product(loss: Callable[..., Tensor], z: Tensor, v: Tensor, *others: Any) -> Tensor:
    z = z.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(z, *others), z, create_graph=True)
    (product,) = torch.autograd.grad((slope * v).sum(), z)
    return product


def is_smooth(case: tuple[str, str]) -> bool:
    """Tell whether the gradient is the derivative of the value: differences may check it."""
    temperature = registry.temperature(case[1]) if case[1] != registry.OWN else Constant(1)
    held = getattr(temperature, "detach", False) or temperature.depends_on in ("batch", "embedding")
    return case[0] not in HELD and not held


@pytest.mark.parametrize("case", [case for case in registry.CASES if is_smooth(case)], ids=str)
@pytest.mark.parametrize("block", [1, 1 << 19])
def test_second_derivatives_are_right(case, block, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hessian-vector product, as gradient penalties need it, against differences of gradients."""
    monkeypatch.setattr(pairs, "BLOCK", block)  # 1: from one triangle, where that is possible
    z1, z2, index = batch(4)
    loss = build(*case).double().eval()
    v = torch.randn(z1.shape, generator=torch.Generator().manual_seed(5), dtype=z1.dtype)
    _, above, _ = evaluate(loss, z1 + 1e-6 * v, z2, index)
    _, below, _ = evaluate(loss, z1 - 1e-6 * v, z2, index)
    product = hessian_product(loss, z1, v, z2, index)
    same(product, (above - below) / 2e-6, rtol=1e-4, atol=1e-6)
    assert product.norm() > 1e-3


@pytest.mark.parametrize("name", FORMULAS)
def test_second_derivatives_equal_those_of_the_formula(name: str) -> None:
    """Also where something is held constant."""
    z1, z2, index = batch(4)
    for temperature in ("SimilarityCosine", "Constant") if name != "MACL" else (registry.OWN,):
        loss = build(name, temperature).double()

        def formula(z1: Tensor, z2: Tensor, index: Tensor, loss: PairLoss = loss) -> Tensor:
            similarity, positives, itself = pair_similarities(z1, z2)
            loss.temperature.observe(similarity.detach()[torch.arange(8), positives])
            tau = loss.temperature(similarity, torch.cat([index, index]))
            return FORMULAS[name](similarity, positives, tau, itself).mean()

        v = torch.randn(z1.shape, generator=torch.Generator().manual_seed(5), dtype=z1.dtype)
        expected = hessian_product(formula, z1, v, z2, index)
        same(hessian_product(loss, z1, v, z2, index), expected, rtol=1e-9, atol=1e-13)


def test_second_derivatives_of_a_learned_temperature() -> None:
    z1, z2, _ = batch(4)
    tau = parameter(0.3)
    z1.requires_grad_()

    def slope(value: float) -> Tensor:
        with torch.no_grad():
            tau.fill_(value)
        return torch.autograd.grad(NTXent(tau)(z1, z2), tau, create_graph=True)[0]

    mixed, twice = torch.autograd.grad(slope(0.3), (z1, tau))
    difference = (slope(0.3 + 1e-6) - slope(0.3 - 1e-6)) / 2e-6
    same(twice, difference.detach(), rtol=1e-6, atol=0)
    step = 1e-6 * mixed.detach() / mixed.norm()
    with torch.no_grad():
        z1.add_(step)
    above = slope(0.3)
    with torch.no_grad():
        z1.sub_(2 * step)
    same(mixed.norm(), ((above - slope(0.3)) / 2e-6).detach(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", SURROGATES)
def test_second_derivatives_of_a_surrogate_are_refused(name: str) -> None:
    z1, z2, index = batch(4)
    loss = build(name, FIRST[name])
    z1.requires_grad_()
    value = loss(z1, z2, index)
    with pytest.raises(RuntimeError, match=r"second derivatives .*robust_objective"):
        torch.autograd.grad(value, z1, create_graph=True)


# ------------------------------------------------------------------------- without a gradient


@pytest.mark.parametrize("case", registry.CASES, ids=str)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("training", [True, False])
def test_value_without_gradients(case: tuple[str, str], mode: Any, training: bool) -> None:
    """The same value, and a training that goes on as if the gradient had been asked for."""
    z1, z2, index = batch(4)
    silent, usual = (build(*case).double().train(training) for _ in range(2))
    with mode():
        value = silent(z1 + 0, z2 + 0, index)  # made here, as a validation step makes them
        now = silent.temperature_now
    expected, *_ = evaluate(usual, z1, z2, index)
    same(value.clone(), expected, rtol=0, atol=0)
    assert now == pytest.approx(usual.temperature_now, rel=0, nan_ok=True)
    later = batch(4, seed=1)
    same(evaluate(silent.train(), *later), evaluate(usual.train(), *later), rtol=0, atol=0)
    same(silent.state_dict(), usual.state_dict(), rtol=0, atol=0)


def test_slope_of_a_similarity_temperature_in_inference_mode() -> None:
    temperature = SimilarityCosine(0.1, 0.2, detach=False)
    similarity = torch.linspace(-1, 1, 9)
    expected = temperature.slope(similarity)
    with torch.inference_mode():
        same(temperature.slope(similarity + 0).clone(), expected)


# ------------------------------------------------------------------------------------------ MoCo


def test_moco_compares_first_and_enqueues_once() -> None:
    q1, k1, _ = batch(4, seed=0)
    q2, k2, _ = batch(4, seed=1)
    loss = build("MoCo", "Constant").double()
    fresh = copy.deepcopy(loss)
    both = loss.compare(q1, k2) + loss.compare(q2, k1)
    assert torch.equal(loss.queue, fresh.queue)
    same(both, copy.deepcopy(fresh)(q1, k2) + copy.deepcopy(fresh)(q2, k1))
    loss.enqueue(k2)
    fresh(q1, k2)
    same(loss.state_dict(), fresh.state_dict())
    # Calling it twice instead is another loss: the keys of this batch are among the negatives.
    assert fresh(q2, k1) > loss.compare(q2, k1) - 1
    k = nn.functional.normalize(k2, dim=1)
    assert (fresh.queue[:4] - k).abs().max() < 1e-12


def test_moco_refuses_keys_that_do_not_fit() -> None:
    loss = MoCo(0.1, 5, 6)
    for keys, words in (
        (torch.ones(2, 4), "keys must have 5 columns, got 4"),
        (torch.ones(7, 5), "keys must fit the queue of 6 keys, got 7 rows"),
        (torch.zeros(2, 5), "keys must not contain zero rows"),
    ):
        with pytest.raises(ValueError, match=words):
            loss.enqueue(keys)


# ------------------------------------------------------------------------------- index and labels


KINDS: dict[str, Callable[[Tensor], Any]] = {
    "int32": lambda index: index.int(),
    "uint8": lambda index: index.to(torch.uint8),
    "an array": lambda index: index.numpy(),
    "a small array": lambda index: index.numpy().astype(np.int16),
    "a list": lambda index: index.tolist(),
    "a tuple": lambda index: tuple(index.tolist()),
    "a column": lambda index: index[:, None],
    "a list of arrays": lambda index: list(index.numpy()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "case", [("NTXent", "PerClass"), ("CLIP", "PerClass"), *((n, FIRST[n]) for n in SURROGATES)]
)
def test_index_as_people_have_it(case: tuple[str, str], kind: str) -> None:
    z1, z2, index = batch(4)
    expected = evaluate(build(*case), z1, z2, index)
    same(evaluate(build(*case), z1, z2, KINDS[kind](index)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_as_people_have_them(kind: str) -> None:
    labels = registry.LABELS
    given = KINDS[kind](labels)
    assert torch.equal(PerClass([1, 2, 3, 4], given).tau, PerClass([1, 2, 3, 4], labels).tau)
    z = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(0))
    assert metrics.tolerance(z, given) == metrics.tolerance(z, labels)
    assert metrics.knn_accuracy(z, given, z, given, 3) == metrics.knn_accuracy(
        z, labels, z, labels, 3
    )
    groups = KINDS[kind](torch.tensor([0, 0, 1, 1]))
    assert torch.equal(
        metrics.group_accuracy(given, given, groups), torch.ones(2, dtype=torch.float64)
    )


def test_index_goes_to_the_device_of_what_it_indexes() -> None:
    index = checks.index(torch.arange(3, dtype=torch.int32), 3, None, torch.device("meta"))
    assert index.device.type == "meta"
    assert index.dtype == torch.int64


@pytest.mark.parametrize("case", [case for case in registry.CASES if build(*case).needs_index])
def test_samples_drawn_with_replacement(case: tuple[str, str]) -> None:
    """Repeated where nothing is remembered of a sample, or nothing now; refused elsewhere."""
    z1, z2, _ = batch(4)
    index, loss = torch.tensor([2, 5, 2, 5]), build(*case)
    assert loss.eval()(z1, z2, index).isfinite()
    if case[0] not in SURROGATES:
        assert loss.train()(z1, z2, index).isfinite()
        return
    before = copy.deepcopy(loss.state_dict())
    with pytest.raises(ValueError, match=r"index must not repeat a sample .*drop_last=True"):
        loss.train()(z1, z2, index)
    same(loss.state_dict(), before, rtol=0, atol=0)


# ------------------------------------------------------------------------------------------ epoch


TIMED: dict[str, Callable[[], nn.Module]] = {
    "loss": lambda: NTXent(Cosine(0.1, 1.0, 10)),
    "bound": lambda: NTXent(SimilarityCosine(Linear(0.1, 0.2, 10), 0.3)),
    "gamma": lambda: SogCLR(registry.SIZE, Random(0.1, 0.5), HalfCosine(1.0, 0.2, 10)),
    "both sides": lambda: BimodalSogCLR(registry.SIZE, Cosine(0.1, 0.3, 10)),
    "official": lambda: ISogCLR(registry.SIZE, variant="official"),
    "temperature alone": lambda: Cosine(0.1, 1.0, 10),
}


@pytest.mark.parametrize("name", TIMED)
def test_the_epoch_is_in_the_state(name: str, tmp_path: Any) -> None:
    one, other = TIMED[name](), TIMED[name]()
    one.set_epoch(5)
    torch.save(one.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    epochs = [module.epoch for module in other.modules() if hasattr(module, "epoch")]
    assert epochs == [5.0] * len(epochs)
    if name == "temperature alone":
        assert other(torch.zeros(1)).item() == pytest.approx(0.1)
    else:
        same(other(*batch(4)), one(*batch(4)), rtol=0, atol=0)


@pytest.mark.parametrize("name", TIMED)
def test_states_from_before_the_epoch_was_in_them_load(name: str) -> None:
    one, other = TIMED[name](), TIMED[name]()
    old = {key: value for key, value in one.state_dict().items() if "_extra_state" not in key}
    other.set_epoch(3)
    assert other.load_state_dict(old).missing_keys == []
    assert other.epoch == 3
    with pytest.raises(RuntimeError, match="Unexpected key"):
        other.load_state_dict(old | {"more": torch.zeros(())})


# ------------------------------------------------------------------ compiling, and cheap checks


COMPILED = {
    **{f"{name}, learned": (name, "Constant, learned") for name in ("DCL, split", "CyCLIP")},
    "NTXent, time": ("NTXent", "Cosine"),
    "DCL, random in time": ("DCL, joint", "Random"),
    "NTXent, similarity": ("NTXent", "SimilarityCosine, full"),
    "CLIP, moving bound": ("CLIP", "SimilarityCosine, nested"),
    "NTXent, sample": ("NTXent", "PerClass"),
    "DCL, batch": ("DCL, joint", "Alignment"),
    "MoCo": ("MoCo", "HalfCosine"),
    "MACL": ("MACL", registry.OWN),
}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_losses_are_one_graph_and_right(name: str) -> None:
    """Whatever the epoch: a new temperature is no reason to compile again."""
    torch._dynamo.reset()
    loss, expected = (build(*COMPILED[name]).double() for _ in range(2))
    counter = CompileCounter()
    compiled = torch.compile(loss, backend=counter, fullgraph=True)
    for epoch in range(4):
        loss.set_epoch(epoch)
        expected.set_epoch(epoch)
        z1, z2, index = batch(4, seed=epoch)
        with checks.disabled():
            measured = evaluate(compiled, z1, z2, index)
        same(measured, evaluate(expected, z1, z2, index), rtol=1e-9, atol=1e-13)
        assert loss.temperature_now == pytest.approx(expected.temperature_now)
    for one, other in zip(loss.parameters(), expected.parameters(), strict=True):
        same(one.grad, other.grad)
    same(loss.state_dict(), expected.state_dict())
    assert counter.frame_count <= 2  # the second one learns that the epoch changes


def test_checks_of_values_can_be_left_out() -> None:
    z1, z2, index = batch(4)
    bad = z1 * math.nan
    loss = NTXent(0.1)
    with checks.disabled():
        assert loss(bad, z2).isnan()
        same(loss(z1, z2), NTXent(0.1)(z1, z2), rtol=0, atol=0)
        with pytest.raises(ValueError, match="z1 and z2 must have the same shape"):
            loss(z1, z2[:3])  # shapes are known without looking
        with pytest.raises(TypeError, match="index must be an int64 tensor"):
            SogCLR(registry.SIZE)(z1, z2, index.double())
    with pytest.raises(ValueError, match="z1 must be finite"):
        loss(bad, z2)
    with pytest.raises(KeyError), checks.disabled():
        raise KeyError
    assert checks.enabled()


READS = ("item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__")


@pytest.mark.parametrize("case", registry.CASES, ids=str)
def test_without_checks_no_value_is_read_on_the_host(
    case: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a GPU need not wait."""
    loss, (z1, z2, index) = build(*case).double(), batch(4)
    z1.requires_grad_()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a value was read")

    with checks.disabled(), monkeypatch.context() as patch:
        for read in READS:
            patch.setattr(Tensor, read, refuse)
        loss(z1, z2, index).backward()
    assert z1.grad is not None


# -------------------------------------------------------------------- computed a second time


REMEMBERING = ["MoCo", *SURROGATES]


@pytest.mark.parametrize("name", REMEMBERING)
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_loss_that_remembers_is_not_computed_twice(name: str, reentrant: bool) -> None:
    z1, z2, index = batch(4)
    z1.requires_grad_()
    loss, once = (build(name, FIRST[name]).double() for _ in range(2))
    value = checkpoint(loss, z1, z2, index, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match=r"call it outside of torch\.utils\.checkpoint"):
        value.backward()
    once(z1, z2, index)
    same(loss.state_dict(), once.state_dict())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reentrant", [True, False])
def test_losses_that_do_not_remember_may_be_computed_twice(name: str, reentrant: bool) -> None:
    loss = build(name, FIRST[name]).double().eval()
    expected = evaluate(loss, *batch(4))

    def inside(z1: Tensor, z2: Tensor, index: Tensor) -> Tensor:
        return checkpoint(loss, z1, z2, index, use_reentrant=reentrant)

    same(evaluate(inside, *batch(4)), expected)
    if name not in REMEMBERING:
        loss.train()
        same(evaluate(inside, *batch(4)), expected)


# --------------------------------------------------------------------------------------- relations


def test_relations_that_the_docstrings_state() -> None:
    z1, z2, index = batch(5)
    similarity, positives, itself = pair_similarities(z1, z2)
    apart = decoupled(similarity, positives, 0.3, itself)
    same(info_nce(similarity, positives, 0.3, itself), nn.functional.softplus(apart))
    _, *pull = evaluate(SogCLR(registry.SIZE, 0.3, gamma=1.0), z1, z2, index)
    _, *decoupled_pull = evaluate(losses.DCL(0.3), z1, z2, index)
    same(pull, [2 * 0.3 * each for each in decoupled_pull])
    same(losses.CyCLIP(0.3, 0, 0)(z1, z2), CLIP(0.3)(z1, z2))
    queue = MoCo(0.3, 5, 4).double()
    rows = torch.nn.functional.normalize(z2, dim=1)
    for i in range(5):  # a query at a time, the other rows in the queue
        queue.queue = torch.cat([rows[:i], rows[i + 1 :]])
        cross = nn.functional.normalize(z1, dim=1) @ rows.T
        expected = info_nce(cross[i : i + 1], torch.tensor([i]), 0.3)
        same(
            queue.eval().from_unit(nn.functional.normalize(z1[i : i + 1]), rows[i : i + 1]),
            expected[0],
        )


@pytest.mark.parametrize("name", losses.__all__)
def test_every_loss_states_its_relations(name: str) -> None:
    assert "*Relations.*" in (getattr(losses, name).__doc__ or "")


def test_every_public_loss_was_built() -> None:
    assert {name.split(",")[0] for name in NAMES} == set(losses.__all__)
    assert {MACL, CLIP} <= {type(build(*case)) for case in registry.CASES}
