"""The command line: ``python -m dytemp reproduce | train | fetch | verify | claims | report``.

For a class: ``python -m dytemp assignments | grade``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dytemp
from dytemp import checks
from dytemp.lab import files, paths, scales

_KEPT = "What was finished is kept, so that the same command goes on from there."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        with files.explained(_KEPT, "DYTEMP_BUILD (DYTEMP_RESULTS for recorded runs)"):
            code: int = options.command(options)
    except ModuleNotFoundError as error:
        return _fail(_what_to_install(error))
    except BrokenPipeError:  # the reader, for example head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, FloatingPointError, MemoryError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail(f"interrupted. {_KEPT}")
    return code


def _what_to_install(error: ModuleNotFoundError) -> str:
    """Say what is missing: first the clone, without which the laboratory has nothing to show."""
    try:
        paths.home()
    except FileNotFoundError as missing:
        return str(missing)
    return f"{error}. The commands need the laboratory: in the clone, pip install -e '.[lab]'"


def _fail(message: str) -> int:
    print(f"dytemp: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dytemp", description=__doc__)
    parser.add_argument("--version", action="version", version=f"dytemp {dytemp.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    reproduce = commands.add_parser("reproduce", help="run the notebooks and write the report")
    reproduce.add_argument("--scale", choices=scales.NAMES, default="quick")
    reproduce.add_argument("--only", metavar="03", help="notebooks whose name starts like this")
    reproduce.add_argument("--jobs", type=int, metavar="N", help="trainings at once; default: 1")
    reproduce.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that trains")
    reproduce.add_argument("--output", type=Path, metavar="FOLDER", help="default: build/report")
    reproduce.set_defaults(command=_reproduce)

    train = commands.add_parser("train", help="train one run, or load it if it is recorded")
    train.add_argument("config", type=Path, metavar="CONFIG.yaml")
    train.set_defaults(command=_train)

    fetch = commands.add_parser("fetch", help="download a public data set")
    fetch.add_argument("name", choices=("cifar10", "cifar100", "stl10"))
    fetch.add_argument("--to", type=Path, metavar="FOLDER", help="default: that of DYTEMP_DATA")
    fetch.set_defaults(command=_fetch)

    verify = commands.add_parser("verify", help="train recorded runs again and compare")
    verify.add_argument("--sample", type=int, metavar="N", help="a random choice of N runs")
    verify.set_defaults(command=_verify)

    claims = commands.add_parser("claims", help="print every claim with its verdict and evidence")
    claims.add_argument("--json", action="store_true", help="a list of objects, for machines")
    claims.set_defaults(command=_claims)

    report = commands.add_parser("report", help="write the report from notebooks that have run")
    report.add_argument("--scale", choices=scales.NAMES, default="recorded")
    report.add_argument("--output", type=Path, metavar="FOLDER", help="default: build/report")
    report.set_defaults(command=_report)

    assignments = commands.add_parser("assignments", help="write the students' copies for a class")
    assignments.set_defaults(command=_assignments)
    grade = commands.add_parser("grade", help="grade what students have handed in")
    grade.add_argument("names", nargs="*", metavar="assignment", help="default: all")
    grade.add_argument("--force", action="store_true", help="again, what was graded before")
    grade.set_defaults(command=_grade)
    for command in (assignments, grade):
        where = "folder of the course; default: build/assignments"
        command.add_argument("--course", type=Path, metavar="FOLDER", help=where)
    return parser


def _reproduce(options: argparse.Namespace) -> int:
    from dytemp.lab import yaml_files
    from dytemp.lab.studies import parallel

    notebooks = _notebooks(options.only)
    if options.jobs is not None:
        os.environ[parallel.JOBS] = str(checks.integer("--jobs", options.jobs, at_least=1))
    if options.scheduler:
        os.environ[parallel.SCHEDULER] = options.scheduler
    parameters = yaml_files.read(paths.home() / "notebooks" / "scales" / f"{options.scale}.yaml")
    failures = 0
    for number, notebook in enumerate(notebooks, start=1):
        label = f"[{number}/{len(notebooks)}] {notebook.stem}"
        print(f"{label}: running at scale {options.scale}", flush=True)
        start = time.perf_counter()
        error = _execute(notebook, _executed(options.scale) / notebook.name, parameters)
        failures += error is not None
        outcome = f"FAILED, {error}" if error else "done"
        print(f"{label}: {outcome} ({time.perf_counter() - start:.1f} s)", flush=True)
    _report(options)
    if failures:
        return _fail(f"{failures} of {len(notebooks)} notebooks failed; their pages say where")
    return 0


def _notebooks(prefix: str | None) -> list[Path]:
    """Chapters in reading order, or those whose name starts with `prefix`."""
    chapters = sorted((paths.home() / "notebooks").glob("[0-9]*.ipynb"))
    chosen = [chapter for chapter in chapters if chapter.name.startswith(prefix or "")]
    if not chosen:
        names = ", ".join(chapter.stem for chapter in chapters) or "none"
        raise ValueError(f"no notebook starts with {prefix or 'a digit'!r}; there are: {names}")
    return chosen


def _executed(scale: str) -> Path:
    """Folder of the executed copies; the notebooks themselves are never written."""
    return paths.build() / "notebooks" / scale


def _execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> str | None:
    """Run one notebook in its folder; the error that stopped it, or None when all is well."""
    import papermill

    # Bars would flood the pages; and the kernel must be that of the running interpreter, not one
    # that the user registered under the same name.
    os.environ.update(TQDM_DISABLE="1", JUPYTER_PREFER_ENV_PATH="1")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=parameters,
            kernel_name="python3",
            cwd=notebook.parent,
            progress_bar=False,
            stdout_file=_RunLines(),
            extra_arguments=["--log-level=ERROR"],  # of the kernel: no advice on encryption
        )
    except papermill.PapermillExecutionError as error:
        return f"cell [{error.exec_count}]: {error.ename}: {error.evalue}"
    except Exception as error:  # a dead kernel or a broken file must not stop the other chapters
        return f"{type(error).__name__}: {error}"
    return None


class _RunLines(io.TextIOBase):
    """Passes on what a notebook prints about its training runs: lines that start with 'run '."""

    def __init__(self) -> None:
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.startswith("run "):
                print(f"    {line}", flush=True)
        return len(text)


def _report(options: argparse.Namespace) -> int:
    from dytemp.lab.book import report

    executed = _executed(options.scale)
    if options.scale == "recorded" and not executed.is_dir():
        executed = paths.home() / "notebooks"  # their stored outputs were made at this scale
    output = options.output or paths.build() / "report"
    print(f"report: {report.write(executed, output, options.scale)}")
    return 0


def _train(options: argparse.Namespace) -> int:
    from dytemp.lab import yaml_files
    from dytemp.lab.studies import runs

    store = scales.store("recorded")
    run = runs.get(yaml_files.read(options.config), store)
    for name, value in run.metrics.items():
        print(f"    {name:24}{value:.4f}")
    print(f"recorded in {runs.find(run.key, store)}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from dytemp.lab import datasets

    folder = options.to or os.environ.get("DYTEMP_DATA")
    if not folder:
        raise ValueError("say where the data set goes: --to FOLDER, or set DYTEMP_DATA")
    found = datasets.load(options.name, folder, download=True)
    images = f"{len(found.train_images)} + {len(found.test_images)} images"
    print(f"{options.name}: {images} in {folder}; DYTEMP_DATA={folder} makes it known")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from dytemp.lab.studies import runs

    table = runs.verify(options.sample, scales.store("recorded"))
    print(table.to_string(index=False))
    return 0 if table["agrees"].all() else _fail("some runs differ from their record")


def _claims(options: argparse.Namespace) -> int:
    from dytemp.lab.studies import claims

    found = json.loads(claims.claims().to_json(orient="records"))  # NaN becomes None
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for claim in found:
        words = f"{claim['outcome']}, {claim['scope']}" if claim["scope"] else claim["outcome"]
        print(f"{claim['paper']:9}{claim['claim']:5}{words:28}{claim['statement']}")
        if claim["effect"] is not None:
            print(" " * 30 + _evidence(claim))
    return 0


def _evidence(claim: dict[str, Any]) -> str:
    interval = "" if claim["low"] is None else " [{low:.4g}, {high:.4g}]".format_map(claim)
    return f"effect {claim['effect']:.4g}{interval}, {claim['draws']} draws, {claim['notebook']}"


def _assignments(options: argparse.Namespace) -> int:
    from dytemp.lab.book import classroom

    for copy in classroom.build(_course(options)):
        print(copy)
    return 0


def _grade(options: argparse.Namespace) -> int:
    from dytemp.lab.book import classroom

    table = classroom.grade(_course(options), options.names, options.force)
    print(table.drop(columns="remarks").to_string(index=False))
    odd = table[table["remarks"].astype(bool)]
    for _, row in odd.iterrows():
        print(f"{row['student']}, {row['assignment']}: {'; '.join(row['remarks'])}")
    failed = int(table["points"].isna().sum())
    return _fail(f"{failed} copies could not be graded, see above") if failed else 0


def _course(options: argparse.Namespace) -> Path:
    return options.course or paths.build() / "assignments"
