"""The papers' claims, what would decide them, and our verdicts in two words.

``claims.csv`` beside a paper's tables says for each claim what is tested: the contrasts, the margin
that counts as none, the family that is corrected for, the draws wanted and the paper's own effect.
`judge` reads it from there, so that nothing is chosen after the runs; `record` writes one small
file a verdict, and `claims` puts both together.

The first word of a verdict is its scope, how far it reaches; the second its outcome.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from dytemp.lab import files, scales
from dytemp.lab.studies import papers, words
from dytemp.lab.studies.papers import listed
from dytemp.lab.studies.statistics import Estimate, holm, mean_interval

#: How far a verdict reaches.
SCOPES = {
    "exact": "holds by mathematics, checked to rounding",
    "exact in part": "a part of the claim holds by mathematics, the rest is not decided by it",
    "re-analysis": "of the numbers that the paper printed",
    "simulation": "on generated data or toy models",
    "scaled down": "real data, with a smaller encoder or a shorter training than the paper's",
    "replication": "the paper's protocol",
}
#: What was found.
OUTCOMES = {
    "supported": "every contrast is decided as the claim says",
    "opposite sign": "decided, against the claim (for a claim of equality: beyond its margin)",
    "mixed": "contrasts are decided, some for the claim and some against it",
    "not resolved": "the intervals leave it open",
    "not testable here": "with the data and machines at hand",
    "not measured": "nobody has done it yet",
}
DECIDED = ("supported", "opposite sign", "mixed")
MINIMUM_DRAWS = 5  # for a verdict from training
LEVEL = 0.05

COLUMNS = (
    "claim",
    "statement",
    "where",
    "measure",
    "direction",
    "paper_numbers",
    "certainty",
    "kind",
    "scale_needed",
    "contrasts",
    "margin",
    "family",
    "draws_wanted",
    "paper_effect",
    "reason",
)
DIRECTIONS = ("greater", "smaller", "equal", "either", "trend", "existence")
KINDS = ("identity", "training", "reanalysis", "theory", "cost", "not measurable")
SCALES_NEEDED = ("none", "cpu", "gpu")


class Contrast(NamedTuple):
    """A paired difference that a claim predicts: a method minus a control, on one metric."""

    method: str
    control: str
    metric: str
    group: str

    def __str__(self) -> str:
        where = "" if self.group == "all" else f", {self.group} classes"
        return f"{self.method} minus {self.control}, {words.metric(self.metric)}{where}"


@dataclass(frozen=True)
class Rule:
    """What decides a claim; fixed in ``claims.csv``.

    Attributes
    ----------
    paper, claim, direction, kind : str
        As in ``claims.csv``.
    contrasts : tuple of Contrast
        Empty where the claim is about something else than paired differences.
    margin : float
        Largest effect that counts as none, in the unit of the effect.
    family : str
        What Holm's correction is over, in words.
    draws : int
        How many draws are wanted.
    paper_effect : float or None
        Mean of the paper's own effects over the contrasts.
    """

    paper: str
    claim: str
    direction: str
    kind: str
    contrasts: tuple[Contrast, ...]
    margin: float
    family: str
    draws: int
    paper_effect: float | None


@dataclass(frozen=True)
class Finding:
    """The verdict on one claim and its evidence, as it is stored.

    Attributes
    ----------
    paper, claim : str
    scope, outcome : str
        One of `SCOPES` and of `OUTCOMES`; the scope is empty where nothing was measured.
    effect, low, high : float or None
        The effect that the claim is about, the mean over its contrasts, and the ends of its 95 %
        interval, in the unit of the claim's measure (accuracies: percentage points).
    draws : int
        Number of draws behind it; 0 where there is no training.
    paper_effect : float or None
        The paper's own.
    holds_paper : bool or None
        Whether the interval contains it.
    runs : tuple of str
        Keys of the recorded runs.
    notebook, note : str
        Where it was measured; what limits it.

    Raises
    ------
    ValueError
        For an unknown word, a number that is not finite, half an interval, one that does not hold
        its effect, or a decided training claim with fewer than `MINIMUM_DRAWS` draws or without
        an interval.
    """

    paper: str
    claim: str
    scope: str
    outcome: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    draws: int = 0
    paper_effect: float | None = None
    holds_paper: bool | None = None
    runs: tuple[str, ...] = ()
    notebook: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        label = f"claim {self.claim} of {self.paper}"
        if self.outcome not in OUTCOMES:
            raise ValueError(f"outcome of {label} is {self.outcome!r}; allowed: {listed(OUTCOMES)}")
        if self.scope not in SCOPES and not (self.scope == "" and self.outcome not in DECIDED):
            raise ValueError(f"scope of {label} is {self.scope!r}; allowed: {listed(SCOPES)}")
        for name in ("effect", "low", "high", "paper_effect"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} of {label} is {value}; allowed: a finite number or None")
        if type(self.draws) is not int or self.draws < 0:
            raise ValueError(f"draws of {label} is {self.draws!r}; allowed: a whole number from 0")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"{label} needs both low and high, or neither")
        if self.low is not None and self.high is not None:
            if self.effect is None or not self.low <= self.effect <= self.high:
                raise ValueError(
                    f"effect of {label} is {self.effect}; allowed: a number in its interval "
                    f"[{self.low}, {self.high}]"
                )
        elif self.draws and self.outcome in DECIDED:
            raise ValueError(f"{self.outcome!r} for {label} has draws but no interval")
        if 0 < self.draws < MINIMUM_DRAWS and self.outcome in DECIDED:
            raise ValueError(
                f"{self.outcome!r} for {label} has {self.draws} draws; a verdict from training "
                f"needs at least {MINIMUM_DRAWS}"
            )

    def __str__(self) -> str:
        words = f"{self.claim}: {self.outcome} ({self.scope or 'no scope'})"
        if self.effect is None:
            return words
        interval = "" if self.low is None else f" [{self.low:+.3g}, {self.high:+.3g}]"
        return f"{words}; effect {self.effect:+.3g}{interval}, {self.draws} draws"


def rule(paper: str, claim: str) -> Rule:
    """Return what decides a claim.

    Raises
    ------
    ValueError
        Unknown paper or claim, or a damaged table of claims.
    """
    known = {row["claim"]: row for row in _claims_of(paper)}
    if claim not in known:
        raise ValueError(f"{paper} has no claim {claim!r}; there are: {listed(known)}")
    return _rule(paper, known[claim])


def judge(
    rule: Rule,
    effects: Mapping[str, Sequence[float] | Estimate],
    *,
    scope: str,
    notebook: str,
    runs: Iterable[str] = (),
    draws: int | None = None,
    note: str = "",
) -> Finding:
    """Return the verdict on a claim.

    A contrast is decided if its p value (Student t over draws, two-sided), adjusted by Holm over
    the contrasts of the claim, is below 5 %. A claim is *supported* if every contrast is decided as
    it says and none lies within the margin that counts as none; *mixed* if some are decided for it
    and some against it; *opposite sign* if none is decided for it and their mean is decided against
    it; else *not resolved*. A claim of equality is supported if every contrast lies within the
    margin (two one-sided tests), and refuted by one beyond it; one of an effect of *either* sign is
    supported if every contrast is decided.

    Parameters
    ----------
    rule : Rule
        From `rule`.
    effects : mapping
        For each contrast its values, one for each draw, in one order of the draws; or an `Estimate`
        where the evidence is no training.
    scope : str
        One of `SCOPES`.
    notebook : str
        The chapter that asks.
    runs : iterable of str
        Keys of the recorded runs.
    draws : int, optional
        Number of draws, where it is not that of the values.
    note : str
        What limits the verdict.

    Raises
    ------
    ValueError
        No effect, contrasts of different lengths, or a claim that no interval decides.
    """
    if not effects or rule.direction == "existence":
        raise ValueError(f"claim {rule.claim} of {rule.paper} is not decided by intervals")
    estimates = {
        name: value if isinstance(value, Estimate) else mean_interval(value)
        for name, value in effects.items()
    }
    counts = {each.count for each in estimates.values()}
    if len(counts) > 1:
        raise ValueError(f"contrasts must rest on the same draws, got {sorted(counts)} values")
    whole = _mean(effects, estimates)
    number = counts.pop() if draws is None else draws
    parts = [_single_contrasts(estimates, rule)] if len(estimates) > 1 else []
    if 0 < number < MINIMUM_DRAWS:
        outcome = "not resolved"
        parts.append(f"A verdict needs {MINIMUM_DRAWS} draws.")
    else:
        outcome = _outcome(rule, list(estimates.values()), whole)
        if outcome == "not resolved":
            parts.append(_excluded(rule, whole))
    if 0 < number < rule.draws:
        parts.append(f"{rule.draws} draws were wanted, these are {number}.")
    closed = not math.isnan(whole.low)
    low, high = (_rounded(whole.low), _rounded(whole.high)) if closed else (None, None)
    paper = _rounded(rule.paper_effect)
    holds = low <= paper <= high if None not in (low, high, paper) else None  # type: ignore[operator]
    return Finding(
        paper=rule.paper,
        claim=rule.claim,
        scope=scope,
        outcome=outcome,
        effect=_rounded(whole.mean),
        low=low,
        high=high,
        draws=number,
        paper_effect=paper,
        holds_paper=holds,
        runs=tuple(sorted(set(runs))),
        notebook=notebook,
        note=" ".join(filter(None, [*parts, note])),
    )


def exact(paper: str, claim: str, notebook: str, note: str, *, in_part: bool = False) -> Finding:
    """Return the verdict on a claim that holds by mathematics and was checked to rounding."""
    scope = "exact in part" if in_part else "exact"
    return Finding(paper, claim, scope, "supported", notebook=notebook, note=note)


def record(finding: Finding, folder: str | Path | None = None) -> Path | None:
    """Write a verdict, replacing an earlier one, if it changed.

    The same verdict always gives the same bytes: numbers are rounded to six significant digits,
    keys and runs are sorted, and there is no time stamp.

    Parameters
    ----------
    finding : Finding
        Of a claim that the paper makes.
    folder : path, optional
        Store of results, in place of ``data/results`` or the environment's ``DYTEMP_RESULTS``.

    Returns
    -------
    Path or None
        The file, or None where it says otherwise and cannot be written (a read-only installation).

    Raises
    ------
    ValueError
        Unknown paper or claim, or no notebook.
    """
    if not finding.notebook:
        raise ValueError("notebook is empty; name the notebook that measured the claim")
    rule(finding.paper, finding.claim)
    text = json.dumps(dataclasses.asdict(finding), indent=2, sort_keys=True, ensure_ascii=False)
    text += "\n"
    known = _found(finding.paper, finding.claim, folder)
    if known is not None and known.read_text(encoding="utf-8") == text:
        return known
    path = _verdict_file(finding.paper, finding.claim, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process or thread may write the same verdict: each has a name of its own.
        with files.replacing(path, path.with_suffix(f".{uuid.uuid4().hex}.tmp")) as stream:
            stream.write(text.encode())
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return None
    return path


def claims(folder: str | Path | None = None) -> pd.DataFrame:
    """Every claim of the three papers, with its verdict.

    Parameters
    ----------
    folder
        Store of results, in place of ``data/results`` or the environment's ``DYTEMP_RESULTS``.

    Returns
    -------
    pandas.DataFrame
        The columns of ``claims.csv`` after ``paper``, and those of `Finding`. A claim without a
        recorded verdict is *not measured*, or *not testable here* with the reason as its note.

    Raises
    ------
    ValueError
        A damaged table of claims or verdict file; the message names it.
    """
    rows = []
    for paper in papers.PAPERS:
        for claim in _claims_of(paper):
            finding = _stored(paper, claim["claim"], folder) or _default(paper, claim)
            rows.append({"paper": paper} | claim | dataclasses.asdict(finding))
    numbers = dict.fromkeys(("effect", "low", "high", "paper_effect"), float)
    return pd.DataFrame(rows).astype(numbers)


def _mean(
    effects: Mapping[str, Sequence[float] | Estimate], found: dict[str, Estimate]
) -> Estimate:
    """Return the mean over the contrasts, with its interval over draws."""
    if len(found) == 1:
        return next(iter(found.values()))
    values = [list(value) for value in effects.values() if not isinstance(value, Estimate)]
    if len(values) < len(found):
        raise ValueError("several contrasts need their values by draw, not estimates")
    return mean_interval([sum(draw) / len(draw) for draw in zip(*values, strict=True)])


def _outcome(rule: Rule, contrasts: list[Estimate], whole: Estimate) -> str:
    if rule.direction == "equal":
        within = holm([each.p_within(rule.margin) for each in contrasts])
        beyond = holm([each.p_beyond(rule.margin) for each in contrasts])
        if max(within) < LEVEL:
            return "supported"
        return "opposite sign" if min(beyond) < LEVEL else "not resolved"
    sign = -1 if rule.direction == "smaller" else 1
    decided = _decided(contrasts, rule.margin)
    if rule.direction == "either":
        return "supported" if all(decided) else "not resolved"
    agreeing = sum(sign * each > 0 for each in decided)
    opposing = sum(sign * each < 0 for each in decided)
    if agreeing == len(contrasts):
        return "supported"
    if agreeing and opposing:
        return "mixed"
    against = whole.p_value < LEVEL and sign * whole.mean < 0 and not agreeing
    return "opposite sign" if against and not _none(whole, rule.margin) else "not resolved"


def _decided(contrasts: list[Estimate], margin: float) -> list[int]:
    """Return the sign of each contrast that is decided, 0 for the others."""
    adjusted = holm([each.p_value for each in contrasts])
    return [
        0 if p >= LEVEL or _none(each, margin) else (1 if each.mean > 0 else -1)
        for p, each in zip(adjusted, contrasts, strict=True)
    ]


def _none(each: Estimate, margin: float) -> bool:
    """Whether the whole interval lies where an effect counts as none."""
    return -margin <= each.low and each.high <= margin


def _single_contrasts(estimates: dict[str, Estimate], rule: Rule) -> str:
    found = list(estimates.values())
    if rule.direction == "equal":
        within = sum(p < LEVEL for p in holm([each.p_within(rule.margin) for each in found]))
        beyond = sum(p < LEVEL for p in holm([each.p_beyond(rule.margin) for each in found]))
        decided, text = [0] * len(found), f"{within} within the margin, {beyond} beyond it (Holm)"
    else:
        decided = _decided(found, rule.margin)
        above, below = decided.count(1), decided.count(-1)
        text = f"{above} decided above zero, {below} below (Holm)"
    text = f"Mean of {len(found)} contrasts; {text}"
    named = dict(zip(estimates.items(), decided, strict=True))
    before = ": "
    if len(found) > 4:
        least, most = (pick(each.mean for each in found) for pick in (min, max))
        before = f", from {least:+.2g} to {most:+.2g}. Decided: "
        named = {item: sign for item, sign in named.items() if sign}
    return text + before + ("; ".join(f"{name} {each}" for name, each in named) or "none") + "."


def _excluded(rule: Rule, whole: Estimate) -> str:
    if math.isnan(whole.low):
        return ""
    if rule.direction == "equal":
        return f"Excludes means below {whole.low:+.3g} and above {whole.high:+.3g}."
    if rule.direction == "either":
        return ""
    most = whole.low if rule.direction == "smaller" else whole.high
    word = "below" if rule.direction == "smaller" else "above"
    return f"Excludes means {word} {most:+.3g}."


def _rule(paper: str, row: Mapping[str, str]) -> Rule:
    own = [float(part) for part in row["paper_effect"].split(";") if part.strip()]
    return Rule(
        paper=paper,
        claim=row["claim"],
        direction=row["direction"],
        kind=row["kind"],
        contrasts=_contrasts(row["contrasts"]),
        margin=float(row["margin"] or 0),
        family=row["family"],
        draws=int(row["draws_wanted"] or 0),
        paper_effect=sum(own) / len(own) if own else None,
    )


def _contrasts(text: str) -> tuple[Contrast, ...]:
    """Read ``method - control: metrics | groups``, several of them separated by semicolons."""
    found = []
    for part in filter(None, (each.strip() for each in text.split(";"))):
        methods, _, measured = part.partition(":")
        method, minus, control = methods.partition(" - ")
        metrics, _, groups = measured.partition("|")
        if not (minus and metrics.split()):
            raise ValueError(f"a contrast reads 'method - control: metrics | groups', got {part!r}")
        found += [
            Contrast(method.strip(), control.strip(), metric, group)
            for metric in metrics.split()
            for group in groups.split() or ["all"]
        ]
    return tuple(found)


def _rounded(value: float | None) -> float | None:
    # Six significant digits: more would change with the machine and not with the finding.
    return None if value is None else float(f"{float(value):.6g}")


def _claims_of(paper: str) -> list[dict[str, str]]:
    path = papers.folder(paper) / "claims.csv"
    frame = papers.read(path, COLUMNS, dtype=str).fillna("")
    names = frame["claim"]
    if names.duplicated().any() or not names.str.fullmatch(r"C\d+").all():
        raise ValueError(f"{path}: claims must be C1, C2, ..., each once; got {list(names)}")
    for column, allowed in (
        ("certainty", papers.CERTAINTIES),
        ("direction", DIRECTIONS),
        ("kind", KINDS),
        ("scale_needed", SCALES_NEEDED),
    ):
        papers.allow(path, frame, column, allowed)
    rows = [{name: str(row[name]) for name in COLUMNS} for _, row in frame.iterrows()]
    for row in rows:
        try:
            _rule(paper, row)
        except ValueError as error:
            raise ValueError(f"{path}, claim {row['claim']}: {error}") from error
    return rows


def _verdict_file(paper: str, claim: str, folder: str | Path | None) -> Path:
    store = Path(folder) if folder else scales.store("recorded")
    return store / "claims" / f"{paper}-{claim}.json"


def _found(paper: str, claim: str, folder: str | Path | None) -> Path | None:
    """Return the file of a verdict; a store of one's own lies over the recorded one."""
    path = _verdict_file(paper, claim, folder)
    layers = scales.layers(path.parents[1])
    every = (layer / "claims" / path.name for layer in layers)
    return next((file for file in every if file.is_file()), None)


def _stored(paper: str, claim: str, folder: str | Path | None) -> Finding | None:
    path = _found(paper, claim, folder)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        finding = Finding(**content | {"runs": tuple(content["runs"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if (finding.paper, finding.claim) != (paper, claim):
        raise ValueError(f"{path} is damaged: it holds claim {finding.claim} of {finding.paper}")
    return finding


def _default(paper: str, row: dict[str, str]) -> Finding:
    here = "not testable here" if row["reason"] else "not measured"
    effect = _rounded(_rule(paper, row).paper_effect)
    return Finding(paper, row["claim"], "", here, paper_effect=effect, note=row["reason"])
