"""What a trained encoder is worth, on balanced test data that it never saw.

As in TS (its released notebooks) everything rests on the normalised output of the backbone, but
without augmentation; the long-tailed training images are the bank of the nearest neighbours. Pairs
of images and captions are retrieved by their embeddings, as in iSogCLR, and so are sentences in
another wording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from dytemp import metrics
from dytemp.lab.datasets import Captioned, Dataset, Sentences, Split, captions
from dytemp.lab.training.augment import Augmentation, two_views
from dytemp.lab.training.pairings import ImageAndText, Pairing

GROUPS = ("head", "mid", "tail")
ROWS = 1000  # images in a forward pass
PAIRS = 2000  # test images that alignment is measured on
RECALLS = (1, 5, 10)
GRADES = 5  # the highest grade of a pair of sentences, as in the STS data sets
BINS, BINS_IN_GROUP = 500, 10  # of the coverage, as drawn in Fig. 1 of TS
SIMILARITY_BINS = 101  # as `dytemp.metrics.similarity_histogram` has by default
STRUCTURE = (
    metrics.inter_class_uniformity,
    metrics.silhouette,
    metrics.scatter_ratio,
    metrics.neighbour_agreement,
)
Embed = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Evaluation:
    """The measurements of one epoch.

    Attributes
    ----------
    epoch : int
        Number of finished epochs.
    metrics : dict
        Accuracies are in 0 .. 1. ``knn1``, ``knn10``, ``few_shot``, ``long_tail``: mean over the
        classes of the balanced test set, each also as ``_head``, ``_mid`` and ``_tail`` where there
        are three classes or more. Captions without classes have no accuracy: their ``knn1`` is 1.
        ``validation_knn1``, ``validation_knn10``: on the validation images, if there are any.
        ``uniformity`` and ``tolerance``: of the test features. In complete evaluations also
        ``knn200`` (weighted by exp(s / 0.1), as DySTreSS), ``leave_one_out``: kNN@1 of the training
        images themselves, each among the others (classes of which one image is left count 0; not
        for captions and sentences), ``alignment``: of two views of the test
        images, ``inter_class_uniformity``, ``silhouette``, ``scatter_ratio`` (global structure)
        and ``neighbour_agreement`` (local structure) of the test features. For captions
        ``recall1_text`` (image to text), ``recall1_image`` (text to image), the same at 5 and 10,
        ``validation_recall1``, the mean of both on the validation images, and ``zero_shot``: test
        images by the names of their classes, a mean over the classes as for kNN. For sentences
        ``recall1_there`` and ``recall1_back`` (a held-out sentence finds its other wording, and
        back), their mean ``recall1``, and ``graded``: Spearman's correlation of the cosine with
        the share that a spliced sentence has left; all also as ``validation_``, and as ``words_``
        for common words in place of an encoder. Their ``alignment`` is that of both wordings.
    per_class : dict
        The accuracies of all classes, for each kind of prediction.
    geometry : dict
        Empty, or of the projections of the training images: ``coverage``, numbers of images in
        groups of ten of 500 random bins, the fullest first (`dytemp.metrics.coverage`), and
        ``similarities`` of different images (`dytemp.metrics.similarity_histogram`). In complete
        evaluations also how similar the projections of two views of the test images are, in bins
        of the same kind: ``positives`` (of one image), ``false_negatives`` (of different images
        of one class) and ``true_negatives`` (of different classes).
    """

    epoch: int
    metrics: dict[str, float]
    per_class: dict[str, list[float]]
    geometry: dict[str, list[int]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the measurements, ready for JSON; the geometry only if there is any."""
        found = asdict(self)
        return found if found["geometry"] else {k: v for k, v in found.items() if k != "geometry"}


