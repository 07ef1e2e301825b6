from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from toys import config

from dytemp import losses, schedules
from dytemp.lab.training.configuration import Config, build_loss, describe


def test_the_key_survives_json_and_does_not_depend_on_how_it_is_written() -> None:
    one = config(loss={"name": "NTXent", "temperature": 1}, evaluate_at=[1, 2])
    other = config(evaluate_at=(1, 2), loss={"temperature": 1.0, "name": "NTXent"})
    assert re.fullmatch("[0-9a-f]{16}", one.key)
    assert one.key == other.key
    assert Config.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    assert (
        config(seed=np.int64(3), evaluate_at=[np.int64(2)]).key
        == config(seed=3, evaluate_at=[2]).key
    )


def test_every_setting_changes_the_key() -> None:
    changed: dict[str, Any] = {
        "data": "cifar10",
        "pairs": "captions",
        "n_max": 300,
        "ratio": 0.1,
        "permutation": 2,
        "split_seed": 1,
        "validation_per_class": 5,
        "encoder": "small",
        "projection_dim": 64,
        "loss": {"name": "NTXent", "temperature": 0.3},
        "key_momentum": 0.99,
        "augmentation": "ts",
        "epochs": 21,
        "batch": 128,
        "optimizer": "lars",
        "learning_rate": 0.4,
        "momentum": 0.8,
        "weight_decay": 0.0,
        "warmup_epochs": 2,
        "precision": "float32",
        "seed": 1,
        "evaluate_every": 2,
        "evaluate_at": [3],
        "probes": ["few_shot"],
        "prompts": ["{}", "a {}"],
        "geometry": True,
        "curves_every": 2,
    }
    assert set(changed) == {setting.name for setting in dataclasses.fields(Config)}
    keys = {Config().key, *(Config.from_dict({name: value}).key for name, value in changed.items())}
    assert len(keys) == 1 + len(changed)


def test_recorded_keys_stay() -> None:
    """A changed default, or another way to write the key, would orphan recorded runs."""
    assert Config().key == "44136fa355b3678a"
    spec = {"name": "DCL", "temperature": 0.1}
    assert Config(seed=3, learning_rate=1, loss=spec).key == "2db7fc55680ac857"


def test_a_configuration_keeps_no_hold_on_what_it_was_made_from() -> None:
    spec: dict[str, Any] = {"name": "NTXent", "temperature": 0.2}
    made = Config(loss=spec)
    spec["temperature"] = 0.9
    assert made.loss["temperature"] == 0.2


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"epoch": 5}, "setting must be one of 'data'"),
        ({"geometry": 1}, "geometry must be True or False, got 1"),
        ({"curves_every": 0}, "curves_every must be at least 1, got 0"),
        ({"data": 5}, "data"),
        (
            {"pairs": "triplets"},
            "pairs must be one of 'views', 'captions', 'sentences', got",
        ),
        ({"n_max": 0}, "n_max must be at least 1, got 0"),
        ({"n_max": 40.0}, "n_max must be an integer"),
        ({"n_max": None, "permutation": 1}, "n_max"),
        ({"ratio": 0}, "ratio must be finite, above 0, at most 1, got 0"),
        ({"ratio": 1.5}, "ratio"),
        ({"ratio": "0.1"}, "ratio must be a number, got str '0.1'"),
        ({"permutation": 0}, "permutation"),
        ({"permutation": [0, 1]}, "permutation"),
        ({"split_seed": -1}, "split_seed"),
        ({"validation_per_class": -1}, "validation_per_class"),
        ({"encoder": "mlp"}, "encoder must be one of 'tiny'"),
        ({"encoder": ["tiny"]}, "encoder"),
        ({"projection_dim": 0}, "projection_dim"),
        ({"key_momentum": 1.5}, "key_momentum"),
        ({"key_momentum": 0.9, "pairs": "captions"}, "key_momentum"),
        ({"key_momentum": 0.9, "pairs": "sentences", "encoder": "transformer"}, "key_momentum"),
        ({"augmentation": "none"}, "augmentation must be one of 'ts'"),
        ({"epochs": True}, "epochs must be an integer, got bool True"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": None}, "epochs"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"optimizer": "adam"}, "optimizer must be one of 'sgd', 'lars', 'adamw'"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": None}, "learning_rate"),
        ({"momentum": 1.1}, "momentum"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"weight_decay": float("inf")}, "weight_decay"),
        ({"warmup_epochs": 2}, "warmup_epochs"),
        ({"precision": "float16"}, "precision"),
        ({"seed": 1.0}, "seed"),
        ({"evaluate_every": -1}, "evaluate_every"),
        ({"evaluate_at": 5}, "evaluate_at must be a list"),
        ({"evaluate_at": [0]}, "evaluate_at"),
        ({"evaluate_at": [3]}, "evaluate_at"),
        ({"probes": "few_shot"}, "probes must be a list"),
        ({"probes": ["zero_shot"]}, "probes must be one of 'few_shot', 'long_tail'"),
        ({"prompts": []}, "prompts must be texts that hold {} once"),
        ({"prompts": ["{}", "a photo"]}, "prompts must be texts that hold {} once"),
        ({"prompts": [5]}, "prompts must be texts that hold {} once"),
        ({"prompts": "{}"}, "prompts must be a list"),
        ({"probes": ["few_shot"] * 2}, "probes must not repeat a name, got ('few_shot', 'few_"),
        ({"loss": "NTXent"}, "loss"),
        ({"loss": {"temperature": 0.2}}, "loss must be a mapping with a name"),
        ({"loss": {"name": "InfoNCE"}}, "name of loss must be one of"),
        ({"loss": {"name": "NTXent", "tau": 0.2}}, "argument of NTXent must be one of"),
        ({"loss": {"name": "NTXent", "temperature": {"name": "Sine"}}}, "name of NTXent.temp"),
        (
            {"loss": {"name": "NTXent", "temperature": {"name": "Cosine", "t_max": 5}}},
            "argument of Cosine must be one of 'name', 'tau_min', 'tau_max', 'period', got 't_max'",
        ),
        ({"loss": {"name": "NTXent", "temperature": float("nan")}}, "loss"),
        ({"loss": {"name": "NTXent", "temperature": torch.tensor(1.0)}}, "loss"),
    ],
)
def test_refusals(settings: dict[str, Any], part: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(part)):
        config(**settings)


