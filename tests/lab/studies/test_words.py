"""Metrics are shown in words, and what is no metric stays as it is."""

from __future__ import annotations

import pytest

from dytemp.lab.studies import words
from dytemp.lab.studies.claims import Contrast


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