def evaluate(
    epoch: int,
    model: Pairing,
    dataset: Dataset,
    split: Split,
    probes: tuple[str, ...],
    augmentation: Augmentation | None,
    autocast: Callable[[], Any],
    with_geometry: bool = False,
    prompts: tuple[str, ...] = ("{}",),
) -> Evaluation:
    """Evaluate the encoders of a run; they come back in the mode of training.

    Parameters
    ----------
    epoch : int
        Number of finished epochs.
    model : Pairing
        The encoders.
    dataset, split
        The data.
    probes : tuple of str
        ``"few_shot"`` and ``"long_tail"``: linear support vector machines to train.
    augmentation : Augmentation or None
        Of the views for the alignment; None leaves it out.
    autocast : callable
        Returns the context in which the encoders run.
    with_geometry : bool
        Whether to look at the projections of the training images.
    prompts : tuple of str
        For image-text pairs: texts round the name of a class, whose embeddings are averaged.
    """
    device, image = next(iter(model.state_dict().values())).device, model.image
    reads = isinstance(dataset, Sentences)

    def embed(function: Embed, inputs: Tensor) -> Tensor:
        with torch.inference_mode(), autocast():
            starts = range(0, len(inputs), ROWS)
            parts = [function(inputs[k : k + ROWS].to(device)).float().cpu() for k in starts]
        return torch.cat(parts)

    def features(images: Tensor) -> Tensor:
        return embed(lambda part: image.features(part if reads else part / 255), images)

    model.eval()
    bank, test = features(dataset.train_images[split.train]), features(dataset.test_images)
    bank_labels, test_labels = dataset.train_labels[split.train], dataset.test_labels
    found = {f"knn{k}": metrics.knn_predict(bank, bank_labels, test, k) for k in (1, 10)}
    if augmentation is not None:
        most = min(200, len(bank))
        found["knn200"] = metrics.knn_predict(bank, bank_labels, test, most, temperature=0.1)
    several = len(dataset.class_names) > 1
    for probe in probes if several else ():
        members = split.few_shot if probe == "few_shot" else split.train
        rows = torch.isin(split.train, members)
        found[probe] = metrics.svm_predict(bank[rows], bank_labels[rows], test)

    retrieval = {}
    if isinstance(model, ImageAndText) and isinstance(dataset, Captioned):
        if several:
            found["zero_shot"] = _by_name(embed, model, dataset, prompts)
        retrieval = _retrieval(embed, model, dataset, split.validation)

    values, per_class = _accuracies(found, test_labels, split.groups)
    of_views = several and not isinstance(dataset, Captioned | Sentences)
    complete = augmentation is not None and len(torch.unique(bank_labels)) == len(split.groups)
    if of_views and complete:
        left_out = {"leave_one_out": _leave_one_out(bank, bank_labels)}
        more, of_classes = _accuracies(left_out, bank_labels, split.groups)
        values, per_class = values | more, per_class | of_classes
    if len(split.validation):
        queries = features(dataset.train_images[split.validation])
        truth = dataset.train_labels[split.validation]
        for k in (1, 10):
            values[f"validation_knn{k}"] = metrics.knn_accuracy(
                bank, bank_labels, queries, truth, k, average="macro"
            )
    values["uniformity"] = metrics.uniformity(test)
    values["tolerance"] = metrics.tolerance(test, test_labels)
    if isinstance(dataset, Sentences):
        values |= _sentences(features, dataset)
    geometry = {}
    if with_geometry:
        inputs = dataset.train_images[split.train]
        geometry = _geometry(embed(lambda x: image(x if reads else x / 255), inputs))
    if augmentation is not None:
        if isinstance(dataset, Sentences):
            values["alignment"] = metrics.alignment(test, features(dataset.test_others))
            values |= _common_words(dataset)
        else:
            views = two_views(
                dataset.test_images[:PAIRS], augmentation, torch.Generator().manual_seed(0)
            )
            values["alignment"] = metrics.alignment(*(embed(image.features, v) for v in views))
            if with_geometry:
                first, second = (embed(image, view) for view in views)
                geometry |= _kinds_of_pairs(first, second, test_labels[:PAIRS])
        for measure in STRUCTURE if several else ():
            values[measure.__name__] = measure(test, test_labels)
    values |= retrieval
    model.train()
    return Evaluation(epoch, values, per_class, geometry)


def _geometry(projections: Tensor) -> dict[str, list[int]]:
    """Return how the projections cover the sphere and how similar they are to each other."""
    groups = metrics.coverage(projections, BINS).view(-1, BINS_IN_GROUP).sum(dim=1)
    return {
        "coverage": groups.tolist(),
        "similarities": metrics.similarity_histogram(projections).tolist(),
    }


def _kinds_of_pairs(z1: Tensor, z2: Tensor, labels: Tensor) -> dict[str, list[int]]:
    """Count the pairs of one view and another by similarity, for each kind of pair."""
    similarity = F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T
    places = ((similarity + 1) * (SIMILARITY_BINS - 1) / 2).round().long()
    places = places.clamp(0, SIMILARITY_BINS - 1)
    same, itself = labels[:, None] == labels, torch.eye(len(labels), dtype=torch.bool)
    kinds = {"positives": itself, "false_negatives": same & ~itself, "true_negatives": ~same}
    return {
        name: places[kind].bincount(minlength=SIMILARITY_BINS).tolist()
        for name, kind in kinds.items()
    }


def _leave_one_out(bank: Tensor, labels: Tensor) -> Tensor:
    """Classify each image of the bank by the nearest one of the others."""
    unit, nearest = F.normalize(bank, dim=1), []
    for start in range(0, len(unit), ROWS):
        similarity = unit[start : start + ROWS] @ unit.T
        similarity.diagonal(start).fill_(-torch.inf)
        nearest.append(similarity.argmax(dim=1))
    return labels[torch.cat(nearest)]


