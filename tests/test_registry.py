"""No public loss, temperature or metric escapes the tables that the property tests go through."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
import registry

from dytemp import losses, metrics, schedules


def test_every_public_loss_is_in_the_table() -> None:
    assert {name.split(",")[0] for name in registry.LOSSES} == set(losses.__all__)
    for loss, temperature in registry.CASES:
        assert type(registry.build(loss, temperature)).__name__ == loss.split(",")[0]


def test_every_variant_of_a_loss_is_in_the_table() -> None:
    for name in losses.__all__:
        rows = {row for row in registry.LOSSES if row.split(", ")[0] == name}
        if "variant" not in inspect.signature(getattr(losses, name)).parameters:
            assert rows == {name}
        else:
            variants = ("joint", "split") if name == "DCL" else ("paper", "official")
            assert rows == {f"{name}, {variant}" for variant in variants}
            for row in rows:
                assert row.endswith(variant_of(row))


def variant_of(row: str) -> str:
    loss = next(registry.build(*case) for case in registry.CASES if case[0] == row)
    return getattr(loss, "variant", None) or loss.image.variant


def test_every_public_temperature_is_in_the_table() -> None:
    bases = {"Temperature", "OfTime", "OfSimilarity", "OfBatch"}
    public = {
        name
        for name, value in vars(schedules).items()
        if inspect.isclass(value)
        and issubclass(value, schedules.Temperature)
        and not name.startswith("_")
    }
    assert {name.split(",")[0] for name in registry.TEMPERATURES} == public - bases
    for name in registry.TEMPERATURES:
        assert type(registry.temperature(name)).__name__ == name.split(",")[0]


def test_every_loss_is_built_with_every_kind_of_temperature_that_it_takes() -> None:
    kinds = {registry.kind(registry.temperature(name)) for name in registry.TEMPERATURES}
    assert kinds == set(registry.ANY)
    for loss, row in registry.LOSSES.items():
        seen = {
            registry.kind(registry.temperature(t))
            for n, t in registry.CASES
            if n == loss and t != registry.OWN
        }
        assert seen == set(row.takes)


UNFIT = [
    (loss, temperature)
    for loss, row in registry.LOSSES.items()
    for temperature in registry.TEMPERATURES
    if row.takes and (loss, temperature) not in registry.CASES
]


@pytest.mark.parametrize(("loss", "temperature"), UNFIT)
def test_what_does_not_fit_a_loss_is_refused(loss: str, temperature: str) -> None:
    with pytest.raises(TypeError, match=r"^temperature .*must (depend on|not require a gradient)"):
        registry.build(loss, temperature)


def test_every_public_metric_has_a_test() -> None:
    public = {
        name
        for name, value in vars(metrics).items()
        if inspect.isfunction(value)
        and value.__module__ == metrics.__name__
        and not name.startswith("_")
    }
    source = (Path(__file__).parent / "test_metrics.py").read_text(encoding="utf-8")
    words = {
        name
        for node in ast.walk(ast.parse(source))
        for name in (getattr(node, "attr", None), getattr(node, "value", None))
        if isinstance(name, str)
    }
    assert public <= words
