"""The command line: ``python -m dytemp reproduce | train | fetch | verify | claims | report``.

For a rule of one's own: ``python -m dytemp compare my_rule.py``.
For a class: ``python -m dytemp assignments | grade``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
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
            sys.stdout.flush()  # a reader that has left is noticed here, not at the very end
    except ModuleNotFoundError as error:
        return _fail(_what_to_install(error))
    except BrokenPipeError:  # the reader, for example head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, FloatingPointError, MemoryError, OSError, RuntimeError) as error:
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
    reproduce.add_argument(
        "--jobs", type=int, metavar="N", help="chapters at once; default: one for each core"
    )
    reproduce.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that trains")
    reproduce.add_argument("--output", type=Path, metavar="FOLDER", help="default: build/report")
    reproduce.set_defaults(command=_reproduce)

    train = commands.add_parser("train", help="train one run, or load it if it is recorded")
    train.add_argument("config", type=Path, metavar="CONFIG.yaml")
    train.set_defaults(command=_train)

    compare = commands.add_parser("compare", help="train a rule of your own beside all others")
    compare.add_argument("file", type=Path, metavar="my_rule.py", help="a temperature or a loss")
    compare.add_argument("--scale", choices=scales.NAMES[1:], default="quick")
    compare.add_argument("--draws", type=int, metavar="N", default=5, help="default: 5")
    compare.add_argument("--study", default="comparison", help="default: comparison")
    compare.set_defaults(command=_compare)

    fetch = commands.add_parser("fetch", help="download a public data set")
    fetch.add_argument("name", choices=("cifar10", "cifar100", "stl10"))
    fetch.add_argument("--to", type=Path, metavar="FOLDER", help="default: that of DYTEMP_DATA")
    fetch.set_defaults(command=_fetch)

    verify = commands.add_parser("verify", help="train recorded runs again and compare")
    verify.add_argument("--sample", type=int, metavar="N", help="a random choice of N runs")
    verify.set_defaults(command=_verify)

    claims = commands.add_parser("claims", help="print every claim with its verdict and evidence")
    claims.add_argument("--json", action="store_true", help="a list of objects, for machines")
    claims.add_argument("--table", action="store_true", help="what was measured, in Markdown")
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
    import papermill  # noqa: F401  # before anything starts: who lacks them is told how to get them
    import sphinx  # noqa: F401

    from dytemp.lab import yaml_files
    from dytemp.lab.book import execution, site
    from dytemp.lab.studies import parallel

    notebooks = execution.chapters(options.only)
    chosen = parallel.cores() if options.jobs is None else options.jobs
    jobs = min(checks.integer("--jobs", chosen, at_least=1), len(notebooks))
    # Trainings at once in each chapter, unless the user has chosen them.
    os.environ[parallel.JOBS] = os.environ.get(parallel.JOBS) or str(max(1, chosen // jobs))
    if options.scheduler:
        os.environ[parallel.SCHEDULER] = options.scheduler
    parameters = yaml_files.read(paths.home() / "notebooks" / "scales" / f"{options.scale}.yaml")
    with execution.alone():
        chapters = "1 chapter" if len(notebooks) == 1 else f"{len(notebooks)} chapters"
        print(f"{chapters} at scale {options.scale}, {jobs} at once", flush=True)
        outcomes = []
        for outcome in execution.run(notebooks, options.scale, parameters, jobs):
            outcomes.append(outcome)
            word = f"FAILED, {outcome.error}" if outcome.error else "done"
            label = f"[{len(outcomes)}/{len(notebooks)}] {outcome.name}"
            print(f"{label}: {word} ({outcome.seconds:.1f} s)", flush=True)
        failed = [outcome for outcome in outcomes if outcome.error]
        if failed:
            names = ", ".join(sorted(outcome.name for outcome in failed))
            _fail(f"{len(failed)} of {len(notebooks)} notebooks failed: {names}")
        print(f"report: {site.build(_output(options), site.Live(options.scale, outcomes))}")
    return 1 if failed else 0


def _report(options: argparse.Namespace) -> int:
    from dytemp.lab.book import execution, site

    with execution.alone():
        live = None
        if options.scale != "recorded":
            live = site.Live(options.scale, execution.stored(options.scale))
            if not live.outcomes:
                raise FileNotFoundError(
                    f"no executed notebooks in {execution.folder(options.scale)}; run: "
                    f"python -m dytemp reproduce --scale {options.scale}"
                )
        print(f"report: {site.build(_output(options), live)}")
    return 0


def _output(options: argparse.Namespace) -> Path:
    output: Path = options.output or paths.build() / "report"
    return output


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


def _compare(options: argparse.Namespace) -> int:
    from dytemp.lab.book import figures, tables
    from dytemp.lab.studies import compare

    draws = range(1, 1 + checks.integer("--draws", options.draws, at_least=1))
    with compare.naming(options.file):
        plan = compare.plan(options.file, options.scale, draws, options.study)
        print(plan, flush=True)
        study = plan.study()
    table = compare.differences(study, plan.method)
    print(f"\n{tables.comparison(study, plan.method, table)}")
    picture = paths.build() / f"{study.name}_{options.file.stem}_{options.scale}.png"
    figures.style()
    figures.save(figures.comparison(study, plan.method, table), picture)
    print(f"figure: {picture}")
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
    if options.table:
        from dytemp.lab.book import claims_page

        print(claims_page.table(found))
        return 0
    for claim in found:
        words = f"{claim['outcome']}, {claim['scope']}" if claim["scope"] else claim["outcome"]
        print(f"{claim['paper']:9}{claim['claim']:5}{words:34}{claim['statement']}")
        if claim["effect"] is not None:
            print(" " * 30 + _evidence(claim))
    return 0


def _evidence(claim: dict[str, Any]) -> str:
    interval = "" if claim["low"] is None else " [{low:.4g}, {high:.4g}]".format_map(claim)
    over = f"{claim['draws']} draws" if claim["draws"] else "repeated measurements"
    return f"effect {claim['effect']:.4g}{interval}, {over}, {claim['notebook']}"


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
