"""Tables and verdicts as a reader sees them: frames, and text for the command line alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown, display
from pandas.io.formats.style import Styler

from dytemp.lab.studies import Study, compare, words
from dytemp.lab.studies.claims import Finding
from dytemp.lab.studies.statistics import mean_interval, pairs_needed


def show(
    table: pd.DataFrame,
    caption: str = "",
    digits: int | Mapping[str, int] = 1,
    best: str | None = None,
) -> None:
    """Show a table with a caption.

    Parameters
    ----------
    table : DataFrame
        Its index and columns have names that a reader understands; metrics get theirs here
        (`dytemp.lab.studies.words`). A running index is left out.
    caption : str
        What to see, in one sentence.
    digits : int or mapping
        Digits after the point: of all numbers, or of each column.
    best : {"max", "min"}, optional
        Whether the largest or the smallest number of each column is in bold.
    """
    display(styled(table, caption, digits, best))  # type: ignore[no-untyped-call]


def styled(
    table: pd.DataFrame,
    caption: str = "",
    digits: int | Mapping[str, int] = 1,
    best: str | None = None,
) -> Styler:
    """Return what `show` shows."""
    numbers: list[Any] = list(table.select_dtypes("number").columns)
    whole = [name for name in numbers if pd.api.types.is_integer_dtype(table[name])]
    places = digits if isinstance(digits, Mapping) else dict.fromkeys(numbers, digits)
    formats: dict[Any, Any] = {
        name: f"{{:.{places.get(name, 1)}f}}" for name in numbers if name not in whole
    }
    style = table.style.format(formats, na_rep="–")
    if best == "max":
        style = style.highlight_max(subset=numbers, props="font-weight: bold")
    elif best == "min":
        style = style.highlight_min(subset=numbers, props="font-weight: bold")
    style = style.format_index(_in_words, axis=0).format_index(_in_words, axis=1)
    if isinstance(table.index, pd.RangeIndex) and table.index.name is None:
        style = style.hide(axis="index")
    style = style.set_table_attributes('class="dataframe"')
    return style.set_caption(caption) if caption else style


def _in_words(label: Any) -> Any:
    if isinstance(label, float):
        return f"{label:g}"
    return words.metric(label) if isinstance(label, str) else label


def verdicts(findings: Iterable[Finding]) -> None:
    """Show verdicts: both words, the effect with its interval, the paper's, and what limits it.

    A last sentence that several notes share, such as the study behind them, stands once, below.
    """
    rows = []
    chosen = list(findings)
    notes, shared = _said_once([each.note for each in chosen])
    for each, note in zip(chosen, notes, strict=True):
        inside = {True: ", inside the interval", False: ", outside the interval", None: ""}
        paper = "" if each.paper_effect is None else f"{each.paper_effect:+.2f}"
        rows.append(
            {
                "claim": each.claim,
                "outcome": each.outcome,
                "scope": each.scope or "–",
                "effect [95 % interval]": effect(each),
                "draws": str(each.draws or "–"),
                "the paper's effect": paper + inside[each.holds_paper] if paper else "–",
                "note": note,
            }
        )
    table = pd.DataFrame(rows).set_index("claim")
    style = styled(table, "Verdicts; both words are explained on the page of all claims.")
    rules = {"th": "vertical-align: top", "td": "text-align: left; vertical-align: top"}
    rules["td:last-child"] = "min-width: 15em"  # a note of several sentences
    looks: Any = [{"selector": name, "props": props} for name, props in rules.items()]
    display(style.set_table_styles(looks))  # type: ignore[no-untyped-call]
    for sentence, places in shared.items():
        named = ", ".join(chosen[place].claim for place in places)
        display(Markdown(f"*{named}: {sentence}*"))  # type: ignore[no-untyped-call]


def _said_once(notes: Sequence[str]) -> tuple[list[str], dict[str, list[int]]]:
    """Take out of notes each last sentence that several share; return it with their places."""
    parts = [note.rpartition(". ") for note in notes]
    places: dict[str, list[int]] = {}
    for place, (_, _, last) in enumerate(parts):
        places.setdefault(last, []).append(place)
    shared = {last: found for last, found in places.items() if last and len(found) > 1}
    kept = [
        (begin + point).strip() if last in shared else note
        for note, (begin, point, last) in zip(notes, parts, strict=True)
    ]
    return kept, shared


def footnotes(notes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the mark of each row of a table, and the footnotes that the marks stand for.

    Parameters
    ----------
    notes : sequence of str
        One for each row; the parts of a note are separated by semicolons. What is noted on every
        row needs no mark and comes first.
    """
    rows: dict[str, list[int]] = {}
    for row, note in enumerate(notes):
        for part in filter(None, note.split("; ")):
            rows.setdefault(part, []).append(row)
    together: dict[tuple[int, ...], list[str]] = {}
    for part, where in rows.items():
        together.setdefault(tuple(where), []).append(part)
    common = together.pop(tuple(range(len(notes))), [])
    marks: list[list[str]] = [[] for _ in notes]
    found = [f"{'; '.join(common)[0].upper()}{'; '.join(common)[1:]}."] if common else []
    for number, (places, parts) in enumerate(together.items(), start=1):
        mark = str(number).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        found.append(f"{mark} {'; '.join(parts)}.")
        for row in places:
            marks[row].append(mark)
    return ["\u202f".join(each) for each in marks], found


