"""How readers see what runs record: the one place where metrics get their words."""

from __future__ import annotations

#: Metrics of accuracy, as tables name them; a study gives them in percent.
METRICS = {
    "knn1": "kNN@1",
    "knn10": "kNN@10",
    "few_shot": "few-shot probe",
    "long_tail": "long-tail probe",
}
_MORE = {
    "knn200": "weighted kNN@200",
    "recall1_text": "image to text, recall at 1",
    "recall5_text": "image to text, recall at 5",
    "recall10_text": "image to text, recall at 10",
    "recall1_image": "text to image, recall at 1",
    "recall5_image": "text to image, recall at 5",
    "recall10_image": "text to image, recall at 10",
    "recall1": "recall at 1, both ways",
    "zero_shot": "zero-shot top-1",
    "fullest_group": "share of the fullest group",
    "inter_class_uniformity": "uniformity between classes",
    "scatter_ratio": "scatter ratio",
    "neighbour_agreement": "neighbour agreement",
}
GROUPS = ("head", "mid", "tail")


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
