"""Encoders of images and of words, from seconds on a laptop to the networks of the papers.

Every encoder has a backbone, whose output is what the evaluations use (`features`), and on top of
it the projection head whose output the losses see (`forward`). The networks of torchvision are
imported where they are built: that takes two seconds, which a chapter that trains none saves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dytemp import checks

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PADDING = 0  # the token that fills short captions
LONGEST_CAPTION = 64  # tokens


class Encoder(nn.Module):
    """An image encoder: normalisation of the input, backbone and projection head.

    Parameters
    ----------
    backbone : nn.Module
        Maps normalised images to features (N, feature_dim).
    feature_dim : int
        Width of the features.
    projection_dim : int
        Width of the projection.
    mean, std : sequence of float
        What is subtracted from each channel of the input, and what it is then divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        feature_dim: int,
        projection_dim: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = projection_head(feature_dim, projection_dim)
        self.feature_dim = feature_dim
        self.projection_dim = projection_dim
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def features(self, images: Tensor) -> Tensor:
        """Return the output of the backbone, (N, feature_dim), for images in [0, 1]."""
        shape = (-1, *[1] * (images.dim() - 2))
        output: Tensor = self.backbone((images - self.mean.view(shape)) / self.std.view(shape))
        return output

    def forward(self, images: Tensor) -> Tensor:
        """Return the projection, (N, projection_dim), for images (N, C, H, W) in [0, 1]."""
        output: Tensor = self.head(self.features(images))
        return output


class TextEncoder(nn.Module):
    """A caption encoder: each word by itself, then the mean over the words, then the head.

    A word is its embedding plus that of its position. The hidden layer comes before the mean, since
    the mean of the sums alone would not know which word stood where.

    Parameters
    ----------
    vocabulary_size : int
        Number of tokens, with the padding (0).
    projection_dim : int
        Width of the projection.
    feature_dim : int
        Width of the features.
    """

    def __init__(self, vocabulary_size: int, projection_dim: int, feature_dim: int = 128) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, feature_dim, padding_idx=PADDING)
        self.positions = nn.Embedding(LONGEST_CAPTION, feature_dim)
        self.hidden = nn.Linear(feature_dim, feature_dim)
        self.head = projection_head(feature_dim, projection_dim)
        self.feature_dim = feature_dim
        self.projection_dim = projection_dim

    def features(self, tokens: Tensor) -> Tensor:
        """Return the mean over the words, (N, feature_dim), for int64 tokens (N, L); 0 is padding.

        Raises
        ------
        ValueError
            If the captions are longer than 64 tokens.
        """
        position = _positions(tokens)
        words = F.relu(self.hidden(self.words(tokens) + self.positions(position)))
        present = (tokens != PADDING).unsqueeze(2).to(words.dtype)
        return (words * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the projection, (N, projection_dim), for int64 tokens (N, L); 0 is padding."""
        output: Tensor = self.head(self.features(tokens))
        return output


class Transformer(nn.Module):
    """A sentence encoder: words that look at each other, the mean over them, then a dense head.

    The layers are those of BERT, fewer and narrower, with dropout wherever BERT has it. In training
    the same sentence comes out a little different each time, which is all the augmentation there is
    in SimCSE.

    Parameters
    ----------
    vocabulary_size : int
        Number of tokens, with the padding (0).
    projection_dim : int
        Width of the projection.
    feature_dim : int
        Width of the features.
    layers, heads : int
        Number of layers, and of attention heads in each.
    dropout : float
        Share of the entries that are dropped in training.
    """

    def __init__(
        self,
        vocabulary_size: int,
        projection_dim: int,
        feature_dim: int = 64,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, feature_dim, padding_idx=PADDING)
        self.positions = nn.Embedding(LONGEST_CAPTION, feature_dim)
        with torch.no_grad():
            for table in (self.words, self.positions):
                table.weight.mul_(0.02)  # the deviation of BERT's; the padding stays at 0
        self.norm = nn.LayerNorm(feature_dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                feature_dim, heads, 2 * feature_dim, dropout, "gelu", batch_first=True
            )
            for _ in range(layers)
        )
        # Dense and tanh, for the loss alone, as in SimCSE.
        self.head = nn.Sequential(nn.Linear(feature_dim, projection_dim), nn.Tanh())
        self.feature_dim = feature_dim
        self.projection_dim = projection_dim

    def features(self, tokens: Tensor) -> Tensor:
        """Return the mean over the words, (N, feature_dim), for int64 tokens (N, L); 0 is padding.

        Raises
        ------
        ValueError
            If the sentences are longer than 64 tokens.
        """
        position = _positions(tokens)
        words = self.dropout(self.norm(self.words(tokens) + self.positions(position)))
        padding = tokens == PADDING
        padding[:, 0] = False  # a sentence without words would have nothing to look at
        for layer in self.layers:
            words = layer(words, src_key_padding_mask=padding)
        present = (~padding).unsqueeze(2).to(words.dtype)
        mean: Tensor = (words * present).sum(dim=1) / present.sum(dim=1)
        return mean

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the projection, (N, projection_dim), for int64 tokens (N, L); 0 is padding."""
        output: Tensor = self.head(self.features(tokens))
        return output


def _positions(tokens: Tensor) -> Tensor:
    """Return the place of each word, and refuse texts that are too long."""
    length = tokens.shape[1]
    if length > LONGEST_CAPTION:
        raise ValueError(f"tokens may be at most {LONGEST_CAPTION} long, got {length}")
    return torch.arange(length, device=tokens.device)


def projection_head(feature_dim: int, projection_dim: int) -> nn.Sequential:
    """Return the two-layer head of SimCLR as in the published code of TS."""
    return nn.Sequential(
        nn.Linear(feature_dim, feature_dim),
        nn.BatchNorm1d(feature_dim),
        nn.ReLU(inplace=True),
        nn.Linear(feature_dim, projection_dim, bias=False),
        nn.BatchNorm1d(projection_dim),
    )


def tiny(channels: int) -> tuple[nn.Module, int]:
    """Return three strided convolutions and the width of their output: for the quick scale."""
    widths = (channels, 16, 32, 64)
    blocks = [_convolution(before, after, 2) for before, after in pairwise(widths)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), widths[-1]


def small(channels: int, factor: int = 1) -> tuple[nn.Module, int]:
    """Return a ResNet with four stages of one block and a strided stem: for the small scale."""
    widths = tuple(factor * width for width in (16, 16, 32, 64, 128))
    blocks = [
        _basic_block(before, after, stride)
        for (before, after), stride in zip(pairwise(widths), (1, 2, 2, 2), strict=True)
    ]
    stem = _convolution(channels, widths[0], 2)
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), widths[-1]


