"""How many views a second: the batched tensor operations against torchvision's pipelines.

Run it as a script: ``python tests/benchmarks/augmentation.py``. The same operations with the same
strengths make two views of each image of a batch, by

- `dytemp.lab.augment`, once for the whole batch,
- torchvision on Pillow images, one by one, the usual pipeline of a data loader,
- torchvision's second version on uint8 tensors, one by one.

The repetitions take turns, so that a disturbance meets all of them.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from dytemp.lab import augment
from dytemp.lab.augment import PRESETS, Augmentation

BATCH = 512
SIDE = 32


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
        "dytemp": lambda: augment.two_views(images, augmentation, generator),
        "torchvision, Pillow": one_by_one(pillow, pictures),
        "torchvision, tensors": one_by_one(tensor, images),
    }


def measure(repetitions: int = 7) -> dict[str, Any]:
    """Return views a second on one thread, for the augmentation of each paper.

    Returns
    -------
    dict
        ``settings``, ``views_per_second[preset][pipeline]`` (medians) and
        ``faster_than_pillow[preset]``; it can be written as JSON.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), generator=generator).to(torch.uint8)
    rates = {}
    for preset in ("ts", "isogclr", "dystress"):
        functions = contenders(PRESETS[preset], images)
        seconds: dict[str, list[float]] = {name: [] for name in functions}
        for repetition in range(repetitions + 1):
            for name, function in functions.items():
                start = time.perf_counter()
                function()
                if repetition:  # the first one warms up
                    seconds[name].append(time.perf_counter() - start)
        rates[preset] = {
            name: 2 * BATCH / statistics.median(times) for name, times in seconds.items()
        }
    torch.set_num_threads(threads)
    return {
        "settings": {"batch": BATCH, "side": SIDE, "threads": 1, "repetitions": repetitions},
        "views_per_second": rates,
        "faster_than_pillow": {
            preset: rate["dytemp"] / rate["torchvision, Pillow"] for preset, rate in rates.items()
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
