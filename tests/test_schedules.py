"""The temperatures: values by hand, bounds, what they look at, what they remember."""

from __future__ import annotations

import math

import pytest
import registry
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dytemp import losses
from dytemp.schedules import (
    Alignment,
    Constant,
    Cosine,
    HalfCosine,
    Individual,
    InvertedSimilarityCosine,
    Linear,
    OfSimilarity,
    OfTime,
    PerClass,
    Random,
    ShiftedSimilarityCosine,
    SimilarityCosine,
    SimilarityExponential,
    SimilarityLinear,
    Step,
    Temperature,
    Timed,
    Triangle,
    as_temperature,
)

TIMES = [n for n in registry.TEMPERATURES if isinstance(registry.temperature(n), OfTime)]
SIMILARITIES = [
    n for n in registry.TEMPERATURES if isinstance(registry.temperature(n), OfSimilarity)
]
BOUNDED = [n for n in registry.TEMPERATURES if n != "PositiveDistance"]  # it is what the data are
GRID = torch.linspace(-1, 1, 401, dtype=torch.float64)
INDEX = torch.tensor([5, 0, 2])
ANCHORS = torch.eye(3, 5, dtype=torch.float64)

taus = st.floats(0.005, 2.0)
epochs = st.floats(0, 1e4)


def similarities(rows: int = 3, columns: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.rand(rows, columns, generator=generator, dtype=torch.float64) - 1).to(dtype)


# ------------------------------------------------------------------------------ all temperatures


def look(temperature: Temperature, similarity: Tensor) -> Tensor:
    """Return the temperatures of the three anchors `INDEX`, as a loss asks for them."""
    temperature.observe(similarity[:, 0])
    temperature.see(ANCHORS)
    return temperature(similarity, INDEX).detach().expand(similarity.shape)


@pytest.mark.parametrize("name", BOUNDED)
@settings(max_examples=30)
@given(low=taus, factor=st.floats(1, 20), epoch=epochs, seed=st.integers(0, 99))
def test_temperature_stays_within_its_bounds(name, low, factor, epoch, seed) -> None:
    high = low * factor
    temperature = registry.TEMPERATURES[name](low, high)
    temperature.set_epoch(epoch)
    generator = torch.Generator().manual_seed(seed)
    similarity = 2 * torch.rand(3, 4, generator=generator, dtype=torch.float64) - 1
    similarity[0, :3] = torch.tensor([-1.0, 0.0, 1.0])
    tau = look(temperature, similarity)
    assert ((low - 1e-12 <= tau) & (tau <= high + 1e-12)).all()