@pytest.mark.parametrize("settings", [None, ["seed"], "seed"])
def test_settings_that_are_no_mapping_are_refused(settings: object) -> None:
    with pytest.raises(TypeError, match=f"settings must be a mapping.*{type(settings).__name__}"):
        Config.from_dict(settings)


NETWORK = {"name": "TemperatureNetwork", "prototypes": 4}


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"name": "NTXent", "temperature": 0.2}, losses.NTXent),
        ({"name": "DCL", "temperature": 0.2, "variant": "split"}, losses.DCL),
        ({"name": "MACL"}, losses.MACL),
        ({"name": "MoCo", "temperature": 0.2, "queue_size": 32}, losses.MoCo),
        ({"name": "SogCLR"}, losses.SogCLR),
        ({"name": "ISogCLR", "rho": 0.4}, losses.ISogCLR),
        ({"name": "CLIP"}, losses.CLIP),
        ({"name": "CyCLIP"}, losses.CyCLIP),
        ({"name": "BimodalSogCLR"}, losses.BimodalSogCLR),
        ({"name": "BimodalISogCLR"}, losses.BimodalISogCLR),
        ({"name": "BimodalISogCLR", "temperature": [NETWORK, NETWORK]}, losses.BimodalISogCLR),
        ({"name": "BimodalRGCL", "temperature": {"name": "LogScale"}}, losses.BimodalRGCL),
        ({"name": "SigLIP", "temperature": {"name": "LogScale", "tau": 0.1}}, losses.SigLIP),
        ({"name": "DCLW", "sigma": 0.5}, losses.DCLW),
        ({"name": "HardNegative", "beta": 2}, losses.HardNegative),
        ({"name": "DualTemperature"}, losses.DualTemperature),
        ({"name": "Spectral", "mu": 3.0, "normalise": False}, losses.Spectral),
    ],
)
def test_every_loss_can_be_described(spec: dict[str, Any], kind: type) -> None:
    assert set(losses.__all__) == {name for name in dir(losses) if name[0].isupper()}
    loss = build_loss(spec, size=20, labels=torch.zeros(20, dtype=torch.int64), dim=8)
    z1, z2 = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    assert type(loss) is kind
    assert torch.isfinite(loss(z1, z2, torch.arange(6)))


