"""What an embedding is worth: its geometry, its neighbours, its probes, its retrieval.

Every measure takes raw embeddings, one a row, normalises the rows itself and looks at values only
(no gradient flows through it). A single number comes back as a Python float. float32 and float64
are computed as they are, half precision in float32; sums over classes, of which small differences
count, in float64. Whatever compares all rows with all others
works through blocks of `ROWS` rows, so that memory grows with the number of rows, not its square.

Classes are integers of any type, in a tensor, an array or a list.

The probes need scikit-learn (``pip install dytemp[lab]``), everything else torch alone.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from dytemp import checks

ROWS = 128  # enough for a matrix product at full speed, few enough to stay in the cache
GROUP = 8  # similarities of which the k nearest neighbours are first sought by their maximum

Average: TypeAlias = Literal["micro", "macro"]


# Geometry of the hypersphere


def alignment(z1: Tensor, z2: Tensor) -> float:
    """Mean squared distance between the two views of a sample, in 0 .. 4 (lower is better).

    Wang & Isola, ICML 2020, with exponent 2.

    Parameters
    ----------
    z1, z2 : Tensor
        Embeddings of the two views, shape (B, D), B >= 2; row i of one belongs to row i of the
        other.

    Raises
    ------
    TypeError, ValueError
        If `z1` or `z2` is not a finite floating (B, D) tensor without zero rows, or if they
        differ in shape, dtype or device.
    """
    first, second = checks.views(z1, z2)
    return float((_unit(first) - _unit(second)).square().sum(dim=1).mean())


def uniformity(z: Tensor, t: float = 2.0, include_self: bool = False) -> float:
    """Log of the mean Gaussian potential exp(-t ‖x - y‖²) over all pairs (lower is more uniform).

    Wang & Isola, ICML 2020, over the pairs of different rows. The DySTreSS code also counts each
    row with itself, which adds N potentials of 1 to N² - N others: ``include_self=True``.

    Parameters
    ----------
    z : Tensor
        Embeddings, shape (N, D), N >= 2.
    t : float
        Sharpness of the potential, above 0.
    include_self : bool
        Whether the N pairs of a row with itself count, as in the DySTreSS code.

    Raises
    ------
    TypeError, ValueError
        If `z` is not a finite floating (N, D) tensor without zero rows, or `t` not above 0.
    """
    unit = _unit(checks.vectors("z", z, at_least=2))
    t = checks.number("t", t, above=0)
    rows = len(unit)
    blocks = []
    # Each pair once: a block of rows meets the rows from its own first one on. The last row has
    # met all others by then, so no block is without a pair.
    for start in range(0, rows - 1, ROWS):
        similarity = unit[start : start + ROWS] @ unit[start:].T
        size = len(similarity)
        met = torch.ones(size, size, dtype=torch.bool, device=unit.device).tril()
        similarity[:, :size].masked_fill_(met, -math.inf)
        exponents = similarity.sub_(1).mul_(2 * t)  # ‖x - y‖² = 2 - 2 x·y
        peak = exponents.max()
        blocks.append(peak + exponents.sub_(peak).exp_().sum().log())
    log_sum = float(torch.stack(blocks).logsumexp(dim=0)) + math.log(2)  # both orders of a pair
    if not include_self:
        return log_sum - math.log(rows * (rows - 1))
    both = torch.tensor([log_sum, math.log(rows)], dtype=torch.float64)
    return float(both.logsumexp(dim=0)) - math.log(rows**2)


def tolerance(z: Tensor, labels: Tensor, include_self: bool = False) -> float:
    """Mean cosine similarity of two samples of one class, in -1 .. 1 (higher is more tolerant).

    Wang & Liu, CVPR 2021, over the pairs of different rows. The DySTreSS code also counts each
    row with itself (``include_self=True``) and divides by N²/10 in place of the number of pairs:
    the same number for ten classes of equal size, ten times too small for a hundred.

    Parameters
    ----------
    z : Tensor
        Embeddings, shape (N, D).
    labels : Tensor
        Classes, integers (N,).
    include_self : bool
        Whether the N pairs of a row with itself count.

    Raises
    ------
    TypeError, ValueError
        If `z` is not a finite floating (N, D) tensor without zero rows, if `labels` are no integers
        (N,), or if no class has a pair.
    """
    unit, _, sums, counts = _by_class(z, labels)
    # The similarities of all pairs of a class add up to the squared length of the class's sum.
    total, pairs = float(sums.square().sum()), int(counts.square().sum())
    if not include_self:
        total, pairs = total - len(unit), pairs - len(unit)
    if pairs == 0:
        raise ValueError("labels must give at least one class two samples, got none with two")
    return total / pairs


def inter_class_uniformity(
    z: Tensor, labels: Tensor, centroids: Literal["unit", "raw"] = "unit"
) -> float:
    """Log of the mean potential exp(-2 ‖μ - μ'‖²) over pairs of class centroids (lower is better).

    Reconstructed: DySTreSS names this measure (Eq. 12 of its second version) and describes it as
    the separation of the centroids, but neither its formula nor its code was at hand.

    Parameters
    ----------
    z : Tensor
        Embeddings, shape (N, D).
    labels : Tensor
        Classes, integers (N,), at least two different ones. Classes that do not occur do not count.
    centroids : {"unit", "raw"}
        Whether the mean of a class's normalised rows is normalised again or taken as it is.

    Raises
    ------
    TypeError, ValueError
        If `z` is not a finite floating (N, D) tensor without zero rows, if `labels` are no integers
        (N,) with two classes or more, if `centroids` is unknown, or if a centroid that has to be
        normalised is zero.
    """
    _, _, sums, counts = _by_class(z, labels, at_least=2)
    checks.choice("centroids", centroids, ("unit", "raw"))
    means = sums / counts[:, None]
    if centroids == "unit":
        means = _unit(checks.vectors("class centroids of z", means))
    distances = torch.pdist(means)
    return float((-2 * distances.square()).logsumexp(dim=0)) - math.log(len(distances))


def silhouette(z: Tensor, labels: Tensor) -> float:
    """Mean silhouette of embeddings in their classes, with the distance 1 - cosine (higher: apart).

    The silhouette of a row is (b - a) / max(a, b): a is its mean distance to the other rows of
    its class, b the mean distance to the nearest other class (Rousseeuw, 1987). The distance is
    linear in the similarity, so the sums of the classes are enough; the value is that of
    ``sklearn.metrics.silhouette_score(z, labels, metric="cosine")``.

    Parameters
    ----------
    z : Tensor
        Embeddings, shape (N, D).
    labels : Tensor
        Classes, integers (N,), at least two different ones. A row alone in its class counts 0.

    Raises
    ------
    TypeError, ValueError
        If `z` is not a finite floating (N, D) tensor without zero rows, or if `labels` are no
        integers (N,) with two classes or more.
    """
    unit, own, sums, counts = _by_class(z, labels, at_least=2)
    similarity = unit @ sums.T
    within = similarity.gather(1, own[:, None])[:, 0] - 1  # without the row itself
    a = 1 - within / (counts[own] - 1).clamp(min=1)
    others = 1 - similarity / counts
    b = others.scatter(1, own[:, None], torch.inf).amin(dim=1)
    widest = torch.maximum(a, b)
    apart = (counts[own] > 1) & (widest > 1e-12)  # of equal rows only rounding is left
    return float(torch.where(apart, (b - a) / widest, 0.0).mean())


def scatter_ratio(z: Tensor, labels: Tensor) -> float:
    """Scatter of the class means over the scatter inside the classes: global structure.

    With normalised rows and the mean m_c and share p_c of each class: the sum over c of
    p_c ‖m_c - m‖², over the mean of ‖z - m_c‖² (the traces of Fisher's scatter matrices). It
    means nothing if all rows are equal.

    Parameters
    ----------
    z : Tensor
        Embeddings, shape (N, D).
    labels : Tensor
        Classes, integers (N,), at least two different ones.

    Raises
    ------
    TypeError, ValueError
        As `silhouette`.
    """
    unit, own, sums, counts = _by_class(z, labels, at_least=2)
    means = sums / counts[:, None]
    within = float((unit - means[own]).square().sum())
    between = float((counts[:, None] * (means - unit.mean(dim=0)).square()).sum())
    # Rounding is all that is left where every row equals the mean of its class.
    return between / max(within, len(unit) * torch.finfo(unit.dtype).eps)


def neighbour_agreement(z: Tensor, labels: Tensor, k: int = 10) -> float:
    """Share of the k nearest neighbours of a row that are of its class: local structure.

    Parameters
    ----------
    z : Tensor
        Embeddings, shape (N, D).
    labels : Tensor
        Classes, integers (N,).
    k : int
        Number of neighbours by cosine similarity, 1 .. N - 1; a row is none of its own.

    Raises
    ------
    TypeError, ValueError
        If `z` is not a finite floating (N, D) tensor without zero rows, `labels` are no integers
        (N,), or `k` is not allowed.
    """
    unit = _unit(checks.vectors("z", z))
    classes = checks.integers("labels", labels, len(unit), device=unit.device)
    k = checks.integer("k", k, at_least=1, at_most=len(unit) - 1)
    agreeing = 0.0
    for start, block in _blocks(unit):
        similarity = block @ unit.T
        similarity.diagonal(start).fill_(-torch.inf)
        _, neighbours = _largest(similarity, k)
        own = classes[start : start + len(block), None]
        agreeing += float((classes[neighbours] == own).double().sum())
    return agreeing / (k * len(unit))


def coverage(z: Tensor, bins: Tensor | int, seed: int = 0) -> Tensor:
    """Count the samples around each of many directions, largest count first.

    Fig. 1 of TS: the more even the counts, the more of the sphere is used. The paper takes 500
    random directions as bins and gives each sample to its closest one.

    Parameters
    ----------
    z : Tensor
        Embeddings, shape (N, D).
    bins : Tensor or int
        The directions, shape (K, D), or their number K, for directions that are uniform on the
        sphere.
    seed : int
        Draws the directions where `bins` is a number.

    Returns
    -------
    Tensor
        Samples per bin in descending order, int64 (K,).

    Raises
    ------
    TypeError, ValueError
        If `z` or `bins` is not a finite floating tensor without zero rows, if they differ in
        dimension, dtype or device, or if `bins` or `seed` is not an allowed number.
    """
    if isinstance(bins, Tensor):
        points, directions = _units("z", z, "bins", bins)
    else:
        points = _unit(checks.vectors("z", z))
        shape = (checks.integer("bins", bins, at_least=1), points.shape[1])
        generator = torch.Generator().manual_seed(checks.integer("seed", seed, at_least=0))
        directions = _unit(torch.randn(shape, generator=generator, dtype=torch.float64)).to(points)
    closest = torch.cat([(block @ directions.T).argmax(dim=1) for _, block in _blocks(points)])
    return closest.bincount(minlength=len(directions)).sort(descending=True).values


def similarity_histogram(z: Tensor, bins: int = 101) -> Tensor:
    """Count the pairs of different samples by their cosine similarity.

    The histogram of Fig. 2b of TS, on which all negatives of a training set would lie.

    Parameters
    ----------
    z : Tensor
        Embeddings, shape (N, D), N >= 2.
    bins : int
        Number of bins, at least 2; their centres are evenly spaced from -1 to 1 (Fig. 2: 101).

    Returns
    -------
    Tensor
        Ordered pairs per bin, int64 (bins,): N (N - 1) in all.

    Raises
    ------
    TypeError, ValueError
        If `z` is not a finite floating tensor of at least two rows without zeros, or `bins` is
        not an allowed number.
    """
    points = _unit(checks.vectors("z", z, at_least=2))
    last = checks.integer("bins", bins, at_least=2) - 1
    counts = torch.zeros(bins, dtype=torch.int64, device=z.device)
    for start, block in _blocks(points):
        places = ((block @ points.T).add_(1).mul_(last / 2).round_()).clamp_(0, last).long()
        counts += places.flatten().bincount(minlength=bins)
        counts -= places.diagonal(start).bincount(minlength=bins)  # a row with itself
    return counts


def cumulative_influence(similarity: Tensor, count: Tensor, tau: float) -> Tensor:
    r"""Return how much the negatives at each similarity add to the loss.

    Fig. 2c of TS: a histogram of the negatives, tilted by the temperature,

    .. math:: C_\tau(s) \propto h(s) \, e^{s / \tau},

    scaled to a maximum of 1.

    Parameters
    ----------
    similarity : Tensor
        Similarities, the centres of bins, shape (K,).
    count : Tensor
        Number or density of the negatives at these, shape (K,), none negative, some above 0.
    tau : float
        Temperature, above 0.

    Returns
    -------
    Tensor
        Shape (K,), float64.

    Raises
    ------
    TypeError, ValueError
        If `similarity` or `count` is not a tensor of finite numbers, if their shapes differ, no
        count is above 0 or one is below, or `tau` is not above 0.
    """
    tau = checks.number("tau", tau, above=0)
    for name, value in (("similarity", similarity), ("count", count)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} must be finite, got NaN or inf")
    if similarity.shape != count.shape:
        raise ValueError(
            f"similarity and count must have one shape, got {tuple(similarity.shape)} and "
            f"{tuple(count.shape)}"
        )
    if not (bool((count >= 0).all()) and bool((count > 0).any())):
        raise ValueError("count must be 0 or above, and above 0 somewhere")
    logarithm = similarity.double() / tau + count.double().log()
    return (logarithm - logarithm.max()).exp()


# Neighbours


def knn_predict(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    k: int,
    temperature: float | None = None,
) -> Tensor:
    """Let the k most similar rows of the bank vote on the class of each query.

    Without a temperature each neighbour has one vote and a tie goes to the smallest class (TS).
    With one, a neighbour of similarity s has exp(s / temperature) votes (DySTreSS, during
    training, with k = 200 and temperature 0.1).

    Parameters
    ----------
    bank : Tensor
        Embeddings with known classes, shape (N, D).
    bank_labels : Tensor
        Their classes, integers (N,).
    queries : Tensor
        Embeddings to classify, shape (M, D).
    k : int
        Number of neighbours, 1 .. N.
    temperature : float, optional
        Above 0, in units of cosine similarity.

    Returns
    -------
    Tensor
        Classes, int64 (M,).

    Raises
    ------
    TypeError, ValueError
        If `bank` or `queries` is not a finite floating tensor without zero rows, if they differ
        in dimension, dtype or device, if `bank_labels` are no integers (N,), if `k` not in 1 .. N
        or `temperature` not above 0.
    """
    known, new = _units("bank", bank, "queries", queries)
    k = checks.integer("k", k, at_least=1, at_most=len(known))
    if temperature is not None:
        temperature = checks.number("temperature", temperature, above=0)
    labels = checks.integers("bank_labels", bank_labels, len(known), device=known.device)
    classes, codes = torch.unique(labels, return_inverse=True)
    winners = []
    for _, block in _blocks(new):
        similarity, neighbours = _largest(block @ known.T, k)
        if temperature is None:
            weights = torch.ones_like(similarity)
        else:  # relative to the nearest neighbour: the same winner, and exp cannot overflow
            weights = ((similarity - similarity.amax(dim=1, keepdim=True)) / temperature).exp()
        votes = weights.new_zeros(len(block), len(classes))
        votes.scatter_add_(1, codes[neighbours], weights)
        winners.append(votes.argmax(dim=1))  # the first of equals, and classes ascend
    winner: Tensor = classes[torch.cat(winners)]
    return winner


def _largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest entries of each row and their columns, both (rows, k), in any order.

    The columns form groups, and the k largest entries lie in the k groups whose own largest
    entries are the largest. Finding those and looking through them takes about half the time of
    looking through everything, because a selection costs many times what a maximum costs.
    """
    rows, columns = values.shape
    groups = columns // GROUP
    if groups < k:
        return values.topk(k, dim=1, sorted=False)
    # A group is every `groups`-th column; columns that are left over at the end always compete.
    grouped, column = groups * GROUP, torch.arange(columns, device=values.device)
    maxima = values[:, :grouped].view(rows, GROUP, groups).amax(dim=1)
    best = maxima.topk(k, dim=1, sorted=False).indices
    members = best[:, :, None] + column[:grouped:groups]
    candidates = torch.cat([members.flatten(1), column[grouped:].expand(rows, -1)], dim=1)
    largest, place = values.gather(1, candidates).topk(k, dim=1, sorted=False)
    return largest, candidates.gather(1, place)


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    k: int,
    temperature: float | None = None,
    average: Average = "micro",
) -> float:
    """Share of the queries that `knn_predict` gets right.

    The k-NN score of TS is ``average="macro"`` with the long-tailed training set as the bank.

    Parameters
    ----------
    bank, bank_labels, queries, k, temperature
        As in `knn_predict`.
    query_labels : Tensor
        The true classes of the queries, integers (M,).
    average : {"micro", "macro"}
        As in `accuracy`.

    Raises
    ------
    TypeError, ValueError
        As `knn_predict` and `accuracy` do.
    """
    truth = checks.integers("query_labels", query_labels, len(checks.vectors("queries", queries)))
    return accuracy(knn_predict(bank, bank_labels, queries, k, temperature), truth, average)


# Probes


def svm_predict(train_features: Tensor, train_labels: Tensor, test_features: Tensor) -> Tensor:
    """Classify with a linear support vector machine on normalised features.

    The linear probe of TS: scikit-learn's LinearSVC with its defaults (C = 1, squared hinge, one
    class against the rest) and random state 42. Trained on a balanced subset it is their few-shot
    probe, on the whole long tail their long-tail probe.

    Parameters
    ----------
    train_features : Tensor
        Embeddings to learn from, shape (N, D).
    train_labels : Tensor
        Their classes, integers (N,), at least two different ones.
    test_features : Tensor
        Embeddings to classify, shape (M, D).

    Returns
    -------
    Tensor
        Classes, int64 (M,).

    Raises
    ------
    ImportError
        If scikit-learn is missing.
    TypeError, ValueError
        If the features are not finite floating tensors without zero rows, if they differ in
        dimension, dtype or device, or if `train_labels` are not integers (N,) with two classes.
    """
    classifier = _scikit_learn("svm").LinearSVC(dual="auto", random_state=42)
    return _fit_and_predict(classifier, train_features, train_labels, test_features)


def svm_probe(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> float:
    """Share of the test samples that `svm_predict` gets right (LP of TS).

    Parameters and errors are those of `svm_predict`; `test_labels`, integers (M,), are the true
    classes. Pass the predictions of `svm_predict` to `accuracy` or `group_accuracy` for more.
    """
    truth = _test_labels(test_features, test_labels)
    return accuracy(svm_predict(train_features, train_labels, test_features), truth)


def linear_predict(train_features: Tensor, train_labels: Tensor, test_features: Tensor) -> Tensor:
    """Classify with logistic regression on normalised features.

    scikit-learn's LogisticRegression with its defaults (C = 1) and up to 1,000 iterations.
    Parameters, result and errors are those of `svm_predict`.
    """
    classifier = _scikit_learn("linear_model").LogisticRegression(max_iter=1000)
    return _fit_and_predict(classifier, train_features, train_labels, test_features)


def linear_probe(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, test_labels: Tensor
) -> float:
    """Share of the test samples that `linear_predict` gets right.

    Parameters and errors are those of `svm_predict`; `test_labels`, integers (M,), are the true
    classes.
    """
    truth = _test_labels(test_features, test_labels)
    return accuracy(linear_predict(train_features, train_labels, test_features), truth)


# Scores


def accuracy(predictions: Tensor, labels: Tensor, average: Average = "micro") -> float:
    """Share of right predictions, in 0 .. 1.

    Parameters
    ----------
    predictions, labels : Tensor
        Predicted and true classes, integers (N,), N >= 1.
    average : {"micro", "macro"}
        Over the samples, or over the accuracies of the classes that occur in `labels`.

    Raises
    ------
    TypeError, ValueError
        If `predictions` and `labels` are no integers of one length above 0, or `average` is
        unknown.
    """
    predictions, labels = _predictions(predictions, labels)
    checks.choice("average", average, ("micro", "macro"))
    if average == "micro":
        return int((predictions == labels).sum()) / len(labels)
    classes, codes = torch.unique(labels, return_inverse=True)
    return float(_class_accuracies(predictions == labels, codes, len(classes)).mean())


def group_accuracy(predictions: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """Mean accuracy of the classes of each group, such as head, mid and tail (TS, App. A.2).

    Parameters
    ----------
    predictions, labels : Tensor
        Predicted and true classes, integers (N,), in 0 .. classes - 1.
    groups : Tensor
        The group of each class, integers (classes,), in 0 .. number of groups - 1.

    Returns
    -------
    Tensor
        Accuracy of each group, float64, on the processor.

    Raises
    ------
    TypeError, ValueError
        If an argument is not integers of the right length and range, or if a class has no sample or
        a group no class (their accuracy is undefined).
    """
    predictions, labels = _predictions(predictions, labels)
    groups = checks.integers("groups", groups).cpu()
    classes = len(groups)
    if classes == 0 or int(groups.min()) < 0:
        raise ValueError(f"groups must hold 0, 1, ... for each class, got {groups.tolist()}")
    checks.integers("predictions", predictions, len(labels), size=classes)
    checks.integers("labels", labels, len(labels), size=classes)
    _refuse_empty("labels", "class", labels.bincount(minlength=classes))
    sizes = groups.bincount()
    _refuse_empty("groups", "group", sizes)
    per_class = _class_accuracies(predictions == labels, labels, classes)
    return groups.bincount(weights=per_class) / sizes


def recall_at_k(similarity: Tensor, k: int, groups: Tensor | None = None) -> float:
    """Share of the rows whose match, on the diagonal, is among their k largest entries.

    Retrieval of images by text and, with ``similarity.T``, of text by images. Where entries tie
    with the match, it counts by the chance that a random order of them puts it among the k, so
    that collapsed embeddings score k / N.

    Parameters
    ----------
    similarity : Tensor
        Similarity of query i to candidate j, finite, shape (N, N).
    k : int
        Number of candidates that are looked at, 1 .. N.
    groups : Tensor, optional
        Of each query and of its candidate, integer, shape (N,): all candidates of its group are
        matches of a query, and one of them is enough. For equal captions of several images.

    Raises
    ------
    TypeError, ValueError
        If `similarity` is not a finite floating (N, N) tensor, `k` not in 1 .. N, or `groups` no
        integer tensor (N,).
    """
    similarity = _matrix("similarity", similarity)
    if similarity.shape[0] != similarity.shape[1]:
        raise ValueError(f"similarity must be square, (N, N), got {tuple(similarity.shape)}")
    if not similarity.isfinite().all():
        raise ValueError("similarity must be finite, got NaN or inf")
    k = checks.integer("k", k, at_least=1, at_most=len(similarity))
    if groups is None:
        best, matches = similarity.diagonal()[:, None], torch.ones(len(similarity))
        equal = similarity == best
    else:
        groups = checks.integers("groups", groups, len(similarity), device=similarity.device)
        mine = groups[:, None] == groups
        best = similarity.masked_fill(~mine, -math.inf).amax(dim=1, keepdim=True)
        equal = similarity == best
        matches = (equal & mine).sum(dim=1).cpu().double()
    better, ties = (each.sum(dim=1).cpu().double() for each in (similarity > best, equal))
    places = (k - better).clamp(min=0).minimum(ties)  # left for those that tie with the best match
    others = ties - matches
    # The match is missed where others have all places: C(others, places) / C(ties, places).
    log_missed = torch.lgamma(others + 1) - torch.lgamma(others - places + 1)
    log_missed += torch.lgamma(ties - places + 1) - torch.lgamma(ties + 1)
    return float((1 - log_missed.exp()).mean())


def effective_negatives(similarity: Tensor, tau: float | Tensor) -> Tensor:
    """Count the entries of a row that matter at temperature τ: exp(entropy of the softmax).

    The perplexity of softmax(similarity / τ): M where all entries of a row weigh the same, 1 where
    one has all the weight. At the optimal τ of iSogCLR it is M exp(-ρ) for every anchor (C10).

    Parameters
    ----------
    similarity : Tensor
        Similarities of N anchors to their M negatives, shape (N, M). An entry of -inf (the anchor
        itself, say) is left out.
    tau : float or Tensor
        Temperature above 0: one for all, or a tensor of shape (), (N,), (N, 1) or (N, M).

    Returns
    -------
    Tensor
        Effective number of negatives of each anchor, shape (N,), in 1 .. M.

    Raises
    ------
    TypeError, ValueError
        If `similarity` is not a floating (N, M) tensor, holds NaN or +inf or a row of -inf only,
        or if `tau` is not finite, not above 0, or of another shape, dtype or device.
    """
    similarity = _matrix("similarity", similarity)
    highest = similarity.amax(dim=1, keepdim=True)
    if not highest.isfinite().all():
        raise ValueError("similarity must hold no NaN or +inf and no row of -inf only")
    if isinstance(tau, Tensor):
        tau = _temperatures(tau, similarity)
    else:
        tau = checks.number("tau", tau, above=0)
    weights = (similarity / tau).softmax(dim=1)
    entropy: Tensor = torch.special.entr(weights).sum(dim=1)
    return entropy.exp()


# Shared by the measures


def _unit(rows: Tensor) -> Tensor:
    """Divide each row by its length, half precision in float32."""
    rows = _full_precision(rows)
    rows = rows / rows.abs().amax(dim=1, keepdim=True)  # squares neither overflow nor vanish
    return rows / rows.square().sum(dim=1, keepdim=True).sqrt()


def _full_precision(values: Tensor) -> Tensor:
    """Return the values without their graph, half precision as float32."""
    return values.detach().float() if values.element_size() < 4 else values.detach()


def _blocks(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Go through the rows, `ROWS` at a time, with the number of the first."""
    return zip(range(0, len(rows), ROWS), torch.split(rows, ROWS), strict=True)


def _by_class(
    z: Tensor, labels: Tensor, at_least: int = 1
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return unit rows, the number of the class of each, and the sum and size of each class.

    In float64, on the processor: differences of distances cancel, and some devices have none.
    """
    unit = _unit(checks.vectors("z", z).cpu().double())
    labels = checks.integers("labels", labels, len(unit), device=unit.device)
    _, own, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < at_least:
        raise ValueError(f"labels must hold at least {at_least} classes, got {len(counts)}")
    sums = unit.new_zeros(len(counts), unit.shape[1]).index_add_(0, own, unit)
    return unit, own, sums, counts


def _class_accuracies(right: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the share of right predictions (classes,) of each class, float64."""
    return labels[right].bincount(minlength=classes).double() / labels.bincount(minlength=classes)


def _scikit_learn(module: str) -> Any:
    """Import a module of scikit-learn, which only the probes need."""
    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError("the probes need scikit-learn: pip install dytemp[lab]") from error


def _fit_and_predict(
    classifier: Any, train_features: Tensor, train_labels: Tensor, test_features: Tensor
) -> Tensor:
    """Train a scikit-learn classifier on normalised features and apply it."""
    train, test = _units("train_features", train_features, "test_features", test_features)
    labels = checks.integers("train_labels", train_labels, len(train)).cpu()
    if len(torch.unique(labels)) < 2:
        raise ValueError("train_labels must hold at least 2 classes, got 1")
    classifier.fit(train.cpu().numpy(), labels.numpy())
    return torch.from_numpy(classifier.predict(test.cpu().numpy())).to(test.device)


def _test_labels(test_features: Tensor, test_labels: Tensor) -> Tensor:
    """Check that there is one true class for each test sample."""
    samples = len(checks.vectors("test_features", test_features))
    return checks.integers("test_labels", test_labels, samples)


def _predictions(predictions: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return predicted and true classes on the processor, where counting in float64 works."""
    predictions = checks.integers("predictions", predictions)
    labels = checks.integers("labels", labels, len(predictions))
    if not len(labels):
        raise ValueError("predictions and labels must hold at least 1 sample, got 0")
    return predictions.cpu(), labels.cpu()


def _refuse_empty(name: str, kind: str, counts: Tensor) -> None:
    """Refuse a class or a group without a member."""
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"{name} must give every {kind} a member, got none for {kind} {empty}")


def _units(name1: str, first: Tensor, name2: str, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unit rows of two sets of embeddings that have one dimension, dtype and device."""
    units = _unit(checks.vectors(name1, first)), _unit(checks.vectors(name2, second))
    checks.alike(name1, first, name2, second)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{name1} and {name2} must have one dimension D, "
            f"got {first.shape[1]} and {second.shape[1]}"
        )
    return units


def _matrix(name: str, value: Tensor) -> Tensor:
    """Return a floating matrix with at least one entry, half precision as float32."""
    if checks.floating(name, value).ndim != 2 or value.numel() == 0:
        raise ValueError(f"{name} must be a matrix (N, M) with entries, got {tuple(value.shape)}")
    return _full_precision(value)


def _temperatures(tau: Tensor, similarity: Tensor) -> Tensor:
    """Return temperatures in a shape that divides the (N, M) similarities row by row."""
    rows, columns = similarity.shape
    allowed = ((), (rows,), (rows, 1), (rows, columns))
    if tau.shape not in allowed:
        raise ValueError(f"tau must have one of the shapes {allowed}, got {tuple(tau.shape)}")
    tau = _full_precision(tau)
    checks.alike("tau", tau, "similarity", similarity)
    if not (tau.isfinite() & (tau > 0)).all():
        raise ValueError("tau must be finite and above 0 everywhere")
    return tau[:, None] if tau.ndim == 1 else tau