def effect(finding: Finding) -> str:
    """Return the effect of a finding with its interval, as a text."""
    if finding.effect is None:
        return "–"
    if finding.low is None:
        return f"{finding.effect:+.2f}"
    return f"{finding.effect:+.2f} [{finding.low:+.2f}, {finding.high:+.2f}]"


def by_draw(table: pd.DataFrame, caption: str = "", digits: int = 2) -> None:
    """Show numbers draw by draw, with their mean and its 95 % interval over draws.

    Parameters
    ----------
    table : DataFrame
        One row a draw, one column for each quantity; shown with one row for each quantity.
    caption, digits
        As in `show`.
    """
    shown = table.T.add_prefix("draw ")
    found = [mean_interval(values.tolist()) for _, values in table.items()]
    shown["mean [95 % interval]"] = [
        each.short(digits) if each.count > 1 else "–"  # one draw has no interval
        for each in found
    ]
    show(shown, caption, digits)


def comparison(study: Study, method: str, table: pd.DataFrame) -> str:
    """Return the report on a rule of one's own as a text.

    Parameters
    ----------
    study : Study
        From `dytemp.lab.studies.compare.Plan`.
    method : str
        The rule.
    table : DataFrame
        Its `dytemp.lab.studies.compare.differences`.
    """
    best, draws = study.best_fixed(), len(study.draws)
    shown = table.apply(_cell, axis="columns").unstack("classes")[list(study.groups)]
    shown = shown.reindex(table.index.unique("minus"))
    for name in ("p (Holm)", "draws for 1 point"):
        shown[name] = [
            _short(value) for value in table[name].unstack("classes")["all"][shown.index]
        ]
    held_out = study.chosen_on.startswith("validation")
    judge = "validation images" if held_out else "test images, which flatters it a little"
    lines = [
        f"{study}; learning rate {study.protocol()['here']['learning rate']}",
        f"{best} is the best fixed temperature, by kNN@1 on {judge}.",
        "",
        f"{method} minus each of the others: points of kNN@1 [95 % interval over {draws} draws],",
        "for all classes and for the frequent (head), middle and rare ones (tail)",
        shown.rename_axis(index=None, columns=None).to_string(),
        f"* p below 0.05 after Holm's correction for all {len(table)} intervals of this table",
        "",
    ]
    spread = compare.scatter(study.differences(method, best))
    if spread is None:
        lines.append("A single draw, or equal ones, do not say how many a difference would take.")
    else:
        low, high = (pairs_needed(1.0, each) for each in (spread.mean, spread.high))
        lines.append(
            f"A true difference of one point to {best} would be found four times out of five with "
            f"{low} draws,\nor with {high} at the upper end of the deviation of the "
            f"differences, {spread.mean:.2g} [{spread.low:.2g}, {spread.high:.2g}] points."
        )
    configs = [study.config(method), study.config(best)]
    ours, theirs = (1000 * each for each in compare.loss_seconds(configs, sum(study.run().counts)))
    seconds = [run.seconds["training"] for group in study.runs[method].values() for run in group]
    step = 1000 * float(pd.Series(seconds).median()) / study.updates
    lines.append(
        f"Cost: a training step took {step:.3g} ms (median of {len(seconds)} runs; the wall "
        f"clock, with whatever else the machine did).\nThe loss alone, timed here: {ours:.2g} ms, "
        f"that of {best} {theirs:.2g} ms."
    )
    return "\n".join(lines)


def _short(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _cell(row: pd.Series[float]) -> str:
    mean, low, high, p_value = (float(row[name]) for name in ("mean", "low", "high", "p (Holm)"))
    star = "*" if p_value < 0.05 else " "
    return f"{mean:+.1f}" if pd.isna(low) else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]{star}"
