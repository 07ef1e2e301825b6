"""Own data from folders of image files, and captions by a stated rule."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dytemp import metrics
from dytemp.lab import datasets
from dytemp.lab.datasets import captions, scenes

GENERATOR = np.random.default_rng(0)


def save(
    file: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object
) -> Path:
    """Write a noisy picture of width and height `size`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = GENERATOR.integers(0, 256, (*size[::-1], *channels), dtype=np.uint8)
    Image.fromarray(pixels, mode).save(file, **options)
    return file


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    folder = tmp_path / "birds"
    for part, kind, number in itertools.product(("train", "test"), ("wren", "owl"), range(3)):
        save(folder / part / kind / f"{number}.png")
    return folder


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Photos with captions; equal captions twice in the test part."""
    folder = tmp_path / "shop"
    lines = ["file,caption,class"]
    for number in range(6):
        save(folder / "train" / f"{number}.png")
        lines.append(f'train/{number}.png,"A red Shirt, men\'s; {number}",shirt')
    for number, text in enumerate(("a red shirt", "an odd hat", "a red shirt")):
        save(folder / "test" / f"{number}.png")
        lines.append(f"test/{number}.png,{text},shirt")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_folders_are_classes(birds: Path) -> None:
    data = datasets.load("birds", birds.parent)
    assert data.class_names == ("owl", "wren")
    assert data.train_images.shape == data.test_images.shape == (6, 3, 32, 32)
    assert data.train_images.dtype == torch.uint8
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_side_is_part_of_the_name(birds: Path) -> None:
    data = datasets.load("birds@48", birds.parent)
    assert (data.name, data.train_images.shape[2:]) == ("birds@48", (48, 48))


@pytest.mark.parametrize("name", ["birds@", "birds@big", "birds@3", "birds@-8"])
def test_sides_that_are_none_are_refused(birds: Path, name: str) -> None:
    with pytest.raises(ValueError, match="side"):
        datasets.load(name, birds.parent)


def test_pictures_are_cropped_to_their_middle_and_turned_as_the_camera_says(tmp_path: Path) -> None:
    folder = tmp_path / "flags" / "train" / "all"
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = (255, 0, 0)
    pixels[:4, 8:16] = (0, 0, 255)  # the upper half of the middle is blue
    folder.mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "1.png")
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(folder / "2.png", exif=turned)
    save(tmp_path / "flags" / "test" / "all" / "1.png")
    plain, upside_down = datasets.load("flags@8", tmp_path).train_images.permute(0, 2, 3, 1)
    assert plain[0, 0].tolist() == upside_down[7, 7].tolist() == [0, 0, 255]
    assert plain[7, 7].tolist() == upside_down[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [("png", "L"), ("PNG", "RGBA"), ("jpg", "RGB"), ("JPEG", "L"), ("webp", "RGB")],
)
def test_kinds_of_files_and_colours(birds: Path, suffix: str, mode: str) -> None:
    save(birds / "train" / "owl" / f"new.{suffix}", mode=mode)
    (birds / "train" / "owl" / ".hidden.png").write_text("no image")
    (birds / "train" / "owl" / "notes.txt").write_text("no image")
    assert datasets.load("birds", birds.parent).train_images.shape == (7, 3, 32, 32)


def test_damaged_files_are_named_all_at_once(birds: Path) -> None:
    whole = (birds / "train" / "owl" / "0.png").read_bytes()
    (birds / "train" / "owl" / "0.png").write_bytes(whole[: len(whole) // 2])
    (birds / "train" / "wren" / "2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"cannot read 2 image.*owl.0\.png.*wren.2\.png"):
        datasets.load("birds", birds.parent)


def test_what_folders_lack_is_said(birds: Path) -> None:
    save(birds / "test" / "crow" / "1.png")
    with pytest.raises(ValueError, match="test has classes that train has not: crow"):
        datasets.load("birds", birds.parent)
    for file in (birds / "test").rglob("*.png"):
        file.unlink()
    with pytest.raises(ValueError, match=r"test must hold a folder of images .* for each class"):
        datasets.load("birds", birds.parent)
    with pytest.raises(
        FileNotFoundError, match=r"neither a file crows\.npz nor a folder crows.train"
    ):
        datasets.load("crows", birds.parent)


def test_changed_files_change_the_fingerprint(birds: Path) -> None:
    before = datasets.own_fingerprint("birds", birds.parent)
    assert before == datasets.fingerprint(datasets.load("birds", birds.parent))
    assert before == datasets.own_fingerprint("birds", birds.parent)
    save(birds / "train" / "owl" / "more.png")
    assert datasets.own_fingerprint("birds", birds.parent) not in (before, None)


def test_words_and_vocabulary() -> None:
    assert captions.words("A red Shirt, men's; 3-pack") == [
        "a",
        "red",
        "shirt",
        "men's",
        "3",
        "pack",
    ]
    known = captions.vocabulary(["b a", "a c", "b a"], minimum=2)
    assert known == ("", "<unknown>", "a", "b")
    tokens = captions.tokenise(["B, x a a", ""], known, 3)
    assert tokens.tolist() == [[3, 1, 2], [0, 0, 0]]


def test_scenes_are_tokenised_by_the_same_rule() -> None:
    data = scenes.scenes(train=100, test=50, concepts=5, ratio=0.5)
    length = scenes.CAPTION_LENGTH
    assert torch.equal(
        captions.tokenise(data.test_captions, data.vocabulary, length), data.test_tokens
    )


def check_shop(data: datasets.Dataset) -> None:
    assert isinstance(data, datasets.Captioned)
    assert data.test_captions == ["a red shirt", "an odd hat", "a red shirt"]
    assert data.vocabulary == ("", "<unknown>", "a", "men's", "red", "shirt")
    assert data.train_tokens.shape == (6, 5)
    assert data.train_tokens[0].tolist() == [2, 4, 5, 3, 1]
    assert data.test_tokens[:2].tolist() == [[2, 4, 5, 0, 0], [1, 1, 1, 0, 0]]
    assert data.test_groups is not None
    assert data.test_groups[0] == data.test_groups[2] != data.test_groups[1]


def test_captions_of_a_folder(shop: Path) -> None:
    data = datasets.load("shop", shop.parent)
    assert data.class_names == ("shirt",)
    check_shop(data)


def test_captions_of_an_npz_file(shop: Path, tmp_path: Path) -> None:
    data = datasets.load("shop", shop.parent)
    assert isinstance(data, datasets.Captioned)
    arrays = {
        f"{part}_{kind}": value
        for part in ("train", "test")
        for kind, value in {
            "images": getattr(data, f"{part}_images").permute(0, 2, 3, 1).numpy(),
            "labels": getattr(data, f"{part}_labels").numpy(),
            "captions": np.array(getattr(data, f"{part}_captions")),
        }.items()
    }
    np.savez(tmp_path / "photos.npz", **arrays)
    check_shop(datasets.load("photos", tmp_path))
    np.savez(tmp_path / "photos.npz", **arrays | {"test_captions": np.arange(3)})
    with pytest.raises(ValueError, match=r"photos\.npz: test_captions must be strings"):
        datasets.load("photos", tmp_path)
    del arrays["test_captions"]
    np.savez(tmp_path / "photos.npz", **arrays)
    with pytest.raises(ValueError, match="must have both of train_captions, test_captions"):
        datasets.load("photos", tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,caption\ntrain/0.png,\n", "line 2: needs a file and a caption"),
        ("name,text\ntrain/0.png,a\n", "line 2: needs a file and a caption"),
        ("file,caption\ntrain/0.png,a\n", "names no file of test/"),
        ("file,caption\ntrain/0.png,a\ntrain/0.png,b\n", r"more than once: train/0\.png"),
        ("file,caption\ntrain/0.png,a\ntest/9.png,b\n", r"cannot read 1 image.*9\.png"),
        ("file,caption,class\ntrain/0.png,a,x\ntest/0.png,b,y\n", "classes that train has not"),
    ],
)
def test_wrong_tables_are_refused(shop: Path, table: str, message: str) -> None:
    (shop / "captions.csv").write_text(table, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        datasets.load("shop", shop.parent)


def test_equal_captions_are_matches_of_each_other() -> None:
    similarity = torch.tensor([[0.1, 0.0, 0.9], [0.0, 0.5, 0.6], [0.9, 0.0, 0.1]])
    assert metrics.recall_at_k(similarity, 1) == 0
    groups = torch.tensor([0, 1, 0])
    assert metrics.recall_at_k(similarity, 1, groups) == pytest.approx(2 / 3)
    assert metrics.recall_at_k(similarity, 2, groups) == pytest.approx(1)


def test_recall_of_groups_is_that_of_pairs_where_all_differ_and_of_chance_where_all_tie() -> None:
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randint(0, 4, (30, 30), generator=generator).double()
    for k in (1, 3, 30):
        plain = metrics.recall_at_k(similarity, k)
        assert metrics.recall_at_k(similarity, k, torch.arange(30)) == pytest.approx(plain)
    groups = torch.tensor([0, 0, 1, 1])
    ties = metrics.recall_at_k(torch.ones(4, 4), 1, groups)
    assert ties == pytest.approx(1 / 2)
    assert metrics.recall_at_k(torch.ones(4, 4), 2, groups) == pytest.approx(1 - 1 / 6)
