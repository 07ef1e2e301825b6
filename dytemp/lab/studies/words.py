"""How readers see what runs record: where metrics, data sets and encoders get their words."""

from __future__ import annotations

from collections.abc import Sequence

#: Metrics of accuracy, as tables name them; a study gives them in percent.
METRICS = {
    "knn1": "kNN@1",
    "knn10": "kNN@10",
    "few_shot": "few-shot probe",
    "long_tail": "long-tail probe",
}
_MORE = {
    "knn200": "weighted kNN@200",
    "leave_one_out": "kNN@1 on the training images",
    "recall1_text": "image to text, recall at 1",
    "recall5_text": "image to text, recall at 5",
    "recall10_text": "image to text, recall at 10",
    "recall1_image": "text to image, recall at 1",
    "recall5_image": "text to image, recall at 5",
    "recall10_image": "text to image, recall at 10",
    "recall1": "recall at 1, both ways",
    "recall1_there": "King James to modern wording, recall at 1",
    "recall1_back": "modern to King James wording, recall at 1",
    "graded": "graded pairs, Spearman × 100",
    "zero_shot": "zero-shot top-1",
    "fullest_group": "share of the fullest group",
    "inter_class_uniformity": "uniformity between classes",
    "scatter_ratio": "scatter ratio",
    "neighbour_agreement": "neighbour agreement",
}
#: Metrics whose names begin so (see `bare`) are accuracies, in 0 .. 1.
ACCURACIES = ("knn", "few_shot", "long_tail", "leave_one_out", "recall", "zero_shot")
GROUPS = ("head", "mid", "tail")
DATA = {
    "mnist5k": "MNIST digits",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "stl10": "STL-10",
    "prototypes": "generated patterns",
    "scenes": "generated scenes with captions",
    "fashion": "product photos with their names",
    "scene_sentences": "generated scenes in words",
    "verses": "short verses in two wordings",
}
ENCODERS = {
    "tiny": "three convolutional layers",
    "small": "small residual network",
    "wide": "small residual network of twice the width",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "dense": "two dense layers",
    "transformer": "small transformer",
}
_LONG_TAIL = 5  # times as many images of the most frequent class as of the rarest


def bare(name: str) -> str:
    """Return the name of a metric without what it was measured on, or with."""
    return name.removeprefix("validation_").removeprefix("words_")


def metric(name: str) -> str:
    """Return a metric in words: ``validation_knn1_head`` is "validation kNN@1, head classes".

    Parameters
    ----------
    name : str
        As a run records it; any other text is returned as it is.
    """
    known = METRICS | _MORE
    if name in known:
        return known[name]
    if name.startswith("validation_"):
        return f"validation {metric(name.removeprefix('validation_'))}"
    kind, _, group = name.rpartition("_")
    return f"{known[kind]}, {group} classes" if kind in known and group in GROUPS else name


def data(name: str, counts: Sequence[int]) -> str:
    """Return a data set in words: ``cifar10`` is "CIFAR-10, long tail" if its classes are uneven.

    Parameters
    ----------
    name : str
        As a configuration has it; that of own data stays as it is.
    counts : sequence of int
        Training images of each class.
    """
    uneven = max(counts) >= _LONG_TAIL * min(counts)
    return DATA.get(name, name) + (", long tail" if uneven else "")


def encoder(name: str) -> str:
    """Return an encoder in words: ``small`` is "small residual network"."""
    return ENCODERS.get(name, name)
