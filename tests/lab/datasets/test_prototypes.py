"""The generated patterns: repeatable, balanced, neither trivial nor hopeless."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dytemp import metrics
from dytemp.lab import datasets
from dytemp.lab.datasets.prototypes import prototypes
from dytemp.lab.studies import protocols
from dytemp.lab.training import augment, choose_split, encoders, train


def test_the_same_seed_draws_the_same_images() -> None:
    one, again, other = prototypes(20, 10), prototypes(20, 10), prototypes(20, 10, seed=1)
    assert torch.equal(one.train_images, again.train_images)
    assert torch.equal(one.test_images, again.test_images)
    assert not torch.equal(one.train_images, other.train_images)
    assert one.train_images.shape == (200, 1, 8, 8)
    assert one.train_images.dtype == torch.uint8
    assert one.train_labels.bincount().tolist() == [20] * 10
    assert one.test_labels.bincount().tolist() == [10] * 10


def test_classes_can_be_told_from_the_pixels_but_not_easily() -> None:
    data = datasets.load("prototypes")
    pixels, queries = (x.flatten(1).float() for x in (data.train_images, data.test_images))
    accuracy = metrics.knn_accuracy(pixels, data.train_labels, queries, data.test_labels, 1)
    assert 0.4 < accuracy < 0.9  # 0.73 over 6 seeds of the classes, with a deviation of 0.03


def test_no_class_is_a_mean_brightness() -> None:
    data = datasets.load("prototypes")
    means = data.train_images.float().mean(dim=(1, 2, 3))
    by_class = [means[data.train_labels == k].mean() for k in range(10)]
    # The ratio is 0.28 over 6 seeds, with a deviation of 0.03.
    assert np.std(by_class) < 0.5 * float(means.std())


def test_the_study_pairs_methods_and_changes_the_images_with_the_seed() -> None:
    configs = {
        method: [run for runs in by_draw.values() for run in runs]
        for method, by_draw in protocols.configs("ts_synthetic", "recorded", range(1, 7)).items()
    }
    first = configs["fixed 0.2"]
    assert len({config.split_seed for config in first}) == 6
    assert [config.permutation for config in first] == [1, 2, 3, 4, 5, 1]
    for runs in configs.values():
        for config, partner in zip(runs, first, strict=True):
            assert config.to_dict() | {"loss": None} == partner.to_dict() | {"loss": None}
    data = datasets.load("prototypes")
    trained_on = [set(choose_split(config, data).train.tolist()) for config in first[:2]]
    assert trained_on[0] != trained_on[1]
    temperature = configs["TS"][0].loss["temperature"]
    assert (first[0].epochs, temperature["period"]) == (2000, 400)  # as in the paper


def test_a_short_training_goes_through() -> None:
    short = {"epochs": 4, "warmup_epochs": 1}
    (config,) = protocols.configs("ts_synthetic", "quick", [1], **short)["TS"][1]
    history = train(config).history
    assert len(history.curves["loss"]) == 4 // config.curves_every
    assert np.isfinite(history.curves["loss"]).all()


def test_curves_have_the_points_that_were_asked_for() -> None:
    short = {"epochs": 4, "warmup_epochs": 1, "curves_every": 1}
    (config,) = protocols.configs("ts_synthetic", "quick", [1], **short)["TS"][1]
    every = train(config).history.curves
    few = train(protocols.Config.from_dict(config.to_dict() | {"curves_every": 2})).history.curves
    assert {name: values[1::2] for name, values in every.items()} == few


def test_encoder_and_views_fit_the_patterns() -> None:
    images = prototypes(2, 1).train_images
    views = augment.two_views(images, augment.PRESETS["patterns"], torch.Generator().manual_seed(0))
    assert views[0].shape == images.shape
    model = encoders.build("dense", 1, 32)
    assert model(views[0]).shape == (20, 32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0,), "train_per_class"), ((5, 0), "test_per_class"), ((5, 5, -1), "seed")],
)
def test_refused(arguments: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        prototypes(*arguments)
