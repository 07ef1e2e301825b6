from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from killed_training import MOMENTS
from torch import Tensor, nn
from toys import CLASSES, config, write_data

from dytemp import metrics, schedules
from dytemp.lab import cli, datasets, training
from dytemp.lab.datasets import captions
from dytemp.lab.datasets.scenes import scenes
from dytemp.lab.studies import runs
from dytemp.lab.training import (
    Outcome,
    augment,
    choose_split,
    evaluation,
    hardware,
    pairings,
    train,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def outcome(folder: Path) -> Outcome:
    """A run that learns something."""
    cosine = {"name": "Cosine", "tau_min": 0.1, "tau_max": 1.0, "period": 4}
    return train(
        config(
            loss={"name": "NTXent", "temperature": cosine},
            epochs=6,
            validation_per_class=4,
            n_max=30,
            evaluate_every=2,
            evaluate_at=[3],
            probes=["few_shot", "long_tail"],
            geometry=True,
        ),
        root=folder,
    )


# ---------------------------------------------------------------------------------- what is learnt


def test_geometry_is_of_all_training_images(outcome: Outcome) -> None:
    images = sum(outcome.counts)
    for found in outcome.history.evaluations:
        coverage = found["geometry"]["coverage"]
        assert (len(coverage), sum(coverage)) == (50, images)
        assert coverage == sorted(coverage, reverse=True)
        assert sum(found["geometry"]["similarities"]) == images * (images - 1)


def test_pairs_are_counted_by_their_kind(outcome: Outcome) -> None:
    each = 10  # test images of a class
    kinds = {
        "positives": CLASSES * each,
        "false_negatives": CLASSES * each * (each - 1),
        "true_negatives": CLASSES * (CLASSES - 1) * each**2,
    }
    for found in outcome.history.evaluations:
        geometry, complete = found["geometry"], found["epoch"] in (3, 6)
        assert (kinds.keys() <= geometry.keys()) == complete
        if complete:
            assert {kind: sum(geometry[kind]) for kind in kinds} == kinds


def test_a_pair_counts_in_the_bin_of_its_similarity() -> None:
    along, across = [1.0, 0.0], [0.0, 3.0]  # lengths do not count
    first = torch.tensor([along, along, across])
    second = torch.tensor([[2.0, 0.0], [-1.0, 0.0], across])
    found = evaluation._kinds_of_pairs(first, second, torch.tensor([0, 0, 1]))
    bins = {kind: {k: n for k, n in enumerate(counts) if n} for kind, counts in found.items()}
    assert bins == {
        "positives": {0: 1, 100: 2},  # similarities -1 and 1
        "false_negatives": {0: 1, 100: 1},
        "true_negatives": {50: 4},  # similarity 0
    }


def test_geometry_changes_nothing_else(folder: Path) -> None:
    without, found = (
        train(config(epochs=2, geometry=wanted), root=folder).history for wanted in (False, True)
    )
    assert "geometry" not in without.evaluations[-1]
    del found.evaluations[-1]["geometry"]
    assert found.curves == without.curves
    assert found.evaluations == without.evaluations


def test_it_learns(outcome: Outcome, folder: Path) -> None:
    assert outcome.history.epoch == len(outcome.history.curves["loss"]) == 6
    # The three kinds of pictures are told apart by each of 12 seeds; a third is chance.
    assert outcome.history.evaluations[-1]["metrics"]["knn1"] > 0.9
    # At one temperature the loss falls by 1.32 over 6 seeds, with a deviation of 0.23.
    losses = train(config(epochs=6, n_max=30), root=folder).history.curves["loss"]
    assert losses[-1] < losses[0]


def test_epochs_count_from_one(outcome: Outcome) -> None:
    curves = outcome.history.curves
    schedule = schedules.Cosine(0.1, 1.0, 4)
    assert curves["temperature"] == pytest.approx([schedule.at(e) for e in range(1, 7)], rel=1e-5)
    assert curves["learning_rate"][0] == pytest.approx(0.5)
    assert curves["learning_rate"][-1] == pytest.approx(1e-6)


def test_evaluations_come_when_asked(outcome: Outcome) -> None:
    found = {e["epoch"]: e for e in outcome.history.evaluations}
    assert list(found) == [2, 3, 4, 6]
    simple, complete = found[2]["metrics"], found[3]["metrics"]
    assert set(complete) == set(found[6]["metrics"])
    structure = {"inter_class_uniformity", "silhouette", "scatter_ratio", "neighbour_agreement"}
    assert set(complete) - set(simple) == {"alignment", *structure} | {
        f"{probe}{group}"
        for probe in ("few_shot", "long_tail", "knn200", "leave_one_out")
        for group in ("", "_head", "_mid", "_tail")
    }
    assert {"knn1", "knn10_tail", "validation_knn1", "uniformity", "tolerance"} < set(simple)
    assert all(np.isfinite(value) for value in complete.values())
    kinds = {"knn1", "knn10", "knn200", "few_shot", "long_tail", "leave_one_out"}
    assert set(found[6]["per_class"]) == kinds
    assert np.mean(found[6]["per_class"]["knn1"]) == pytest.approx(found[6]["metrics"]["knn1"])


def test_it_says_what_it_ran_on(outcome: Outcome) -> None:
    assert outcome.counts == [30, 21, 15]
    assert outcome.groups == [0, 1, 2]
    assert outcome.device in hardware.DEVICES
    assert outcome.precision in ("float32", "bfloat16")
    assert outcome.images_per_second > 0
    assert outcome.arrays == {}
    assert all(seconds > 0 for seconds in outcome.history.seconds.values())


@pytest.mark.parametrize("loss", ["CLIP", "BimodalISogCLR"])
def test_images_and_captions(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = scenes(train=90, test=30, concepts=3, ratio=0.3)
    monkeypatch.setattr(datasets, "load", lambda name, root: data)
    settings = {"pairs": "captions", "n_max": None, "augmentation": "scenes"}
    settings |= {"optimizer": "adamw", "learning_rate": 3e-3, "epochs": 4}
    outcome = train(config(loss={"name": loss}, **settings))
    assert isinstance(outcome.model, pairings.ImageAndText)
    found = outcome.history.evaluations[-1]["metrics"]
    assert {"recall1_text", "recall5_image", "recall10_text", "zero_shot_tail"} < set(found)
    assert "validation_recall1" not in found
    assert all(0 <= value <= 1 for name, value in found.items() if name.startswith("recall"))
    # Over 8 seeds the loss falls by 3.5 (CLIP, deviation 0.6) and by 0.66 (iSogCLR, 0.08), six and
    # eight deviations; the recall of four epochs is no better than chance for some of them.
    losses = outcome.history.curves["loss"]
    assert losses[-1] < losses[0]
    learned = {"tau_image", "tau_text", "labels", "positions", "rarest_word"}
    assert set(outcome.arrays) == (learned if "ISog" in loss else set())
    assert all(len(array) == sum(outcome.counts) for array in outcome.arrays.values())


def test_an_image_left_out_is_none_of_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest of the others, in blocks; the last row is alone with its direction and class."""
    monkeypatch.setattr(evaluation, "ROWS", 2)
    rows = torch.tensor([[1.0, 0.0], [3.0, 0.2], [0.0, 1.0], [0.1, 2.0], [-1.0, -2.0]])
    labels = torch.tensor([0, 0, 1, 2, 3])
    assert evaluation._leave_one_out(rows, labels).tolist() == [0, 0, 2, 1, 0]


def of_classes(data: datasets.Dataset, labels: list[Tensor], names: tuple[str, ...]) -> Any:
    train, test = labels
    return replace(data, train_labels=train, test_labels=test, class_names=names)


def test_captions_without_classes_are_measured_by_recall(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = scenes(train=90, test=30, concepts=3, ratio=0.3)
    none = [torch.zeros_like(each) for each in (data.train_labels, data.test_labels)]
    data = of_classes(data, none, ("all",))
    monkeypatch.setattr(datasets, "load", lambda name, root: data)
    settings: dict[str, Any] = {"n_max": None, "augmentation": "scenes", "probes": ["few_shot"]}
    settings |= {"pairs": "captions", "loss": {"name": "CLIP"}, "validation_per_class": 5}
    run = runs.get(config(**settings), tmp_path, label=None)  # what is recorded is checked, too
    assert {"recall1_text", "recall1_image", "validation_recall1"} < set(run.metrics)
    assert not {"zero_shot", "few_shot", "silhouette", "knn1_head"} & set(run.metrics)
    assert (run.metrics["knn1"], run.groups) == (1, [0])
    with pytest.raises(ValueError, match="has a single class, and the accuracy of images needs"):
        train(config(n_max=None))


def test_two_classes_have_no_groups(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    toy = datasets.load("toy", folder)
    two = [each.clamp(max=1) for each in (toy.train_labels, toy.test_labels)]
    toy = of_classes(toy, two, ("one", "other"))
    monkeypatch.setattr(datasets, "load", lambda name, root: toy)
    for n_max in (None, 30):
        outcome = train(config(n_max=n_max, probes=["few_shot"]))
        found = outcome.history.evaluations[-1]
        assert {"knn1", "knn10", "few_shot", "silhouette"} < set(found["metrics"])
        assert not {"knn1_head", "few_shot_tail"} & set(found["metrics"])
        assert len(found["per_class"]["knn1"]) == 2


LEARNED: list[dict[str, Any]] = [
    {"name": "SigLIP", "temperature": {"name": "LogScale", "tau": 0.1}},
    {"name": "BimodalRGCL", "rho": 1.0, "temperature": {"name": "LogScale", "tau": 0.011}},
    {"name": "BimodalISogCLR", "rho": 0.5, "temperature": [{"name": "TemperatureNetwork"}] * 2},
]


@pytest.mark.parametrize("loss", LEARNED, ids=lambda loss: loss["name"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_what_a_loss_learns_has_its_step(
    loss: dict[str, Any], optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is learned by the optimiser of the encoder, without decay and within its bounds."""
    data = scenes(train=90, test=30, concepts=3, ratio=0.3)
    monkeypatch.setattr(datasets, "load", lambda name, root: data)
    settings = {"pairs": "captions", "n_max": None, "augmentation": "scenes", "epochs": 3}
    settings |= {"optimizer": optimizer, "learning_rate": 0.05, "weight_decay": 0.1}
    first, second = (train(config(loss=loss, **settings)).history.curves for _ in range(2))
    assert first == second  # the same bits, dropout included
    temperatures = first["temperature"]
    assert len(set(temperatures)) == 3
    assert all(0.005 <= tau <= 1 for tau in temperatures)


def test_learned_temperatures_belong_to_the_samples(folder: Path) -> None:
    settings = config(loss={"name": "ISogCLR", "eta": 0.1}, epochs=3)
    outcome = train(settings, root=folder)
    data = datasets.load("toy", folder)
    chosen = choose_split(settings, data).train
    assert outcome.arrays["labels"].tolist() == data.train_labels[chosen].tolist()
    assert outcome.arrays["positions"].tolist() == chosen.tolist()
    assert outcome.arrays["tau"].shape == (len(chosen),)
    assert len(np.unique(outcome.arrays["tau"])) > 5


def test_the_key_encoder_follows() -> None:
    image: Any = nn.Linear(3, 2)
    model = pairings.ViewAndKey(image, momentum=0.75)
    start = model.key.weight.clone()
    with torch.no_grad():
        image.weight += 1
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    queries, keys = model(first, second)
    torch.testing.assert_close(model.key.weight, start + 0.25)
    torch.testing.assert_close(keys, model.key(second))
    assert queries.requires_grad
    assert not keys.requires_grad


def test_a_run_with_a_key_encoder(folder: Path) -> None:
    outcome = train(config(key_momentum=0.5), root=folder)
    assert isinstance(outcome.model, pairings.ViewAndKey)
    state = outcome.model.state_dict()
    name = "head.0.weight"
    assert float((state[f"key.{name}"] - state[f"image.{name}"]).abs().max()) > 0
    assert outcome.history.evaluations[-1]["metrics"]["knn1"] > 0.5  # 1 for each of 12 seeds


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision(precision: str, folder: Path) -> None:
    outcome = train(config(precision=precision), root=folder)
    assert outcome.precision == precision
    assert {weight.dtype for weight in outcome.model.parameters()} == {torch.float32}
    assert outcome.history.evaluations[-1]["metrics"]["knn1"] > 0.5  # 1 for each of 8 seeds


# -------------------------------------------------------------------------------------- the bits


def weights(outcome: Outcome) -> dict[str, Tensor]:
    return outcome.model.state_dict()


def identical(one: Any, other: Any) -> bool:
    """Compare nested results bit by bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(identical(one[k], other[k]) for k in one)
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


def test_the_same_configuration_gives_the_same_bits(folder: Path) -> None:
    one, two = (train(config(), root=folder) for _ in range(2))
    other = train(config(seed=1), root=folder)
    assert one.history.curves == two.history.curves
    assert identical(weights(one), weights(two))
    assert one.history.curves != other.history.curves


def test_training_leaves_the_global_generator_alone(folder: Path) -> None:
    before = torch.random.get_rng_state()
    train(config(epochs=1, warmup_epochs=0), root=folder)
    assert torch.equal(before, torch.random.get_rng_state())


def test_paired_runs_see_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another loss, another schedule: the same weights to start with, the same views."""
    seen: dict[str, list[Tensor]] = {}

    def watch(module: Any, name: str, result: Any) -> None:
        function = getattr(module, name)

        def wrapper(*arguments: Any) -> Any:
            value = function(*arguments)
            seen[run].extend(result(value))
            return value

        monkeypatch.setattr(module, name, wrapper)

    watch(augment, "apply", lambda views: [views])
    watch(pairings, "build", lambda model: [weight.clone() for weight in model.parameters()])
    for run in ("NTXent", "ISogCLR", "MACL"):
        seen[run] = []
        spec = {"name": run} | ({"temperature": 0.5} if run == "NTXent" else {})
        train(config(loss=spec), root=folder)
    assert len(seen["NTXent"]) > 16
    for other in ("ISogCLR", "MACL"):
        assert identical(dict(enumerate(seen["NTXent"])), dict(enumerate(seen[other])))


@pytest.fixture(scope="module")
def interrupted(folder: Path) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    helper = ROOT / "tests" / "killed_training.py"
    search = os.pathsep.join([str(helper.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": search}
    command = [sys.executable, str(helper), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole, pieces = (
        torch.load(folder / f"{name}.pt", weights_only=True) for name in ("whole", "interrupted")
    )
    assert not (folder / "never.pt").exists(), done.stdout
    return done.stdout.splitlines(), whole, pieces


def test_a_killed_run_goes_on_where_it_was(
    interrupted: tuple[list[str], dict[str, Any], dict[str, Any]],
) -> None:
    ends, whole, pieces = interrupted
    assert ends == [f"{moment} 9" for moment in MOMENTS]
    assert [e["epoch"] for e in pieces["evaluations"]] == [1, 2, 3, 4]
    assert identical(pieces, whole)


def test_a_finished_checkpoint_needs_no_training(folder: Path, tmp_path: Path) -> None:
    one = train(config(), tmp_path, root=folder)
    again = train(config(), tmp_path, root=folder)
    assert again.history == one.history
    assert identical(weights(again), weights(one))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("length", [0, 100, -100])
def test_a_damaged_checkpoint_is_refused(folder: Path, tmp_path: Path, length: int) -> None:
    train(config(), tmp_path, root=folder)
    file = tmp_path / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"checkpoint.pt is not a readable checkpoint.*delete"):
        train(config(), tmp_path, root=folder)


@pytest.mark.parametrize("content", [b"hello world", bytes(300)])
def test_something_else_than_a_checkpoint_is_refused(
    content: bytes, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"(?s)checkpoint.pt is not a readable checkpoint.*delete"):
        train(config(), tmp_path, root=folder)


def test_a_checkpoint_of_another_run_is_refused(folder: Path, tmp_path: Path) -> None:
    train(config(), tmp_path, root=folder)
    with pytest.raises(ValueError, match=f"belongs to run {config().key}"):
        train(config(seed=1), tmp_path, root=folder)


def test_a_flipped_bit_in_a_checkpoint_is_noticed(folder: Path, tmp_path: Path) -> None:
    """One bit of the weights: torch reads the file without a word."""
    train(config(), tmp_path, root=folder)
    file = tmp_path / "checkpoint.pt"
    content = bytearray(file.read_bytes())
    weights = torch.load(file, weights_only=True)["model"]["image.head.0.weight"].numpy().tobytes()
    place = content.find(weights)
    assert place > 0
    content[place + 5] ^= 1
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)["key"] == config().key
    with pytest.raises(ValueError, match=r"readable checkpoint \(wrong check sum of .*delete"):
        train(config(), tmp_path, root=folder)


def test_a_checkpoint_whose_parts_do_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    train(config(), tmp_path, root=folder)
    file = tmp_path / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    for broken in (
        state | {"model": {}},
        state | {"history": {"epoch": 1, "colour": "red"}},
        {name: part for name, part in state.items() if name != "optimizer"},
    ):
        torch.save(broken, file)
        with pytest.raises(ValueError, match=r"(?s)checkpoint.pt does not fit .*delete the file"):
            train(config(), tmp_path, root=folder)


def test_a_checkpoint_of_other_data_is_refused(folder: Path, tmp_path: Path) -> None:
    train(config(), tmp_path, root=folder)
    arrays = dict(np.load(folder / "toy.npz"))
    arrays["train_images"][3, 2, 1] ^= 1
    np.savez(tmp_path / "toy.npz", **arrays)
    with pytest.raises(ValueError, match="trained on other data that were called 'toy' too"):
        train(config(), tmp_path, root=tmp_path)


def cut_short(monkeypatch: pytest.MonkeyPatch, folder: Path, checkpoints: Path) -> None:
    """Stop a run of two epochs after the first one."""
    with monkeypatch.context() as patch:
        patch.setattr(training.loop, "evaluate", None)  # it is called after the second epoch
        with pytest.raises(TypeError):
            train(config(), checkpoints, root=folder)


def test_a_run_that_was_resumed_names_all_conditions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hardware.threads(1):
        cut_short(monkeypatch, folder, tmp_path)
    with hardware.threads(2):
        parts = train(config(), tmp_path, root=folder).history.parts
    assert [part["epoch"] for part in parts] == [1, 2]
    assert [part["environment"]["threads"] for part in parts] == [1, 2]
    assert [part["code"] for part in parts] == [hardware.code()] * 2


def test_a_run_that_was_resumed_as_before_has_one_part(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(monkeypatch, folder, tmp_path)
    parts = train(config(), tmp_path, root=folder).history.parts
    assert [part["epoch"] for part in parts] == [2]


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"batch": 91}, "batch must be at most 88, the number of training images, got 91"),
        ({"n_max": 41}, "n_max"),
        ({"pairs": "captions"}, "pairs 'captions' needs data with captions"),
    ],
)
def test_settings_that_do_not_fit_the_data(
    settings: dict[str, Any], part: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=part):
        train(config(**settings), root=folder)


def test_an_unknown_device_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="device must be one of 'auto', 'cpu', 'cuda', 'mps'"):
        train(config(), device="tpu", root=folder)


