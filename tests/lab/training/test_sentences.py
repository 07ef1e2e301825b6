"""Sentences twice through dropout: the pairs, what is measured, and runs that were interrupted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import config

from dytemp.lab import datasets
from dytemp.lab.datasets.scenes import scene_sentences
from dytemp.lab.training import Config, Outcome, distributed, evaluation, loop, pairings, train


def sentences(**settings: Any) -> Config:
    few = {"data": "scene_sentences", "pairs": "sentences", "encoder": "transformer"}
    few |= {"n_max": None, "ratio": 0.01, "optimizer": "adamw", "learning_rate": 3e-3}
    return config(**few | {"warmup_epochs": 0, "batch": 32} | settings)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> datasets.Sentences:
    """Every tenth description of a scene: runs of a second."""
    data = scene_sentences()
    rows = torch.cat([(data.train_labels == k).nonzero()[:8, 0] for k in range(20)])
    found = dataclasses.replace(
        data,
        train_images=data.train_images[rows],
        train_labels=data.train_labels[rows],
        test_images=data.test_images[:100],
        test_labels=data.test_labels[:100],
        test_others=data.test_others[:100],
    )
    monkeypatch.setattr(datasets, "load", lambda name, root: found)
    return found


def weights(outcome: Outcome) -> list[torch.Tensor]:
    return list(outcome.model.state_dict().values())


def same(first: Outcome, second: Outcome) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_a_pair_is_one_sentence_with_two_masks(few: datasets.Sentences) -> None:
    torch.manual_seed(0)
    model = pairings.build(sentences(), few)
    tokens = few.train_images[:8]
    first, second = model(tokens, tokens)
    assert first.shape == second.shape == (8, 16)
    apart = (first - second).norm(dim=1)
    assert (apart > 1e-3).all()  # dropout alone makes them differ
    assert torch.equal(*model.eval()(tokens, tokens))  # and nothing else does


def test_masks_come_from_seed_and_epoch_alone(few: datasets.Sentences) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = train(sentences())
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert same(one, train(sentences()))
    assert not same(one, train(sentences(seed=1)))


def test_losses_are_paired(few: datasets.Sentences, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another loss sees the same first batch through the same masks."""
    seen: list[torch.Tensor] = []

    def watched(self: pairings.TwoViews, first: torch.Tensor, second: torch.Tensor) -> Any:
        z1, z2 = self.image(torch.cat([first, second])).chunk(2)
        seen.extend([z1.detach(), z2.detach()])
        return z1, z2

    monkeypatch.setattr(pairings.TwoViews, "forward", watched)
    train(sentences(epochs=1))
    half = len(seen)
    train(sentences(epochs=1, loss={"name": "MACL", "tau0": 0.05, "alpha": 2.0, "a0": 0.8}))
    assert torch.equal(seen[0], seen[half])
    assert torch.equal(seen[1], seen[half + 1])
    assert not torch.equal(seen[half - 1], seen[-1])  # and then they part