def _accuracies(
    found: dict[str, Tensor], labels: Tensor, groups: Tensor
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Return means over all classes and over head, mid and tail, and the accuracy of each class."""
    every = torch.arange(len(groups))
    names = GROUPS if len(groups) >= len(GROUPS) else ()
    values, per_class = {}, {}
    for name, predictions in found.items():
        per_class[name] = metrics.group_accuracy(predictions, labels, every).tolist()
        values[name] = sum(per_class[name]) / len(every)
        of_groups = metrics.group_accuracy(predictions, labels, groups).tolist()
        for group, value in zip(names, of_groups, strict=bool(names)):
            values[f"{name}_{group}"] = value
    return values, per_class


def _by_name(
    embed: Callable[[Embed, Tensor], Tensor],
    model: ImageAndText,
    data: Captioned,
    prompts: tuple[str, ...],
) -> Tensor:
    """Find the class of each test image by its name: the mean embedding over the prompts."""
    images = _unit(embed(lambda part: model.image(part / 255), data.test_images))
    length = data.test_tokens.shape[1]
    names = torch.stack(
        [
            _unit(embed(model.text, captions.tokenise(texts, data.vocabulary, length)))
            for texts in ([prompt.format(name) for name in data.class_names] for prompt in prompts)
        ]
    ).mean(dim=0)
    return (images @ _unit(names).T).argmax(dim=1)


def _retrieval(
    embed: Callable[[Embed, Tensor], Tensor],
    model: ImageAndText,
    data: Captioned,
    validation: Tensor,
) -> dict[str, float]:
    """Find captions for images and images for captions."""

    def similarity(images: Tensor, tokens: Tensor) -> Tensor:
        return (
            _unit(embed(lambda part: model.image(part / 255), images))
            @ _unit(embed(model.text, tokens)).T
        )

    test, values = similarity(data.test_images, data.test_tokens), {}
    for k in (k for k in RECALLS if k <= len(test)):
        values[f"recall{k}_text"] = metrics.recall_at_k(test, k, data.test_groups)
        values[f"recall{k}_image"] = metrics.recall_at_k(test.T, k, data.test_groups)
    if len(validation):
        groups = captions.equal([data.train_captions[k] for k in validation.tolist()])
        held_out = similarity(data.train_images[validation], data.train_tokens[validation])
        both = (metrics.recall_at_k(each, 1, groups) for each in (held_out, held_out.T))
        values["validation_recall1"] = sum(both) / 2
    return values


def _unit(embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings, dim=1)


def _sentences(read: Embed, data: Sentences) -> dict[str, float]:
    """Find held-out sentences by their other wording, and grade how much is left of them."""
    values: dict[str, float] = {}
    for prefix, ours, theirs in (
        ("", data.test_images, data.test_others),
        ("validation_", data.validation, data.validation_others),
    ):
        spliced, shares = _graded_pairs(theirs)
        first, second, third = (F.normalize(read(each), dim=1) for each in (ours, theirs, spliced))
        grades = (first * third).sum(dim=1)
        found = _agreement(first @ second.T, ours, theirs, grades, shares)
        values |= {prefix + name: value for name, value in found.items()}
    return values


def _common_words(data: Sentences) -> dict[str, float]:
    """Return what common words alone reach: the cosine of word counts, rare words weighing more."""
    every = data.train_images.sort(dim=1).values
    new = (every[:, 1:] != every[:, :-1]) & (every[:, 1:] > 0)
    size = len(data.vocabulary)
    frequency = every[:, 1:][new].bincount(minlength=size)
    weights = torch.log((1 + len(every)) / (1 + frequency)).numpy()
    weights[0] = 0  # the padding

    def counts(tokens: Tensor) -> sparse.csr_array:
        rows = np.repeat(np.arange(len(tokens)), tokens.shape[1])
        columns = tokens.flatten().numpy()
        table = sparse.csr_array((weights[columns], (rows, columns)), shape=(len(tokens), size))
        length = np.sqrt(table.multiply(table).sum(axis=1))
        scale = sparse.csr_array(sparse.diags(1 / np.maximum(length, 1e-12)))
        return scale @ table

    ours, theirs = data.test_images, data.test_others
    spliced, shares = _graded_pairs(theirs)
    first, second, third = counts(ours), counts(theirs), counts(spliced)
    grades = torch.from_numpy(first.multiply(third).sum(axis=1))
    similarity = torch.from_numpy((first @ second.T).toarray())
    found = _agreement(similarity, ours, theirs, grades, shares)
    return {f"words_{name}": value for name, value in found.items()}


def _graded_pairs(sentences: Tensor) -> tuple[Tensor, Tensor]:
    """End sentences by others, from all of a sentence left to none; return these shares too.

    The stranger stands half the data set away.
    """
    shares = (torch.arange(len(sentences)) % (GRADES + 1)) / GRADES
    return captions.splice(sentences, sentences.roll(len(sentences) // 2, 0), shares), shares


def _agreement(
    similarity: Tensor, ours: Tensor, theirs: Tensor, grades: Tensor, shares: Tensor
) -> dict[str, float]:
    """Return recall both ways and the rank correlation of grades; equal sentences are one."""

    def recall(matrix: Tensor, wanted: Tensor) -> float:
        _, same = torch.unique(wanted, dim=0, return_inverse=True)
        return metrics.recall_at_k(matrix, 1, same)

    there, back = recall(similarity, theirs), recall(similarity.T, ours)
    ordered = bool((grades != grades[0]).any())
    rank = spearmanr(grades.numpy(), shares.numpy()).statistic if ordered else 0.0
    return {
        "recall1_there": there,
        "recall1_back": back,
        "recall1": (there + back) / 2,
        "graded": float(rank),
    }
