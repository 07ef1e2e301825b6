"""What the papers say and what was found: their tables, their claims, and our verdicts.

The numbers of the papers live in ``data/papers/<paper>/<table>.csv``, each row with its source and
with how sure it is; their claims live in ``claims.csv`` beside them. A notebook that measures a
claim calls `record`, which writes one small file; `claims` puts both together.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dytemp.lab import paths, scales


@dataclass(frozen=True)
class Paper:
    """How to cite one of the papers."""

    title: str
    authors: str
    venue: str
    year: int
    link: str


PAPERS = {
    "ts": Paper(
        "Temperature Schedules for Self-Supervised Contrastive Methods on Long-Tail Data",
        "Anna Kukleva, Moritz Böhle, Bernt Schiele, Hilde Kuehne, Christian Rupprecht",
        "International Conference on Learning Representations (ICLR)",
        2023,
        "https://openreview.net/forum?id=ejHUr4nfHhD",
    ),
    "isogclr": Paper(
        "Not All Semantics are Created Equal: Contrastive Self-supervised Learning with Automatic "
        "Temperature Individualization",
        "Zi-Hao Qiu, Quanqi Hu, Zhuoning Yuan, Denny Zhou, Lijun Zhang, Tianbao Yang",
        "International Conference on Machine Learning (ICML)",
        2023,
        "https://proceedings.mlr.press/v202/qiu23a.html",
    ),
    "dystress": Paper(
        "Dynamically Scaled Temperature in Self-Supervised Contrastive Learning",
        "Siladittya Manna, Soumitri Chattopadhyay, Rakesh Dey, Umapada Pal, Saumik Bhattacharya",
        "IEEE Transactions on Artificial Intelligence",
        2025,
        "https://doi.org/10.1109/TAI.2024.3524979",
    ),
}

CERTAINTIES = (
    "read in the paper",
    "read in the code",
    "digitised from the vector figure",
    "secondary source",
    "inferred",
    "not found",
)

#: Verdicts that rest on repeated measurements, so that they need seeds and an interval.
MEASURED_VERDICTS = ("reproduced", "contradicted", "inconclusive")
VERDICTS = (*MEASURED_VERDICTS, "exact", "needs GPU", "not measured", "not measurable")
MINIMUM_SEEDS = 3

CLAIM_COLUMNS = (
    "claim",
    "statement",
    "where",
    "measure",
    "direction",
    "paper_numbers",
    "certainty",
    "kind",
    "scale_needed",
)
DIRECTIONS = ("greater", "smaller", "equal", "trend", "existence")
KINDS = ("identity", "training", "reanalysis", "theory", "cost", "not measurable")
SCALES_NEEDED = ("none", "cpu", "gpu")


@dataclass(frozen=True)
class Finding:
    """The verdict on one claim and its evidence, as it is stored.

    ``effect``, ``low`` and ``high`` are in the unit of the claim's measure (accuracies: percentage
    points); ``runs`` are the identifiers of the recorded runs behind it.

    Raises
    ------
    ValueError
        Unknown verdict, a number that is not finite, an interval with only one end or with its ends
        swapped, or a measured verdict with fewer than three seeds or without an interval.
    """

    paper: str
    claim: str
    verdict: str
    effect: float | None
    low: float | None
    high: float | None
    seeds: int
    runs: tuple[str, ...]
    notebook: str
    scale: str
    note: str

    def __post_init__(self) -> None:
        label = f"claim {self.claim} of {self.paper}"
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict of {label} is {self.verdict!r}; allowed: {_list(VERDICTS)}")
        for name in ("effect", "low", "high"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} of {label} is {value}; allowed: a finite number or None")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"{label} needs both low and high, or neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low of {label} is {self.low}, above high {self.high}")
        if self.seeds < 0:
            raise ValueError(f"seeds of {label} is {self.seeds}; allowed: 0 or more")
        if self.verdict in MEASURED_VERDICTS:
            if self.seeds < MINIMUM_SEEDS:
                raise ValueError(
                    f"{self.verdict!r} for {label} has seeds = {self.seeds}; a measured verdict "
                    f"needs at least {MINIMUM_SEEDS} paired seeds"
                )
            if self.low is None:
                raise ValueError(
                    f"{self.verdict!r} for {label} has no interval; a measured verdict needs low "
                    "and high"
                )


def tables(paper: str) -> list[str]:
    """Names of the tables that `table` knows for a paper, ``table2`` before ``table10``."""
    names = [path.stem for path in _folder(paper).glob("*.csv") if path.stem != "claims"]
    return sorted(names, key=_natural_order)


def table(paper: str, name: str) -> pd.DataFrame:
    """One table or figure of a paper in long form.

    Parameters
    ----------
    paper
        Short name, see `PAPERS`.
    name
        One of `tables`.

    Returns
    -------
    pandas.DataFrame
        One row for each number. Each row has ``source`` and ``certainty`` (one of `CERTAINTIES`).
        Missing numbers are NaN, missing words are empty strings.

    Raises
    ------
    ValueError
        Unknown paper, or a damaged file (the message names it).
    FileNotFoundError
        No table of this name; the message lists those that exist.
    """
    known = tables(paper)
    if name not in known:
        raise FileNotFoundError(f"{paper} has no table {name!r}; there are: {_list(known)}")
    path = _folder(paper) / f"{name}.csv"
    frame = _read(path, ("source", "certainty"))
    words = frame.select_dtypes(exclude="number").columns
    frame[words] = frame[words].fillna("")
    if (frame["source"] == "").any():
        raise ValueError(f"{path} has a row without a source")
    _allow(path, frame, "certainty", CERTAINTIES)
    return frame


def claims(folder: str | Path | None = None) -> pd.DataFrame:
    """Every claim of the three papers, with its verdict.

    Parameters
    ----------
    folder
        Store of results, in place of ``data/results`` or the environment's ``DYTEMP_RESULTS``.

    Returns
    -------
    pandas.DataFrame
        The columns of ``claims.csv`` after ``paper``, then ``verdict``, ``effect``, ``low``,
        ``high``, ``seeds``, ``runs``, ``notebook``, ``scale``, ``note``. A claim without a recorded
        verdict is *not measured*; *needs GPU* or *not measurable* if the table of claims says so.

    Raises
    ------
    ValueError
        A damaged table of claims or verdict file; the message names it.
    """
    rows = []
    for paper in PAPERS:
        for claim in _claims_of(paper):
            finding = _stored(paper, claim["claim"], folder) or _default(paper, claim)
            evidence = dataclasses.asdict(finding)
            rows.append({"paper": paper} | claim | evidence)
    return pd.DataFrame(rows).astype({"effect": float, "low": float, "high": float})


def record(
    paper: str,
    claim: str,
    verdict: str,
    *,
    effect: float | None = None,
    low: float | None = None,
    high: float | None = None,
    seeds: int = 0,
    runs: Iterable[str] = (),
    notebook: str,
    scale: str = "",
    note: str = "",
    folder: str | Path | None = None,
) -> Path:
    """Write the verdict on one claim, replacing an earlier one.

    The same arguments always give the same bytes: numbers are rounded to six significant digits,
    keys and runs are sorted, and there is no time stamp.

    Parameters
    ----------
    paper, claim
        Short name of the paper and number of the claim, for example ``"ts"``, ``"C8"``.
    verdict
        One of `VERDICTS`.
    effect, low, high
        Paired difference (or what the claim measures) and the ends of its interval.
    seeds
        Number of paired seeds.
    runs
        Identifiers of the recorded runs.
    notebook
        Notebook that measured the claim, for example ``"03_ts"``.
    scale
        Scale of the measurement.
    note
        One sentence on what limits the verdict.
    folder
        Store of results, in place of ``data/results`` or the environment's ``DYTEMP_RESULTS``.

    Returns
    -------
    pathlib.Path
        The file that was written.

    Raises
    ------
    ValueError
        Unknown paper or claim, no notebook, or what `Finding` refuses.
    TypeError
        A single string for ``runs``.
    """
    if isinstance(runs, str):
        raise TypeError(f"runs is the string {runs!r}; give a list of identifiers")
    if not notebook:
        raise ValueError("notebook is empty; name the notebook that measured the claim")
    known = [row["claim"] for row in _claims_of(paper)]
    if claim not in known:
        raise ValueError(f"{paper} has no claim {claim!r}; there are: {_list(known)}")
    finding = Finding(
        paper=paper,
        claim=claim,
        verdict=verdict,
        effect=_rounded(effect),
        low=_rounded(low),
        high=_rounded(high),
        seeds=int(seeds),
        runs=tuple(sorted(set(runs))),
        notebook=notebook,
        scale=scale,
        note=note,
    )
    path = _verdict_file(paper, claim, folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(finding), indent=2, sort_keys=True, ensure_ascii=False)
    # Another process may read or write the same verdict: it sees the old file or the new one.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def verdict(low: float, high: float, direction: str, margin: float = 0.0) -> str:
    """Word for an interval of the effect that a claim predicts.

    Parameters
    ----------
    low, high
        Ends of the interval.
    direction
        ``"greater"`` and ``"trend"`` predict a positive effect, ``"smaller"`` a negative one,
        ``"equal"`` none.
    margin
        Largest effect that still counts as none, in the unit of the effect; for ``"equal"`` only.
        Without it equality can be contradicted but never shown.

    Returns
    -------
    str
        ``"reproduced"``, ``"contradicted"`` or ``"inconclusive"``.

    Raises
    ------
    ValueError
        Ends that are not finite or are swapped, a negative margin, or a direction that no interval
        can decide.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"low and high are {low} and {high}; allowed: finite numbers, low <= high")
    if not margin >= 0:
        raise ValueError(f"margin is {margin}; allowed: 0 or more")
    match direction:
        case "greater" | "trend":
            confirmed, denied = low > 0, high < 0
        case "smaller":
            confirmed, denied = high < 0, low > 0
        case "equal":
            confirmed, denied = -margin <= low and high <= margin, low > margin or high < -margin
        case _:
            raise ValueError(
                f"direction is {direction!r}; an interval decides greater, smaller, equal, trend"
            )
    return "reproduced" if confirmed else "contradicted" if denied else "inconclusive"


