"""Views against torchvision: the same operations, with the same distributions."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, ks_2samp
from torchvision.transforms import ColorJitter, GaussianBlur, InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as reference

from dytemp.lab.training import augment
from dytemp.lab.training.augment import PRESETS, Augmentation, Choices

SURPRISE = 1e-3  # p-value below which a distribution counts as different; all seeds are fixed
EVERYTHING = Augmentation(crop_scale=(0.05, 1.0), jitter=(0.8, 0.8, 0.8, 0.5), blur=0.5)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    """Smooth random images with some black, grey and saturated patches."""
    coarse = torch.rand(n, channels, 5, 5, generator=seeded(1))
    images = reference.resize(coarse, [height, width], antialias=True) * 1.6 - 0.3
    images[:, :, :4, :4] = 0
    images[:, :, -4:, :4] = 0.5
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def torchvision_views(images: torch.Tensor, choices: Choices, interpolation: str) -> torch.Tensor:
    """Carry out the choices image by image with torchvision's operations."""
    size = list(images.shape[2:])
    operations = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    )
    views = []
    for i, image in enumerate(images[:, None].float() / 255):
        crop = [int(side[i]) for side in choices[:4]]
        mode = InterpolationMode(interpolation)
        view = reference.resized_crop(image, *crop, size, mode, antialias=True).clamp(0, 1)
        if choices.flip[i]:
            view = reference.horizontal_flip(view)
        for operation in choices.order[i].tolist():
            view = operations[operation](view, float(choices.factors[i, operation]))
        if choices.grey[i]:
            view = reference.rgb_to_grayscale(view, num_output_channels=images.shape[1])
        if choices.sigma[i] > 0:
            reach = 2 * min(min(size) - 1, 10) + 1
            view = reference.gaussian_blur(view, [reach, reach], [float(choices.sigma[i])] * 2)
        views.append(view)
    return torch.cat(views)


# --- single operations and the whole, with given choices -----------------------------------------
# torchvision computes in float32 too, in another order: 1e-5 is 1/400 of a grey level.


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crop_and_flip(interpolation: str) -> None:
    images = pictures(200, height=24, width=32)
    still = Augmentation(crop_scale=(0.02, 1.0), jitter_probability=0, grey=0)
    choices = augment.draw(still, 200, 24, 32, seeded())
    views = augment.crop_and_flip(images / 255, choices, interpolation)
    expected = torchvision_views(images, choices, interpolation)
    torch.testing.assert_close(views, expected, rtol=0, atol=1e-5)


def test_bicubic_crop_is_that_of_pillow() -> None:
    # Pillow also clips between the passes: no black and no white here.
    images = pictures(50) // 2 + 64
    choices = augment.draw(PRESETS["ts"], 50, 32, 32, seeded())._replace(
        flip=torch.zeros(50).bool()
    )
    views = augment.crop_and_flip(images / 255, choices, "bicubic")
    for i, image in enumerate(images):
        picture = reference.to_pil_image(image)
        crop = [int(side[i]) for side in choices[:4]]
        expected = reference.pil_to_tensor(
            reference.resized_crop(picture, *crop, [32, 32], InterpolationMode.BICUBIC)
        )
        # Pillow rounds to a grey level after each of its two passes.
        torch.testing.assert_close(views[i] * 255, expected.float(), rtol=0, atol=1.5)


@pytest.mark.parametrize("operation", range(4))
def test_each_colour_operation(operation: int) -> None:
    images = pictures(60)
    choices = augment.draw(EVERYTHING, 60, 32, 32, seeded())
    only = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(60, 1)
    only[:, operation] = choices.factors[:, operation]
    choices = choices._replace(factors=only)
    assert not torch.equal(only[:, operation], only[:1, operation].expand(60))
    views = augment.jitter(images / 255, choices)
    adjust = (
        reference.adjust_brightness,
        reference.adjust_contrast,
        reference.adjust_saturation,
        reference.adjust_hue,
    )[operation]
    expected = torch.cat(
        [
            adjust(image, float(factor))
            for image, factor in zip(images[:, None] / 255, only[:, operation], strict=True)
        ]
    )
    torch.testing.assert_close(views, expected, rtol=0, atol=1e-5)


def test_hue_of_every_colour() -> None:
    levels = torch.linspace(0, 1, 17)
    colours = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 17, 289)
    for turn in (-0.5, -0.3, -1 / 6, -0.01, 0.0, 0.01, 0.25, 1 / 3, 0.5):
        turned = augment.turn_hue(colours, torch.tensor([turn]))
        expected = reference.adjust_hue(colours, turn)
        torch.testing.assert_close(turned, expected, rtol=0, atol=1e-5)


