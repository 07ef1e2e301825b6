"""Random views of a batch of images, as tensor operations on the whole batch.

The operations and their distributions are those of torchvision's `RandomResizedCrop`,
`RandomHorizontalFlip`, `ColorJitter` (under `RandomApply`), `RandomGrayscale` and
`GaussianBlur` (under `RandomApply`). Every image gets its own random choices. Unlike Pillow,
nothing is rounded to 8 bits between the operations.

The work is split in two: `draw` makes all random choices and `apply` carries them out
without any randomness.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dytemp import checks

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
LUMINANCE = (0.2989, 0.587, 0.114)  # ITU-R 601, rounded as in torchvision
CROP_ATTEMPTS = 10
PIXELS_PER_CHUNK = 2**18  # larger pieces fall out of the cache, smaller ones cost more calls


@dataclass(frozen=True)
class Augmentation:
    """How strongly a view may differ from its image.

    Parameters
    ----------
    crop_scale : (float, float)
        Least and greatest area of the crop, as a fraction of the image.
    crop_ratio : (float, float)
        Least and greatest ratio of width to height of the crop.
    interpolation : "bilinear" or "bicubic"
        How the crop is brought back to the size of the image.
    flip : float
        Probability of a horizontal flip.
    jitter : (float, float, float, float)
        Greatest change of brightness, contrast, saturation and hue: the first three are multiplied
        by a factor in [1 - x, 1 + x], the hue is turned by at most x of a full circle.
    jitter_probability : float
        Probability that the colours are jittered at all.
    grey : float
        Probability that the colours are dropped.
    blur : float
        Probability of a Gaussian blur.
    blur_sigma : (float, float)
        Least and greatest standard deviation of the blur, in pixels.

    Raises
    ------
    TypeError, ValueError
        If a probability is outside [0, 1], or a range is empty or impossible.
    """

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    grey: float = 0.2
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        for name in ("flip", "jitter_probability", "grey", "blur"):
            checks.number(name, getattr(self, name), at_least=0, at_most=1)
        for name, limit in (("crop_scale", 1), ("crop_ratio", math.inf), ("blur_sigma", math.inf)):
            least, greatest = getattr(self, name)
            checks.number(name, least, above=0)
            checks.number(name, greatest, at_most=limit)
            checks.bounds(least, greatest, f"{name}: least <= greatest")
        for strength, limit in zip(self.jitter, (1, 1, 1, 0.5), strict=True):
            checks.number("jitter", strength, at_least=0, at_most=limit)
        checks.choice("interpolation", self.interpolation, ("bilinear", "bicubic"))


PRESETS: dict[str, Augmentation] = {
    # The published code of each paper, for CIFAR.
    "ts": Augmentation(crop_scale=(0.1, 1.0), interpolation="bicubic"),
    "isogclr": Augmentation(crop_scale=(0.2, 1.0), blur=0.5),
    "dystress": Augmentation(crop_scale=(0.08, 1.0)),
    # A digit mirrored is another sign, and it has no colour.
    "digits": Augmentation(crop_scale=(0.4, 1.0), flip=0.0, jitter=(0.4, 0.4, 0.0, 0.0), grey=0.0),
    # Classes may differ by a turn, and there is no colour.
    "patterns": Augmentation(
        crop_scale=(0.6, 1.0), flip=0.0, jitter=(0.4, 0.4, 0.0, 0.0), grey=0.0
    ),
    # The captions name colours and sizes: keep both recognisable.
    "scenes": Augmentation(crop_scale=(0.7, 1.0), jitter=(0.2, 0.2, 0.2, 0.0), grey=0.0),
}


class Choices(NamedTuple):
    """The random choices for N views, one row each.

    Attributes
    ----------
    top, left, height, width : int64 Tensor of shape (N,)
        The crop, in pixels.
    flip : bool Tensor of shape (N,)
        Whether the crop is mirrored.
    order : int64 Tensor of shape (N, 4)
        Column k holds the colour operation that comes k-th (`BRIGHTNESS` ... `HUE`).
    factors : Tensor of shape (N, 4)
        The factors of brightness, contrast and saturation (1 for no change), and the turn of the
        hue (0 for no change).
    grey : bool Tensor of shape (N,)
        Whether the colours are dropped.
    sigma : Tensor of shape (N,)
        The standard deviation of the blur, in pixels (0 for no blur).
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    order: Tensor
    factors: Tensor
    grey: Tensor
    sigma: Tensor


