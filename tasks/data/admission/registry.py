"""Read the registry of classes: the classes of each target in the order of the logits. It only grows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The classes of the model in use. The version counts how often they were extended."""

    version: int = 0
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by target


def read_registry(path: Path) -> Registry:
    """Read the registry.

    Raises:
        ValueError: the file is missing, or is not a registry.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: restore it with git") from None
    except ValueError:  # not JSON, or not UTF-8
        content = None
    if not _is_registry(content):
        raise ValueError(f'{path} is damaged, expected {{"version": 0, "classes": {{}}}}: restore it with git')
    return Registry(version=content["version"], classes=content["classes"])


def _is_registry(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        return False
    classes = content.get("classes")
    return isinstance(classes, dict) and all(map(_is_list_of_classes, classes.values()))


def _is_list_of_classes(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
