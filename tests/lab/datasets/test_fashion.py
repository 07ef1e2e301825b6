"""The script that makes `fashion.npz` from the public files, on a small folder of their form."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from dytemp.lab import datasets
from dytemp.lab.datasets.types import Captioned

SCRIPT = ROOT / "tools" / "fashion.py"
HEADER = "id,gender,masterCategory,subCategory,articleType,baseColour,season,year,usage,"
DAMAGED, WITHOUT_PHOTO, WITHOUT_NAME, WITHOUT_ROW, WITH_COMMA = 30, 31, 32, 99, 12
TWINS, SAME_WORDS = (15, 26), (16, 17, 18)  # equal pixels in two classes; equal captions


def run(*arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten shirts (10 to 19), ten bags, a robe, and what is wrong with the public files."""
    folder = tmp_path_factory.mktemp("downloaded")
    (folder / "images").mkdir()
    kinds = {k: "Shirts" if k < 20 else "Bags" if k < 30 else "Robe" for k in range(10, 34)}
    names = {number: f"Plain {kind} Number {number}" for number, kind in kinds.items()}
    names[WITH_COMMA] = "Shirt, Blue, 3.5 oz"
    names |= dict(zip(SAME_WORDS, ("Red shirt", "RED  Shirt ", "red-shirt"), strict=True))
    names[WITHOUT_NAME] = "NA"
    lines = [f"{HEADER}productDisplayName", "a line, that is no product"]
    for number, kind in kinds.items():
        lines.append(f"{number},Men,Apparel,Top,{kind},Blue,Fall,2011,Casual,{names[number]}")
        pixels = np.full((80, 60, 3), (number, 2 * number, 3 * number), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.jpg")
    (folder / "styles.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    images = {number: folder / "images" / f"{number}.jpg" for number in (*kinds, WITHOUT_ROW)}
    images[WITHOUT_PHOTO].rename(images[WITHOUT_ROW])
    images[DAMAGED].write_bytes(images[DAMAGED].read_bytes()[:300])
    shutil.copy(images[TWINS[0]], images[TWINS[1]])
    return folder


@pytest.fixture(scope="module")
def made(downloaded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with the file that was made, and what was printed."""
    root = tmp_path_factory.mktemp("data") / "sets"
    done = run(downloaded, root)
    assert (done.returncode, done.stderr) == (0, "")
    return root, done.stdout


def test_what_is_left_out_is_said(made: tuple[Path, str]) -> None:
    root, printed = made
    assert printed.splitlines() == [
        "left out, lines that are no product: 1",
        "left out, photos without a row: 1",
        "left out, rows without a photo: 1",
        "left out, products without a name: 1",
        "left out, damaged photos: 1",
        "left out, photos in classes of fewer than 10: 1",
        f"{root / 'fashion.npz'}: 18 photos to train on and 2 to test on, 2 classes; "
        "1 photos repeat the pixels of another",
    ]


def test_it_is_read_as_images_with_captions(made: tuple[Path, str]) -> None:
    data = datasets.load("fashion", made[0])
    assert isinstance(data, Captioned)
    assert data.class_names == ("Bags", "Shirts")
    assert data.train_images.shape == (18, 3, 32, 32)
    assert sorted(data.test_labels.tolist()) == [0, 1]
    assert "Shirt, Blue, 3.5 oz" in [*data.train_captions, *data.test_captions]
    arrays = np.load(made[0] / "fashion.npz")
    for part in ("train", "test"):
        ids = arrays[f"{part}_ids"].tolist()
        assert ids == sorted(ids)
        for number, image, label in zip(
            ids, arrays[f"{part}_images"].astype(int), arrays[f"{part}_labels"], strict=True
        ):
            assert label == (number < 20)
            shown = TWINS[0] if number == TWINS[1] else number
            assert abs(image[16, 16] - (shown, 2 * shown, 3 * shown)).max() <= 3  # JPEG
            assert image[:, [0, 1, 2, 29, 30, 31]].min() > 250  # white beside 60 of 80 pixels


def test_families_are_on_one_side(made: tuple[Path, str]) -> None:
    arrays = np.load(made[0] / "fashion.npz")
    tested = set(arrays["test_ids"].tolist())
    assert not tested & {*TWINS, *SAME_WORDS}  # more than one in ten of a class of ten


def test_the_choice_depends_on_the_photos_and_not_on_their_order() -> None:
    """200 photos of two classes, of which 2, 3 or more share words or pixels."""
    spec = importlib.util.spec_from_file_location("fashion", SCRIPT)
    fashion = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fashion)
    rng = np.random.default_rng(0)
    captions = np.array([f"Shirt {k}" for k in rng.integers(0, 150, 200)])
    images = rng.integers(0, 150, (200, 1), dtype=np.uint8)
    labels = rng.integers(0, 2, 200)
    tested = fashion.chosen_for_test(captions.tolist(), images, labels.tolist())
    for shared in (captions, images[:, 0]):
        assert not set(shared[tested].tolist()) & set(shared[~tested].tolist())
    for label in (0, 1):
        size = (labels == label).sum()
        assert 0.08 * size < tested[labels == label].sum() <= 0.11 * size + 0.5
    turned = fashion.chosen_for_test(captions[::-1].tolist(), images[::-1], labels[::-1].tolist())
    assert tested.tolist() == turned[::-1].tolist()


def test_another_folder_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path} must hold styles.csv and images/, as they are downloaded\n"
    assert not (tmp_path / "fashion.npz").exists()
