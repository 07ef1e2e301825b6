"""The guard of a notebook: refuse parameters that papermill injected by mistake.

papermill lets an unknown name pass with a line in its log, and YAML turns ``1e-3`` into a string.
Both would run a whole chapter with the wrong setting, so each chapter calls `check` in the cell
right after its parameters. What a chapter cannot do is refused here, before it trains.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import dytemp
from dytemp import checks
from dytemp.lab.studies import protocols
from dytemp.lab.training import Config

Expected = type | tuple[str, ...] | Callable[[str, Any], object]
_INJECTED = "# Parameters\n"  # papermill begins the cell that it injects like this


def check(namespace: Mapping[str, Any], /, **expected: Expected) -> None:
    """Refuse parameters that are unknown, missing, or of the wrong kind.

    It also refuses to run a chapter with the package of another clone, and lets torch use one
    thread: what a chapter computes itself is small, and trainings run side by side.

    Parameters
    ----------
    namespace : mapping
        ``globals()`` of the notebook.
    **expected : type, tuple of str or callable
        What is expected, for example ``scale=scales.NAMES, seeds=integer(at_least=2), tau=float``.
        A tuple is a closed choice. An integer may stand for a float, a boolean never for a number,
        and numbers must be finite. A callable gets name and value, and raises.

    Raises
    ------
    ValueError
        If papermill injected an unknown name, or a name is missing, a choice is not on the list,
        a number is not finite or out of range; or if the package is that of another clone.
    TypeError
        If a value has another type than expected.
    """
    _refuse_another_clone(Path.cwd())
    known = ", ".join(expected)
    for name in _injected(namespace):
        if name not in expected:
            raise ValueError(
                f"unknown parameter {name} = {namespace.get(name)!r}; this notebook knows: {known}"
            )
    for name, wanted in expected.items():
        if name not in namespace:
            raise ValueError(f"parameter {name} is missing; this notebook needs: {known}")
        _check_value(name, namespace[name], wanted)
    torch.set_num_threads(1)


def integer(at_least: int) -> Callable[[str, Any], object]:
    """Expect a whole number."""
    return lambda name, value: checks.integer(f"parameter {name}", value, at_least=at_least)


def number(**bounds: float) -> Callable[[str, Any], object]:
    """Expect a number; the bounds are those of `dytemp.checks.number`."""
    return lambda name, value: checks.number(f"parameter {name}", value, **bounds)


def draws(name: str, value: Any) -> None:
    """Expect a list of different draws, by their numbers; an empty one stands for a default."""
    if not isinstance(value, list):
        raise TypeError(f"parameter {name} must be a list of whole numbers, got {value!r}")
    numbers = [checks.integer(f"parameter {name}", draw, at_least=1) for draw in value]
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"parameter {name} must not name a draw twice, got {value!r}")


def changes(name: str, value: Any) -> None:
    """Expect settings that differ from those of the chapter, such as ``{"data": "birds"}``."""
    if not isinstance(value, dict):
        raise TypeError(f"parameter {name} must be a dictionary of settings, got {value!r}")
    try:
        Config.from_dict(protocols.QUICK | value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"parameter {name}: {error}") from error


def _injected(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names that papermill assigned; those that a person typed are nobody's business."""
    cells = [cell for cell in namespace.get("In", ()) if cell.startswith(_INJECTED)]
    return [
        target.id
        for cell in cells
        for line in ast.parse(cell).body
        if isinstance(line, ast.Assign)
        for target in line.targets
        if isinstance(target, ast.Name)
    ]


def _refuse_another_clone(folder: Path) -> None:
    """Refuse a chapter of one clone that is run by the package of another one."""
    package = Path(dytemp.__file__).resolve().parent
    for clone in (folder, *folder.parents):
        own = (clone / "dytemp").resolve()
        if (own / "__init__.py").is_file() and (clone / "notebooks").is_dir():
            if own != package:
                raise ValueError(
                    f"this chapter belongs to the clone {clone}, but the environment has dytemp "
                    f"from {package.parent}: pip install -e {clone}, or start with "
                    f"PYTHONPATH={clone}"
                )
            return


def _check_value(name: str, value: Any, expected: Expected) -> None:
    if isinstance(expected, tuple):
        if value not in expected:
            raise ValueError(
                f"parameter {name} must be one of {', '.join(expected)}; got {value!r}"
            )
        return
    if not isinstance(expected, type):
        expected(name, value)
        return
    accepted = (int, float) if expected is float else (expected,)
    if type(value) not in accepted:
        hint = _hint(name, expected) if isinstance(value, str) else ""
        raise TypeError(
            f"parameter {name} must be {expected.__name__}; "
            f"got {value!r} ({type(value).__name__}){hint}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"parameter {name} must be a finite number; got {value!r}")


def _hint(name: str, expected: type) -> str:
    """Say how papermill is given what it passed as text."""
    if expected is float:
        return "; YAML needs a dot: 1.0e-3"
    if expected in (list, dict, tuple):
        return f"; papermill takes it with -y: -y '{name}: [1]'"
    return ""
