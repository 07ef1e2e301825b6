"""Encoders: sizes, shapes, and what must not change their output."""

import pytest
import torch
from torch import Tensor, nn

from dytemp.lab.training import encoders
from dytemp.lab.training.encoders import BACKBONES, READERS, build

VOCABULARY = 20
INPUTS = {
    "tiny": (32, 32),
    "small": (32, 32),
    "wide": (32, 32),
    "resnet18": (16, 16),
    "resnet50": (64, 64),
    "dense": (8, 8),
    "mlp": (),
}


def images(name: str, channels: int = 3, n: int = 4) -> Tensor:
    return torch.rand(n, channels, *INPUTS[name], generator=torch.Generator().manual_seed(0))


def captions(n: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, VOCABULARY, (n, 7), generator=generator)


def make(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """Return an encoder that has seen a few batches, and an input for it."""
    torch.manual_seed(seed)
    encoder = build(name, 3, 16, VOCABULARY if name in READERS else None)
    batch = captions() if name in READERS else images(name)
    encoder.train()(batch)
    return encoder.eval(), batch


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "backbone", "head"),
    [
        ("resnet18", 11_168_832, 329_472),  # TS, CIFAR
        ("resnet50", 23_508_032, 4_462_848),  # TS, ImageNet100
        ("small", 307_536, 33_408),
        ("tiny", 23_696, 12_736),
        ("dense", 16_640, 12_736),
        ("mlp", 17_280, 33_408),
    ],
)
def test_number_of_parameters(name: str, backbone: int, head: int) -> None:
    encoder = build(name, 3, 128)
    assert parameters(encoder.backbone) == backbone
    assert parameters(encoder.head) == head
    assert parameters(encoder) == backbone + head


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", BACKBONES)
def test_shapes(name: str, channels: int) -> None:
    encoder = build(name, channels, 16)
    batch = images(name, channels)
    assert encoder.features(batch).shape == (4, encoder.feature_dim)
    assert encoder(batch).shape == (4, 16)


def test_shapes_of_captions() -> None:
    encoder = build("text", 3, 16, VOCABULARY)
    assert encoder.features(captions()).shape == (6, encoder.feature_dim)
    assert encoder(captions()).shape == (6, 16)


@pytest.mark.parametrize("size", [(28, 28), (96, 96), (20, 33)])
@pytest.mark.parametrize("name", ["tiny", "small"])
def test_images_of_any_size(name: str, size: tuple[int, int]) -> None:
    assert build(name, 1, 16)(torch.rand(2, 1, *size)).shape == (2, 16)


@pytest.mark.parametrize("name", encoders.NAMES)
def test_seed_decides_the_weights(name: str) -> None:
    first, second, other = (make(name, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)
    weights = [key for key in first if first[key].dim() > 1]
    assert weights
    assert not any(torch.equal(first[key], other[key]) for key in weights)


@pytest.mark.parametrize("name", encoders.NAMES)
def test_evaluation_takes_each_input_alone(name: str) -> None:
    encoder, batch = make(name)
    alone = torch.cat([encoder(batch[:1]), encoder(batch[1:])])
    torch.testing.assert_close(encoder(batch), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"mlp"}))
def test_channels_last_changes_nothing(name: str) -> None:
    encoder, batch = make(name)
    expected = encoder(batch)
    found = encoder.to(memory_format=torch.channels_last)(
        batch.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", encoders.NAMES)
def test_gradients_reach_every_weight(name: str) -> None:
    encoder, batch = make(name)
    target = torch.rand(len(batch), 16, generator=torch.Generator().manual_seed(2))
    (encoder.train()(batch) * target).sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        if parameter.dim() > 1:
            assert parameter.grad.any(), key


@pytest.mark.parametrize("name", BACKBONES)
def test_input_is_normalised_inside(name: str) -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    torch.manual_seed(0)
    normalising = build(name, 3, 16, mean=mean, std=std).eval()
    torch.manual_seed(0)
    plain = build(name, 3, 16, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    batch = images(name)
    shape = (3, *[1] * (batch.dim() - 2))
    normal = (batch - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    torch.testing.assert_close(normalising(batch), plain(normal), rtol=1e-4, atol=1e-6)


def test_normalisation_by_default() -> None:
    colour, grey = build("tiny", 3, 16), build("tiny", 1, 16)
    assert colour.mean.tolist() == pytest.approx(encoders.IMAGENET_MEAN)
    assert colour.std.tolist() == pytest.approx(encoders.IMAGENET_STD)
    assert (grey.mean.tolist(), grey.std.tolist()) == ([0.0], [1.0])


@pytest.mark.parametrize("name", READERS)
def test_padding_changes_nothing(name: str) -> None:
    encoder, tokens = make(name)
    padded = torch.nn.functional.pad(tokens, (0, 9))
    torch.testing.assert_close(encoder(padded), encoder(tokens), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", READERS)
def test_padding_is_not_learned(name: str) -> None:
    encoder, tokens = make(name)
    tokens[0, 3:] = encoders.PADDING
    encoder.train()(tokens).square().sum().backward()
    assert not encoder.words.weight[encoders.PADDING].any()
    assert not encoder.words.weight.grad[encoders.PADDING].any()


def test_empty_caption_has_features() -> None:
    encoder, _ = make("text")
    assert not encoder.features(torch.zeros(1, 5, dtype=torch.int64)).any()


@pytest.mark.parametrize("name", READERS)
def test_order_of_the_words_counts(name: str) -> None:
    encoder, _ = make(name)
    one, other = encoder.features(torch.tensor([[1, 2, 3, 4], [3, 2, 1, 4]]))
    assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize("name", READERS)
def test_long_captions_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="tokens may be at most 64 long, got 65"):
        build(name, 3, 16, VOCABULARY)(torch.ones(2, 65, dtype=torch.int64))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"name": "resnet34"}, ValueError, "name must be one of 'tiny', 'small', 'wide'"),
        ({"channels": 0}, ValueError, "channels"),
        ({"channels": 3.0}, TypeError, "channels"),
        ({"projection_dim": 0}, ValueError, "projection_dim"),
        ({"projection_dim": True}, TypeError, "projection_dim"),
        ({"name": "text"}, ValueError, "vocabulary_size is needed for 'text'"),
        ({"vocabulary_size": 10}, ValueError, "vocabulary_size is needed for 'text'"),
        ({"name": "text", "vocabulary_size": 1}, ValueError, "vocabulary_size"),
        ({"mean": (0.5,)}, ValueError, "mean must have 3 values"),
        ({"std": (0.5, 0.5, 0.0)}, ValueError, "std"),
        ({"mean": (0.5, 0.5, float("nan"))}, ValueError, "mean"),
    ],
)
def test_other_encoders_are_refused(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments: dict[str, object] = {"name": "tiny", "channels": 3, "projection_dim": 16}
    with pytest.raises(error, match=message):
        build(**(arguments | changes))  # type: ignore[arg-type]


def test_wide_is_small_with_twice_the_channels() -> None:
    small, wide = (make(name)[0] for name in ("small", "wide"))
    assert wide.features(images("wide")).shape[1] == 2 * small.features(images("small")).shape[1]
    kernels = [[m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (small, wide)]
    for one, other in zip(*kernels, strict=True):
        assert other.out_channels == 2 * one.out_channels
        assert (other.kernel_size, other.stride) == (one.kernel_size, one.stride)