def test_blur() -> None:
    images = pictures(60, height=24, width=32) / 255
    sigma = torch.linspace(0.1, 2.0, 60)
    expected = torch.cat(
        [
            reference.gaussian_blur(image, [21, 21], [float(width)] * 2)
            for image, width in zip(images[:, None], sigma, strict=True)
        ]
    )
    torch.testing.assert_close(augment.blur(images, sigma), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*PRESETS, "everything"])
def test_whole_pipeline(name: str, channels: int) -> None:
    augmentation = PRESETS.get(name, EVERYTHING)
    images = pictures(100, channels)
    choices = augment.draw(augmentation, 100, 32, 32, seeded())
    views = augment.view(images, augmentation, seeded())
    expected = torchvision_views(images, choices, augmentation.interpolation)
    torch.testing.assert_close(views, expected, rtol=0, atol=2e-5)


# --- distributions -------------------------------------------------------------------------------


def draw(augmentation: Augmentation, n: int = 4000, height: int = 32, width: int = 32) -> Choices:
    return augment.draw(augmentation, n, height, width, seeded())


@pytest.mark.parametrize(
    ("scale", "ratio", "height", "width"),
    [
        ((0.1, 1.0), (3 / 4, 4 / 3), 32, 32),
        ((0.08, 1.0), (3 / 4, 4 / 3), 224, 224),
        ((0.5, 1.0), (0.2, 5.0), 32, 32),  # most attempts are rejected
        ((0.6, 1.0), (3 / 4, 4 / 3), 24, 48),  # some images run out of attempts
    ],
)
def test_crops_are_those_of_torchvision(
    scale: tuple[float, float], ratio: tuple[float, float], height: int, width: int
) -> None:
    choices = draw(Augmentation(crop_scale=scale, crop_ratio=ratio), 4000, height, width)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    expected = np.array([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(4000)])
    found = torch.stack(choices[:4], dim=1).numpy()
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] + found[:, 2:] <= (height, width)).all()
    for measure in (
        lambda crops: crops[:, 2] * crops[:, 3] / (height * width),
        lambda crops: np.log(crops[:, 3] / crops[:, 2]),
        lambda crops: crops[:, 0],
        lambda crops: crops[:, 1],
    ):
        mine, theirs = measure(found), measure(expected)
        assert ks_2samp(mine, theirs).pvalue > SURPRISE
        spread = theirs.std() * np.sqrt(2 / 4000)
        assert abs(mine.mean() - theirs.mean()) < 4 * spread
        assert mine.std() == pytest.approx(theirs.std(), rel=0.08)


@pytest.mark.parametrize(
    ("height", "width", "ratio"),
    [(10, 64, (0.9, 1.1)), (64, 10, (0.9, 1.1)), (320, 330, (0.5, 2.0))],
    ids=["wide", "high", "whole"],
)
def test_central_crop_when_nothing_fits(
    height: int, width: int, ratio: tuple[float, float]
) -> None:
    scale = (1.0, 1.0)
    choices = draw(Augmentation(crop_scale=scale, crop_ratio=ratio), 20, height, width)
    expected = RandomResizedCrop.get_params(torch.empty(3, height, width), scale, ratio)
    assert {tuple(map(int, crop)) for crop in zip(*choices[:4], strict=True)} == {expected}


@pytest.mark.parametrize("name", PRESETS)
def test_how_often_things_happen(name: str) -> None:
    augmentation = PRESETS[name]
    choices = draw(augmentation)
    jittered = choices.factors[:, 0] != 1
    for happened, probability in (
        (choices.flip, augmentation.flip),
        (jittered, augmentation.jitter_probability),
        (choices.grey, augmentation.grey),
        (choices.sigma > 0, augmentation.blur),
    ):
        deviation = np.sqrt(probability * (1 - probability) / len(happened))
        assert abs(happened.float().mean() - probability) <= 4 * deviation


def test_jitter_factors_are_those_of_torchvision() -> None:
    augmentation = PRESETS["ts"]
    choices = draw(augmentation)
    jittered = choices.factors[choices.factors[:, 0] != 1]
    torch.manual_seed(0)
    limits = [(0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.1)]
    expected = np.array([ColorJitter.get_params(*limits)[1:] for _ in range(4000)])
    for k in range(4):
        mine, theirs = jittered[:, k].numpy(), expected[:, k]
        assert ks_2samp(mine, theirs).pvalue > SURPRISE
        assert mine.mean() == pytest.approx(theirs.mean(), abs=0.02)
        assert mine.std() == pytest.approx(theirs.std(), rel=0.05)


