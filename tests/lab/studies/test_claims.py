"""Claims are data, and a verdict follows from the values by the rule that stands beside them."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dytemp.lab import paths
from dytemp.lab.studies import claims, papers
from dytemp.lab.studies.claims import Contrast, Finding, Rule, judge
from dytemp.lab.studies.statistics import Estimate

FINDING = Finding(
    paper="ts",
    claim="C8",
    scope="scaled down",
    outcome="opposite sign",
    effect=-3.5,
    low=-4.0,
    high=-3.0,
    draws=5,
    paper_effect=3.18,
    holds_paper=False,
    runs=("a1", "b2"),
    notebook="11_ts_cifar10",
    note="against τ = 0.2",
)


def rule_for(direction: str, margin: float = 0.0, paper: float | None = None) -> Rule:
    return Rule("ts", "C8", direction, "training", (), margin, "", 5, paper)


def verdict(rule: Rule, *contrasts: list[float]) -> Finding:
    effects = {f"contrast {k}": values for k, values in enumerate(contrasts)}
    return judge(rule, effects, scope="scaled down", notebook="11")


def around(mean: float, spread: float = 0.1, draws: int = 5) -> list[float]:
    """Values with this mean and this standard deviation."""
    shape = np.linspace(-1, 1, draws)
    return (mean + spread * shape / shape.std(ddof=1)).tolist()


# The rule


@pytest.mark.parametrize(
    ("direction", "margin", "values", "outcome"),
    [
        ("greater", 0, around(1), "supported"),
        ("trend", 0, around(1), "supported"),
        ("greater", 0, around(-1), "opposite sign"),
        ("greater", 0, around(0.05), "not resolved"),
        ("smaller", 0, around(-1), "supported"),
        ("smaller", 0, around(1), "opposite sign"),
        ("greater", 2, around(1), "not resolved"),  # surely there, and surely none
        ("greater", 2, around(-1), "not resolved"),
        ("equal", 1, around(0.5), "supported"),
        ("equal", 1, around(0.95), "not resolved"),
        ("equal", 1, around(3), "opposite sign"),
        ("either", 0, around(-1), "supported"),
        ("either", 0, around(0.05), "not resolved"),
        ("equal", 0, around(0), "not resolved"),  # without a margin equality cannot be shown
    ],
)
def test_one_contrast(direction: str, margin: float, values: list[float], outcome: str) -> None:
    assert verdict(rule_for(direction, margin), values).outcome == outcome


def test_several_contrasts() -> None:
    up, down, open_ = around(1), around(-1), around(0.01)
    greater = rule_for("greater")
    assert verdict(greater, up, up, up).outcome == "supported"
    assert verdict(greater, up, up, open_).outcome == "not resolved"
    assert verdict(greater, up, down, open_).outcome == "mixed"
    assert verdict(greater, down, down, open_).outcome == "opposite sign"
    found = verdict(greater, up, down)
    assert (found.effect, found.draws) == (pytest.approx(0, abs=1e-12), 5)
    assert "1 decided above zero, 1 below" in found.note
    assert verdict(rule_for("either"), up, down).outcome == "supported"
    assert verdict(rule_for("either"), up, down, open_).outcome == "not resolved"
    many = verdict(greater, up, *[open_] * 5)
    assert "(Holm), from +0.0" in many.note
    assert many.note.count("n = 5") == 1  # of six contrasts those are named that are decided


def test_several_contrasts_of_equality() -> None:
    equal = rule_for("equal", margin=2)
    found = verdict(equal, around(0.5), around(5))
    assert found.outcome == "opposite sign"
    assert "1 within the margin, 1 beyond it" in found.note


def test_a_family_is_corrected_for() -> None:
    weak = around(0.15, 0.1)  # p = 0.029 alone
    alone = verdict(rule_for("greater"), weak)
    assert alone.outcome == "supported"
    family = verdict(rule_for("greater"), weak, weak, weak)
    assert family.outcome == "not resolved"


def test_few_draws_decide_nothing() -> None:
    found = verdict(rule_for("greater"), around(5, 0.01, draws=4))
    assert found.outcome == "not resolved"
    assert "needs 5 draws" in found.note
    assert verdict(rule_for("greater"), [5.0]).low is None


def test_the_papers_effect_is_inside_or_not() -> None:
    assert verdict(rule_for("greater", paper=1.0), around(1)).holds_paper is True
    assert verdict(rule_for("greater", paper=3.0), around(1)).holds_paper is False
    assert verdict(rule_for("greater"), around(1)).holds_paper is None


def test_an_open_verdict_says_what_is_excluded() -> None:
    found = verdict(rule_for("greater"), around(0.05))
    assert f"Excludes means above {found.high:+.3g}" in found.note


def test_evidence_that_is_no_training_has_no_draws() -> None:
    cost = Estimate(0.5, -0.4, 1.4, 48, 0.45)
    found = judge(
        claims.rule("ts", "C19"), {"excess": cost}, scope="scaled down", notebook="11", draws=0
    )
    assert (found.outcome, found.draws) == ("supported", 0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: verdict(rule_for("greater")), "not decided by intervals"),
        (lambda: verdict(rule_for("existence"), around(1)), "not decided by intervals"),
        (lambda: verdict(rule_for("greater"), around(1), around(1, draws=6)), "same draws"),
        (lambda: claims.rule("ts", "C20"), "no claim 'C20'; there are: C1, C2"),
        (lambda: claims.rule("moco", "C1"), "allowed: ts, isogclr, dystress"),
    ],
)
def test_judge_refuses(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


# Claims as data


def test_all_claims_are_there(tmp_path: Path) -> None:
    table = claims.claims(tmp_path)
    counts = table.groupby("paper", sort=False).size().to_dict()
    assert counts == {"ts": 19, "isogclr": 12, "dystress": 19}
    for _, rows in table.groupby("paper"):
        assert rows["claim"].tolist() == [f"C{number + 1}" for number in range(len(rows))]
    assert table["statement"].str.fullmatch(r"(iS|[A-Z]).*\.").all()
    assert table["statement"].is_unique
    assert (table[["where", "measure", "direction", "certainty"]] != "").all(axis=None)


def test_claims_without_a_verdict_say_why(tmp_path: Path) -> None:
    table = claims.claims(tmp_path).set_index(["paper", "claim"])
    assert table.loc[("ts", "C8"), "outcome"] == "not measured"
    assert table.loc[("dystress", "C5"), "outcome"] == "not testable here"
    assert "GPU" in table.loc[("dystress", "C5"), "note"]
    assert table.loc[("ts", "C8"), "paper_effect"] == pytest.approx(3.1775)
    assert table["effect"].isna().all()
    assert (table["draws"] == 0).all()


def test_contrasts_are_read() -> None:
    head, tail = claims.rule("ts", "C6").contrasts
    assert head == Contrast("fixed 0.5", "fixed 0.1", "knn1", "head")
    assert str(tail) == "fixed 0.1 minus fixed 0.5, kNN@1, tail classes"
    twelve = claims.rule("ts", "C16")
    assert len(set(twelve.contrasts)) == 12
    assert twelve.paper_effect == pytest.approx(3.2375)


def test_training_claims_with_contrasts_name_draws_and_margin(tmp_path: Path) -> None:
    for paper in papers.PAPERS:
        for name in claims.claims(tmp_path).query("paper == @paper")["claim"]:
            rule = claims.rule(paper, name)
            if rule.contrasts:
                assert rule.draws >= claims.MINIMUM_DRAWS, (paper, name)
                assert len(rule.contrasts) == 1 or rule.family, (paper, name)


@pytest.fixture
def own_papers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a copy of the papers' numbers that a test may damage."""
    folder = tmp_path / "data" / "papers"
    shutil.copytree(paths.home() / "data" / "papers", folder)
    monkeypatch.setenv("DYTEMP_HOME", str(tmp_path))
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text.replace("claim,", "number,", 1), id="column missing"),
        pytest.param(lambda text: text.replace("\nC2,", "\nC1,"), id="twice"),
        pytest.param(lambda text: text.replace("\nC2,", "\n,"), id="no name"),
        pytest.param(lambda text: text.replace("\nC2,", "\n../../C2,"), id="out of the folder"),
        pytest.param(lambda text: text.replace(",identity,", ",law,"), id="unknown kind"),
        pytest.param(lambda text: text.replace(",gpu,", ",tpu,"), id="unknown scale"),
        pytest.param(lambda text: text.replace(",greater,", ",up,"), id="unknown direction"),
        pytest.param(lambda text: text.replace("TS - fixed 0.2", "TS fixed 0.2"), id="contrast"),
        pytest.param(lambda text: text.replace("3.25; 2.72", "3.25; many"), id="no number"),
    ],
)
def test_a_damaged_table_of_claims_is_named(own_papers: Path, damage: Callable[[str], str]) -> None:
    path = own_papers / "ts" / "claims.csv"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=r"claims\.csv"):
        claims.claims()


