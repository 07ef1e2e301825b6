"""What the rules that came after the three papers are in their limits, and where they break."""

from __future__ import annotations

import math

import pytest
import registry
import torch
from hypothesis import given
from hypothesis import strategies as st
from registry import batch, evaluate
from torch import Tensor
from torch.nn import functional as F

from dytemp.losses import (
    CLIP,
    DCL,
    DCLW,
    MACL,
    BimodalISogCLR,
    BimodalRGCL,
    BimodalSogCLR,
    DualTemperature,
    HardNegative,
    NTXent,
    SigLIP,
    Spectral,
    TwoConstants,
)
from dytemp.losses.infonce import info_nce
from dytemp.losses.sogclr import robust_objective
from dytemp.schedules import (
    Alignment,
    Individual,
    LogScale,
    PositiveDistance,
    SimilarityRoot,
    TemperatureNetwork,
)

same = torch.testing.assert_close
SIZE = registry.SIZE


def cross_hardness(z1: Tensor, z2: Tensor) -> Tensor:
    """Return h of the images and of the texts, (2, B, B - 1)."""
    similarity = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T
    negatives = ~torch.eye(len(z1), dtype=torch.bool)
    sides = [s - s.diagonal()[:, None] for s in (similarity, similarity.T)]
    return torch.stack([h[negatives].view(len(h), -1) for h in sides])


def kl_to_uniform(h: Tensor, tau: Tensor) -> Tensor:
    log_p = (h / tau[..., None]).log_softmax(dim=-1)
    return math.log(h.shape[-1]) + (log_p.exp() * log_p).sum(dim=-1)


# ------------------------------------------------------------------------ a second temperature


def test_hard_negative_without_hardness_and_prior_is_nt_xent() -> None:
    z1, z2, _ = batch(6)
    for tau in (0.005, 0.1, 1.0):
        plain = evaluate(NTXent(tau), z1, z2, None)
        same(
            evaluate(HardNegative(tau, beta=0, prior=0), z1, z2, None), plain, rtol=1e-9, atol=1e-14
        )


def test_hard_negatives_weigh_more_as_beta_grows() -> None:
    """Up to the hardest alone, counted as often as there are negatives."""
    z1, z2, _ = batch(6)
    values = [HardNegative(0.2, beta, 0.0)(z1, z2).item() for beta in (0, 0.5, 1, 2, 5, 1e4)]
    assert values == sorted(values)
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    others = ~(torch.eye(12) + torch.eye(12).roll(6, 0)).bool()
    hardest = torch.where(others, z @ z.T, -1).amax(dim=1)
    positive = (z * z.roll(6, 0)).sum(dim=1)
    limit = F.softplus(math.log(10) + (hardest - positive) / 0.2).mean()
    assert values[-1] == pytest.approx(limit.item())


def test_anchors_on_the_floor_of_hard_negative_stop_learning() -> None:
    """A pair closer than all negatives, tau 0.1, prior 0.1: the loss is 1e-7 and teaches little."""
    z1, z2, _ = batch(8, 32)
    views = z1, z1 + 0.3 * (z2 - z1)
    _, stuck, _ = evaluate(HardNegative(0.1, 1.0, 0.1), *views, None)
    _, free, _ = evaluate(HardNegative(0.1, 1.0, 0.0), *views, None)
    assert stuck.norm() < 1e-4 * free.norm()


def test_dual_temperature_of_ratio_one_is_clip() -> None:
    z1, z2, _ = batch(6)
    for tau in (0.05, 0.1, 1.0):
        expected = evaluate(CLIP(tau), z1, z2, None)
        same(evaluate(DualTemperature(tau, 1.0), z1, z2, None), expected, rtol=1e-9, atol=1e-13)


