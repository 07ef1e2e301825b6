"""Augmentation: how many views a second, by batched tensor operations and by torchvision.

On one thread, the same operations with the same strengths make two views of each image, by

- `dytemp.lab.training.augment`, once for the whole batch,
- torchvision on Pillow images, one by one, the usual pipeline of a data loader,
- torchvision's second version on uint8 tensors, one by one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from benchmarks.timing import aim, interleaved, rows
from dytemp.lab.training import augment
from dytemp.lab.training.augment import PRESETS, Augmentation

PILLOW = "torchvision, Pillow"


def pipeline(augmentation: Augmentation, side: int, library: Any) -> list[Any]:
    """Return torchvision's operations for an augmentation; `library` is one of its two versions."""
    operations = [
        library.RandomResizedCrop(
            side,
            augmentation.crop_scale,
            augmentation.crop_ratio,
            transforms.InterpolationMode(augmentation.interpolation),
        ),
        library.RandomHorizontalFlip(augmentation.flip),
        library.RandomApply(
            [library.ColorJitter(*augmentation.jitter)], augmentation.jitter_probability
        ),
        library.RandomGrayscale(augmentation.grey),
    ]
    if augmentation.blur:
        # Wide enough for three standard deviations.
        width = 2 * round(3 * augmentation.blur_sigma[1]) + 1
        blur = library.GaussianBlur(width, augmentation.blur_sigma)
        operations.append(library.RandomApply([blur], augmentation.blur))
    return operations


def contenders(augmentation: Augmentation, images: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Return, by name, what makes two views of each image."""
    side = images.shape[-1]
    generator = torch.Generator().manual_seed(0)
    pillow = transforms.Compose([*pipeline(augmentation, side, transforms), transforms.ToTensor()])
    tensor = v2.Compose([*pipeline(augmentation, side, v2), v2.ToDtype(torch.float32, scale=True)])
    pictures = [functional.to_pil_image(image) for image in images]

    def one_by_one(transform: Callable[[Any], torch.Tensor], inputs: Any) -> Callable[[], Any]:
        return lambda: [torch.stack([transform(x) for x in inputs]) for _ in range(2)]

    return {
        PILLOW: one_by_one(pillow, pictures),
        "torchvision, tensors": one_by_one(tensor, images),
        "dytemp": lambda: augment.two_views(images, augmentation, generator),
    }


def measure(
    batch: int = 512, side: int = 32, repetitions: int = 7
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows and the aims, for the augmentation of each paper."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, side, side), generator=generator).to(torch.uint8)
    measurements, aims = [], []
    for preset in ("ts", "isogclr", "dystress"):
        seconds = interleaved(contenders(PRESETS[preset], images), repetitions)
        rates = {name: [2 * batch / value for value in values] for name, values in seconds.items()}
        measurements += rows(f"augmentation of {preset}", rates, "views/s")
        ratio = statistics.median(rates["dytemp"]) / statistics.median(rates[PILLOW])
        aims.append(aim(f"dytemp over {PILLOW}, {preset}", ratio, at_least=6))
    torch.set_num_threads(threads)
    return measurements, aims
