"""Captioned scenes: small pictures of coloured shapes with sentences about them, generated.

A stand-in for a web-crawled set of images with texts, small enough to train on within a minute.
The concept of a scene is the colour and the shape of its main object; concepts follow a long tail.
A smaller second object, a texture and paraphrases keep captions and pictures varied.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dytemp import checks
from dytemp.lab.datasets.long_tails import long_tail_counts
from dytemp.lab.datasets.types import Captioned, Sentences

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Concept = tuple[str, str]  # colour and shape

SIDE = 32  # pixels
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.12, 0.14),
    "orange": (0.97, 0.55, 0.10),
    "yellow": (0.97, 0.90, 0.20),
    "green": (0.13, 0.62, 0.22),
    "cyan": (0.20, 0.82, 0.86),
    "blue": (0.13, 0.27, 0.85),
    "purple": (0.50, 0.16, 0.66),
    "pink": (0.98, 0.55, 0.75),
}
# Signed distance to the outline of each shape (negative inside), in units of the object's radius.
SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": lambda x, y: np.hypot(x, y) - 0.95,
    "square": lambda x, y: _box(x, y, 0.75, 0.75),
    "triangle": lambda x, y: np.maximum(y, np.abs(x) * math.sqrt(0.75) - y / 2) - 0.52,
    "cross": lambda x, y: np.minimum(_box(x, y, 1.0, 0.3), _box(x, y, 0.3, 1.0)),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.75) - 0.25,
    "bar": lambda x, y: _box(x, y, 1.0, 0.33),
}
SIZES: dict[str, tuple[float, float]] = {"small": (6.0, 7.0), "large": (9.0, 10.5)}
SECOND_RADIUS = (3.6, 4.4)
SHADES: dict[str, float] = {"dark": 0.15, "grey": 0.5, "light": 0.85}
# Texture of the background, between -1 and 1; x and y count pixels, turned and shifted.
TEXTURES: dict[str, Callable[[Array, Array], Array]] = {
    "plain": lambda x, y: np.zeros_like(x),
    "striped": lambda x, y: np.sin(x),
    "checked": lambda x, y: np.clip(8 * np.sin(x * 0.7) * np.sin(y * 0.7), -1, 1),
    "dotted": lambda x, y: 2 * np.clip(6 * np.cos(x * 0.8) * np.cos(y * 0.8) - 3, 0, 1) - 0.5,
}
OPENINGS = ("", "a picture of", "this is", "there is", "we see")
JOINERS = ("and", "with", "next to", "beside")
PLACES = ("on", "in front of")

CONCEPTS = tuple(itertools.product(COLOURS, SHAPES))
PADDING = ""
VOCABULARY = (
    PADDING,
    *sorted(
        {"a", "an", "background", *COLOURS, *SHAPES, *SIZES, *SHADES, *TEXTURES}
        | {word for phrase in (*OPENINGS, *JOINERS, *PLACES) for word in phrase.split()}
    ),
)
#: Words of the longest caption: opening, main object, second object, background.
CAPTION_LENGTH = 3 + 4 + (2 + 3) + (3 + 4)


def scenes(
    train: int = 2000,
    test: int = 500,
    concepts: int = 20,
    ratio: float = 0.02,
    seed: int = 0,
) -> Captioned:
    """Generate captioned scenes with a long tail over concepts.

    Parameters
    ----------
    train : int
        Training scenes; the long tail takes as many of them as its rounding allows.
    test : int
        Test scenes, at least one per concept; rounded down to the same number of each.
    concepts : int
        Pairs of colour and shape, 2 to 48; which ones, and which of them are rare, is drawn with
        `seed`. The most frequent one has label 0.
    ratio : float
        Rarest over most frequent concept, in (0, 1].
    seed : int
        At least 0. The same seed gives the same scenes.

    Returns
    -------
    Captioned
        RGB images of 32 x 32 pixels.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or a concept would get no scene.
    """
    concepts = checks.integer("concepts", concepts, at_least=2)
    if concepts > len(CONCEPTS):
        raise ValueError(f"concepts must be at most {len(CONCEPTS)}, got {concepts}")
    train = checks.integer("train", train, at_least=concepts)
    test = checks.integer("test", test, at_least=concepts)
    ratio = checks.number("ratio", ratio, above=0, at_most=1)
    seed = checks.integer("seed", seed, at_least=0)

    counts = _long_tail(train, concepts, ratio)
    order = np.random.default_rng((seed, 0)).permutation(len(CONCEPTS))[:concepts]
    chosen = [CONCEPTS[k] for k in order]
    parts = []
    for part, per_concept in enumerate((counts, [test // concepts] * concepts), start=1):
        rng = np.random.default_rng((seed, part))
        labels = rng.permutation(np.repeat(np.arange(concepts), per_concept))
        invented = _invent(labels, chosen, rng)
        captions = [_describe(scene, rng) for scene in invented]
        parts.append((_draw(invented, rng), torch.from_numpy(labels), captions))
    (train_images, train_labels, train_captions), (test_images, test_labels, test_captions) = parts
    return Captioned(
        name="scenes",
        train_images=train_images,
        test_images=test_images,
        train_labels=train_labels,
        test_labels=test_labels,
        class_names=tuple(" ".join(concept) for concept in chosen),
        train_captions=train_captions,
        test_captions=test_captions,
        train_tokens=tokenise(train_captions),
        test_tokens=tokenise(test_captions),
        vocabulary=VOCABULARY,
    )


def scene_sentences(seed: int = 0) -> Sentences:
    """Describe generated scenes twice: sentences that stand in for `dytemp.lab.datasets.verses`.

    The concepts and their long tail are those of `scenes`, and so are the numbers of scenes; the
    classes are the concepts. Nothing is drawn, and nobody sees which descriptions belong together
    before they are looked for.

    Parameters
    ----------
    seed : int
        At least 0. The same seed gives the same sentences.
    """
    seed = checks.integer("seed", seed, at_least=0)
    concepts = 20
    order = np.random.default_rng((seed, 0)).permutation(len(CONCEPTS))[:concepts]
    chosen = [CONCEPTS[k] for k in order]
    counts = _long_tail(2000, concepts, 0.02)
    parts = []
    for part, per_concept in enumerate((counts, [25] * concepts, [25] * concepts), start=1):
        rng = np.random.default_rng((seed, part))
        labels = rng.permutation(np.repeat(np.arange(concepts), per_concept))
        invented = _invent(labels, chosen, rng)
        wordings = [tokenise([_describe(scene, rng) for scene in invented]) for _ in range(2)]
        parts.append((torch.from_numpy(labels), *wordings))
    (classes, *train), (test_classes, test, test_others), (_, validation, others) = parts
    return Sentences(
        name="scene_sentences",
        train_images=torch.cat(train),
        test_images=test,
        test_others=test_others,
        validation=validation,
        validation_others=others,
        train_labels=classes.repeat(2),
        test_labels=test_classes,
        class_names=tuple(" ".join(concept) for concept in chosen),
        vocabulary=VOCABULARY,
    )


def _long_tail(scenes: int, concepts: int, ratio: float) -> list[int]:
    """Return how many scenes each concept gets, the most frequent first."""
    heads = sum(ratio ** (k / (concepts - 1)) for k in range(concepts))
    return long_tail_counts(math.floor(scenes / heads), concepts, ratio)


def tokenise(captions: Sequence[str]) -> Tensor:
    """Words of captions, or of prompts such as "a red circle", as positions in `VOCABULARY`.

    Returns
    -------
    int64 tensor (N, CAPTION_LENGTH)
        Filled up with 0.

    Raises
    ------
    ValueError
        If a caption is too long or has a word that the grammar does not know.
    """
    position = {word: k for k, word in enumerate(VOCABULARY)}
    tokens = torch.zeros(len(captions), CAPTION_LENGTH, dtype=torch.int64)
    for row, caption in zip(tokens, captions, strict=True):
        words = caption.split()
        unknown = [word for word in words if word not in position]
        if unknown or len(words) > CAPTION_LENGTH:
            raise ValueError(
                f"captions must have at most {CAPTION_LENGTH} words of the vocabulary, "
                f"got {caption!r} (unknown: {unknown})"
            )
        row[: len(words)] = torch.tensor([position[word] for word in words])
    return tokens


@dataclass(frozen=True)
class _Scene:
    """What a picture shows; its caption says this or a part of it."""

    main: Concept
    second: Concept | None
    size: str
    shade: str
    texture: str


def _invent(
    labels: Integers, concepts: Sequence[Concept], rng: np.random.Generator
) -> list[_Scene]:
    """Choose everything about the scenes except for their main concepts, which are given."""
    second = rng.permutation(labels)  # second objects have the same long tail as main objects
    there = rng.random(len(labels)) < 0.5
    pairs = [
        (concepts[k], concepts[j], yes) for k, j, yes in zip(labels, second, there, strict=True)
    ]
    return [
        _Scene(
            main=main,
            second=other if yes and other[0] != main[0] else None,
            size=_one_of(tuple(SIZES), rng),
            shade=_one_of(tuple(SHADES), rng),
            texture=_one_of(tuple(TEXTURES), rng),
        )
        for main, other, yes in pairs
    ]


def _one_of(words: Sequence[str], rng: np.random.Generator) -> str:
    """Choose a word."""
    return words[int(rng.integers(len(words)))]


def _describe(scene: _Scene, rng: np.random.Generator) -> str:
    """Say what the scene shows; the size and the background are not always worth a word."""
    main = (scene.size, *scene.main) if rng.random() < 0.7 else scene.main
    phrases = [_one_of(OPENINGS, rng), _noun_phrase(main)]
    if scene.second:
        phrases += [_one_of(JOINERS, rng), _noun_phrase(scene.second)]
    if rng.random() < 0.5:
        background = (scene.shade, scene.texture, "background")
        phrases += [_one_of(PLACES, rng), _noun_phrase(background)]
    return " ".join(phrase for phrase in phrases if phrase)


def _noun_phrase(words: Sequence[str]) -> str:
    """Put the article in front."""
    return " ".join(("an" if words[0][0] in "aeiou" else "a", *words))


def _draw(scenes: Sequence[_Scene], rng: np.random.Generator) -> Tensor:
    """Paint the scenes, uint8 (N, 3, SIDE, SIDE).

    In float64, so that the last digit of a sine, which depends on the machine, is lost when the
    colours are rounded to 256 levels.
    """
    n = len(scenes)
    with_second = np.array([k for k, scene in enumerate(scenes) if scene.second], dtype=np.int64)
    radius = rng.uniform(*np.array([SIZES[scene.size] for scene in scenes]).T)
    second_radius = np.zeros(n)
    second_radius[with_second] = rng.uniform(*SECOND_RADIUS, len(with_second))
    angle = rng.uniform(-math.pi, math.pi, n)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    # Side by side, two objects leave each other room; a single one stands anywhere.
    distance = rng.random(n) * (SIDE / 2 - radius)
    distance[with_second] = second_radius[with_second] + 0.5
    main_place = direction * distance[:, None]
    second_place = -direction * (radius[:, None] + 0.5)

    canvas = _backgrounds(scenes, rng)
    objects = [scene.main for scene in scenes]
    _paste(canvas, np.arange(n), objects, main_place, radius, rng)
    objects = [scene.second or scene.main for scene in scenes]
    _paste(canvas, with_second, objects, second_place, second_radius, rng)
    canvas += rng.normal(0, 0.015, canvas.shape)
    pixels = np.rint(canvas.clip(0, 1) * 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def _backgrounds(scenes: Sequence[_Scene], rng: np.random.Generator) -> Array:
    """Paint textures in shades of a nearly grey tint, (N, SIDE, SIDE, 3)."""
    n = len(scenes)
    shades = np.array([SHADES[scene.shade] for scene in scenes])[:, None] + rng.uniform(
        -0.05, 0.05, (n, 3)
    )
    x, y = _grid(rng.uniform(-8, 8, (n, 2)), rng.uniform(-math.pi, math.pi, n))
    textures = np.array([scene.texture for scene in scenes])
    pattern = np.zeros_like(x)
    for texture, wave in TEXTURES.items():
        rows = np.flatnonzero(textures == texture)
        pattern[rows] = wave(x[rows], y[rows])
    canvas: Array = shades[:, None, None, :] + 0.1 * pattern[..., None]
    return canvas


def _paste(
    canvas: Array,
    rows: Integers,
    objects: Sequence[Concept],
    place: Array,
    radius: Array,
    rng: np.random.Generator,
) -> None:
    """Paint one object with soft edges on each of the given rows of the canvas, in place.

    `objects`, `place` (pixels from the middle) and `radius` (pixels) have an entry for every row
    of the canvas.
    """
    tilt = rng.uniform(-0.3, 0.3, len(objects))
    paint = np.array([COLOURS[colour] for colour, _ in objects]) + rng.uniform(
        -0.05, 0.05, (len(objects), 3)
    )
    shapes = np.array([shape for _, shape in objects])
    for shape, outline in SHAPES.items():
        some = rows[shapes[rows] == shape]
        size = radius[some, None, None]
        x, y = _grid(place[some], tilt[some])
        cover = np.clip(0.5 - outline(x / size, y / size) * size, 0, 1)[..., None]
        canvas[some] += cover * (paint[some, None, None, :] - canvas[some])


def _grid(middle: Array, angle: Array) -> tuple[Array, Array]:
    """Coordinates of the pixels (N, SIDE, SIDE), from a point near the middle, turned."""
    pixel = np.arange(SIDE) - (SIDE - 1) / 2
    x = pixel[None, None, :] - middle[:, 0, None, None]
    y = pixel[None, :, None] - middle[:, 1, None, None]
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return cosine * x + sine * y, cosine * y - sine * x


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    """Signed distance to a rectangle, up to its corners."""
    distance: Array = np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)
    return distance
