"""The rooms of the house: arrows run one way, from the chapters down to the library."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

# From the bottom up; a module may import from floors below and from its own room.
FLOORS = (
    ["dytemp.checks", "dytemp.schedules", "dytemp.losses", "dytemp.metrics", "dytemp"],
    [
        "dytemp.lab.files",
        "dytemp.lab.paths",
        "dytemp.lab.scales",
        "dytemp.lab.yaml_files",
        "dytemp.lab",
    ],
    ["dytemp.lab.datasets"],
    ["dytemp.lab.training"],
    ["dytemp.lab.studies"],
    ["dytemp.lab.book"],
    ["dytemp.lab.cli", "dytemp.__main__"],
)
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted((ROOT / "dytemp").rglob("*.py"))
}


def floor(module: str) -> int:
    """Return the floor of a module: that of the longest name which it begins with."""
    rooms = {room: number for number, names in enumerate(FLOORS) for room in names}
    mine = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    return rooms[max(mine, key=len)]


def imported(module: str, path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the modules of this package that a module imports, and whether at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in inner]
        for name in dict.fromkeys(names):
            if name in MODULES and name != module:
                yield name, node in tree.body


@pytest.mark.parametrize("module", MODULES)
def test_no_import_runs_back_up(module: str) -> None:
    upward = [name for name, _ in imported(module, MODULES[module]) if floor(name) > floor(module)]
    assert not upward, f"{module} imports {upward}, which stand above it"


def test_no_circle_of_imports() -> None:
    # A package hands on the names of its modules, so its __init__ stands above them.
    graph = {
        module: {name for name, at_top in imported(module, file) if at_top}
        for module, file in MODULES.items()
    }
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


def test_the_library_needs_no_laboratory() -> None:
    library = [module for module in MODULES if floor(module) == 0]
    assert len(library) > 5
    for module in library:
        names = [name for name, _ in imported(module, MODULES[module])]
        assert not any(name.startswith("dytemp.lab") for name in names), module
