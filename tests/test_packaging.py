"""The package installs and imports alone, and its descriptions agree."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from packaging.requirements import Requirement

import dytemp

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA_NAMES = {"torch": "pytorch", "build": "python-build"}  # where conda-forge says otherwise

HEAVY = ("numpy.testing", "pandas", "matplotlib", "seaborn", "sklearn", "scipy", "papermill")
HEAVY += ("torchvision", "nbconvert", "nbformat", "yaml", "mlxtend", "IPython", "dytemp.lab")

USE_THE_CORE = """
import sys

MISSING = {"pandas", "matplotlib", "seaborn", "sklearn", "scipy", "papermill"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())

import torch
from dytemp import losses, metrics, schedules

torch.manual_seed(0)
z1, z2 = torch.randn(2, 8, 4, requires_grad=True)
temperature = schedules.Cosine(0.1, 1.0, period=10)
loss = losses.NTXent(temperature)
loss.set_epoch(3)
loss(z1, z2).backward()
individual = losses.ISogCLR(
    8, rho=0.3, tau_init=0.1, tau_min=0.05, tau_max=1.0, eta=0.01, beta=0.9, gamma=0.9, clip=5.0
)
individual(z1, z2, torch.arange(8))
with torch.no_grad():
    labels = torch.arange(8) % 2
    print(metrics.alignment(z1, z2), metrics.uniformity(z1), metrics.tolerance(z1, labels))
    print(metrics.knn_accuracy(z1, labels, z2, labels, k=3))
try:
    metrics.linear_probe(z1, labels, z2, labels)
except ImportError as error:
    assert "scikit-learn" in str(error), error
else:
    raise AssertionError("a probe worked without scikit-learn")
"""


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PATH": "", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the unpacked wheel, built from a copy so that no stale build slips in."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "dytemp", source / "dytemp", ignore=shutil.ignore_patterns("__pycache__")
    )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    shutil.unpack_archive(wheel, target, format="zip")
    return target


def test_wheel_holds_the_whole_package_and_nothing_else(installed: Path) -> None:
    def files(root: Path) -> set[str]:
        return {
            path.relative_to(root).as_posix()
            for path in (root / "dytemp").rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }

    assert files(installed) == files(ROOT)
    folders = {path.name for path in installed.iterdir()}
    assert folders == {"dytemp", f"dytemp-{dytemp.__version__}.dist-info"}


def test_wheel_imports_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    code = "import dytemp; print(dytemp.__file__, dytemp.losses, dytemp.schedules, dytemp.metrics)"
    result = run(code, tmp_path, PYTHONPATH=str(installed))
    assert result.stdout.startswith(str(installed)), result.stderr


def test_command_line_of_the_wheel_asks_for_a_clone(installed: Path, tmp_path: Path) -> None:
    code = "from dytemp.lab.cli import main; raise SystemExit(main(['claims']))"
    result = run(code, tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 1
    assert "DYTEMP_HOME" in result.stderr
    assert "Traceback" not in result.stderr


def test_core_works_with_torch_alone(tmp_path: Path) -> None:
    result = run(USE_THE_CORE, tmp_path, PYTHONPATH=str(ROOT))
    assert result.returncode == 0, result.stderr


def test_importing_the_library_loads_nothing_heavy_but_torch(tmp_path: Path) -> None:
    code = f"""
import sys, torch
before = set(sys.modules)
import dytemp
print(sorted(name for name in set(sys.modules) - before if name.startswith({HEAVY!r})))
"""
    result = run(code, tmp_path, PYTHONPATH=str(ROOT))
    assert result.stdout == "[]\n", result.stdout + result.stderr


@pytest.mark.parametrize("missing", ["yaml", "papermill", "sphinx"])
def test_missing_laboratory_is_explained(
    missing: str, workspace: Path, write_notebook: Callable[..., Path]
) -> None:
    write_notebook(workspace / "notebooks" / "00_empty.ipynb", "# Empty")
    code = f"""