def verdict_of_all(verdicts: Iterable[str]) -> str:
    """Word for a claim that several effects must bear out, such as one on every metric.

    Parameters
    ----------
    verdicts
        The words of `verdict` for each effect, at least one.

    Returns
    -------
    str
        ``"reproduced"`` if all are, ``"contradicted"`` if at least one is, else
        ``"inconclusive"``.

    Raises
    ------
    ValueError
        No verdict, or another word.
    """
    found = list(verdicts)
    words = ("contradicted", "inconclusive", "reproduced")
    if not found or not set(found) <= set(words):
        raise ValueError(f"verdicts are {found}; allowed: at least one of {_list(words)}")
    return min(found, key=words.index)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _natural_order(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _rounded(value: float | None) -> float | None:
    # Six significant digits: more would change with the machine and not with the finding.
    return None if value is None else float(f"{float(value):.6g}")


def _folder(paper: str) -> Path:
    if paper not in PAPERS:
        raise ValueError(f"paper is {paper!r}; allowed: {_list(PAPERS)}")
    return paths.home() / "data" / "papers" / paper


def _read(path: Path, columns: Sequence[str], dtype: type[str] | None = None) -> pd.DataFrame:
    try:
        # Only an empty cell is missing: words such as "none" and "NA" are words.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dtype)
    except ValueError as error:  # pandas' own errors and wrong encodings are ValueErrors
        raise ValueError(f"{path} is damaged: {error}") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing or frame.empty:
        raise ValueError(f"{path} is damaged: no rows, or no column {_list(missing or columns)}")
    return frame


def _allow(path: Path, frame: pd.DataFrame, column: str, allowed: Sequence[str]) -> None:
    unknown = sorted(set(frame[column]) - set(allowed))
    if unknown:
        raise ValueError(f"{path}: {column} is {unknown[0]!r}; allowed: {_list(allowed)}")


def _claims_of(paper: str) -> list[dict[str, str]]:
    path = _folder(paper) / "claims.csv"
    frame = _read(path, CLAIM_COLUMNS, dtype=str).fillna("")
    if frame["claim"].duplicated().any():
        raise ValueError(f"{path} has the same claim twice")
    for column, allowed in (
        ("certainty", CERTAINTIES),
        ("direction", DIRECTIONS),
        ("kind", KINDS),
        ("scale_needed", SCALES_NEEDED),
    ):
        _allow(path, frame, column, allowed)
    return [{name: str(row[name]) for name in CLAIM_COLUMNS} for _, row in frame.iterrows()]


def _verdict_file(paper: str, claim: str, folder: str | Path | None) -> Path:
    store = Path(folder) if folder else scales.store("recorded")
    return store / "claims" / f"{paper}-{claim}.json"


def _stored(paper: str, claim: str, folder: str | Path | None) -> Finding | None:
    path = _verdict_file(paper, claim, folder)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        finding = Finding(**content | {"runs": tuple(content["runs"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if (finding.paper, finding.claim) != (paper, claim):
        raise ValueError(f"{path} is damaged: it holds claim {finding.claim} of {finding.paper}")
    return finding


def _default(paper: str, claim: dict[str, str]) -> Finding:
    if claim["kind"] == "not measurable":
        word = "not measurable"
    elif claim["scale_needed"] == "gpu":
        word = "needs GPU"
    else:
        word = "not measured"
    return Finding(paper, claim["claim"], word, None, None, None, 0, (), "", "", "")
