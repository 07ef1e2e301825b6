"""Do the lower bounds hold? Install the lowest versions that are allowed, and run the unit tests.

Usage: python tools/lowest.py [PYTHON]. It takes six gigabytes below build/ and half an hour, so it
is no part of continuous integration. build/lowest/tests.log grows while the tests run; what came
out, with the date, is written to tools/lowest.txt. Afterwards: rm -r build/lowest
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / "build" / "lowest"
PYTHON = HOME / "bin" / "python"


def main(interpreter: str = sys.executable) -> int:
    """Make the environment, test in it, and write down what came out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *extras["lab"], *extras["dev"]]
    lowest = HOME / "lowest.txt"
    run(interpreter, "-m", "venv", str(HOME))
    lowest.write_text("\n".join(sorted(map(pinned, required))) + "\n", encoding="utf-8")
    run(PYTHON, "-m", "pip", "install", "--requirement", str(lowest))
    run(
        PYTHON, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)
    )
    log = HOME / "tests.log"
    tests = [PYTHON, "-m", "pytest", "-q", "-m", "not notebooks", "tests"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    environment.pop("PYTHONPATH", None)  # it could lead to other versions
    with log.open("w", encoding="utf-8") as out:
        done = subprocess.run(tests, cwd=ROOT, env=environment, stdout=out, stderr=out)
    printed = log.read_text(encoding="utf-8").strip().splitlines()
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True).stdout.strip()
    lines = [
        f"{date.today()}, {version}, with the lowest versions that pyproject.toml allows:",
        printed[-1],
        *(line for line in printed if line.startswith(("FAILED", "ERROR", "SKIPPED"))),
        "",
        *lowest.read_text(encoding="utf-8").splitlines(),
    ]
    (ROOT / "tools" / "lowest.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(*lines, sep="\n")
    return done.returncode


def pinned(line: str) -> str:
    """Return a requirement at its lower bound."""
    requirement = Requirement(line)
    (bound,) = (part.version for part in requirement.specifier if part.operator == ">=")
    return f"{requirement.name}=={bound}"


def run(*command: str | Path) -> None:
    """Run a command and stop if it fails."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
