"""Figures can be seen: on white, on a dark page, and every method has a look."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from dytemp.lab.book import figures, tables
from dytemp.lab.studies import Study
from dytemp.lab.studies.claims import Finding
from dytemp.lab.studies.runs import Run
from dytemp.lab.training import Config

TEMPERATURES = (0.01, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", figures.DARK_PAGE])
def test_every_colour_stands_out_from_the_page(page: str) -> None:
    colours = [each.color for each in (*figures.LOOKS.values(), *figures._SPARE)]
    colours += [figures.tau_colour(tau) for tau in TEMPERATURES]
    assert [colour for colour in colours if contrast(colour, page) < 3] == []


def lab(colour: str) -> np.ndarray:
    """CIELAB coordinates, in which distances are roughly what one sees."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    mixed = np.array([[0.412, 0.358, 0.180], [0.213, 0.715, 0.072], [0.019, 0.119, 0.950]]) @ linear
    x, y, z = np.cbrt(mixed / [0.950, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_neighbours_in_a_sweep_are_told_apart_by_their_colour() -> None:
    sweep = [lab(figures.tau_colour(tau)) for tau in (0.07, 0.1, 0.2, 0.3, 0.5, 1.0)]
    distances = [float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(sweep)]
    assert min(distances) > 25, distances
    swing = lab(figures.LOOKS["TS"].color)
    assert min(float(np.linalg.norm(each - swing)) for each in sweep) > 25


def test_methods_that_appear_together_look_different() -> None:
    looks = list(figures.LOOKS.values())
    assert len({each.color for each in looks}) == len(looks)
    assert len({(each.marker, each.linestyle) for each in looks}) == len(looks)


def test_looks_of_values_variants_and_own_methods() -> None:
    assert figures.look("fixed 0.2")["color"] == figures.tau_colour(0.2)
    assert figures.look("fixed 0.2, rate 0.5")["marker"] == "o"
    assert figures.look("TS, period 0.5") == figures.look("TS")
    assert figures.look("DySTreSS shifted, wide") == figures.look("DySTreSS shifted")
    own = figures.look("my rule")
    assert own == figures.look("my rule")
    assert own["color"] not in {each.color for each in figures.LOOKS.values()}


def test_differences_are_drawn_in_order_and_open_intervals_are_points() -> None:
    nan = float("nan")
    table = pd.DataFrame(
        {"mean": [1.0, -2.0], "low": [0.5, nan], "high": [1.5, nan]},
        index=pd.MultiIndex.from_tuples([("TS", "kNN@1"), ("MACL", "kNN@1")]),
    )
    figure = figures.difference_figure(table)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["TS: kNN@1", "MACL: kNN@1"]
    colours = [line.get_color() for line in axes.lines]
    assert {figures.LOOKS["TS"].color, figures.LOOKS["MACL"].color} <= set(colours)
    plt.close(figure)


def test_bars_of_ranks_reach_half_a_critical_difference_to_both_sides() -> None:
    figure = figures.ranks(pd.Series({"TS": 1.5, "fixed 0.2": 2.5}), critical=0.8)
    bars = [line.get_xdata() for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose(bars, [[1.1, 1.9], [2.1, 2.9]])
    top, below = (label.get_text() for label in figure.axes[0].get_yticklabels())
    assert (top, below) == ("TS", "fixed 0.2")
    plt.close(figure)


def test_panels_stand_in_two_columns() -> None:
    figure, axes = figures.panels(3)
    assert len(axes) == len(figure.axes) == 3
    plt.close(figure)


def test_the_lowest_panel_of_each_column_has_numbers_on_its_axis() -> None:
    figure, axes = figures.panels(3, sharex=True)
    figure.draw_without_rendering()
    shown = [any(label.get_visible() for label in each.get_xticklabels()) for each in axes]
    assert shown == [False, True, True]
    plt.close(figure)


def test_lines_have_the_look_of_their_name_unless_told_otherwise() -> None:
    curves = {"TS": [1.0, 2.0], "MACL": [2.0, 1.0]}
    axes = figures.lines([0.0, 1.0], curves, looks={"MACL": {"linestyle": ":"}})
    ts, macl = axes.lines
    assert [line.get_label() for line in (ts, macl)] == ["TS", "MACL"]
    assert (ts.get_color(), ts.get_linestyle()) == (figures.LOOKS["TS"].color, "-")
    assert (macl.get_color(), macl.get_linestyle()) == (figures.LOOKS["MACL"].color, ":")
    assert {line.get_marker() for line in axes.lines} == {""}
    assert figures.lines([0.0, 1.0], {"DCL": [0.0, 0.0]}, axes) is axes
    assert macl.get_ydata().tolist() == [2.0, 1.0]
    plt.close(axes.figure)


def test_a_figure_with_a_legend_is_shown_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(figures, "display", lambda *things: shown.extend(things))
    axes = figures.lines([0.0, 1.0], {"TS": [1.0, 2.0], "MACL": [2.0, 1.0]})
    figures.show_with_legend(axes, "What to see.")
    figure, caption = shown
    assert figure is axes.figure
    assert caption.data == "*What to see.*"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["TS", "MACL"]
    assert not plt.fignum_exists(figure.number)


def test_labels_have_plain_ticks_and_a_legend_of_what_is_named() -> None:
    figure, (named, bare) = figures.panels(2)
    named.semilogx([4, 8], [1, 2], label="a line")
    bare.semilogx([4, 8], [1, 2])
    figures.label(named, "x (s)", "y", "upper left", xticks=(4, 8), ylim=(0, 3))
    figures.label(bare, "x", "y")
    assert (named.get_xlabel(), named.get_ylabel(), named.get_ylim()) == ("x (s)", "y", (0, 3))
    assert [tick.get_text() for tick in named.get_xticklabels()] == ["4", "8"]
    assert [text.get_text() for text in named.get_legend().get_texts()] == ["a line"]
    assert bare.get_legend() is None
    plt.close(figure)


def learner(counts: list[int], tau: list[float], over_training: list[float]) -> Run:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Run(
        key="",
        config=Config(loss={"name": "ISogCLR", "rho": 0.4, "tau_init": 0.1}, curves_every=5),
        metrics={},
        per_class={},
        evaluations=[],
        curves={"temperature": over_training},
        counts=counts,
        groups=[],
        seconds={},
        images_per_second=1.0,
        environment={},
        code="",
        arrays={"tau": np.array(tau), "labels": labels, "positions": np.arange(len(labels))},
    )


def test_learned_temperatures_are_averaged_by_rank_and_drawn_for_each_draw() -> None:
    first = learner([2, 1], [0.4, 0.4, 0.1], [0.1, 0.2])
    second = learner([1, 2], [0.3, 0.6, 0.6], [0.1, 0.8])  # the other class is the frequent one
    study = Study("isogclr", "quick", {"iSogCLR": {1: (first,), 2: (second,)}})
    figure, (left, right) = figures.panels(2)
    figures.temperatures(left, study, "iSogCLR")
    assert [line.get_xdata().tolist() for line in left.lines] == [[5, 10], [5, 10]]
    assert left.get_ylim()[0] == 0
    assert left.get_ylim()[1] > 0.8
    figures.learned(right, study, "iSogCLR", label="long tail")
    *_, means = right.lines
    found = dict(zip(means.get_xdata(), means.get_ydata(), strict=True))
    assert found == pytest.approx({2: 0.5, 1: 0.2})
    plt.close(figure)


def test_tables_name_metrics_in_words_and_hide_a_running_index() -> None:
    table = pd.DataFrame({"validation_knn1": [1.0, 2.0], "draw": [0.5, 0.25]})
    page = tables.styled(table, digits={"validation_knn1": 2}).to_html()
    assert "validation kNN@1" in page
    assert "1.00" in page
    assert "row_heading" not in page
    named = table.set_axis([0.1, 0.3], axis="index").rename_axis(index="tau")
    assert "row_heading level0 row0" in tables.styled(named).to_html()
    assert ">0.1</th>" in tables.styled(named).to_html()


def test_footnotes_number_what_is_noted_and_say_once_what_holds_for_all() -> None:
    notes = ["one split; swapped digits", "one split", "one split; swapped digits; no bound"]
    marks, found = tables.footnotes(notes)
    assert marks == ["¹", "", "¹\u202f²"]
    assert found == ["One split.", "¹ swapped digits.", "² no bound."]
    assert tables.footnotes(["", ""]) == (["", ""], [])


def test_what_several_verdicts_share_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(tables, "display", shown.append)
    notes = {"C1": "Its own. The study (1.5 %).", "C2": "The study (1.5 %).", "C3": "Alone. Other."}
    tables.verdicts(
        Finding("ts", claim, "exact", "supported", note=note) for claim, note in notes.items()
    )
    table, sentence = shown
    assert table.data["note"].tolist() == ["Its own.", "", "Alone. Other."]
    assert sentence.data == "*C1, C2: The study (1.5 %).*"


def test_tables_round_and_mark_the_best() -> None:
    table = pd.DataFrame({"a": [1.234, 5.0], "n": [3, 4]}, index=["x", "y"])
    page = tables.styled(table, "What to see.", digits=2, best="max").to_html()
    assert "1.23" in page
    assert "What to see." in page
    assert ">3<" in page
    assert "font-weight: bold" in page


def test_effects_as_text() -> None:
    finding = Finding("ts", "C8", "scaled down", "supported", 1.0, 0.5, 1.5, 5, notebook="11")
    assert tables.effect(finding) == "+1.00 [+0.50, +1.50]"
    assert tables.effect(Finding("ts", "C1", "exact", "supported")) == "–"


def test_numbers_by_draw_and_their_interval_have_the_same_digits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[pd.DataFrame] = []
    monkeypatch.setattr(tables, "show", lambda table, *_: shown.append(table))
    draws = pd.Index([1, 2, 3], name="draw")
    tables.by_draw(pd.DataFrame({"a": [0.1, 0.2, 0.3]}, draws))
    tables.by_draw(pd.DataFrame({"a": [0.1]}, draws[:1]))
    several, single = (table["mean [95 % interval]"].tolist() for table in shown)
    assert several == ["+0.20 [-0.05, +0.45]"]
    assert single == ["–"]