def test_a_batch_that_processes_cannot_share_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.distributed, "world_size", lambda: 3)
    monkeypatch.setattr(training.distributed, "agree", lambda what: None)  # there is but one
    with pytest.raises(ValueError, match="batch must be a multiple of the 3 processes, got 16"):
        train(config(), root=folder)


def test_missing_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="toy"):
        train(config(), root=tmp_path)


def test_a_loss_that_is_not_finite_stops(folder: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"after \d finished epochs, at learning rate \d"):
        train(config(learning_rate=1e38, warmup_epochs=0), root=folder)


def test_the_command_line_says_why_a_run_stopped(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DYTEMP_DATA", str(folder))
    monkeypatch.setenv("DYTEMP_RESULTS", str(tmp_path / "results"))
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(config(learning_rate=1e38, warmup_epochs=0).to_dict()))
    assert cli.main(["train", str(file)]) == 1
    assert "dytemp: embeddings must be finite" in capsys.readouterr().err
    file.write_bytes(b"\xff\xfe")
    assert cli.main(["train", str(file)]) == 1
    assert f"{file} is not valid YAML" in capsys.readouterr().err


# ------------------------------------------------------------------------------ split, evaluation


def test_the_whole_data_set_keeps_its_frequencies(folder: Path) -> None:
    toy = datasets.load("toy", folder)
    some = torch.cat([torch.arange(0, 10), torch.arange(40, 80), torch.arange(80, 105)])
    data = datasets.Dataset(
        name="part",
        train_images=toy.train_images[some],
        train_labels=toy.train_labels[some],
        test_images=toy.test_images,
        test_labels=toy.test_labels,
        class_names=toy.class_names,
    )
    split = choose_split(config(n_max=None), data)
    assert sorted(split.train.tolist()) == list(range(75))
    assert split.groups.tolist() == [2, 0, 1]  # 10, 40 and 25 images
    assert data.train_labels[split.few_shot].bincount().tolist() == [10, 10, 10]
    assert len(split.validation) == 0
    assert (
        split.train.tolist() != choose_split(config(n_max=None, split_seed=1), data).train.tolist()
    )


