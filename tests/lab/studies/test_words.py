"""Metrics, data and encoders are shown in words, and what is none of them stays as it is."""

from __future__ import annotations

import pytest

from dytemp.lab.datasets import loading, public
from dytemp.lab.studies import protocols, words
from dytemp.lab.studies.claims import Contrast
from dytemp.lab.training import configuration


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("knn1", "kNN@1"),
        ("long_tail", "long-tail probe"),
        ("few_shot_tail", "few-shot probe, tail classes"),
        ("validation_knn1_head", "validation kNN@1, head classes"),
        ("recall1_text", "image to text, recall at 1"),
        ("uniformity", "uniformity"),
        ("tail", "tail"),
        ("table4_long_tail", "table4_long_tail"),
    ],
)
def test_metrics_in_words(name: str, shown: str) -> None:
    assert words.metric(name) == shown


def test_contrasts_name_their_metric_in_words() -> None:
    contrast = Contrast("TS", "fixed 0.2", "few_shot", "mid")
    assert str(contrast) == "TS minus fixed 0.2, few-shot probe, mid classes"


@pytest.mark.parametrize(
    ("name", "counts", "shown"),
    [
        ("cifar10", [4500, 500, 45], "CIFAR-10, long tail"),
        ("cifar10", [1117] * 10, "CIFAR-10"),
        ("mnist5k", [99, 98, 99], "MNIST digits"),
        ("birds@64", [300, 20], "birds@64, long tail"),
    ],
)
def test_data_in_words(name: str, counts: list[int], shown: str) -> None:
    assert words.data(name, counts) == shown


def test_all_data_sets_and_encoders_have_words() -> None:
    trained = {each["data"] for each in (protocols.PHOTOS, protocols.SMALL, protocols.QUICK)}
    assert set(words.DATA) == {*loading._EMBEDDED, *public.PUBLIC, *trained}
    assert set(words.ENCODERS) == set(configuration.ENCODERS)
    assert words.encoder("small") == "small residual network"
    assert words.encoder("of one's own") == "of one's own"