@pytest.mark.parametrize("name", BOUNDED)
@settings(max_examples=30)
@given(tau=taus, epoch=epochs)
def test_equal_bounds_are_the_constant_temperature(name, tau, epoch) -> None:
    temperature = registry.TEMPERATURES[name](tau, tau)
    temperature.set_epoch(epoch)
    similarity = similarities()
    torch.testing.assert_close(
        look(temperature, similarity), torch.full_like(similarity, tau), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("name", registry.TEMPERATURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_temperature_broadcasts_and_keeps_the_precision(name: str, dtype: torch.dtype) -> None:
    temperature, similarity = registry.temperature(name), similarities(dtype=dtype)
    temperature.observe(similarity[:, 0])
    temperature.see(ANCHORS)
    logits = similarity / temperature(similarity, INDEX)
    assert logits.shape == similarity.shape
    assert logits.dtype == dtype
    wide, narrow = look(temperature, similarities()), look(temperature, similarity)
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", registry.TEMPERATURES)
def test_slope_of_the_logit_is_its_derivative(name: str) -> None:
    temperature = registry.temperature(name)
    similarity = similarities().requires_grad_()
    temperature.observe(similarity.detach()[:, 0])
    temperature.see(ANCHORS)
    tau = temperature(similarity, INDEX)
    (slope,) = torch.autograd.grad((similarity / tau).sum(), similarity)
    written = temperature.logit_slope(similarity.detach(), tau.detach()).expand(3, 6)
    torch.testing.assert_close(written, slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", registry.TEMPERATURES)
def test_state_of_a_temperature_survives_a_round_trip(name: str) -> None:
    one, other = registry.temperature(name, 0.1, 0.7), registry.temperature(name, 0.2, 0.3)
    state = one.state_dict()
    other.load_state_dict(state)
    tensors = {name for name, _ in (*one.named_buffers(), *one.named_parameters())}
    epochs_ = {name for name in state if name.endswith("_extra_state")}
    assert set(state) == tensors | epochs_
    assert len(epochs_) == sum(isinstance(module, Timed) for module in one.modules())
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key])


def test_numbers_tensors_and_temperatures_are_temperatures() -> None:
    given = Cosine(0.1, 1.0, 400)
    assert as_temperature(given) is given
    assert as_temperature(0.2).at(0) == 0.2
    learned = nn.Parameter(torch.tensor(0.25))
    assert as_temperature(learned)(similarities()) is learned


@pytest.mark.parametrize("name", registry.TEMPERATURES)
def test_every_temperature_names_itself(name: str) -> None:
    assert repr(registry.temperature(name)).startswith(name.split(",")[0] + "(")


# ------------------------------------------------------------------------------------------ time


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("epoch", [0, 1, 7, 7.25, 399])
def test_time_schedules_return_plain_floats_and_follow_the_epoch(name: str, epoch: float) -> None:
    temperature = registry.TEMPERATURES[name](0.1, 1.0)
    temperature.set_epoch(epoch)
    assert type(temperature.at(epoch)) is float
    assert temperature(similarities()).item() == temperature.at(epoch)
    assert temperature(similarities()).ndim == 0


@pytest.mark.parametrize(
    ("schedule", "at_quarter", "at_half", "at_three_quarters"),
    [(Cosine, 0.55, 0.1, 0.55), (Triangle, 0.55, 0.1, 0.55), (Step, 1.0, 1.0, 0.1)],
)
@pytest.mark.parametrize("period", [1, 3.5, 400])
def test_periodic_schedules_by_hand(
    schedule, period, at_quarter, at_half, at_three_quarters
) -> None:
    at = schedule(0.1, 1.0, period).at
    values = [at(period * part) for part in (0, 1 / 4, 1 / 2, 3 / 4, 1, 2)]
    assert values == pytest.approx([1.0, at_quarter, at_half, at_three_quarters, 1.0, 1.0])


@pytest.mark.parametrize("schedule", [Cosine, Triangle, Step])
@settings(max_examples=30)
@given(period=st.integers(1, 1000), epoch=st.integers(0, 5000), periods=st.integers(0, 50))
def test_periodic_schedules_repeat(schedule, period, epoch, periods) -> None:
    at = schedule(0.1, 1.0, period).at
    assert at(epoch + periods * period) == pytest.approx(at(epoch), rel=1e-12)


@pytest.mark.parametrize("schedule", [Cosine, Triangle])
def test_periodic_schedules_fall_then_rise(schedule) -> None:
    values = [schedule(0.1, 1.0, 40).at(epoch) for epoch in range(41)]
    assert values[:21] == sorted(values[:21], reverse=True)
    assert values[20:] == sorted(values[20:])
    assert values == pytest.approx(values[::-1])


def test_step_jumps_just_after_the_half() -> None:
    at = Step(0.1, 1.0, 400).at
    assert [at(0), at(200), at(200.5), at(201), at(399), at(400)] == [1, 1, 0.1, 0.1, 0.1, 1]


def test_random_is_one_draw_an_epoch_whatever_the_order() -> None:
    forwards, backwards = Random(0.1, 0.5, seed=3), Random(0.1, 0.5, seed=3)
    values = [forwards.at(epoch) for epoch in range(400)]
    assert values == [backwards.at(epoch) for epoch in reversed(range(400))][::-1]
    assert forwards.at(7.9) == values[7]
    assert len(set(values)) == 400
    assert values != [Random(0.1, 0.5, seed=4).at(epoch) for epoch in range(400)]
    counts = torch.tensor(values).histc(bins=4, min=0.1, max=0.5)
    assert (counts > 70).all()  # 100 each are expected: four standard deviations are 35


def test_random_leaves_the_global_generators_alone() -> None:
    before = torch.random.get_rng_state()
    Random(0.1, 0.5).at(3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_linear_goes_straight_and_stays_at_its_end() -> None:
    at = Linear(0.1, 0.2, epochs=200).at
    assert [at(0), at(50), at(200), at(1e6)] == pytest.approx([0.1, 0.125, 0.2, 0.2])
    assert Linear(0.2, 0.1, epochs=4).at(1) == pytest.approx(0.175)  # downwards too


def test_half_cosine_by_hand() -> None:
    at = HalfCosine(1.0, 0.2, epochs=18).at
    values = [at(0), at(6), at(9), at(12), at(18), at(1e6)]
    assert values == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert HalfCosine(0.1, 0.5, epochs=3).at(1) == pytest.approx(0.2)  # upwards too
    assert values[0] == 1  # a weight of the newest batch must not exceed it
    assert HalfCosine(1.0, 1.0, epochs=3).at(2) == 1


def test_learned_constant_is_a_parameter_and_connected() -> None:
    tau = nn.Parameter(torch.tensor(0.2))
    constant = Constant(tau)
    assert list(constant.parameters()) == [tau]
    (similarities() / constant(similarities())).sum().backward()
    assert tau.grad != 0
    with torch.no_grad():
        tau.fill_(0.3)
    assert constant.at(0) == pytest.approx(0.3)


# ------------------------------------------------------------------------------------ similarity


@pytest.mark.parametrize(
    ("temperature", "values"),
    [
        (SimilarityCosine(0.1, 0.2), [0.2, 0.15, 0.1, 0.15, 0.2]),
        (InvertedSimilarityCosine(0.1, 0.2), [0.1, 0.15, 0.2, 0.15, 0.1]),
        (SimilarityLinear(0.1, 0.2), [0.2, 0.15, 0.1, 0.15, 0.2]),
        (
            SimilarityExponential(0.1, 0.2, rate=2.0),
            [0.2 - 0.1 * math.exp(-2 * s) for s in (1, 0.5, 0, 0.5, 1)],
        ),
        (
            ShiftedSimilarityCosine(0.1, 0.2),  # tau_max from 0.4 on, its minimum at -0.3
            [
                0.2,
                0.1 + 0.05 * (1 - math.cos(2 / 7 * math.pi)),
                0.1 + 0.05 * (1 + math.cos(4 / 7 * math.pi)),
                0.2,
                0.2,
            ],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_similarity_temperatures_by_hand(temperature: OfSimilarity, values: list[float]) -> None:
    similarity = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)
    assert temperature.at(similarity).tolist() == pytest.approx(values)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarity_temperatures_are_elementwise(name: str) -> None:
    temperature, similarity = registry.temperature(name), similarities()
    whole = temperature.at(similarity)
    assert whole.shape == similarity.shape
    alone = torch.stack([temperature.at(s) for s in similarity.flatten()])
    torch.testing.assert_close(alone, whole.flatten())


@pytest.mark.parametrize("schedule", [SimilarityCosine, SimilarityLinear, SimilarityExponential])
def test_even_shapes_rise_with_the_size_of_the_similarity(schedule) -> None:
    tau = schedule(0.1, 0.2).at(GRID)
    torch.testing.assert_close(tau, tau.flip(0))
    assert (tau[200:].diff() > 0).all()
    assert tau[200] == pytest.approx(0.1)


def test_shifted_cosine_is_smooth_where_its_parts_meet() -> None:
    temperature = ShiftedSimilarityCosine(0.1, 0.2, shift=-0.4, width=0.7)
    around = torch.tensor([0.4 - 1e-6, 0.4, 0.4 + 1e-6], dtype=torch.float64)
    assert temperature.at(around).tolist() == pytest.approx([0.2, 0.2, 0.2], abs=1e-11)
    assert temperature.slope(around).abs().max() < 1e-5
    assert GRID[temperature.at(GRID).argmin()] == pytest.approx(-0.3)
    # With a shift to the other side it only falls towards -1: the 'cosconst' rule.
    tau = ShiftedSimilarityCosine(0.1, 0.2, shift=0.2, width=0.8).at(GRID)
    assert (tau.diff() >= 0).all()
    assert [tau[0], tau[-1]] == pytest.approx([0.1, 0.2])
    # Moved so far that all similarities lie on its rising part: a cosine from -1 to 1.
    tau = ShiftedSimilarityCosine(0.1, 0.2, shift=-1.0, width=2.0).at(GRID)
    assert (tau.diff() > 0).all()
    assert [tau[0], tau[-1]] == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize("name", SIMILARITIES)
def test_detached_or_not(name: str) -> None:
    temperature = registry.temperature(name)
    similarity = similarities().requires_grad_()
    assert temperature(similarity).requires_grad == (not temperature.detach)
    assert temperature.detach == ("full" not in name)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_slope_of_the_temperature_is_its_finite_difference(name: str) -> None:
    temperature, similarity, step = registry.temperature(name), similarities(), 1e-6
    difference = temperature.at(similarity + step) - temperature.at(similarity - step)
    torch.testing.assert_close(
        temperature.slope(similarity), difference / (2 * step), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize(
    ("low", "least", "where"), [(0.1, 0.45673, 0.5784), (0.07, 0.23569, 0.5437)]
)
def test_how_far_the_full_gradient_of_dystress_goes_below_the_detached(low, least, where) -> None:
    temperature = SimilarityCosine(low, 0.2, detach=False)
    tau = temperature.at(GRID)
    factor = temperature.logit_slope(GRID, tau) * tau  # 1 - s tau' / tau
    assert factor[[0, 200, 400]].tolist() == pytest.approx([1, 1, 1])
    assert factor.min() == pytest.approx(least, abs=1e-4)
    assert GRID[factor.argmin()].abs() == pytest.approx(where, abs=5e-3)


def test_mean_temperature_of_independent_directions() -> None:
    """For s ~ N(0, 1/D): E tau = (tau_min + tau_max)/2 - (tau_max - tau_min)/2 exp(-pi^2/2D)."""
    quantiles = (torch.arange(100001, dtype=torch.float64) + 0.5) / 100001
    mean = SimilarityCosine(0.1, 0.2).at(torch.special.ndtri(quantiles) / math.sqrt(128)).mean()
    assert mean == pytest.approx(0.15 - 0.05 * math.exp(-(math.pi**2) / 256), rel=1e-6)
    assert mean == pytest.approx(0.10189, abs=5e-6)


def test_bounds_may_be_schedules() -> None:
    """The 'stabilised' rule: the lower bound moves to the upper one."""
    temperature = SimilarityCosine(Linear(0.1, 0.2, epochs=100), 0.2)
    for epoch, low in ((0, 0.1), (50, 0.15), (100, 0.2), (150, 0.2)):
        temperature.set_epoch(epoch)
        assert temperature.bounds() == pytest.approx((low, 0.2))
        fixed = SimilarityCosine(low, 0.2)
        torch.testing.assert_close(temperature(GRID), fixed(GRID))


def test_bounds_that_cross_later_are_refused_then() -> None:
    temperature = SimilarityCosine(Linear(0.1, 0.3, epochs=10), 0.2)
    temperature.set_epoch(5)
    assert temperature(GRID).max() == pytest.approx(0.2)
    temperature.set_epoch(6)
    with pytest.raises(ValueError, match="tau_min <= tau_max"):
        temperature(GRID)


# ------------------------------------------------------------------------------- sample and batch


def test_per_class_looks_up_the_class_of_the_anchor() -> None:
    labels = torch.tensor([0, 2, 1, 1, 0, 2])
    temperature = PerClass([1.0, 0.1, 0.5], labels)
    tau = temperature(similarities(), INDEX)
    assert tau.shape == (3, 1)
    assert tau.flatten().tolist() == [0.5, 1.0, 0.1]
    assert torch.equal(
        PerClass(torch.tensor([1.0, 0.1, 0.5]), labels).tau.float(), temperature.tau.float()
    )


def test_individual_starts_alike_and_looks_up_the_anchor() -> None:
    temperature = Individual(6, tau_init=0.2, tau_min=0.1, tau_max=0.5)
    assert temperature.tau.dtype == torch.float64
    assert temperature(similarities(), INDEX).flatten().tolist() == [0.2] * 3
    temperature.tau[2] = 0.4
    assert temperature(similarities(), INDEX).flatten().tolist() == [0.2, 0.2, 0.4]


def test_descent_by_hand() -> None:
    temperature = Individual(6, 0.3, 0.1, 0.5, eta=0.1, beta=0.25, clip=2.0)
    temperature.descend(INDEX, torch.tensor([1.0, -4.0, 0.4]))  # samples 5, 0 and 2
    momentum = [-0.5, 0, 0.1, 0, 0, 0.25]
    assert temperature.momentum.tolist() == pytest.approx(momentum)
    assert temperature.tau.tolist() == pytest.approx([0.3 - 0.1 * m for m in momentum])
    temperature.descend(INDEX, torch.zeros(3))
    assert temperature.momentum.tolist() == pytest.approx([0.75 * m for m in momentum])


def test_descent_without_clip_ends_at_the_bounds() -> None:
    temperature = Individual(6, 0.3, 0.1, 0.5, eta=1.0, beta=1.0, clip=None)
    temperature.descend(INDEX, torch.tensor([1e9, -1e9, 0.0]))
    assert temperature.tau.tolist() == [0.5, 0.3, 0.3, 0.3, 0.3, 0.1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_per_sample_can_be_of_either_precision(dtype: torch.dtype) -> None:
    temperature = Individual(6, 0.3, 0.1, 0.5).to(dtype)
    temperature.descend(INDEX, torch.ones(3))
    assert temperature.tau.dtype == temperature.momentum.dtype == dtype
    assert temperature(similarities(), INDEX).dtype == torch.float64


def test_alignment_follows_the_positives() -> None:
    temperature = Alignment(0.1, alpha=0.5, a0=0.2)
    positives = torch.tensor([0.9, 0.3, 0.6])
    temperature.observe(positives)
    expected = 0.1 * (1 + 0.5 * (0.6 - 0.2))
    assert temperature(similarities()).item() == pytest.approx(expected)
    assert temperature.at(0.6) == pytest.approx(expected)
    temperature.observe(positives - 0.3)
    assert temperature(similarities()).item() == pytest.approx(expected - 0.015)


def test_time_reaches_what_lies_in_a_list_of_modules() -> None:
    class Mean(OfTime):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([Cosine(0.1, 1.0, 20)])

        def at(self, epoch: float) -> float:
            return float(self.parts[0].at(epoch))

    loss = losses.NTXent(Mean())
    loss.set_epoch(5)
    assert loss.temperature.parts[0].epoch == 5
