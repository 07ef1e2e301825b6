"""The study of sentences: its controls, its units and how far it reaches."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from dytemp.lab.studies import claims, protocols, words
from dytemp.lab.studies.runs import Run
from dytemp.lab.studies.study import Study
from dytemp.lab.training import Config


def run(config: Config, recall: float, graded: float) -> Run:
    metrics = {"knn1": 0.2, "recall1": recall, "graded": graded, "words_recall1": 0.9}
    metrics |= {"validation_recall1": 1 - recall}
    return Run(
        key=config.key,
        config=config,
        metrics=metrics,
        per_class={"knn1": [0.2]},
        evaluations=[{"epoch": 1, "metrics": metrics}],
        curves={"temperature": [0.1], "loss": [1.0], "learning_rate": [0.1]},
        counts=[640],
        groups=[0],
        seconds={"training": 1.0, "evaluation": 0.5},
        images_per_second=100.0,
        environment={"processor": "P", "precision": "float32", "threads": 1},
        code="0",
        arrays={},
    )


def study(scale: str = "small", **settings: Any) -> Study:
    """Return one in which the later a method comes, the more it recalls."""
    made = protocols.configs("sentences", scale)
    runs = {
        method: {
            draw: (run(config, 0.1 + 0.01 * place + 0.001 * draw**2, 0.5 + 0.02 * place),)
            for draw, (config,) in by_draw.items()
        }
        for place, (method, by_draw) in enumerate(made.items())
    }
    return dataclasses.replace(Study("sentences", scale, runs), **settings)


def test_recall_and_grades_come_in_percent() -> None:
    found = study()
    assert found.accuracy("fixed 0.02", "recall1")[1] == pytest.approx(10.1)
    assert found.accuracy("fixed 0.02", "graded")[1] == pytest.approx(50)
    assert found.accuracy("fixed 0.02", "words_recall1")[1] == pytest.approx(90)
    assert found.accuracy("fixed 0.02", "knn1")[1] == pytest.approx(20)


def test_the_control_is_trained_and_chosen_on_other_books() -> None:
    found = study()
    assert found.chosen_on == "validation_recall1"
    assert found.best_fixed() == "fixed 0.02"  # its recall on the test books is the lowest
    assert "untrained" not in found.fixed
    assert "untrained" in found.methods


def test_an_untrained_encoder_stays_as_it_was_drawn() -> None:
    made = protocols.configs("sentences", "small")
    rates = {method: by_draw[1][0].learning_rate for method, by_draw in made.items()}
    assert rates.pop("untrained") < 1e-8
    assert set(rates.values()) == {1e-3}


@pytest.mark.parametrize(
    ("scale", "data", "scope"),
    [
        ("quick", "scene_sentences", "simulation"),
        ("small", "verses", "scaled down"),
        ("recorded", "verses", "scaled down"),
        ("paper", "verses", "scaled down"),  # without BERT it is no replication
    ],
)
def test_no_scale_claims_to_be_the_paper(scale: str, data: str, scope: str) -> None:
    found = study(scale)
    assert (found.config().data, found.scope) == (data, scope)
    assert "sentences)" in str(found)
    assert "images" not in found.protocol().to_string()


def test_the_claim_is_judged_by_contrasts_that_the_study_has() -> None:
    rule = claims.rule("dystress", "C8")
    found = study()
    assert len(rule.contrasts) == 6
    for contrast in rule.contrasts:
        assert len(found.contrast(contrast)) == rule.draws == 5
        assert words.metric(contrast.metric) != contrast.metric
    finding = found.judge("dystress", "C8", "32_dystress_sentences")
    assert finding.draws == 5
    assert finding.outcome == "supported"  # the last of the methods recalls most, by construction
