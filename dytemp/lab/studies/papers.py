"""What the papers say: their tables, each number with its source and with how sure it is.

They live in ``data/papers/<paper>/<table>.csv``; the claims beside them are read by
`dytemp.lab.studies.claims`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dytemp.lab import paths


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


def tables(paper: str) -> list[str]:
    """Names of the tables that `table` knows for a paper, ``table2`` before ``table10``."""
    names = [path.stem for path in folder(paper).glob("*.csv") if path.stem != "claims"]
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
        raise FileNotFoundError(f"{paper} has no table {name!r}; there are: {listed(known)}")
    path = folder(paper) / f"{name}.csv"
    frame = read(path, ("source", "certainty"))
    words = frame.select_dtypes(exclude="number").columns
    frame[words] = frame[words].fillna("")
    if (frame["source"] == "").any():
        raise ValueError(f"{path} has a row without a source")
    allow(path, frame, "certainty", CERTAINTIES)
    return frame


def setting(paper: str) -> dict[str, str]:
    """Return what a paper trained, in the terms of `dytemp.lab.studies.Study.protocol`."""
    found = table(paper, "setting")
    return dict(zip(found["item"], found["value"], strict=True))


def listed(names: Iterable[str]) -> str:
    """Join names for a message."""
    return ", ".join(names)


def _natural_order(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def folder(paper: str) -> Path:
    """Folder of a paper's tables."""
    if paper not in PAPERS:
        raise ValueError(f"paper is {paper!r}; allowed: {listed(PAPERS)}")
    return paths.home() / "data" / "papers" / paper


def read(path: Path, columns: Sequence[str], dtype: type[str] | None = None) -> pd.DataFrame:
    """Read a table and see to it that it has rows and these columns."""
    try:
        # Only an empty cell is missing: words such as "none" and "NA" are words.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dtype)
    except ValueError as error:  # pandas' own errors and wrong encodings are ValueErrors
        raise ValueError(f"{path} is damaged: {error}") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing or frame.empty:
        raise ValueError(f"{path} is damaged: no rows, or no column {listed(missing or columns)}")
    return frame


def allow(path: Path, frame: pd.DataFrame, column: str, allowed: Sequence[str]) -> None:
    """Refuse words in a column that are not allowed."""
    unknown = sorted(set(frame[column]) - set(allowed))
    if unknown:
        raise ValueError(f"{path}: {column} is {unknown[0]!r}; allowed: {listed(allowed)}")
