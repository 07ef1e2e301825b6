"""The guard of the notebooks, the scales and the paths."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import papermill
import pytest
import torch
from conftest import ROOT

from dytemp.lab import paths, scales
from dytemp.lab.book import parameters
from dytemp.lab.training import hardware

EXPECTED: dict[str, Any] = {"scale": scales.NAMES, "seeds": int, "tau": float, "deep": bool}
GOOD: dict[str, Any] = {"scale": "quick", "seeds": 3, "tau": 0.5, "deep": False}


@pytest.mark.parametrize(
    "change",
    [{}, {"tau": 1}, {"seeds": 0}, {"deep": True}, *({"scale": name} for name in scales.NAMES)],
)
def test_good_parameters_pass(change: dict[str, Any]) -> None:
    assert parameters.check(GOOD | change, **EXPECTED) is None


def injected(**values: Any) -> dict[str, Any]:
    """Return a namespace into which papermill put values, beside what a person typed."""
    cell = "# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in values.items())
    typed = ['NAME = ""', "scale = 'recorded'", "#  Parameters of mine\nmine = 3"]
    return GOOD | {"NAME": "", "mine": 3, "rows": [1]} | values | {"In": ["", *typed, cell]}


def test_what_a_person_typed_is_no_mistake() -> None:
    assert parameters.check(injected(seeds=2), **EXPECTED) is None
    assert parameters.check(injected(), **EXPECTED) is None


def test_papermill_begins_its_cell_as_expected() -> None:
    translator = papermill.translators.PythonTranslator()
    cell = translator.codify({"seed": 3, "names": ["a"], "changes": {"epochs": 3}})
    with pytest.raises(ValueError, match="unknown parameter seed = 3"):
        parameters.check(GOOD | {"seed": 3, "In": ["", cell]}, **EXPECTED)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"seed": 3}, ValueError, "unknown parameter seed = 3.*scale, seeds, tau, deep"),
        ({"extra": "text"}, ValueError, "unknown parameter extra = 'text'"),
        ({"extra": None}, ValueError, "unknown parameter extra"),
        ({"extra": {"a": 1}}, ValueError, "unknown parameter extra"),
        ({"scale": "quik"}, ValueError, "scale must be one of recorded, quick.*'quik'"),
        ({"scale": 3}, ValueError, "scale must be one of .*3"),
        ({"scale": None}, ValueError, "scale must be one of .*None"),
        ({"seeds": 3.0}, TypeError, "seeds must be int; got 3.0"),
        ({"seeds": True}, TypeError, "seeds must be int; got True"),
        ({"seeds": "3"}, TypeError, "seeds must be int; got '3'"),
        ({"tau": True}, TypeError, "tau must be float; got True"),
        ({"tau": "1e-3"}, TypeError, r"tau must be float; got '1e-3' \(str\).*1\.0e-3"),
        ({"tau": None}, TypeError, "tau must be float; got None"),
        ({"tau": math.nan}, ValueError, "tau must be a finite number; got nan"),
        ({"tau": -math.inf}, ValueError, "tau must be a finite number; got -inf"),
        ({"deep": 1}, TypeError, "deep must be bool; got 1"),
        ({"deep": "false"}, TypeError, "deep must be bool; got 'false'"),
    ],
)
def test_bad_parameters_are_refused(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        parameters.check(injected(**change), **EXPECTED)


@pytest.mark.parametrize(("expected", "value"), [(list, "[1]"), (dict, "{a: 1}")])
def test_a_list_that_came_as_text_is_refused_with_the_way_to_pass_it(expected, value) -> None:
    with pytest.raises(TypeError, match=r"got .* \(str\); papermill .* -y 'permutations: \[1\]'"):
        parameters.check({"permutations": value}, permutations=expected)


@pytest.mark.parametrize("name", GOOD)
def test_missing_parameters_are_refused(name: str) -> None:
    namespace = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ValueError, match=f"parameter {name} is missing"):
        parameters.check(namespace, **EXPECTED)


@pytest.mark.parametrize(
    ("expected", "value", "words"),
    [
        (parameters.integer(2), 1, "parameter x must be at least 2, got 1"),
        (parameters.integer(2), 2.0, "parameter x must be an integer"),
        (parameters.number(above=0), 0, "parameter x must be finite, above 0, got 0"),
        (parameters.number(above=0, at_most=5), 100, "at most 5, got 100"),
        (parameters.number(above=0), "1e-3", "parameter x must be a number"),
        (parameters.draws, 3, "parameter x must be a list of whole numbers, got 3"),
        (parameters.draws, [1, 0], "parameter x must be at least 1, got 0"),
        (parameters.draws, [1, 2, 1], "parameter x must not name a draw twice"),
        (parameters.changes, 3, "parameter x must be a dictionary of settings, got 3"),
        (parameters.changes, {"epoch": 3}, "parameter x: setting .*did you mean 'epochs'"),
        (parameters.changes, {"epochs": "3"}, "parameter x: epochs must be an integer"),
        (parameters.changes, {"encoder": "huge"}, "parameter x: encoder must be one of"),
    ],
)
def test_what_a_chapter_cannot_do_is_refused(expected: Any, value: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        parameters.check({"x": value}, x=expected)


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (parameters.integer(2), 2),
        (parameters.number(above=0), 1),
        (parameters.draws, []),
        (parameters.draws, [7, 9]),
        (parameters.changes, {}),
        (parameters.changes, {"data": "birds", "epochs": 30, "n_max": None}),
    ],
)
def test_what_a_chapter_can_do_is_let_through(expected: Any, value: Any) -> None:
    assert parameters.check({"x": value}, x=expected) is None


def test_a_chapter_of_another_clone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dytemp", "notebooks/deeper"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "dytemp" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path / "notebooks" / "deeper")
    with pytest.raises(ValueError, match=f"clone {tmp_path}, but .* from {ROOT}: pip install -e"):
        parameters.check(GOOD, **EXPECTED)
    monkeypatch.chdir(ROOT / "notebooks")
    assert parameters.check(GOOD, **EXPECTED) is None


def test_what_a_chapter_computes_itself_is_computed_on_one_thread() -> None:
    with hardware.threads(2):
        parameters.check(GOOD, **EXPECTED)
        assert torch.get_num_threads() == 1


def test_home_is_the_repository() -> None:
    assert paths.home() == ROOT
    assert paths.build() == ROOT / "build"


def test_home_follows_the_environment(workspace: Path) -> None:
    assert paths.home() == workspace


def test_home_says_what_to_do_when_it_is_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYTEMP_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no folder data/papers.*DYTEMP_HOME"):
        paths.home()


def test_live_results_stay_out_of_the_repository(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scales.store("quick") == workspace / "build" / "results"
    assert {scales.store(scale) for scale in ("recorded", "small", "paper")} == {
        workspace / "data" / "results"
    }


def test_a_store_of_ones_own_lies_over_the_recorded_one(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = workspace / "data" / "results"
    assert scales.layers(scales.store("recorded")) == (recorded,)
    own = workspace / "elsewhere"
    monkeypatch.setenv("DYTEMP_RESULTS", str(own))
    for scale in ("recorded", "small", "paper"):
        assert scales.store(scale) == own
        assert scales.layers(scales.store(scale)) == (own, recorded)
    assert scales.layers(scales.store("quick")) == (own / "quick",)  # live runs only
    assert scales.layers(workspace / "another") == (workspace / "another",)


def test_the_place_of_what_is_built_can_be_chosen(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paths.build() == workspace / "build"
    monkeypatch.setenv("DYTEMP_BUILD", str(workspace / "elsewhere"))
    assert paths.build() == workspace / "elsewhere"
    assert scales.store("quick") == workspace / "elsewhere" / "results"


def test_only_the_recorded_scale_never_trains() -> None:
    assert [scale for scale in scales.NAMES if not scales.trains(scale)] == ["recorded"]


def test_recorded_results_follow_the_protocol_of_a_scale_that_trains() -> None:
    assert [scales.protocol(scale) for scale in scales.NAMES] == [
        "quick",
        "quick",
        "small",
        "paper",
    ]


@pytest.mark.parametrize("function", [scales.store, scales.trains, scales.protocol])
def test_unknown_scales_are_refused(function: Any) -> None:
    with pytest.raises(ValueError, match=r"scale must be one of recorded, .*; got 'tiny'"):
        function("tiny")
