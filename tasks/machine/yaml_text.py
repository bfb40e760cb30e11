"""Read YAML strictly: a key that is given twice is refused, where PyYAML would silently take the last one."""

from pathlib import Path
from typing import Any

import yaml

NESTS = "[{-?"  # the beginnings of values that may be nested in one line
MOST_NESTS = 5_000  # libyaml nests on the stack of C, which has no limit that it knows of


def read_yaml(path: Path) -> Any:
    """Return the content of the file. Raises ValueError as `parse_yaml` does, and where it is not UTF-8."""
    try:
        return parse_yaml(path.read_text("utf-8"), path=path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}") from error


def parse_yaml(text: str, *, path: Path) -> Any:
    """Return the content of the text of the file at `path`.

    Raises:
        ValueError: the text is not YAML, or gives a key twice.
    """
    try:
        is_flat = sum(map(text.count, NESTS)) <= MOST_NESTS
        return yaml.load(text, Loader=_Loader if is_flat else _SlowLoader)  # noqa: S506  both are safe
    except _TwiceError as error:
        raise ValueError(f"{path} gives {error}, expected each key once: remove one of the two") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # too deep, or a number or day that cannot be
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


class _TwiceError(Exception):
    """The error of a key that is given twice; the message names it and its lines."""


class _KeysOnce(yaml.constructor.SafeConstructor):
    """PyYAML's safe constructor, which refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in first:
                raise _TwiceError(f"the key {key.value!r} twice, in lines {first[key.tag, key.value]} and {line}")
            if isinstance(key, yaml.ScalarNode):
                first[key.tag, key.value] = line
        return super().construct_mapping(node, deep)


class _Loader(_KeysOnce, yaml.CSafeLoader):
    """PyYAML's safe loader in C."""


class _SlowLoader(_KeysOnce, yaml.SafeLoader):
    """PyYAML's safe loader in Python, which takes ten times as long."""
