"""The metrics against the authors' numbers, scikit-learn, double loops, identities, bad input."""

import inspect
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from dytemp import metrics

GOLDEN = json.loads((Path(__file__).parent / "golden" / "metrics.json").read_text())


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def classes_of(rows, classes):
    return torch.arange(rows) % classes


def unit(z):
    return z.double() / z.double().norm(dim=1, keepdim=True)


def clusters(rows, classes=5, seed=0):
    """Return points around one centre for each class, close enough to overlap, and the classes."""
    labels = classes_of(rows, classes)
    return randn(classes, 8, seed=100)[labels] + randn(rows, 8, seed=seed), labels


# The authors' numbers. Left out of the golden file's two parts: the top-5 percentages of the
# weighted k-NN, because `knn_predict` returns one class, and because classes without a vote fill
# up the five in whatever order a sort leaves them.


@pytest.mark.parametrize("case", ["signed", "relu_like"])
def test_geometry_equals_the_official_code(case):
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 16)))
    z = z.abs() if case == "relu_like" else z
    labels = classes_of(40, 10)
    measured = {
        "uniformity_code": metrics.uniformity(z, include_self=True),
        "tolerance_code": metrics.tolerance(z, labels, include_self=True),
        "uniformity_excl_self": metrics.uniformity(z),
        "tolerance_excl_self": metrics.tolerance(z, labels),
        "interclass_uniformity_CANDIDATE_raw_centroids": metrics.inter_class_uniformity(
            z, labels, centroids="raw"
        ),
        "interclass_uniformity_CANDIDATE_unit_centroids": metrics.inter_class_uniformity(z, labels),
    }
    assert measured == pytest.approx(GOLDEN["feature_metrics"][case], rel=1e-9, abs=0)


@pytest.mark.parametrize("setting", GOLDEN["weighted_knn"]["top1_top5_percent"])
def test_weighted_knn_equals_the_official_code(setting):
    k, temperature = (float(part.split("=")[1]) for part in setting.split(","))
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((10, 16))
    bank_labels, query_labels = np.arange(400) % 10, np.arange(200) % 10
    bank = centres[bank_labels] + 2 * generator.standard_normal((400, 16))
    queries = centres[query_labels] + 2 * generator.standard_normal((200, 16))
    arrays = (bank, bank_labels, queries, query_labels)
    top1, _ = GOLDEN["weighted_knn"]["top1_top5_percent"][setting]
    accuracy = metrics.knn_accuracy(*map(torch.from_numpy, arrays), int(k), temperature)
    assert 100 * accuracy == pytest.approx(top1, rel=1e-12)


# Double loops and scikit-learn


def test_alignment_is_the_mean_squared_distance():
    z1, z2 = randn(7, 5, seed=1), randn(7, 5, seed=2)
    pairs = zip(unit(z1), unit(z2), strict=True)
    expected = np.mean([float((a - b).square().sum()) for a, b in pairs])
    assert metrics.alignment(z1, z2) == pytest.approx(expected, rel=1e-12)
    assert metrics.alignment(z1, 3 * z1) == pytest.approx(0, abs=1e-30)
    assert metrics.alignment(z1, -z1) == pytest.approx(4, rel=1e-12)


@pytest.mark.parametrize("t", [0.5, 2.0, 1e5])  # at 1e5 a bare exp gives log(0)
@pytest.mark.parametrize("include_self", [False, True])
def test_uniformity_is_the_mean_potential_of_all_pairs(t, include_self):
    z = randn(9, 4)
    exponents = torch.stack(
        [
            -t * (x - y).square().sum()
            for (i, x), (j, y) in itertools.product(enumerate(unit(z)), repeat=2)
            if include_self or i != j
        ]
    )
    expected = float(exponents.logsumexp(0)) - math.log(len(exponents))
    assert metrics.uniformity(z, t, include_self) == pytest.approx(expected, rel=1e-12)


def test_uniformity_of_known_shapes():
    one_point = torch.ones(200, 3, dtype=torch.float64)
    assert metrics.uniformity(one_point) == pytest.approx(0, abs=1e-12)
    assert metrics.uniformity(torch.eye(4, dtype=torch.float64)) == pytest.approx(-4, rel=1e-12)


@pytest.mark.parametrize("include_self", [False, True])
def test_tolerance_is_the_mean_similarity_within_classes(include_self):
    z, labels = randn(11, 4), torch.tensor([3, 3, -7, 3, 0, 0, 0, 0, 90, 3, -7])  # 90 has no pair
    similarities = [
        float(x @ y)
        for (i, x), (j, y) in itertools.product(enumerate(unit(z)), repeat=2)
        if labels[i] == labels[j] and (include_self or i != j)
    ]
    measured = metrics.tolerance(z, labels, include_self)
    assert measured == pytest.approx(np.mean(similarities), rel=1e-12)