def test_every_order_of_the_colours_is_as_likely() -> None:
    orders = [tuple(order) for order in draw(PRESETS["ts"]).order.tolist()]
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert sum(counts) == 4000
    assert chisquare(counts).pvalue > SURPRISE


def test_width_of_the_blur_is_that_of_torchvision() -> None:
    sigma = draw(PRESETS["isogclr"]).sigma
    expected = [GaussianBlur.get_params(0.1, 2.0) for _ in range(4000)]
    assert ks_2samp(sigma[sigma > 0].numpy(), expected).pvalue > SURPRISE


def test_choices_are_independent() -> None:
    choices = draw(Augmentation(blur=0.5), 20_000)
    columns = [choices.height * choices.width, choices.top, choices.flip, choices.grey]
    columns += [choices.sigma > 0, choices.order[:, 0] == 0, *choices.factors.T]
    correlation = torch.corrcoef(torch.stack([column.float() for column in columns]))
    correlation[0, 1] = correlation[1, 0] = 0  # a large crop has no room
    # The factors share whether they are jittered at all, but not their signs.
    assert (correlation - torch.eye(len(columns))).abs().max() < 4 / np.sqrt(20_000)


# --- the contract --------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PRESETS)
def test_views_are_images(name: str, channels: int) -> None:
    images = pictures(20, channels, 24, 40)
    before = images.clone()
    views = augment.view(images, PRESETS[name], seeded())
    assert views.shape == images.shape
    assert views.dtype == torch.float32
    assert views.is_contiguous()
    assert 0 <= views.min() < views.max() <= 1
    assert torch.equal(images, before)


def test_generator_decides_alone() -> None:
    images = pictures(40)
    first = augment.two_views(images, EVERYTHING, seeded(3))
    torch.manual_seed(5)
    generator = seeded(3)
    second = augment.two_views(images, EVERYTHING, generator)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], first[1])
    third = augment.two_views(images, EVERYTHING, generator)
    assert not torch.equal(third[0], first[0])


def test_every_image_has_its_own_view() -> None:
    images = pictures(1).expand(50, -1, -1, -1)
    views = augment.view(images, PRESETS["ts"], seeded())
    assert len(views.flatten(1).unique(dim=0)) == 50


def test_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(50)
    whole = augment.view(images, EVERYTHING, seeded())
    monkeypatch.setattr(augment, "PIXELS_PER_CHUNK", 7 * 32 * 32)
    torch.testing.assert_close(augment.view(images, EVERYTHING, seeded()), whole, rtol=0, atol=1e-6)


def test_nothing_chosen_changes_nothing() -> None:
    nothing = Augmentation(
        crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0, jitter_probability=0, grey=0
    )
    images = pictures(10)
    assert torch.equal(augment.view(images, nothing, seeded()), images / 255)


def test_presets_are_those_of_the_papers() -> None:
    for name, scale in (("ts", 0.1), ("isogclr", 0.2), ("dystress", 0.08)):
        preset = PRESETS[name]
        assert preset.crop_scale == (scale, 1.0)
        assert preset.crop_ratio == (3 / 4, 4 / 3)
        assert preset.jitter == (0.4, 0.4, 0.4, 0.1)
        assert (preset.flip, preset.jitter_probability, preset.grey) == (0.5, 0.8, 0.2)
    assert PRESETS["ts"].interpolation == "bicubic"
    assert [name for name, preset in PRESETS.items() if preset.blur] == ["isogclr"]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.rand(2, 3, 8, 8), TypeError, "images must be a uint8 tensor, got torch.float32"),
        (np.zeros((2, 3, 8, 8), np.uint8), TypeError, "images must be a uint8 tensor, got ndarray"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), ValueError, r"\(N, 1 or 3, H, W\)"),
        (torch.zeros(2, 8, 8, 3, dtype=torch.uint8), ValueError, r"got \(2, 8, 8, 3\)"),
        (torch.zeros(2, 3, 0, 8, dtype=torch.uint8), ValueError, r"got \(2, 3, 0, 8\)"),
    ],
)
def test_other_images_are_refused(images: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        augment.view(images, PRESETS["ts"], seeded())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip", 1.5),
        ("grey", -0.1),
        ("blur", float("nan")),
        ("jitter_probability", 2),
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.5, 1.5)),
        ("crop_scale", (0.8, 0.2)),
        ("crop_ratio", (-1.0, 1.0)),
        ("blur_sigma", (1.0, float("inf"))),
        ("jitter", (0.4, 0.4, 0.4, 0.6)),
        ("jitter", (1.4, 0.4, 0.4, 0.1)),
        ("interpolation", "nearest"),
    ],
)
def test_impossible_augmentations_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        Augmentation(**{name: value})  # type: ignore[arg-type]