def test_dual_temperature_of_a_large_ratio_weighs_as_macl_does() -> None:
    """1 - Q tends to (B - 1) / B."""
    z1, z2, _ = batch(6)
    similarity = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T
    rows = [info_nce(s, torch.arange(6), 0.1) for s in (similarity, similarity.T)]
    weighted = [(row / -torch.expm1(-row)).mean() * 5 / 6 for row in rows]
    same(DualTemperature(0.1, 1e9)(z1, z2), sum(weighted) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("tau", [0.05, 0.02, 0.005])
def test_dual_temperature_of_identical_views(tau: float, dtype: torch.dtype) -> None:
    """1 - softmax is 0 / 0 there; the limit is (1 - Q) times 1."""
    z = torch.eye(6, dtype=dtype)
    value, *gradients = evaluate(DualTemperature(tau, 10.0), z, z, None)
    share = 5 / (5 + math.exp(0.1 / tau))
    log_p = math.log1p(5 * math.exp(-1 / tau))
    wrong = -math.expm1(-log_p)
    assert value.item() == pytest.approx(share * log_p / wrong if wrong else share, rel=1e-5)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_weighted_positives_vanish_as_sigma_grows() -> None:
    z1, z2, _ = batch(6)
    expected = evaluate(DCL(0.2), z1, z2, None)
    same(evaluate(DCLW(0.2, sigma=1e8), z1, z2, None), expected, rtol=1e-6, atol=1e-8)
    equal = torch.eye(6, dtype=torch.float64)  # equal positives
    same(DCLW(0.2)(equal, equal), DCL(0.2)(equal, equal))
    far = evaluate(DCLW(0.2, sigma=0.05), z1, z2, None)
    assert not torch.allclose(far[0], expected[0], rtol=1e-3)


# ------------------------------------------------------------------------------ without a softmax


@given(scale=st.floats(0, 30), bias=st.floats(-20, 20), c=st.floats(-1, 1))
def test_siglip_of_constant_similarity(scale: float, bias: float, c: float) -> None:
    loss = SigLIP(1 / max(scale, 1e-3), bias)
    similarity = torch.full((5, 5), c, dtype=torch.float64)
    u, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)).double())
    x = c * max(scale, 1e-3) + bias
    value = loss.from_unit(u, similarity.T @ u)  # u @ second.T = similarity
    assert value.item() == pytest.approx(
        F.softplus(torch.tensor(-x)).item() + 4 * F.softplus(torch.tensor(x)).item(), rel=1e-5
    )


def test_siglip_learns_scale_and_bias_in_one_backward() -> None:
    z1, z2, _ = batch(6)
    loss = SigLIP(LogScale(0.1))
    assert {name for name, _ in loss.named_parameters()} == {"bias", "temperature.t"}
    before = loss(z1, z2)
    before.backward()
    torch.optim.SGD(loss.parameters(), lr=0.01).step()
    assert loss(z1, z2) < before
    shared = torch.nn.Parameter(torch.tensor(-3.0))
    assert SigLIP(0.1, shared).bias is shared