def test_an_interrupted_run_ends_with_the_same_bits(
    few: datasets.Sentences, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(sentences(epochs=3))
    original, calls = loop._Session.train_epoch, iter(range(10))

    def interrupted(self: Any, epoch: int) -> None:
        if next(calls) == 1:
            raise KeyboardInterrupt
        original(self, epoch)

    monkeypatch.setattr(loop._Session, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(sentences(epochs=3), tmp_path)
    again = train(sentences(epochs=3), tmp_path)
    assert same(whole, again)
    assert again.history.curves == whole.history.curves


def test_what_is_measured(few: datasets.Sentences) -> None:
    found = train(sentences(evaluate_every=1)).history.evaluations
    first, last = (point["metrics"] for point in found)
    both = {"recall1", "recall1_there", "recall1_back", "graded", "uniformity", "knn1"}
    assert both | {"validation_recall1", "validation_graded"} < set(first)
    assert {"words_recall1", "words_graded", "alignment", "knn200"} < set(last)
    assert last["recall1"] == (last["recall1_there"] + last["recall1_back"]) / 2
    # Over five seeds 0.095 to 0.125, where chance is 0.01, and 0.16 to 0.30, where it is 0.
    assert last["recall1"] > 0.05
    assert last["graded"] > 0.05


class Reader:
    """Embeds a sentence as told by its first word."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens[:, 0]]


def by_hand(**changes: Any) -> datasets.Sentences:
    """Return six held-out sentences of one word, 1 to 6, whose other wordings are 7 to 12."""
    ours, theirs = torch.arange(1, 7)[:, None], torch.arange(7, 13)[:, None]
    held_out = {"test_images": ours, "test_others": theirs}
    held_out |= {"validation": ours, "validation_others": theirs.flip(0)}
    labels = torch.zeros(6, dtype=torch.int64)
    return datasets.Sentences(
        name="by hand",
        train_images=torch.cat([ours, theirs]),
        train_labels=labels.repeat(2),
        test_labels=labels,
        class_names=("one",),
        vocabulary=tuple("abcdefghijklm"),
        **held_out | changes,
    )


def test_recall_of_embeddings_made_by_hand() -> None:
    table = torch.cat([torch.zeros(1, 6), torch.eye(6), torch.eye(6)])
    found = evaluation._sentences(Reader(table), by_hand())
    assert found["recall1_there"] == found["recall1_back"] == found["recall1"] == 1
    assert found["validation_recall1"] == 0  # in reversed order none is its own
    # 2 is embedded as 7 is, the other wording of 1: it no longer finds its own, nor does 8 find it.
    table[2] = table[1]
    found = evaluation._sentences(Reader(table), by_hand())
    assert found["recall1_there"] == pytest.approx(5 / 6)
    # 7 finds 1 or 2, which tie; 8 finds none, all of its similarities are 0: one in six.
    assert found["recall1_back"] == pytest.approx((4 + 1 / 2 + 1 / 6) / 6)


def test_equal_sentences_are_one() -> None:
    table = torch.cat([torch.zeros(1, 6), torch.eye(6), torch.eye(6)])
    others = torch.tensor([7, 7, 9, 10, 11, 12])[:, None]  # two verses with one wording
    table[2] = table[1]
    found = evaluation._sentences(Reader(table), by_hand(test_others=others))
    assert found["recall1_there"] == 1


def test_graded_pairs_and_their_order() -> None:
    tokens = torch.arange(1, 61).view(12, 5)
    spliced, shares = evaluation._graded_pairs(tokens)
    assert shares.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1] * 2)
    left = (spliced[:, :, None] == tokens[:, None, :]).any(dim=2).sum(dim=1)
    assert left.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert spliced[0].tolist() == tokens[6].tolist()  # half the data set away
    rising = torch.linspace(-1, 1, 12)
    identity = torch.eye(12)
    found = evaluation._agreement(identity, tokens, tokens, rising, rising)
    assert found["graded"] == pytest.approx(1)
    assert evaluation._agreement(identity, tokens, tokens, -rising, rising)["graded"] == -1
    flat = evaluation._agreement(identity, tokens, tokens, torch.ones(12), rising)
    assert flat["graded"] == 0


def test_common_words_alone() -> None:
    """Sentences that share their words are found; a word in every sentence tells nothing apart."""
    ours = torch.tensor([[1, 2, 3], [1, 4, 5], [1, 6, 7], [1, 8, 9], [1, 10, 11], [1, 12, 0]])
    data = by_hand(test_images=ours, test_others=ours.flip(1))
    data = dataclasses.replace(data, train_images=ours, train_labels=torch.zeros(6).long())
    found = evaluation._common_words(data)
    assert found["words_recall1"] == 1
    only = ours.clone()
    only[:, 1:] = 0
    found = evaluation._common_words(dataclasses.replace(data, test_others=only))
    assert found["words_recall1_there"] == 1  # all of them are one sentence
    assert found["words_recall1_back"] == pytest.approx(1 / 6)  # the six are not


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"data": "scenes"}, "data of sentences and pairs 'sentences' go together, got data 'sc"),
        ({"pairs": "views", "encoder": "tiny"}, "got data 'scene_sentences' and pairs 'views'"),
    ],
)
def test_other_data_are_refused(settings: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        train(sentences(**settings))


@pytest.mark.parametrize(
    "settings", [{"encoder": "tiny"}, {"pairs": "views"}, {"pairs": "captions"}]
)
def test_other_encoders_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pairs 'sentences' need the encoder 'transformer'"):
        sentences(**settings)


def test_several_processes_are_refused(
    few: datasets.Sentences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="pairs 'sentences' are trained by one process"):
        loop._Session(sentences(), few, "", loop._whole(few, 0, 0), torch.device("cpu"), None)
