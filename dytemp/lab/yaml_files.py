"""YAML files with settings, read as YAML 1.2 has it, which is what everybody writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_DIGITS = "-+.0123456789"
_INTEGER = re.compile(r"[-+]?[0-9]+$")
_NUMBER = re.compile(
    r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)


class _Loader(yaml.SafeLoader):
    """Decimal numbers only (1e-3 is one, 010 is ten, 1:30 is none), and no name twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as PyYAML declares it
        first: [(tag, form) for tag, form in resolvers if tag not in (_INT, _FLOAT)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a name that is given twice: the first value would be lost without a word."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, (key, _) in enumerate(node.value):
            if key.value in names[:place]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_INT, _INTEGER, list(_DIGITS))
_Loader.add_implicit_resolver(_FLOAT, _NUMBER, list(_DIGITS))
_Loader.add_constructor(_INT, lambda loader, node: int(node.value))


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds ``name: value`` pairs.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not valid YAML or holds something else than pairs.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # not UTF-8, endless digits, ...
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold 'name: value' pairs; got {type(content).__name__}")
    return content