def wide(channels: int) -> tuple[nn.Module, int]:
    """Return `small` with twice as many channels: to see whether that one underfits."""
    return small(channels, factor=2)


def resnet18(channels: int) -> tuple[nn.Module, int]:
    """Return the ResNet-18 of the papers for 32 x 32 pixels: stem of stride 1, no max-pooling."""
    from torchvision.models import resnet

    backbone = resnet.resnet18()
    backbone.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    backbone.maxpool = nn.Identity()
    backbone.fc = nn.Identity()
    return backbone, 512


def resnet50(channels: int) -> tuple[nn.Module, int]:
    """Return the ResNet-50 of the papers for 224 x 224 pixels, with the ImageNet stem."""
    from torchvision.models import resnet

    backbone = resnet.resnet50()
    if channels != 3:
        backbone.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    backbone.fc = nn.Identity()
    return backbone, 2048


def dense(channels: int) -> tuple[nn.Module, int]:
    """Return two dense layers on 8 x 8 pixels: for thousands of epochs on tiny patterns."""
    layers, width = mlp(64 * channels, width=64)
    return nn.Sequential(nn.Flatten(), *layers), width


def mlp(channels: int, width: int = 128) -> tuple[nn.Sequential, int]:
    """Return two dense layers for vectors with `channels` entries."""
    layers = [
        layer
        for size in (channels, width)
        for layer in (nn.Linear(size, width, bias=False), nn.BatchNorm1d(width), nn.ReLU())
    ]
    return nn.Sequential(*layers), width


def _convolution(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    )


def _basic_block(before: int, after: int, stride: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock

    shortcut: nn.Module | None = None
    if before != after:
        convolution = nn.Conv2d(before, after, 1, stride, bias=False)
        shortcut = nn.Sequential(convolution, nn.BatchNorm2d(after))
    block: nn.Module = BasicBlock(before, after, stride, shortcut)
    return block


BACKBONES = {f.__name__: f for f in (tiny, small, wide, resnet18, resnet50, dense, mlp)}
READERS: dict[str, type[TextEncoder | Transformer]] = {
    "text": TextEncoder,
    "transformer": Transformer,
}
NAMES = (*BACKBONES, *READERS)


def build(
    name: str,
    channels: int,
    projection_dim: int,
    vocabulary_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Encoder | TextEncoder | Transformer:
    """Build an encoder by name; the weights depend on `torch.manual_seed` alone.

    Parameters
    ----------
    name : str
        "tiny", "small", "wide", "resnet18", "resnet50", "dense" or "mlp"; for words "text" or
        "transformer".
    channels : int
        Channels of the images; entries of the vectors for "mlp"; without meaning for words.
    projection_dim : int
        Width of the projection.
    vocabulary_size : int, optional
        Number of tokens, needed for "text" and "transformer" only.
    mean, std : sequence of float, optional
        Normalisation of each channel. By default that of ImageNet for colour images, which TS uses
        for CIFAR too, and none otherwise.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown, a size is not a positive integer, a vocabulary size is missing or
        not wanted, or `mean` or `std` do not fit the channels.
    """
    checks.choice("name", name, NAMES)
    checks.integer("channels", channels, at_least=1)
    checks.integer("projection_dim", projection_dim, at_least=1)
    if (name in READERS) != (vocabulary_size is not None):
        raise ValueError(
            "vocabulary_size is needed for 'text' and 'transformer' and for nothing else, "
            f"got vocabulary_size={vocabulary_size!r} for {name!r}"
        )
    if vocabulary_size is not None:
        checks.integer("vocabulary_size", vocabulary_size, at_least=2)
        return READERS[name](vocabulary_size, projection_dim)
    colour = channels == 3 and name != "mlp"
    mean = mean if mean is not None else IMAGENET_MEAN if colour else (0.0,) * channels
    std = std if std is not None else IMAGENET_STD if colour else (1.0,) * channels
    for argument, values, least in (("mean", mean, -math.inf), ("std", std, 0.0)):
        if len(values) != channels:
            raise ValueError(f"{argument} must have {channels} values, one a channel, got {values}")
        for value in values:
            checks.number(argument, value, above=least)
    return Encoder(*BACKBONES[name](channels), projection_dim, mean, std)
