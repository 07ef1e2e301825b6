"""Make `fashion.npz`, product photos with captions, from the files that are public.

Usage: python tools/fashion.py DOWNLOADED FOLDER. DOWNLOADED is the unpacked archive of "Fashion
Product Images (Small)" (data/README.md says where it is): `styles.csv` and `images/ID.jpg`. FOLDER
is that of the data sets (DYTEMP_DATA): `datasets.load("fashion")` reads the file made there.

- Photo: padded with white to a square, resized to 32 x 32 pixels (Lanczos). Caption: the name of
  the product. Class: its type of article. Order: by the number of the product.
- Left out: a photo without a row, a row without a photo, a photo that cannot be read, a product
  without a name, a class with fewer than 10 photos. How many of each is printed.
- Names with commas are not quoted in the table, so that their lines have too many columns: what
  follows the ninth comma is the name.
- Photos that share a caption (whatever its case, blanks and punctuation) or all pixels are of one
  family, which is for training or for testing as a whole. Families stand in the order of a hash of
  their least caption. Class by class, rare ones first, the first of them are for testing, up to a
  tenth of the class and at least one photo; a family that would bring any class above 11 % is
  passed over.
"""

from __future__ import annotations

import csv
import hashlib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE = 32  # pixels
FEWEST = 10  # photos of a class
SHARE, MOST = 0.1, 0.11  # of a class, for testing
COLUMNS = 10  # of the table; the class is in the fifth, the name in the last

Pixels = npt.NDArray[np.uint8]


def main(downloaded: str, folder: str) -> int:
    """Make the file and print what was left out."""
    source, target = Path(downloaded), Path(folder) / "fashion.npz"
    if not (source / "styles.csv").is_file() or not (source / "images").is_dir():
        print(f"{source} must hold styles.csv and images/, as they are downloaded", file=sys.stderr)
        return 1
    rows, strange = read_table(source / "styles.csv")
    photos = {int(f.stem): f for f in (source / "images").glob("*.jpg") if f.stem.isdecimal()}
    report = {"lines that are no product": strange}
    report["photos without a row"] = len(photos.keys() - rows.keys())
    report["rows without a photo"] = len(rows.keys() - photos.keys())
    there = sorted(rows.keys() & photos.keys())
    named = [number for number in there if rows[number][1].strip() not in ("", "NA")]
    report["products without a name"] = len(there) - len(named)
    found = {number: read_photo(photos[number]) for number in named}
    pixels = {number: image for number, image in found.items() if image is not None}
    report["damaged photos"] = len(found) - len(pixels)
    sizes = Counter(rows[number][0] for number in pixels)
    numbers = [number for number in pixels if sizes[rows[number][0]] >= FEWEST]
    report[f"photos in classes of fewer than {FEWEST}"] = len(pixels) - len(numbers)
    for what, count in report.items():
        print(f"left out, {what}: {count}")
    if not numbers:
        print("nothing is left to write", file=sys.stderr)
        return 1

    class_names = sorted({rows[number][0] for number in numbers})
    labels = [class_names.index(rows[number][0]) for number in numbers]
    captions = [rows[number][1] for number in numbers]
    images = np.stack([pixels[number] for number in numbers])
    tested = chosen_for_test(captions, images, labels)
    arrays: dict[str, npt.NDArray[Any]] = {"class_names": np.array(class_names)}
    for part, chosen in (("train", ~tested), ("test", tested)):
        arrays[f"{part}_images"] = images[chosen]
        arrays[f"{part}_labels"] = np.array(labels, np.int64)[chosen]
        arrays[f"{part}_captions"] = np.array(captions)[chosen]
        arrays[f"{part}_ids"] = np.array(numbers, np.int64)[chosen]
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(target, **arrays)
    once = len({image.tobytes() for image in images})
    print(f"{target}: {(~tested).sum()} photos to train on and {tested.sum()} to test on,", end=" ")
    print(f"{len(class_names)} classes; {len(images) - once} photos repeat the pixels of another")
    return 0


def read_table(file: Path) -> tuple[dict[int, tuple[str, str]], int]:
    """Return class and name of each product, by its number, and how many lines were of none."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.reader(stream))[1:]
    products = {
        int(line[0]): (line[4], ",".join(line[COLUMNS - 1 :]))
        for line in lines
        if len(line) >= COLUMNS and line[0].isdecimal()
    }
    return products, len(lines) - len(products)


def read_photo(file: Path) -> Pixels | None:
    """Return a photo as (SIDE, SIDE, 3), or None if it cannot be read."""
    try:
        with Image.open(file) as opened:
            photo = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None
    longer = max(photo.size)
    square = Image.new("RGB", (longer, longer), "white")
    square.paste(photo, ((longer - photo.width) // 2, (longer - photo.height) // 2))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def families(captions: Sequence[str], images: Pixels) -> dict[str, list[int]]:
    """Group what shares words or pixels, directly or through others, by the least caption."""
    words = [" ".join(re.findall(r"[a-z0-9]+", caption.lower())) for caption in captions]
    keys: list[str | bytes] = [*words, *(image.tobytes() for image in images)]
    first: dict[str | bytes, np.int32] = {}
    places = np.tile(np.arange(len(words), dtype=np.int32), 2)  # int32: older SciPy takes no other
    others = np.array([first.setdefault(k, p) for k, p in zip(keys, places, strict=True)])
    shared = coo_array((np.ones(len(others)), (places, others)), shape=(len(words), len(words)))
    members = defaultdict(list)
    for place, family in enumerate(connected_components(shared, directed=False)[1].tolist()):
        members[family].append(place)
    return {min(words[k] for k in found): found for found in members.values()}


def chosen_for_test(
    captions: Sequence[str], images: Pixels, labels: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Tell which photos are for testing; it depends on what they are, not on their order."""
    members = families(captions, images)
    order = sorted(
        members, key=lambda name: hashlib.sha256(f"fashion{SIDE}:{name}".encode()).digest()
    )
    within = {name: Counter(labels[k] for k in members[name]) for name in order}
    candidates = defaultdict(list)
    for name in order:
        for label in within[name]:
            candidates[label].append(name)
    sizes = Counter(labels)
    wanted = {label: max(1, round(SHARE * size)) for label, size in sizes.items()}
    room = {label: max(wanted[label], round(MOST * size)) for label, size in sizes.items()}
    taken: Counter[int] = Counter()
    tested = np.zeros(len(labels), dtype=bool)
    for label in sorted(sizes, key=lambda label: (sizes[label], label)):
        for name in candidates[label]:
            if taken[label] >= wanted[label]:
                break
            fits = all(taken[other] + n <= room[other] for other, n in within[name].items())
            if fits and not tested[members[name][0]]:
                tested[members[name]] = True
                taken.update(within[name])
    return tested


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    raise SystemExit(main(*sys.argv[1:]))