def test_spectral_of_orthogonal_pairs_is_minus_two() -> None:
    z = torch.eye(5, dtype=torch.float64)
    assert Spectral()(z, 3 * z).item() == pytest.approx(-2)
    assert Spectral(0.5)(z, z).item() == pytest.approx(-2)
    assert Spectral(4.0)(z, z).item() == pytest.approx(-0.5)
    # As the paper has it, the length counts: pairs of length 2 in a ball of radius 2.
    assert Spectral(4.0, normalise=False)(2 * z, 2 * z).item() == pytest.approx(-2)
    assert Spectral(4.0, normalise=False)(2 * z, 9 * z).item() == pytest.approx(-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_spectral_clips_lengths_of_any_size(dtype: torch.dtype, scale: float) -> None:
    z1, z2, _ = batch(6)
    z1, z2 = (scale * z1).to(dtype), (scale * z2).to(dtype)
    loss = Spectral(2.0, normalise=False)
    value, *gradients = evaluate(loss, z1, z2, None)
    wide = evaluate(loss, z1.double(), z2.double(), None)
    assert value.dtype == torch.float32
    same(value.double(), wide[0], rtol=1e-5, atol=1e-12)
    for narrow, exact in zip(gradients, wide[1:], strict=True):
        same(narrow.double() * scale, exact * scale, rtol=1e-2, atol=1e-5)


# ------------------------------------------------------------------------------- one temperature


def test_log_scale_steps_by_ratios_and_is_clamped() -> None:
    scale = LogScale(0.07, 0.01, 1.0)
    assert scale.at(3) == pytest.approx(0.07)
    with torch.no_grad():
        scale.t.add_(math.log(2))
        assert scale.at(0) == pytest.approx(0.035)
        for step, bound in ((9, 0.01), (-9, 1.0)):
            scale.t.add_(step)
            scale.clamp_()
            assert scale.at(0) == pytest.approx(bound)
    assert "tau=1" in repr(scale)


@pytest.mark.parametrize("pairs_", [5, 600])  # 600: computed from one triangle
def test_slope_of_the_log_scale_is_minus_tau_times_that_of_tau(pairs_: int) -> None:
    z1, z2, _ = batch(pairs_)
    scale, tau = LogScale(0.2), torch.nn.Parameter(torch.tensor(0.2, dtype=torch.float64))
    for loss in (NTXent, CLIP, DCL, HardNegative, SigLIP):
        scale.t.grad = tau.grad = None
        loss(scale)(z1, z2).backward()
        loss(tau)(z1, z2).backward()
        same(scale.t.grad, -0.2 * tau.grad)


def test_rgcl_is_half_of_bimodal_sogclr_for_the_encoder() -> None:
    """The mean over 2B anchors, where the other has the sum of two means."""
    rgcl, sogclr = BimodalRGCL(SIZE, 0.2, gamma=0.4, eps=0), BimodalSogCLR(SIZE, 0.2, gamma=0.4)
    for step in range(3):
        z1, z2, index = batch(5, seed=step)
        _, *half = evaluate(rgcl, z1, z2, index)
        _, *whole = evaluate(sogclr, z1, z2, index)
        same([2 * d for d in half], whole, rtol=1e-9, atol=1e-14)
        same(rgcl.image.log_average, sogclr.image.log_average)


def test_rgcl_is_its_objective_while_nothing_is_remembered() -> None:
    z1, z2, index = batch(5)
    tau = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def objective(z1: Tensor, z2: Tensor, index: Tensor) -> Tensor:
        return robust_objective(cross_hardness(z1, z2), tau.expand(2, 5), 0.5).mean()

    expected = [*evaluate(objective, z1, z2, index), tau.grad.clone()]
    tau.grad = None
    loss = BimodalRGCL(SIZE, tau, rho=0.5, gamma=1.0)
    same([*evaluate(loss, z1, z2, index), tau.grad], expected, rtol=1e-9, atol=1e-13)
    # The slope is rho minus the mean divergence, and the mean of iSogCLR's slopes.
    kl = kl_to_uniform(cross_hardness(z1, z2), torch.full((2, 5), 0.3, dtype=torch.float64))
    same(tau.grad, 0.5 - kl.mean())
    table = BimodalISogCLR(SIZE, 0.5, 0.3, 0.1, beta=1.0, gamma=1.0, clip=None)
    table(z1, z2, index)
    slopes = [side.temperature.momentum[index] for side in (table.image, table.text)]
    same(tau.grad, torch.stack(slopes).mean())


def aligned(pairs_: int = 16, dim: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Return the aligned batch of the golden file: a cosine of about 0.8 between partners."""
    z1, noise, index = batch(pairs_, dim)
    return z1, 0.8 * z1 + 0.6 * (noise - z1), index


def settle(variant: str, steps: int = 1500) -> float:
    z1, z2, index = aligned()
    loss = BimodalRGCL(SIZE, LogScale(0.3, 0.005, 100.0), 0.5, gamma=1.0, variant=variant)
    optimiser = torch.optim.SGD(loss.parameters(), lr=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(z1, z2, index).backward()
        optimiser.step()
        loss.temperature.clamp_()
    return loss.temperature.at(0)


def test_one_temperature_settles_where_the_mean_divergence_is_rho() -> None:
    z1, z2, _ = aligned()
    h = cross_hardness(z1, z2)
    tau = torch.full(h.shape[:2], settle("paper"), dtype=h.dtype)
    assert kl_to_uniform(h, tau).mean().item() == pytest.approx(0.5, abs=1e-4)


def test_the_released_gradient_lets_the_temperature_run_to_its_floor() -> None:
    """Counting the data term twice flips the sign on a batch whose positives are well aligned."""
    slopes = {}
    for variant in ("paper", "official"):
        loss = BimodalRGCL(SIZE, LogScale(0.3), 0.5, variant=variant)
        loss(*aligned()).backward()
        slopes[variant] = loss.temperature.t.grad.item()
    # Over 8 batches they differ by 0.46 with a deviation of 0.04, and tau settles at 0.013 (0.002)
    # and 0.313 (0.013).
    assert slopes["official"] < slopes["paper"]
    assert settle("official") < 0.05 < settle("paper")


@pytest.mark.parametrize(("eps", "alive"), [(0.0, True), (1e-14, False)])
def test_eps_switches_easy_anchors_off(eps: float, alive: bool) -> None:
    """Identical views: nothing is wrong with the order, and below tau 0.02 nothing is learned."""
    z, _, _ = batch(8, 32)
    index = torch.arange(8)
    norms = [
        evaluate(BimodalRGCL(SIZE, tau, eps=eps), z, z, index)[1].norm().item()
        for tau in (0.03, 0.01)
    ]
    assert norms[0] > 0.01
    assert (norms[1] > 0.01) == alive


# ----------------------------------------------------------------- temperatures of pair and batch


def test_similarity_root_rises_from_bound_to_bound() -> None:
    rule = SimilarityRoot(0.01, 0.05)
    s = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    tau = rule.at(s)
    same(tau[[0, -1]], torch.tensor([0.01, 0.05], dtype=torch.float64))
    assert (tau.diff() > 0).all()
    full = SimilarityRoot(0.01, 0.05, detach=False)
    assert (full.logit_slope(s, tau)[1:] > 0).all()  # the order of logits is that of similarities


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_opposite_pairs_do_not_break_the_root(seed: int, detach: bool, dtype: torch.dtype) -> None:
    """Rounding makes their similarity -1 or less, where the slope is infinite or no number."""
    z1, z2, _ = batch(6, 7, seed, dtype)
    z2[0] = -3 * z1[0]
    loss = CLIP(SimilarityRoot(0.01, 0.05, detach))
    assert all(each.isfinite().all() for each in evaluate(loss, z1, z2, None))


def test_positive_distance_is_the_mean_squared_distance() -> None:
    z1, z2, _ = batch(6)
    loss = CLIP(PositiveDistance())
    loss(z1, z2)
    squares = (F.normalize(z1, dim=1) - F.normalize(z2, dim=1)).square().sum(dim=1)
    assert loss.temperature_now == pytest.approx(squares.mean().item())
    loss(z1, z1)
    assert loss.temperature_now == 0.01  # the floor
    assert PositiveDistance().at(-1) == 4
    # The opposite sign of the rule of MACL.
    alignments = (0.1, 0.5, 0.9)
    assert [PositiveDistance().at(a) for a in alignments] == sorted(
        (PositiveDistance().at(a) for a in alignments), reverse=True
    )
    assert [Alignment(0.1, 0.5, 0).at(a) for a in alignments] == sorted(
        Alignment(0.1, 0.5, 0).at(a) for a in alignments
    )


# ------------------------------------------------------------------ a temperature of the embedding


def learning(variant: str = "paper", dropout: float = 0.0, rho: float = 0.5) -> BimodalISogCLR:
    torch.manual_seed(0)
    networks = [TemperatureNetwork(5, 8, 0.05, 1.0, dropout).double() for _ in range(2)]
    return BimodalISogCLR(SIZE, rho, gamma=1.0, variant=variant, temperature=networks)


@given(seed=st.integers(0, 99), size=st.floats(0, 100))
def test_temperatures_of_a_network_stay_within_their_bounds(seed: int, size: float) -> None:
    torch.manual_seed(seed)
    network = TemperatureNetwork(5, 8, 0.1, 0.3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(size)
        network.log_sharpness.clamp_(-5, 5)
    tau = network.at(torch.randn(7, 5))
    assert tau.shape == (7,)
    assert ((tau >= 0.1) & (tau <= 0.3)).all()


def test_a_network_starts_with_nearly_one_temperature() -> None:
    torch.manual_seed(0)
    tau = TemperatureNetwork(32).eval().at(torch.randn(50, 32))
    assert tau.mean().item() == pytest.approx(0.0305, abs=5e-4)
    assert tau.std() < 1e-3


def test_dropout_of_a_network_is_for_training() -> None:
    z, network = torch.randn(6, 5), TemperatureNetwork(5, 8, dropout=0.5)
    first, second = network.at(z), network.at(z)
    assert not torch.equal(first, second)
    network.set_epoch(0)  # epoch and call say what is dropped, not the global generator
    assert torch.equal(network.at(z), first)
    network.set_epoch(1)
    assert not torch.equal(network.at(z), first)
    network.eval()
    assert torch.equal(network.at(z), network.at(z))


def test_dropout_leaves_the_mean_of_what_it_drops() -> None:
    network = TemperatureNetwork(5, 8, dropout=0.3)
    kept = torch.stack([network._dropped(torch.ones(50, 40)) for _ in range(20)])
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_a_network_without_slope_is_bimodal_sogclr() -> None:
    loss = learning()
    for side in (loss.image, loss.text):
        torch.nn.init.zeros_(side.temperature.linear.weight)
        torch.nn.init.constant_(side.temperature.linear.bias, 0.7)
    tau = 0.05 + 0.95 / (1 + math.exp(-0.7))
    for step in range(2):
        z1, z2, index = batch(5, seed=step)
        expected = evaluate(BimodalSogCLR(SIZE, tau, gamma=1.0), z1, z2, index)
        same(evaluate(loss, z1, z2, index), expected)


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_encoder_and_network_learn_from_their_own_term_alone(variant: str) -> None:
    """The embeddings' gradient is that with frozen networks; the networks' slope is rho - KL."""
    z1, z2, index = batch(5)
    loss, frozen = learning(variant), learning(variant)
    for parameter in frozen.parameters():
        parameter.requires_grad_(False)
    same(evaluate(loss, z1, z2, index), evaluate(frozen, z1, z2, index))
    h = cross_hardness(z1, z2)
    for side, rows in ((loss.image, h[0]), (loss.text, h[1])):
        network = side.temperature
        measured = [parameter.grad for parameter in network.parameters()]
        tau = network.at(network.anchors)
        slope = 0.5 - kl_to_uniform(rows, tau.detach())
        expected = torch.autograd.grad((slope * tau).mean(), list(network.parameters()))
        same(measured, list(expected), rtol=1e-7, atol=1e-12)


def test_networks_learn_the_rule_of_isogclr() -> None:
    """On frozen embeddings the mean divergence comes to rho, as for a table of temperatures."""
    z1, z2, index = batch(8)
    loss = learning(rho=0.4)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.02)
    for _ in range(300):
        optimiser.zero_grad()
        loss(z1, z2, index).backward()
        optimiser.step()
    for rows, tau in zip(cross_hardness(z1, z2), (loss.tau_image, loss.tau_text), strict=True):
        kl = kl_to_uniform(rows, tau)
        # Over 12 seeds of data and networks: 0.398 with a deviation of 0.003.
        assert kl.mean().item() == pytest.approx(0.4, abs=0.02)
        # They differ from sample to sample: 0.034 to 0.14 over the seeds, and in logarithms the
        # bound lies four and a half deviations below the mean.
        assert tau.std() > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_networks_in_low_precision(variant: str, dtype: torch.dtype) -> None:
    z1, z2, index = batch(6, 8)
    z1, z2 = z1.to(dtype), z2.to(dtype)
    wide = registry.LOSSES[f"BimodalISogCLR, {variant}"]
    narrow_loss, wide_loss = (
        wide.build(TemperatureNetwork(8, tau_min=0.005, tau_max=0.05), 8) for _ in range(2)
    )
    narrow = evaluate(narrow_loss.float(), z1, z2, index)
    exact = evaluate(wide_loss, z1.double(), z2.double(), index)
    assert narrow[0].dtype == torch.float32
    same(narrow[0].double(), exact[0], rtol=1e-3, atol=1e-3)
    for measured, expected in zip(narrow[1:], exact[1:], strict=True):
        assert measured.dtype == dtype
        same(measured.double(), expected, rtol=1e-2, atol=2e-2)


def test_networks_are_told_the_epoch() -> None:
    loss = learning("official")
    loss.set_epoch(3)
    assert loss.image.temperature.epoch == loss.text.temperature.epoch == 3


def test_losses_with_tables_of_temperatures_have_no_parameters() -> None:
    loss = BimodalISogCLR(SIZE)
    assert isinstance(loss.image.temperature, Individual)
    assert not list(loss.parameters())
    assert MACL().temperature.tau is None


@pytest.mark.parametrize(
    "loss",
    [
        DCLW(0.3),
        HardNegative(0.3),
        SigLIP(0.3),
        Spectral(),
        NTXent(LogScale(0.3)),
        TwoConstants(0.5, 0.3),
        CLIP(SimilarityRoot(0.2, 0.5, detach=False)),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_second_derivatives(loss: torch.nn.Module) -> None:
    z1, z2, _ = batch(3, 4)
    inputs = z1.requires_grad_(), z2.requires_grad_()
    assert torch.autograd.gradgradcheck(loss.double(), inputs, atol=1e-6, rtol=1e-5)


def test_second_derivatives_of_a_surrogate_are_refused() -> None:
    z1, z2, index = batch(4)
    z1.requires_grad_()
    for loss in (BimodalRGCL(SIZE, LogScale()), learning()):
        with pytest.raises(RuntimeError, match="surrogate"):
            torch.autograd.grad(loss(z1, z2, index), z1, create_graph=True)
