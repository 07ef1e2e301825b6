"""The guard of a notebook: refuse parameters that papermill injected by mistake.

papermill lets an unknown name pass with a line in its log, and YAML turns ``1e-3`` into a string.
Both would run a whole chapter with the wrong setting, so each chapter calls `check` in the cell
right after its parameters. Imports come before the parameters: an import in between could hide a
wrong name behind a module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_LITERALS = (str, int, float, bool, type(None), list, dict, tuple)
_IPYTHON = ("In", "Out")


def check(namespace: Mapping[str, Any], /, **types: type | tuple[str, ...]) -> None:
    """Refuse parameters that are unknown, missing, or of the wrong kind.

    Parameters
    ----------
    namespace : mapping
        ``globals()`` of the notebook, in which only imports and parameters have run so far.
    **types : type or tuple of str
        What is expected, for example ``scale=scales.NAMES, seeds=int``. A tuple is a closed
        choice. An integer may stand for a float, a boolean never for a number, and numbers must
        be finite.

    Raises
    ------
    ValueError
        If a name is unknown or missing, a choice is not on the list, or a number is not finite.
    TypeError
        If a value has another type than expected.
    """
    known = ", ".join(types)
    for name in () if _ran_before(namespace) else _literal_names(namespace):
        if name not in types:
            raise ValueError(
                f"unknown parameter {name} = {namespace[name]!r}; this notebook knows: {known}"
            )
    for name, expected in types.items():
        if name not in namespace:
            raise ValueError(f"parameter {name} is missing; this notebook needs: {known}")
        _check_value(name, namespace[name], expected)


def _literal_names(namespace: Mapping[str, Any]) -> list[str]:
    """Public names bound to plain values: modules and IPython's own names are none."""
    return [
        name
        for name, value in namespace.items()
        if not name.startswith("_") and name not in _IPYTHON and type(value) in _LITERALS
    ]


def _ran_before(namespace: Mapping[str, Any]) -> bool:
    """Whether the reader runs the guard again, when the chapter's own variables exist already."""
    *earlier, current = namespace.get("In") or [""]
    return bool(current) and current in earlier


def _check_value(name: str, value: Any, expected: type | tuple[str, ...]) -> None:
    if isinstance(expected, tuple):
        if value not in expected:
            raise ValueError(
                f"parameter {name} must be one of {', '.join(expected)}; got {value!r}"
            )
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