def test_of_the_whole_data_set_a_tenth_of_each_class_at_most_validates(folder: Path) -> None:
    data = datasets.load("toy", folder)  # 40 images a class
    for wanted, held_out in ((0, 0), (3, 3), (20, 4)):
        split = choose_split(config(n_max=None, validation_per_class=wanted), data)
        labels = data.train_labels[split.validation]
        assert labels.bincount(minlength=3).tolist() == [held_out] * 3
        assert set(split.few_shot.tolist()) <= set(split.train.tolist())
        together = torch.cat([split.train, split.validation])
        assert sorted(together.tolist()) == list(range(len(data.train_labels)))


class Numbers(nn.Module):
    """An encoder of images that looks at the first pixel, and one of texts that looks at words."""

    def __init__(self, words: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.words = words

    def features(self, images: Tensor) -> Tensor:
        return self(images)

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() == 2:  # the sum of what the words point at
            return self.words[inputs].sum(dim=1)
        angle = inputs[:, 0, 0, 0] * 255 / 2
        return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_retrieval_and_names_on_embeddings_made_by_hand() -> None:
    """Texts point to the angle of their word; images to the angle that their first pixel holds."""
    pixels, known = [0, 1, 2, 3, 3, 2, 1, 0, 0, 1], ["red", "green", "blue", "grey"]
    images = torch.zeros(10, 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(pixels)
    spoken = [known[k] for k in pixels]
    labels = torch.tensor(pixels)
    plain = datasets.Dataset("by hand", images, images, labels, labels, tuple(known))
    data = captions.attach(plain, spoken * 5, [*spoken[:3], *["green"] * 7])
    words = torch.zeros(len(data.vocabulary), 2)
    for place, word in enumerate(known):
        angle = torch.tensor(place / 2)
        words[data.vocabulary.index(word)] = torch.stack([angle.cos(), angle.sin()])
    encoder: Any = Numbers(words)
    model = pairings.ImageAndText(encoder, encoder)
    split = datasets.Split(
        train=torch.arange(10),
        validation=torch.tensor([0, 1, 2, 3, 7]),
        few_shot=torch.arange(10),
        groups=torch.tensor([0, 1, 1, 2]),
    )

    def measured(*prompts: str) -> dict[str, float]:
        found = evaluation.evaluate(
            1,
            model,
            data,
            split,
            (),
            None,
            lambda: torch.autocast("cpu", enabled=False),
            prompts=prompts,
        )
        return found.metrics

    found = measured("{}")
    assert found["zero_shot"] == found["zero_shot_tail"] == 1
    assert found["validation_recall1"] == pytest.approx(1)
    # Three of the first captions are right; of the others, all "green", the two of green images.
    assert found["recall1_text"] == pytest.approx(5 / 10)
    assert found["recall10_text"] == found["recall10_image"] == 1
    # Prompts that say "grey" turn every name that way: "red" comes to lie where green images are.
    turned = measured("{}", "grey {}", "grey {}")
    assert turned["zero_shot_head"] == turned["zero_shot_tail"] == 1
    assert turned["zero_shot_mid"] <= 0.5


def test_the_whole_of_a_data_set_that_counts_from_1_is_refused(folder: Path) -> None:
    toy = datasets.load("toy", folder)
    data = datasets.Dataset(
        name="mine",
        train_images=toy.train_images,
        train_labels=toy.train_labels + 1,
        test_images=toy.test_images,
        test_labels=toy.test_labels + 1,
        class_names=("nothing", *toy.class_names),
    )
    with pytest.raises(ValueError, match=r"'mine', but there is none of class 0 \('nothing'\)"):
        choose_split(config(n_max=None), data)


def test_the_progress_bar_is_for_people_who_watch(folder: Path, capfd) -> None:
    train(config(), root=folder)
    assert capfd.readouterr().err == ""  # no terminal here


def test_permutations_of_ts_are_used(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(datasets.TS_PERMUTATIONS, "toy", {2: (2, 0, 1)})
    data = datasets.load("toy", folder)
    split = choose_split(config(permutation=2), data)
    assert data.train_labels[split.train].bincount().tolist() == [28, 20, 40]
    assert split.groups.tolist() == [1, 2, 0]


class Pixels(nn.Module):
    """An encoder whose features are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.was_training: set[bool] = set()

    def features(self, images: Tensor) -> Tensor:
        self.was_training.add(self.training)
        assert float(images.max()) <= 1
        return images.flatten(1) + 0.01


def test_evaluation_rests_on_the_features(folder: Path) -> None:
    data = datasets.load("toy", folder)
    split = choose_split(config(validation_per_class=5, n_max=30), data)
    encoder: Any = Pixels()
    model = pairings.TwoViews(encoder).train()
    found = evaluation.evaluate(
        3, model, data, split, ("few_shot",), None, lambda: torch.autocast("cpu", enabled=False)
    )
    assert encoder.was_training == {False}
    assert model.training
    bank, test = (
        encoder.features(images / 255) for images in (data.train_images, data.test_images)
    )
    labels, truth = data.train_labels, data.test_labels
    predictions = metrics.knn_predict(bank[split.train], labels[split.train], test, 10)
    assert found.metrics["knn10"] == metrics.accuracy(predictions, truth, "macro")
    assert found.metrics["knn10_tail"] == found.per_class["knn10"][CLASSES - 1]
    few = split.few_shot.sort().values
    probe = metrics.svm_probe(bank[few], labels[few], test, truth)
    assert found.metrics["few_shot"] == pytest.approx(probe, abs=0.04)
    assert found.metrics["validation_knn1"] == metrics.knn_accuracy(
        bank[split.train], labels[split.train], bank[split.validation], labels[split.validation], 1
    )
    assert found.metrics["uniformity"] == pytest.approx(metrics.uniformity(test))
    assert "alignment" not in found.metrics
    assert found.epoch == 3


def test_bfloat16_is_chosen_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    for capabilities, wanted in (
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "avx2": True}, "float32"),
        ({}, "float32"),
    ):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False
        )
        assert hardware.precision("auto", device) == wanted
    assert hardware.precision("float32", device) == "float32"
    assert hardware.precision("auto", torch.device("mps")) == "float32"
