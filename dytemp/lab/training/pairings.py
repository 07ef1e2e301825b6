"""Which two embeddings the loss compares: the encoders of a pair, as one module."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from dytemp.lab.datasets import Captioned, Dataset, Sentences
from dytemp.lab.training import encoders
from dytemp.lab.training.configuration import Config

Pair = tuple[Tensor, Tensor]


class TwoViews(nn.Module):
    """One encoder for both views; the batch normalisation sees them together, as in SimCLR.

    Sentences come twice as they are, and leave it differently by its dropout, as in SimCSE.
    """

    def __init__(self, image: encoders.Encoder | encoders.Transformer) -> None:
        super().__init__()
        self.image = image

    def forward(self, first: Tensor, second: Tensor) -> Pair:
        """Return the projections of both views."""
        z1, z2 = self.image(torch.cat([first, second])).chunk(2)
        return z1, z2


class ViewAndKey(nn.Module):
    """An encoder, and a slowly following copy of it for the second view: MoCo."""

    def __init__(self, image: encoders.Encoder, momentum: float) -> None:
        super().__init__()
        self.image = image
        self.key = copy.deepcopy(image).requires_grad_(False)
        self.momentum = momentum

    def forward(self, first: Tensor, second: Tensor) -> Pair:
        """Return the projection of the first view, and that of the second as a key."""
        with torch.no_grad():
            for key, weight in zip(self.key.parameters(), self.image.parameters(), strict=True):
                key.lerp_(weight, 1 - self.momentum)
            keys = self.key(second)
        return self.image(first), keys


class ImageAndText(nn.Module):
    """An encoder for images and one for captions."""

    def __init__(self, image: encoders.Encoder, text: encoders.TextEncoder) -> None:
        super().__init__()
        self.image = image
        self.text = text

    def forward(self, images: Tensor, tokens: Tensor) -> Pair:
        """Return the projections of images and captions."""
        return self.image(images), self.text(tokens)


Pairing = TwoViews | ViewAndKey | ImageAndText


def build(config: Config, dataset: Dataset) -> Pairing:
    """Return the encoders that a run asks for; the weights depend on torch's generator alone."""
    if (config.pairs == "sentences") != isinstance(dataset, Sentences):
        raise ValueError(
            f"data of sentences and pairs 'sentences' go together, got data {config.data!r} and "
            f"pairs {config.pairs!r}"
        )
    if isinstance(dataset, Sentences):
        size = len(dataset.vocabulary)
        reader: Any = encoders.build(config.encoder, 1, config.projection_dim, vocabulary_size=size)
        return TwoViews(reader)
    channels, height, width = dataset.train_images.shape[1:]
    if config.encoder == "dense" and (height, width) != (8, 8):
        raise ValueError(
            f"encoder 'dense' needs images of 8 x 8 pixels, but those of {config.data!r} have "
            f"{height} x {width}: choose another encoder, such as 'tiny'"
        )
    image: Any = encoders.build(config.encoder, channels, config.projection_dim)
    if config.pairs == "views":
        if config.key_momentum is None:
            return TwoViews(image)
        return ViewAndKey(image, config.key_momentum)
    if not isinstance(dataset, Captioned):
        raise ValueError(f"pairs 'captions' needs data with captions; {config.data!r} has none")
    text: Any = encoders.build(
        "text", channels, config.projection_dim, vocabulary_size=len(dataset.vocabulary)
    )
    return ImageAndText(image, text)