import sys
sys.modules[{missing!r}] = None
from dytemp.lab.cli import main
raise SystemExit(main(["reproduce"]))
"""
    result = run(code, workspace, PYTHONPATH=str(ROOT), DYTEMP_HOME=str(workspace))
    assert result.returncode == 1
    assert "pip install -e '.[lab]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_wheel_names_the_clone_before_an_extra_that_would_not_help(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; sys.modules['pandas'] = None; from dytemp.lab import cli; cli.main(['claims'])"
    )
    result = run(code, tmp_path, PYTHONPATH=str(installed))
    assert "clone" in result.stderr
    assert "[lab]" not in result.stderr


def test_source_distribution_is_the_package_without_half_of_the_tests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    for name in ("dytemp", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    build = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", "dist"]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (archive,) = (source / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as content:
        folders = {name.split("/")[1] for name in content.getnames() if name.count("/") > 1}
    assert folders == {"dytemp", "dytemp.egg-info"}


def test_everything_that_is_imported_is_declared() -> None:
    """Whatever a module of another project provides, some requirement names it."""
    declared = {name.lower().replace("_", "-") for name in pip_requirements()} | {"torch"}
    providers = packages_distributions()
    files = [*(ROOT / "dytemp").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    own = {path.stem for path in files} | {"dytemp", "benchmarks"}
    rivals = {Requirement(line).name for line in PROJECT["optional-dependencies"]["bench"]}
    undeclared = set()
    for file in files:
        for name in imported(file) - own - sys.stdlib_module_names:
            found = {each.lower().replace("_", "-") for each in providers.get(name, [name])}
            if not found & (declared | rivals):
                undeclared.add((file.name, name))
    assert not undeclared


def imported(file: Path) -> set[str]:
    """Return the packages that a module imports."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_make_knows_that_a_clone_was_moved(place: str, tmp_path: Path) -> None:
    """The environment of another folder would run that folder's code, or none."""
    folder = tmp_path / "a clone"
    (folder / ".venv").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder)
    stamp = folder / ".venv" / ".installed"
    stamp.write_text(f"{folder if place == 'here' else tmp_path / 'another'}\n")
    said = subprocess.run(
        ["make", "--dry-run", "reproduce", "ONLY=00"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert ("pip install" in said) == (place == "elsewhere")
    assert "dytemp reproduce --scale quick" in said
    assert "--only 00" in said


def pip_requirements() -> dict[str, Requirement]:
    extras = PROJECT["optional-dependencies"]  # but for the rivals of the benchmarks
    groups = [PROJECT["dependencies"], extras["lab"], extras["dev"]]
    requirements = [Requirement(line) for group in groups for line in group]
    return {
        CONDA_NAMES.get(requirement.name, requirement.name).lower(): requirement
        for requirement in requirements
    }


def conda_requirements() -> dict[str, Requirement]:
    lines = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    requirements = [Requirement(line) for line in lines]
    return {requirement.name: requirement for requirement in requirements}


def bounds(requirement: Requirement) -> dict[str, str]:
    return {part.operator: part.version for part in requirement.specifier}


def test_environment_has_the_same_dependencies_as_the_package() -> None:
    assert set(conda_requirements()) - {"python", "pip"} == set(pip_requirements())
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    assert bounds(conda_requirements()["python"])[">="] == "3.11"
    assert PROJECT["requires-python"] == ">=3.11"


@pytest.mark.parametrize("name", sorted(pip_requirements()))
def test_environment_has_the_same_lower_bound_and_an_upper_one(name: str) -> None:
    pip, conda = pip_requirements()[name], conda_requirements()[name]
    assert bounds(pip)[">="] == bounds(conda)[">="]
    assert bounds(conda).keys() == {">=", "<"}
    assert version(pip.name) in conda.specifier


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {PROJECT["version"], citation["version"]} == {dytemp.__version__}
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert len(citation["references"]) == 3


def test_readme_opens_with_the_two_commands() -> None:
    top = (ROOT / "README.md").read_text().split("\n## ")[0]
    assert re.findall(r"^make \w+$", top, re.MULTILINE) == ["make reproduce", "make test"]


def test_integration_runs_the_test_command_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "make test"


def test_example_of_the_readme_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 3)
    before = model.weight.clone()
    names = {
        "epochs": 2,
        "loader": [torch.randn(2, 8, 6) for _ in range(2)],
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(example, names)
    assert not torch.equal(before, model.weight)


def test_every_fault_that_the_book_lists_is_injected() -> None:
    page = (ROOT / "book" / "faults.md").read_text(encoding="utf-8")
    tests = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py"))
    named = re.findall(r"`(test_\w+)`", page)
    assert len(named) > 20
    assert [name for name in named if f"def {name}(" not in tests] == []
    files = re.findall(r"`(tests/[\w/]+\.py)`", page)
    assert files
    assert all((ROOT / file).is_file() for file in files)
