"""The page of the report with the recorded benchmarks.

`make bench` writes one JSON file for each benchmark; those that are kept with the repository are
shown here: the aims beside what was measured, and all measurements with the machine that made them.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import jinja2

PAGE = "benchmarks.html"


def write(records: Path, output: Path) -> str | None:
    """Write the page of all benchmarks recorded in a folder.

    Parameters
    ----------
    records : Path
        Folder of the JSON files.
    output : Path
        Folder of the report.

    Returns
    -------
    str or None
        Name of the page; None if nothing is recorded.
    """
    benchmarks = [json.loads(file.read_text("utf-8")) for file in sorted(records.glob("*.json"))]
    if not benchmarks:
        return None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dytemp.lab.book", "."), autoescape=True, trim_blocks=True
    )
    template = environment.get_template("benchmarks.html.j2")
    tables = [_tables(benchmark["measurements"]) for benchmark in benchmarks]
    page = template.render(benchmarks=list(zip(benchmarks, tables, strict=True)))
    (output / PAGE).write_text(page, encoding="utf-8")
    return PAGE


def _tables(measurements: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows by group, in their order, each also relative to the first of its group."""
    tables = {}
    for group, members in itertools.groupby(measurements, key=lambda row: str(row["group"])):
        rows = list(members)
        reference = rows[0]["median"]
        tables[group] = [row | {"relative": row["median"] / reference} for row in rows]
    return tables