# Verdicts as files


def test_a_recorded_verdict_comes_back(tmp_path: Path) -> None:
    path = claims.record(FINDING, tmp_path)
    assert path == tmp_path / "claims" / "ts-C8.json"
    row = claims.claims(tmp_path).set_index(["paper", "claim"]).loc[("ts", "C8")]
    assert {name: row[name] for name in ("scope", "outcome", "effect", "runs")} == {
        "scope": "scaled down",
        "outcome": "opposite sign",
        "effect": -3.5,
        "runs": ("a1", "b2"),
    }


def test_the_same_verdict_is_not_written_twice(tmp_path: Path) -> None:
    path = claims.record(FINDING, tmp_path)
    assert path is not None
    before = path.stat().st_mtime_ns
    assert claims.record(FINDING, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    claims.record(dataclasses.replace(FINDING, note="another"), tmp_path)
    assert json.loads(path.read_text())["note"] == "another"
    assert [entry.name for entry in path.parent.iterdir()] == ["ts-C8.json"]


def test_judged_numbers_are_rounded() -> None:
    found = verdict(rule_for("greater"), around(1 / 3))
    assert found.effect == 0.333333


def test_results_go_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYTEMP_RESULTS", str(tmp_path / "mine"))
    path = claims.record(claims.exact("isogclr", "C2", "20", "to 1e-9"))
    assert path == tmp_path / "mine" / "claims" / "isogclr-C2.json"
    assert "exact" in set(claims.claims()["scope"])
    assert "exact" not in set(claims.claims(tmp_path / "other")["scope"])


def test_a_store_of_ones_own_shows_the_recorded_verdicts(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = claims.record(FINDING)
    assert recorded == workspace / "data" / "results" / "claims" / "ts-C8.json"
    own = workspace / "own"
    monkeypatch.setenv("DYTEMP_RESULTS", str(own))
    assert claims.record(FINDING) == recorded  # nothing has changed, so nothing is written
    assert not own.exists()
    assert claims.claims().iloc[7]["note"] == FINDING.note
    claims.record(dataclasses.replace(FINDING, note="mine"))
    assert claims.claims().iloc[7]["note"] == "mine"
    assert json.loads(recorded.read_text())["note"] == FINDING.note


def test_a_read_only_installation_keeps_its_verdicts(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = claims.record(FINDING)
    other = dataclasses.replace(FINDING, note="another")

    open_ = Path.open

    def refuse(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if "w" in mode:
            raise OSError(errno.EROFS, "Read-only file system")
        return open_(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert claims.record(other) is None
    monkeypatch.undo()
    assert json.loads(recorded.read_text())["note"] == FINDING.note


def test_several_threads_may_record_at_once(tmp_path: Path) -> None:
    findings = [dataclasses.replace(FINDING, note="x" * 50_000 * k) for k in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda finding: claims.record(finding, tmp_path), findings * 4))
    (file,) = (tmp_path / "claims").iterdir()
    assert json.loads(file.read_text())["note"] in [finding.note for finding in findings]


def test_claims_as_json_have_null_where_nothing_was_measured(tmp_path: Path) -> None:
    claims.record(FINDING, tmp_path)
    text = claims.claims(tmp_path).to_json(orient="records")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    rows = json.loads(text, parse_constant=refuse)
    assert len(rows) == 50
    assert (rows[0]["effect"], rows[0]["runs"]) == (None, [])
    assert (rows[7]["effect"], rows[7]["runs"]) == (-3.5, ["a1", "b2"])
    wanted = "paper claim statement scope outcome effect low high draws paper_effect runs notebook"
    assert {*wanted.split(), "note"} <= set(rows[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcome": "reproduced"}, "allowed: supported, opposite sign"),
        ({"scope": "large"}, "allowed: exact, exact in part"),
        ({"scope": ""}, "scope"),
        ({"draws": 4}, "at least 5"),
        ({"draws": 2.5}, "whole number"),
        ({"draws": -1}, "whole number"),
        ({"low": None}, "both low and high"),
        ({"low": None, "high": None}, "no interval"),
        ({"effect": 57.0}, "in its interval"),
        ({"effect": None}, "in its interval"),
        ({"low": -3.0, "high": -4.0}, "in its interval"),
        ({"effect": math.nan}, "finite"),
        ({"low": -math.inf}, "finite"),
        ({"paper_effect": math.nan}, "finite"),
    ],
)
def test_findings_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FINDING, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"claim": "C20"}, "no claim"), ({"paper": "x"}, "allowed: ts"), ({"notebook": ""}, "noteb")],
)
def test_record_refuses(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        claims.record(dataclasses.replace(FINDING, **change), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: "", id="empty"),
        pytest.param(lambda text: text[: len(text) // 2], id="cut"),
        pytest.param(lambda text: "[]", id="no object"),
        pytest.param(lambda text: text.replace('"draws"', '"seeds"'), id="other key"),
        pytest.param(lambda text: text.replace('"draws": 5', '"draws": 1'), id="too few draws"),
        pytest.param(lambda text: text.replace('"draws": 5', '"draws": "5"'), id="no number"),
        pytest.param(lambda text: text.replace("-3.5", "NaN"), id="NaN"),
        pytest.param(lambda text: text.replace("-3.5", "57.0"), id="outside"),
        pytest.param(lambda text: text.replace("opposite sign", "refuted"), id="unknown outcome"),
        pytest.param(lambda text: text.replace('"C8"', '"C9"'), id="other claim"),
    ],
)
def test_a_damaged_verdict_is_named(tmp_path: Path, damage: Callable[[str], str]) -> None:
    path = claims.record(FINDING, tmp_path)
    assert path is not None
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=r"ts-C8\.json"):
        claims.claims(tmp_path)


# The README


def test_the_readme_lists_the_verdicts_as_recorded() -> None:
    readme = (paths.home() / "README.md").read_text(encoding="utf-8")
    names = {"TS": "ts", "iSogCLR": "isogclr", "DySTreSS": "dystress"}
    pattern = r"^\| (\w+) (C\d+) \|[^|]*\| ([^|]+), ([^|,]+) \|"
    rows = re.findall(pattern, readme, re.MULTILINE)
    table = claims.claims(paths.home() / "data" / "results")
    judged = table[(table["scope"] != "") & ~table["scope"].str.startswith("exact")]
    columns = ["paper", "claim", "outcome", "scope"]
    wanted = set(judged[columns].itertuples(index=False, name=None))
    assert {(names[paper], *rest) for paper, *rest in rows} == wanted
    assert f"All {len(table)} claims" in readme
