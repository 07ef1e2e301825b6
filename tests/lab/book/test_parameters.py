"""The guard of the notebooks, the scales and the paths."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from dytemp.lab import paths, scales
from dytemp.lab.book import parameters

EXPECTED: dict[str, Any] = {"scale": scales.NAMES, "seeds": int, "tau": float, "deep": bool}
GOOD: dict[str, Any] = {"scale": "quick", "seeds": 3, "tau": 0.5, "deep": False}


@pytest.mark.parametrize(
    "change",
    [{}, {"tau": 1}, {"seeds": 0}, {"deep": True}, *({"scale": name} for name in scales.NAMES)],
)
def test_good_parameters_pass(change: dict[str, Any]) -> None:
    assert parameters.check(GOOD | change, **EXPECTED) is None


def test_modules_functions_and_names_of_ipython_are_no_parameters() -> None:
    others = {"math": math, "check": parameters.check, "In": ["x"], "Out": {}, "_i": "x", "__": 1}
    assert parameters.check(GOOD | others, **EXPECTED) is None


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"seed": 3}, ValueError, "unknown parameter seed = 3.*scale, seeds, tau, deep"),
        ({"extra": "text"}, ValueError, "unknown parameter extra = 'text'"),
        ({"extra": None}, ValueError, "unknown parameter extra"),
        ({"extra": [1]}, ValueError, "unknown parameter extra"),
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
        parameters.check(GOOD | change, **EXPECTED)


@pytest.mark.parametrize(("expected", "value"), [(list, "[1]"), (dict, "{a: 1}")])
def test_a_list_that_came_as_text_is_refused_with_the_way_to_pass_it(expected, value) -> None:
    with pytest.raises(TypeError, match=r"got .* \(str\); papermill .* -y 'permutations: \[1\]'"):
        parameters.check({"permutations": value}, permutations=expected)


@pytest.mark.parametrize("name", GOOD)
def test_missing_parameters_are_refused(name: str) -> None:
    namespace = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ValueError, match=f"parameter {name} is missing"):
        parameters.check(namespace, **EXPECTED)


def test_guard_can_run_again_when_the_chapter_has_variables_of_its_own() -> None:
    guard = "parameters.check(globals(), ...)"
    later = GOOD | {"rows": [1, 2]}
    assert parameters.check(later | {"In": ["", guard, "rows = [1, 2]", guard]}, **EXPECTED) is None
    with pytest.raises(ValueError, match="unknown parameter rows"):
        parameters.check(later | {"In": ["", "rows = [1, 2]", guard]}, **EXPECTED)


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