def test_temperatures_nest_and_take_the_labels() -> None:
    cosine = {"name": "Cosine", "tau_min": 0.1, "tau_max": 1.0, "period": 4}
    spec = {"name": "SimilarityCosine", "tau_min": 0.05, "tau_max": cosine}
    loss = build_loss({"name": "NTXent", "temperature": spec})
    loss.set_epoch(2)
    assert isinstance(loss.temperature, schedules.SimilarityCosine)
    assert loss.temperature.bounds() == (0.05, pytest.approx(0.1))
    assert describe({"name": "NTXent", "temperature": spec}) == (
        "NTXent(temperature=SimilarityCosine(tau_min=0.05, "
        "tau_max=Cosine(tau_min=0.1, tau_max=1.0, period=4)))"
    )

    gamma = {"name": "HalfCosine", "start": 1.0, "end": 0.2, "epochs": 20}
    for name in ("SogCLR", "ISogCLR", "BimodalSogCLR", "BimodalISogCLR"):
        loss = build_loss(Config(loss={"name": name, "gamma": gamma}).loss, size=20)
        loss.set_epoch(10)
        assert isinstance(loss.gamma, schedules.HalfCosine)
        assert loss.gamma.at(loss.gamma.epoch) == pytest.approx(0.6)
    assert describe({"name": "SogCLR", "gamma": gamma}) == (
        "SogCLR(gamma=HalfCosine(start=1.0, end=0.2, epochs=20))"
    )

    loss = build_loss(
        {"name": "BimodalISogCLR", "temperature": [NETWORK, {"name": "TemperatureNetwork"}]},
        size=20,
        dim=8,
    )
    assert loss.image.temperature.proj.in_features == 8
    assert len(loss.image.temperature.prototypes) == 4
    assert len(loss.text.temperature.prototypes) == 256
    assert describe({"name": "BimodalISogCLR", "temperature": [NETWORK, NETWORK]}) == (
        "BimodalISogCLR(temperature=[TemperatureNetwork(prototypes=4), "
        "TemperatureNetwork(prototypes=4)])"
    )

    oracle = {"name": "PerClass", "taus": [0.1, 1.0]}
    labels = torch.tensor([0, 1, 1])
    loss = build_loss({"name": "NTXent", "temperature": oracle}, labels=labels)
    assert isinstance(loss.temperature, schedules.PerClass)
    assert loss.temperature.tau.tolist() == pytest.approx([0.1, 1.0, 1.0])


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ({"name": "NTXent"}, "missing a required argument: 'temperature'"),
        ({"name": "ISogCLR"}, "missing a required argument: 'size'"),
        ({"name": "NTXent", "temperature": -1}, "temperature must be finite, above 0, got -1"),
        ({"name": "NTXent", "temperature": {"name": "Temperature"}}, "name of "),
        ({"name": "gather"}, "name of "),
        ({"name": "BimodalISogCLR", "temperature": [{"name": "Net"}] * 2}, "name of "),
        (
            {"name": "BimodalISogCLR", "size": 9, "temperature": [0.1, 0.1]},
            "must depend on embedding",
        ),
    ],
)
def test_a_loss_that_cannot_be_built_says_why(spec: dict[str, Any], part: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(part)):
        build_loss(spec)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ({"name": "NTXent"}, "temperature"),
        ({"name": "NTXent", "temperature": -1}, "temperature must be finite, above 0"),
        ({"name": "NTXent", "temperature": True}, "temperature must be a number"),
        ({"name": "MoCo", "temperature": 0.2, "queue_size": 1}, "queue_size must be at least 2"),
        (
            {
                "name": "NTXent",
                "temperature": {"name": "Cosine", "tau_min": 2, "tau_max": 1, "period": 4},
            },
            "tau_min <= tau_max",
        ),
        (
            {
                "name": "SogCLR",
                "temperature": {"name": "SimilarityCosine", "tau_min": 0.1, "tau_max": 0.2},
            },
            "must depend on time or sample",
        ),
    ],
)
def test_a_loss_that_cannot_be_built_is_refused_at_once(loss, message) -> None:
    state = torch.get_rng_state()
    with pytest.raises((TypeError, ValueError), match=message):
        Config(loss=loss)
    assert torch.equal(state, torch.get_rng_state())