def view(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Make one random view of each image.

    Parameters
    ----------
    images : uint8 Tensor of shape (N, C, H, W)
        Grey (C = 1) or colour (C = 3) images.
    augmentation : Augmentation
        How strongly a view may differ from its image.
    generator : torch.Generator
        The only source of randomness: the same state gives the same views, bit by bit.

    Returns
    -------
    float32 Tensor of shape (N, C, H, W)
        Values in [0, 1].

    Raises
    ------
    TypeError
        If `images` is not a uint8 tensor.
    ValueError
        If the shape of `images` is not (N, 1 or 3, H, W).
    """
    _check_images(images)
    n, _, height, width = images.shape
    choices = draw(augmentation, n, height, width, generator)
    return apply(images, choices, augmentation.interpolation)


def two_views(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Make two independent random views of each image; see `view`."""
    return view(images, augmentation, generator), view(images, augmentation, generator)


def draw(
    augmentation: Augmentation, n: int, height: int, width: int, generator: torch.Generator
) -> Choices:
    """Draw the random choices for `n` views of images of `height` x `width` pixels.

    Returns
    -------
    Choices
        On the device of the generator.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        random = torch.rand(n, *shape, generator=generator, device=generator.device)
        return low + (high - low) * random

    def happens(probability: float) -> Tensor:
        return uniform(0, 1) < probability

    strength = torch.tensor(augmentation.jitter, device=generator.device)
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0], device=generator.device)
    jittered = happens(augmentation.jitter_probability)[:, None]
    return Choices(
        *_draw_crops(augmentation, height, width, uniform),
        flip=happens(augmentation.flip),
        order=uniform(0, 1, 4).argsort(dim=1),
        factors=neutral + jittered * strength * uniform(-1, 1, 4),
        grey=happens(augmentation.grey),
        sigma=happens(augmentation.blur) * uniform(*augmentation.blur_sigma),
    )


def _draw_crops(
    augmentation: Augmentation, height: int, width: int, uniform: Callable[..., Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw top, left, height and width of the crops.

    As in torchvision, an area and a ratio whose rounded crop does not fit into the image are drawn
    again, up to ten times; after that, the largest central crop with an allowed ratio is taken.
    """
    least, greatest = augmentation.crop_ratio
    area = height * width * uniform(*augmentation.crop_scale, CROP_ATTEMPTS)
    ratio = uniform(math.log(least), math.log(greatest), CROP_ATTEMPTS).exp()
    widths = (area * ratio).sqrt().round().long()
    heights = (area / ratio).sqrt().round().long()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    found, first = fits.max(dim=1)  # the first attempt that fits

    centre_height = min(height, round(width / least))
    centre_width = min(width, round(height * greatest))
    crop_height = heights.gather(1, first[:, None]).squeeze(1).where(found, centre_height)
    crop_width = widths.gather(1, first[:, None]).squeeze(1).where(found, centre_width)
    free_height, free_width = height - crop_height, width - crop_width
    top = (uniform(0, 1) * (free_height + 1)).long().where(found, free_height // 2)
    left = (uniform(0, 1) * (free_width + 1)).long().where(found, free_width // 2)
    return top, left, crop_height, crop_width


def apply(images: Tensor, choices: Choices, interpolation: str = "bilinear") -> Tensor:
    """Carry out the choices of `draw`: crop and flip, jitter, drop the colours, blur.

    Parameters
    ----------
    images : uint8 Tensor of shape (N, C, H, W)
    choices : Choices
        One row for each image.
    interpolation : "bilinear" or "bicubic"

    Returns
    -------
    float32 Tensor of shape (N, C, H, W)
        Values in [0, 1].
    """
    n, _, height, width = images.shape
    # A processor is fastest on pieces that fit its cache; a GPU takes all at once.
    size = max(1, PIXELS_PER_CHUNK // (height * width)) if images.device.type == "cpu" else n
    columns = [torch.split(column.to(images.device), size) for column in choices]
    pieces = zip(torch.split(images, size), *columns, strict=True)
    return torch.cat([_apply(piece, Choices(*rows), interpolation) for piece, *rows in pieces])


def _apply(images: Tensor, choices: Choices, interpolation: str) -> Tensor:
    views = crop_and_flip(images / 255, choices, interpolation)
    jitter(views, choices)
    if views.shape[1] == 3:
        grey = choices.grey.nonzero().squeeze(1)
        views[grey] = _luminance(views[grey]).expand(-1, 3, -1, -1)
    blurred = choices.sigma.nonzero().squeeze(1)
    if len(blurred):
        views[blurred] = blur(views[blurred], choices.sigma[blurred])
    return views.clamp_(0, 1)  # hue and blur may round to a little more than 1


# --- crop, flip and blur: products with one small matrix for each axis ---------------------------


def crop_and_flip(images: Tensor, choices: Choices, interpolation: str) -> Tensor:
    """Cut out each crop, resize it to the size of the image and mirror it where chosen.

    Equals torchvision's `resized_crop` with `antialias=True` (which is also what Pillow does):
    a crop is never larger than the image, so nothing is ever averaged, but taps beyond the edge of
    the crop are left out and the others rescaled.
    """
    kernel = _bicubic if interpolation == "bicubic" else _bilinear
    _, _, height, width = images.shape
    vertical = _resizing_matrix(choices.top, choices.height, height, kernel)
    horizontal = _resizing_matrix(choices.left, choices.width, width, kernel, choices.flip)
    return _multiply(images, vertical, horizontal).clamp_(0, 1)


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own Gaussian; the image is continued by reflection at its edges."""
    _, _, height, width = images.shape
    return _multiply(images, _blurring_matrix(sigma, height), _blurring_matrix(sigma, width))


def _multiply(images: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Multiply the columns of each (C, H, W) image by (H, H), its rows by (W, W)."""
    n, channels, height, width = images.shape
    rows_outside = images.transpose(1, 2).reshape(n, height, channels * width)
    stretched = torch.bmm(vertical, rows_outside).view(n, height * channels, width)
    stretched = torch.bmm(stretched, horizontal.mT).view(n, height, channels, width)
    return stretched.transpose(1, 2).contiguous()


def _resizing_matrix(
    start: Tensor,
    length: Tensor,
    size: int,
    kernel: Callable[[Tensor], Tensor],
    mirrored: Tensor | None = None,
) -> Tensor:
    """Matrices (N, size, size) that stretch `length` pixels from `start` on over `size`."""
    start, length = start[:, None], length[:, None]
    places = (torch.arange(size, device=start.device) + 0.5) / size
    if mirrored is not None:
        places = torch.where(mirrored[:, None], 1 - places, places)
    centre = start + length * places - 0.5
    first = centre.floor()
    weights = kernel(centre - first)
    taps = (first.long() - 1)[:, None] + torch.arange(4, device=start.device)[:, None]
    weights *= (taps >= start[:, None]) & (taps < (start + length)[:, None])
    weights /= weights.sum(dim=1, keepdim=True)
    matrix = weights.new_zeros(len(start), size, size)
    return matrix.scatter_add_(1, taps.clamp_(0, size - 1), weights).mT


def _bilinear(offset: Tensor) -> Tensor:
    """Weights of the four pixels round a place, `offset` (in [0, 1)) behind the second."""
    nothing = torch.zeros_like(offset)
    return torch.stack((nothing, 1 - offset, offset, nothing), dim=1)


def _bicubic(offset: Tensor) -> Tensor:
    """Weights of the same four pixels by Keys' kernel with a = -1/2, as in Pillow."""
    ahead = 1 - offset
    return torch.stack(
        (
            -0.5 * offset * ahead**2,
            (1.5 * offset - 2.5) * offset**2 + 1,
            (1.5 * ahead - 2.5) * ahead**2 + 1,
            -0.5 * ahead * offset**2,
        ),
        dim=1,
    )


def _blurring_matrix(sigma: Tensor, size: int) -> Tensor:
    """Matrices (N, size, size) that convolve `size` pixels with a Gaussian."""
    reach = size - 1  # no reflection goes further
    kernel = torch.arange(-reach, reach + 1, device=sigma.device) / sigma[:, None]
    kernel = kernel.square_().mul_(-0.5).exp_()
    kernel /= kernel.sum(dim=1, keepdim=True)
    # Row i holds the weights of the pixels -reach ... 2 reach in the convolved pixel i.
    weights = F.pad(kernel, (reach, reach)).unfold(1, 3 * reach + 1, 1).flip(1)
    matrix = weights[:, :, reach : reach + size].contiguous()
    matrix[:, :, 1:] += weights[:, :, :reach].flip(2)  # pixel -1 is a reflection of pixel 1
    matrix[:, :, :-1] += weights[:, :, reach + size :].flip(2)
    return matrix


# --- colours ------------------------------------------------------------------------------------


def jitter(views: Tensor, choices: Choices) -> Tensor:
    """Change brightness, contrast, saturation and hue, in place, in each image's own order.

    All but the hue mix the image with something else: with black (brightness), with its mean
    luminance (contrast) or with its luminance (saturation). So each of the four steps is one such
    mixture for the whole batch, whatever each image has chosen for this step, and a turn of the hue
    for those that have chosen that. A grey image is its own luminance, so that saturation leaves it
    as it is, and it has no hue.
    """
    for operation in choices.order.T[:, :, None, None, None]:
        factor = choices.factors[:, :, None, None].gather(1, operation)
        luminance = _luminance(views)
        mean = luminance.mean(dim=(2, 3), keepdim=True)
        other = (luminance * (operation == SATURATION)).add_(mean * (operation == CONTRAST))
        share = factor.where(operation != HUE, 1)
        torch.lerp(other, views, share, out=views).clamp_(0, 1)
        if views.shape[1] == 3:
            turned = ((operation == HUE) & (factor != 0)).flatten().nonzero().squeeze(1)
            views[turned] = turn_hue(views[turned], factor[turned].flatten())
    return views


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of each colour image, in HSV, by `turn` (N,) of a full circle."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(red, green).maximum(blue)
    least = torch.minimum(red, green).minimum(blue)
    chroma = value - least
    # Which channel is the greatest, as numbers and not as truth values: `lerp` then chooses as
    # `where` does, and both are several times faster.
    greatest = torch.eq(images, value[:, None], out=torch.empty_like(images))
    hue = (red - green).add_(chroma, alpha=4)
    hue.lerp_((blue - red).add_(chroma, alpha=2), greatest[:, 1])
    hue.lerp_(green - blue, greatest[:, 0])
    hue /= 6 * chroma.clamp(min=torch.finfo(chroma.dtype).tiny)
    # Opposite to its place on the circle (red at 0, green at 1/3, blue at 2/3) a channel has the
    # least value, near it the greatest, and goes straight between them. Whole turns do not matter.
    beside = turn[:, None] + turn.new_tensor([2, 5 / 3, 4 / 3])
    away = (hue[:, None] + beside[:, :, None, None]).frac_().sub_(0.5).abs_().clamp_(1 / 6, 1 / 3)
    return away.mul_(6 * chroma[:, None]).add_((least - chroma)[:, None])


def _luminance(images: Tensor) -> Tensor:
    """Return the luminance, (N, 1, H, W); that of a grey image is the image itself."""
    if images.shape[1] == 1:
        return images
    red, green, blue = LUMINANCE
    luminance = images[:, :1] * red
    return luminance.add_(images[:, 1:2], alpha=green).add_(images[:, 2:], alpha=blue)


def _check_images(images: Tensor) -> None:
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a uint8 tensor, got {kind}")
    if images.dim() != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise ValueError(f"images must have the shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