def test_silhouette_is_that_of_scikit_learn():
    torch.manual_seed(0)
    z, labels = torch.randn(60, 5, dtype=torch.float64) + 1, torch.arange(60) % 4
    labels[0] = 9  # alone in its class
    wanted = silhouette_score(z.numpy(), labels.numpy(), metric="cosine")
    assert metrics.silhouette(z, labels) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-5])
def test_structure_of_rows_that_nearly_agree(spread):
    """Distances far below the rounding of one in float32."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(60) % 3
    centres = torch.randn(3, 8, generator=generator, dtype=torch.float64)[labels]
    noise = torch.randn(60, 8, generator=generator, dtype=torch.float64)
    z = torch.ones(8, dtype=torch.float64) + spread * (centres + noise)
    wanted = silhouette_score(z.numpy(), labels.numpy(), metric="cosine")
    assert metrics.silhouette(z, labels) == pytest.approx(wanted, abs=1e-4)
    wide = torch.ones(8, dtype=torch.float64) + 1e-2 * (centres + noise)
    assert metrics.scatter_ratio(z, labels) == pytest.approx(
        metrics.scatter_ratio(wide, labels), rel=0.05
    )


def test_structure_of_equal_rows_is_none():
    assert metrics.silhouette(torch.full((6, 2), 0.3), torch.arange(6) % 2) == 0.0


def test_scatter_ratio_is_between_over_within():
    torch.manual_seed(0)
    z, labels = torch.randn(40, 5, dtype=torch.float64), torch.arange(40) % 3
    unit = torch.nn.functional.normalize(z, dim=1)
    means = torch.stack([unit[labels == k].mean(dim=0) for k in range(3)])[labels]
    between = (means - unit.mean(dim=0)).square().sum(dim=1).mean()
    within = (unit - means).square().sum(dim=1).mean()
    assert metrics.scatter_ratio(z, labels) == pytest.approx(float(between / within), rel=1e-10)
    assert metrics.scatter_ratio(torch.ones(6, 2), torch.arange(6) % 2) == 0.0


@pytest.mark.parametrize("rows", [7, 64])
def test_neighbour_agreement_counts_neighbours(rows, monkeypatch):
    monkeypatch.setattr(metrics, "ROWS", rows)  # several blocks
    torch.manual_seed(0)
    z, labels = torch.randn(50, 4, dtype=torch.float64), torch.arange(50) % 3
    unit = torch.nn.functional.normalize(z, dim=1)
    order = (unit @ unit.T).fill_diagonal_(-2).argsort(dim=1, descending=True)[:, :6]
    wanted = (labels[order] == labels[:, None]).double().mean()
    assert metrics.neighbour_agreement(z, labels, k=6) == pytest.approx(float(wanted))


def test_inter_class_uniformity_of_orthogonal_classes():
    z = 5 * torch.eye(3, dtype=torch.float64)[classes_of(12, 3)]
    for centroids in ("unit", "raw"):  # squared distance 2 between any two
        value = metrics.inter_class_uniformity(z, classes_of(12, 3), centroids=centroids)
        assert value == pytest.approx(-4, rel=1e-12)


def test_coverage_counts_the_closest_directions():
    z, bins = randn(300, 3), randn(20, 3, seed=1)
    closest = (unit(z).numpy() @ unit(bins).numpy().T).argmax(axis=1)
    expected = sorted(np.bincount(closest, minlength=20), reverse=True)
    assert metrics.coverage(z, bins).tolist() == expected


def test_coverage_draws_directions_by_number():
    z = randn(300, 3)
    counts = metrics.coverage(z, 50)
    assert counts.shape == (50,)
    assert counts.sum() == 300
    assert torch.equal(counts, metrics.coverage(z, 50))
    assert not torch.equal(counts, metrics.coverage(z, 50, seed=1))
    directions = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(counts, metrics.coverage(z, directions))
    assert metrics.coverage(torch.ones(300, 3), 50).tolist() == [300] + [0] * 49


def test_similarity_histogram_counts_pairs_of_different_samples(monkeypatch):
    z = randn(90, 3)
    similarity = (unit(z) @ unit(z).T).numpy()[~np.eye(90, dtype=bool)]
    edges = np.linspace(-1.01, 1.01, 102)
    expected = np.histogram(similarity, edges)[0]
    assert metrics.similarity_histogram(z).tolist() == expected.tolist()
    assert expected.sum() == 90 * 89
    monkeypatch.setattr(metrics, "ROWS", 40)
    assert metrics.similarity_histogram(z).tolist() == expected.tolist()
    assert metrics.similarity_histogram(torch.eye(2), bins=3).tolist() == [0, 2, 0]
    assert metrics.similarity_histogram(torch.ones(4, 2), bins=2).tolist() == [0, 12]


def test_cumulative_influence_of_a_gaussian_is_a_gaussian_further_right():
    """TS, Fig. 2: N(m, v) tilted by exp(s / tau) is N(m + v / tau, v)."""
    s = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    gaussian = torch.exp(-((s - 0.01) ** 2) / (2 * 0.09))
    tilted = metrics.cumulative_influence(s, gaussian, tau=0.3)
    expected = torch.exp(-((s - 0.31) ** 2) / (2 * 0.09))
    torch.testing.assert_close(tilted, expected)
    counts = torch.tensor([1, 0, 3])
    tiny = metrics.cumulative_influence(torch.tensor([-1.0, 0.0, 1.0]), counts, tau=1e-3)
    assert tiny.tolist() == [0, 0, 1]  # nothing overflows


@pytest.mark.parametrize("k", [1, 2, 10, 150])
def test_knn_equals_scikit_learn(k):
    bank, bank_labels = clusters(150)
    queries, query_labels = clusters(90, seed=1)
    oracle = KNeighborsClassifier(k).fit(unit(bank).numpy(), bank_labels.numpy())
    expected = oracle.predict(unit(queries).numpy())
    assert metrics.knn_predict(bank, bank_labels, queries, k).tolist() == expected.tolist()
    accuracy = metrics.knn_accuracy(bank, bank_labels, queries, query_labels, k)
    assert accuracy == pytest.approx(np.mean(expected == query_labels.numpy()), rel=1e-12)


@pytest.mark.parametrize("rows", [8, 40, 47, 200])
def test_knn_misses_no_row_of_the_bank(rows):
    bank, queries = randn(rows, 3), randn(300, 3, seed=1)
    order = (unit(queries) @ unit(bank).T).argsort(dim=1, descending=True)
    for k in (1, 5, 6, rows):
        # Each row is a class of its own: all k neighbours tie, and the smallest class wins.
        predictions = metrics.knn_predict(bank, torch.arange(rows), queries, k)
        assert torch.equal(predictions, order[:, :k].amin(dim=1))


def test_knn_macro_equals_balanced_accuracy():
    bank, bank_labels = clusters(150)
    queries, query_labels = clusters(90, seed=1)
    tail_heavy = query_labels * (torch.arange(90) % 4 == 0)  # three of four queries are class 0
    predictions = metrics.knn_predict(bank, bank_labels, queries, 3)
    accuracy = metrics.knn_accuracy(bank, bank_labels, queries, tail_heavy, 3, average="macro")
    assert accuracy == pytest.approx(balanced_accuracy_score(tail_heavy, predictions), rel=1e-12)


def test_weighted_knn_is_a_double_loop():
    bank, bank_labels = clusters(60)
    queries, _ = clusters(20, seed=1)
    for query, predicted in zip(
        unit(queries), metrics.knn_predict(bank, bank_labels, queries, 12, 0.1), strict=True
    ):
        similarity = [float(query @ row) for row in unit(bank)]
        nearest = sorted(range(60), key=lambda row: -similarity[row])[:12]
        votes = [0.0] * 5
        for row in nearest:
            votes[int(bank_labels[row])] += math.exp(similarity[row] / 0.1)
        assert predicted == np.argmax(votes)


def test_knn_ties_go_to_the_smallest_class():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    query = torch.tensor([[1.0, 1.0]])
    assert metrics.knn_predict(bank, torch.tensor([7, 2, 7, 2]), query, 4).tolist() == [2]
    assert metrics.knn_predict(bank, torch.tensor([1, 5, 1, 5]), query, 4).tolist() == [1]
    assert metrics.knn_predict(bank, torch.tensor([7, 2, 7, 2]), query, 4, 0.1).tolist() == [2]


def test_knn_with_a_tiny_temperature_is_the_nearest_neighbour():
    bank, bank_labels = clusters(60)
    queries, _ = clusters(20, seed=1)
    for dtype in (torch.float64, torch.float32):
        nearest = metrics.knn_predict(bank.to(dtype), bank_labels, queries.to(dtype), 1)
        sharp = metrics.knn_predict(bank.to(dtype), bank_labels, queries.to(dtype), 60, 1e-6)
        assert torch.equal(sharp, nearest)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("svm", LinearSVC(dual="auto", random_state=42)),
        ("linear", LogisticRegression(max_iter=1000)),
    ],
)
def test_probes_equal_scikit_learn(name, oracle):
    train, train_labels = clusters(100)
    test, test_labels = clusters(60, seed=1)
    oracle.fit(unit(train).numpy(), train_labels.numpy())
    expected = oracle.predict(unit(test).numpy())
    predictions = getattr(metrics, f"{name}_predict")(train, train_labels, test)
    assert predictions.tolist() == expected.tolist()
    share = getattr(metrics, f"{name}_probe")(train, train_labels, test, test_labels)
    assert share == pytest.approx(np.mean(expected == test_labels.numpy()), rel=1e-12)
    assert 0.5 < share < 1


@pytest.mark.parametrize("name", ["svm", "linear"])
def test_probes_say_that_scikit_learn_is_missing(name, monkeypatch):
    for module in ("sklearn.svm", "sklearn.linear_model"):
        monkeypatch.setitem(sys.modules, module, None)
    train, labels = clusters(20)
    with pytest.raises(ImportError, match=r"pip install dytemp\[lab\]"):
        getattr(metrics, f"{name}_probe")(train, labels, train, labels)


def test_accuracies_by_hand():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    predictions = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    assert metrics.accuracy(predictions, labels) == pytest.approx(5 / 7, rel=1e-12)
    per_class = [3 / 4, 1 / 2, 1]
    macro = metrics.accuracy(predictions, labels, "macro")
    assert macro == pytest.approx(np.mean(per_class), rel=1e-12)
    by_group = metrics.group_accuracy(predictions, labels, torch.tensor([1, 0, 1]))
    assert by_group.tolist() == pytest.approx([1 / 2, (3 / 4 + 1) / 2], rel=1e-12)


def test_group_accuracies_add_up_to_the_macro_accuracy():
    labels = classes_of(100, 10)
    predictions = torch.where(torch.arange(100) < 20 * labels, labels, (labels + 1) % 10)
    groups = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])  # CIFAR10-LT: 4/3/3
    by_group = metrics.group_accuracy(predictions, labels, groups)
    assert len(set(by_group.tolist())) == 3
    total = float((by_group * groups.bincount()).sum()) / 10
    assert total == pytest.approx(metrics.accuracy(predictions, labels, "macro"), rel=1e-12)


@pytest.mark.parametrize("k", [1, 3, 12])
def test_recall_counts_the_matches_among_the_largest(k):
    similarity = randn(12, 12)
    for matrix in (similarity, similarity.T):
        largest = (-matrix.numpy()).argsort(axis=1)[:, :k]
        expected = np.mean([row in candidates for row, candidates in enumerate(largest)])
        assert metrics.recall_at_k(matrix, k) == pytest.approx(expected, rel=1e-12)


def test_recall_of_ties_is_the_chance_of_a_random_order():
    assert metrics.recall_at_k(torch.ones(8, 8), 2) == pytest.approx(2 / 8)
    better_one_equal_two = torch.tensor([[0.5, 0.9, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert metrics.recall_at_k(better_one_equal_two, 1) == pytest.approx((0 + 1 + 1) / 3)
    assert metrics.recall_at_k(better_one_equal_two, 2) == pytest.approx((0.5 + 1 + 1) / 3)


def test_effective_negatives_is_the_perplexity():
    similarity = randn(5, 7).tanh()
    for row, effective in zip(
        similarity, metrics.effective_negatives(similarity, 0.2), strict=True
    ):
        weights = [math.exp(s / 0.2) for s in row.tolist()]
        shares = [weight / sum(weights) for weight in weights]
        entropy = -sum(share * math.log(share) for share in shares)
        assert float(effective) == pytest.approx(math.exp(entropy), rel=1e-12)


def test_effective_negatives_from_one_to_all():
    similarity = randn(5, 7).tanh()
    everything = metrics.effective_negatives(similarity, 1e6)
    assert everything.tolist() == pytest.approx([7] * 5, rel=1e-6)
    hardest = metrics.effective_negatives(similarity, 1e-4)
    assert hardest.tolist() == pytest.approx([1] * 5, rel=1e-6)


def test_effective_negatives_leaves_out_the_masked():
    similarity = randn(6, 6).tanh()
    others = torch.stack([torch.cat([row[:i], row[i + 1 :]]) for i, row in enumerate(similarity)])
    masked = similarity.masked_fill(torch.eye(6, dtype=torch.bool), -math.inf)
    assert metrics.effective_negatives(masked, 0.3).tolist() == pytest.approx(
        metrics.effective_negatives(others, 0.3).tolist(), rel=1e-12
    )


def test_effective_negatives_takes_a_temperature_per_row_or_entry():
    similarity, tau = randn(4, 4).tanh(), torch.tensor([0.1, 0.2, 0.5, 1.0]).double()
    rows = [
        float(metrics.effective_negatives(similarity[i : i + 1], float(tau[i]))) for i in range(4)
    ]
    for shaped in (tau, tau[:, None], tau[:, None].expand(4, 4)):
        assert metrics.effective_negatives(similarity, shaped).tolist() == pytest.approx(
            rows, rel=1e-12
        )


@pytest.mark.parametrize("rho", [0.1, 0.4, 2.0])
def test_every_anchor_has_the_same_perplexity_at_its_optimal_temperature(rho):
    similarity = 0.3 * randn(6, 50) * torch.linspace(0.5, 1.5, 6, dtype=torch.float64)[:, None]

    def slope(tau, row):
        """Derivative of the dual of iSogCLR, tau logmeanexp(row / tau) + tau rho."""
        weights = (row / tau).softmax(0)
        log_mean = float((row / tau).logsumexp(0)) - math.log(len(row))
        return log_mean + rho - float(weights @ row) / tau

    tau = torch.tensor([brentq(slope, 1e-2, 1e2, args=(row,), xtol=1e-14) for row in similarity])
    assert tau.std() > 0.01  # each anchor has a temperature of its own
    effective = metrics.effective_negatives(similarity, tau.double())
    assert effective.tolist() == pytest.approx([50 * math.exp(-rho)] * 6, rel=1e-6)


# Identities


def measures(z, labels):
    """Return every measure that looks at embeddings as one list of numbers."""
    views = (z[::2], z[1::2])
    similarity = unit(views[0]) @ unit(views[1]).T
    return [
        metrics.alignment(*views),
        metrics.uniformity(z),
        metrics.uniformity(z, include_self=True),
        metrics.tolerance(z, labels),
        metrics.inter_class_uniformity(z, labels),
        metrics.inter_class_uniformity(z, labels, "raw"),
        metrics.silhouette(z, labels),
        metrics.scatter_ratio(z, labels),
        metrics.neighbour_agreement(z, labels, k=3),
        metrics.knn_accuracy(views[0], labels[::2], views[1], labels[1::2], 3),
        metrics.knn_accuracy(views[0], labels[::2], views[1], labels[1::2], 3, 0.1),
        metrics.recall_at_k(similarity, 2),
        float(metrics.effective_negatives(similarity, 0.2).mean()),
    ]


shapes = st.tuples(st.integers(3, 10), st.integers(2, 6), st.integers(0, 1000))  # pairs, D, seed


@given(shapes)
def test_rotation_and_scaling_change_nothing(shape):
    pairs, dimension, seed = shape
    z, labels = randn(2 * pairs, dimension, seed=seed), classes_of(2 * pairs, 3)
    rotation = torch.linalg.qr(randn(dimension, dimension, seed=seed + 1)).Q
    scales = randn(2 * pairs, 1, seed=seed + 2).exp()
    assert measures(scales * z @ rotation, labels) == pytest.approx(
        measures(z, labels), rel=1e-9, abs=1e-12
    )


@given(shapes)
def test_order_of_the_samples_changes_nothing(shape):
    pairs, dimension, seed = shape
    z, labels = randn(2 * pairs, dimension, seed=seed), classes_of(2 * pairs, 3)
    order = torch.randperm(pairs, generator=torch.Generator().manual_seed(seed))
    order = torch.stack([2 * order, 2 * order + 1], dim=1).flatten()  # pairs stay together
    assert measures(z[order], labels[order]) == pytest.approx(
        measures(z, labels), rel=1e-9, abs=1e-12
    )


@given(shapes)
def test_names_of_the_classes_change_nothing(shape):
    pairs, dimension, seed = shape
    z, labels = randn(2 * pairs, dimension, seed=seed), classes_of(2 * pairs, 3)
    renamed = torch.tensor([-4, 10**15, 10**16])[labels]  # in the same order, as ties depend on it
    assert measures(z, renamed) == measures(z, labels)


@given(shapes)
def test_order_of_the_bank_and_the_bins_changes_nothing(shape):
    pairs, dimension, seed = shape
    z, bins = randn(2 * pairs, dimension, seed=seed), randn(5, dimension, seed=seed + 1)
    counts = metrics.coverage(z, bins)
    assert torch.equal(metrics.coverage(z, bins.flip(0)), counts)
    assert torch.equal(metrics.coverage(z.flip(0), 3 * bins), counts)
    labels = classes_of(2 * pairs, 3)
    predictions = metrics.knn_predict(z, labels, bins, 3)
    assert torch.equal(metrics.knn_predict(z.flip(0), labels.flip(0), bins, 3), predictions)


@given(shapes)
def test_ranges(shape):
    pairs, dimension, seed = shape
    z, labels = randn(2 * pairs, dimension, seed=seed), classes_of(2 * pairs, 3)
    align, uniform, with_self, tolerant, between, raw, *others, effective = measures(z, labels)
    apart, scatter, *shares = others
    assert 0 <= align <= 4
    assert -8 - 1e-12 <= uniform <= with_self <= 0  # t = 2 and squared distances up to 4
    assert -1 <= tolerant <= 1
    assert -8 - 1e-12 <= between <= 0
    assert -8 - 1e-12 <= raw <= 0
    assert -1 <= apart <= 1
    assert scatter >= 0
    assert all(0 <= share <= 1 for share in shares)
    assert 1 - 1e-12 <= effective <= pairs + 1e-9


@pytest.mark.parametrize("rows", [1, 2, 7, 59, 60, 1000])
def test_size_of_the_blocks_changes_nothing(rows, monkeypatch):
    z, labels = clusters(60)
    expected = measures(z, labels), metrics.coverage(z, 7).tolist()
    monkeypatch.setattr(metrics, "ROWS", rows)
    measured = measures(z, labels), metrics.coverage(z, 7).tolist()
    assert measured[0] == pytest.approx(expected[0], rel=1e-12)
    assert measured[1] == expected[1]


# Precision


def test_float32_equals_float64():
    z, labels = clusters(300)
    assert measures(z.float(), labels) == pytest.approx(measures(z, labels), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    z, labels = clusters(60)
    z = z.to(dtype)
    views = (z[::2], z[1::2])
    similarity = (unit(views[0]) @ unit(views[1]).T).to(dtype)
    tau = torch.full((30,), 0.2, dtype=dtype)

    def measured(convert):
        first, second, matrix = (convert(value) for value in (*views, similarity))
        return [
            metrics.alignment(first, second),
            metrics.uniformity(convert(z)),
            metrics.tolerance(convert(z), labels),
            metrics.inter_class_uniformity(convert(z), labels),
            metrics.silhouette(convert(z), labels),
            metrics.scatter_ratio(convert(z), labels),
            metrics.neighbour_agreement(convert(z), labels, k=3),
            metrics.coverage(convert(z), 7).tolist(),
            metrics.knn_predict(first, labels[::2], second, 3, 0.1).tolist(),
            metrics.svm_predict(first, labels[::2], second).tolist(),
            metrics.recall_at_k(matrix, 2),
            metrics.effective_negatives(matrix, convert(tau)).tolist(),
        ]

    assert measured(lambda value: value) == measured(torch.Tensor.float)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_long_and_very_short_rows(scale):
    z, labels = clusters(60)  # their squares overflow or vanish in float32
    assert measures(scale * z.float(), labels) == pytest.approx(measures(z, labels), rel=1e-5)


def test_no_gradient_and_no_change_of_the_input():
    z = randn(12, 4).requires_grad_()
    before = z.detach().clone()
    labels = classes_of(12, 3)
    assert not metrics.effective_negatives(z, 0.1).requires_grad
    assert not metrics.coverage(z, 5).requires_grad
    assert len(measures(z, labels)) == 13
    assert torch.equal(z.detach(), before)


# Bad input

Z, LABELS = clusters(20)
PREDICTIONS = classes_of(20, 5)
GROUPS = torch.tensor([0, 0, 1, 1, 2])
SIMILARITY = randn(6, 6)


def with_row(row, value):
    z = Z.clone()
    z[row] = value
    return z


def probe(train=Z, train_labels=LABELS, test=Z, test_labels=LABELS, kind="svm"):
    return getattr(metrics, f"{kind}_probe")(train, train_labels, test, test_labels)


def knn(bank=Z, bank_labels=LABELS, queries=Z, query_labels=LABELS, k=3, **options):
    return metrics.knn_accuracy(bank, bank_labels, queries, query_labels, k, **options)


# One row each: the call, the exception, the argument it names, a part of what it says.
REFUSED = [
    # embeddings, one function after the other
    (lambda: metrics.alignment(Z[0], Z[0]), ValueError, "z1", r"shape \(N, D\)"),
    (lambda: metrics.alignment(Z[:1], Z[:1]), ValueError, "z1", "at least 2"),
    (lambda: metrics.alignment(Z, Z[:9]), ValueError, "z1 and z2", "same shape"),
    (lambda: metrics.alignment(Z, Z.float()), TypeError, "z1 and z2", "one dtype"),
    (lambda: metrics.alignment(Z, Z.numpy()), TypeError, "z2", "tensor"),
    (lambda: metrics.uniformity(Z.long()), TypeError, "z", "floating"),
    (lambda: metrics.uniformity(Z.to(torch.complex64)), TypeError, "z", "real"),
    (lambda: metrics.uniformity(Z[:1]), ValueError, "z", "at least 2"),
    (lambda: metrics.uniformity(Z[:, :0]), ValueError, "z", "1 column"),
    (lambda: metrics.uniformity(with_row(3, math.nan)), ValueError, "z", "finite"),
    (lambda: metrics.uniformity(with_row(3, math.inf)), ValueError, "z", "finite"),
    (lambda: metrics.uniformity(with_row(3, 0)), ValueError, "z", r"zero rows.*\[3\]"),
    (lambda: metrics.uniformity(Z, t=0), ValueError, "t", "above 0"),
    (lambda: metrics.uniformity(Z, t=-2.0), ValueError, "t", "above 0"),
    (lambda: metrics.uniformity(Z, t=math.nan), ValueError, "t", "finite"),
    (lambda: metrics.uniformity(Z, t=math.inf), ValueError, "t", "finite"),
    (lambda: metrics.uniformity(Z, t="2"), TypeError, "t", "number"),
    (lambda: metrics.tolerance(with_row(0, 0), LABELS), ValueError, "z", "zero rows"),
    (lambda: metrics.tolerance(Z, LABELS[:19]), ValueError, "labels", r"\(20,\)"),
    (lambda: metrics.tolerance(Z, LABELS.double()), TypeError, "labels", "int64"),
    (lambda: metrics.tolerance(Z, LABELS.double().tolist()), TypeError, "labels", "int64"),
    (lambda: metrics.tolerance(Z, torch.arange(20)), ValueError, "labels", "two samples"),
    (lambda: metrics.inter_class_uniformity(Z[None], LABELS), ValueError, "z", "shape"),
    (lambda: metrics.silhouette(Z, 0 * LABELS), ValueError, "labels", "2 classes"),
    (lambda: metrics.scatter_ratio(Z, 0 * LABELS), ValueError, "labels", "2 classes"),
    (lambda: metrics.neighbour_agreement(Z, LABELS, k=20), ValueError, "k", "19"),
    (lambda: metrics.neighbour_agreement(Z, LABELS[1:]), ValueError, "labels", r"\(20,\)"),
    (lambda: metrics.inter_class_uniformity(Z, 0 * LABELS), ValueError, "labels", "2 classes"),
    (lambda: metrics.inter_class_uniformity(Z, LABELS[None]), ValueError, "labels", "shape"),
    (
        lambda: metrics.inter_class_uniformity(Z, LABELS, centroids="mean"),
        ValueError,
        "centroids",
        "'unit', 'raw'",
    ),
    (
        lambda: metrics.inter_class_uniformity(
            torch.cat([Z[:1], -Z[:1], Z[2:]]), torch.tensor([9, 9] + 18 * [1])
        ),
        ValueError,
        "class centroids of z",
        r"zero rows.*\[1\]",
    ),
    (lambda: metrics.coverage(with_row(1, math.nan), 5), ValueError, "z", "finite"),
    (lambda: metrics.coverage(Z, 0), ValueError, "bins", "at least 1"),
    (lambda: metrics.coverage(Z, 2.5), TypeError, "bins", "integer"),
    (lambda: metrics.coverage(Z, True), TypeError, "bins", "integer"),
    (lambda: metrics.coverage(Z, Z[:, :3]), ValueError, "z and bins", "one dimension"),
    (lambda: metrics.coverage(Z, Z.float()), TypeError, "z and bins", "one dtype"),
    (lambda: metrics.coverage(Z, 0 * Z), ValueError, "bins", "zero rows"),
    (lambda: metrics.coverage(Z, 5, seed=-1), ValueError, "seed", "at least 0"),
    # neighbours
    (lambda: knn(bank=Z[0]), ValueError, "bank", "shape"),
    (lambda: knn(bank=with_row(2, math.inf)), ValueError, "bank", "finite"),
    (lambda: knn(bank_labels=LABELS[:5]), ValueError, "bank_labels", r"\(20,\)"),
    (lambda: knn(bank_labels=LABELS.bool()), TypeError, "bank_labels", "int64"),
    (lambda: knn(queries=with_row(2, 0)), ValueError, "queries", "zero rows"),
    (lambda: knn(queries=Z[:, :4]), ValueError, "bank and queries", "one dimension"),
    (lambda: knn(queries=Z.float()), TypeError, "bank and queries", "one dtype"),
    (lambda: knn(queries=Z[:0]), ValueError, "queries", "at least 1"),
    (lambda: knn(query_labels=LABELS[:5]), ValueError, "query_labels", r"\(20,\)"),
    (lambda: knn(k=0), ValueError, "k", "at least 1"),
    (lambda: knn(k=21), ValueError, "k", "at most 20"),
    (lambda: knn(k=3.0), TypeError, "k", "integer"),
    (lambda: knn(k=True), TypeError, "k", "integer"),
    (lambda: knn(temperature=0), ValueError, "temperature", "above 0"),
    (lambda: knn(temperature=math.nan), ValueError, "temperature", "finite"),
    (lambda: knn(average="weighted"), ValueError, "average", "'micro', 'macro'"),
    (
        lambda: metrics.knn_predict(Z, LABELS, Z, k=100),
        ValueError,
        "k",
        "at most 20",
    ),
    # probes
    (lambda: probe(train=Z[0]), ValueError, "train_features", "shape"),
    (lambda: probe(train_labels=LABELS[:5]), ValueError, "train_labels", r"\(20,\)"),
    (lambda: probe(train_labels=0 * LABELS), ValueError, "train_labels", "2 classes"),
    (lambda: probe(test=with_row(0, math.nan)), ValueError, "test_features", "finite"),
    (lambda: probe(test=Z[:, :4]), ValueError, "train_features and test_features", "dimension"),
    (lambda: probe(test_labels=LABELS[:5]), ValueError, "test_labels", r"\(20,\)"),
    (lambda: probe(kind="linear", train=0 * Z), ValueError, "train_features", "zero rows"),
    (lambda: probe(kind="linear", test_labels=Z), TypeError, "test_labels", "int64"),
    (lambda: metrics.svm_predict(Z, None, Z), TypeError, "train_labels", "int64"),
    (lambda: metrics.linear_predict(Z, None, Z), TypeError, "train_labels", "int64"),
    # scores
    (lambda: metrics.accuracy(PREDICTIONS, LABELS[:5]), ValueError, "labels", r"\(20,\)"),
    (lambda: metrics.accuracy(PREDICTIONS[:0], LABELS[:0]), ValueError, "predictions", "at least"),
    (lambda: metrics.accuracy(Z, LABELS), TypeError, "predictions", "int64"),
    (lambda: metrics.accuracy(PREDICTIONS, LABELS, "mean"), ValueError, "average", "'micro'"),
    (
        lambda: metrics.group_accuracy(PREDICTIONS, LABELS, GROUPS[:4]),
        ValueError,
        "predictions",
        r"0 \.\. 3",
    ),
    (
        lambda: metrics.group_accuracy(PREDICTIONS, LABELS - 1, GROUPS),
        ValueError,
        "labels",
        r"0 \.\. 4",
    ),
    (
        lambda: metrics.group_accuracy(PREDICTIONS, LABELS, torch.tensor([0, 0, 1, 1, 2, 2])),
        ValueError,
        "labels",
        r"class \[5\]",
    ),
    (
        lambda: metrics.group_accuracy(PREDICTIONS, LABELS, 2 * GROUPS),
        ValueError,
        "groups",
        r"group \[1, 3\]",
    ),
    (lambda: metrics.group_accuracy(PREDICTIONS, LABELS, GROUPS - 1), ValueError, "groups", "0, 1"),
    (lambda: metrics.group_accuracy(PREDICTIONS, LABELS, GROUPS[:0]), ValueError, "groups", "0, 1"),
    (lambda: metrics.group_accuracy(PREDICTIONS, LABELS, [0.0] * 5), TypeError, "groups", "int64"),
    # histograms
    (lambda: metrics.similarity_histogram(Z[:1]), ValueError, "z", "at least 2 rows"),
    (lambda: metrics.similarity_histogram(Z, bins=1), ValueError, "bins", "at least 2"),
    (lambda: metrics.cumulative_influence([0.5], Z, 1), TypeError, "similarity", "tensor"),
    (lambda: metrics.cumulative_influence(Z, math.inf * Z, 1), ValueError, "count", "finite"),
    (lambda: metrics.cumulative_influence(Z[0], Z, 1), ValueError, "similarity and", "one shape"),
    (lambda: metrics.cumulative_influence(Z, 0 * Z, 1), ValueError, "count", "above 0 somewhere"),
    (lambda: metrics.cumulative_influence(Z, -Z.abs(), 1), ValueError, "count", "0 or above"),
    (lambda: metrics.cumulative_influence(Z, Z.abs(), 0), ValueError, "tau", "above 0"),
    # similarity matrices
    (lambda: metrics.recall_at_k(SIMILARITY[:4], 1), ValueError, "similarity", "square"),
    (lambda: metrics.recall_at_k(SIMILARITY[0], 1), ValueError, "similarity", "matrix"),
    (lambda: metrics.recall_at_k(SIMILARITY.long(), 1), TypeError, "similarity", "floating"),
    (lambda: metrics.recall_at_k(SIMILARITY.tolist(), 1), TypeError, "similarity", "tensor"),
    (lambda: metrics.recall_at_k(SIMILARITY / 0, 1), ValueError, "similarity", "finite"),
    (lambda: metrics.recall_at_k(SIMILARITY, 0), ValueError, "k", "at least 1"),
    (lambda: metrics.recall_at_k(SIMILARITY, 7), ValueError, "k", "at most 6"),
    (lambda: metrics.effective_negatives(SIMILARITY[:0], 1), ValueError, "similarity", "matrix"),
    (lambda: metrics.effective_negatives(SIMILARITY / 0, 1), ValueError, "similarity", "NaN"),
    (
        lambda: metrics.effective_negatives(torch.full((2, 2), -math.inf), 1),
        ValueError,
        "similarity",
        "-inf only",
    ),
    (lambda: metrics.effective_negatives(SIMILARITY, 0), ValueError, "tau", "above 0"),
    (lambda: metrics.effective_negatives(SIMILARITY, math.inf), ValueError, "tau", "finite"),
    (lambda: metrics.effective_negatives(SIMILARITY, "0.1"), TypeError, "tau", "number"),
    (lambda: metrics.effective_negatives(SIMILARITY, SIMILARITY[:2]), ValueError, "tau", "shape"),
    (lambda: metrics.effective_negatives(SIMILARITY, SIMILARITY), ValueError, "tau", "above 0"),
    (
        lambda: metrics.effective_negatives(SIMILARITY, torch.ones(6)),
        TypeError,
        "tau and similarity",
        "one dtype",
    ),
]


@pytest.mark.parametrize(("call", "error", "argument", "part"), REFUSED)
def test_refused(call, error, argument, part):
    with pytest.raises(error, match=rf"^{argument} .*{part}"):
        call()


def test_every_metric_has_a_refusal():
    public = {
        name
        for name, function in vars(metrics).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }
    refusing = set().union(*(call.__code__.co_names for call, *_ in REFUSED))
    helpers = {"knn": {"knn_accuracy"}, "probe": {"svm_probe", "linear_probe"}}
    refusing |= set().union(*(covered for name, covered in helpers.items() if name in refusing))
    assert public <= refusing
