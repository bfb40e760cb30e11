"""Read the registry of classes: the facts of each target in use, in the order of the logits. It only grows.

The facts of a target are a list of its classes, or for another kind an object that names the kind. Flows read the
registry, too, so that nothing here imports the kinds themselves.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Facts = list[str] | dict[str, Any]

NAMES = {"several": "labels", "ordinal": "steps"}  # the key of the names, by kind; a number has none
# facts that training sets; they change with each model, and are no part of the registry
OF_TRAINING = ("slopes", "shifts", "thresholds", "centre", "scale", "interval")


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The targets of the model in use, by name. The version counts how often they were extended."""

    version: int = 0
    classes: Mapping[str, Facts] = field(default_factory=dict)  # the facts, by target

    @property
    def names(self) -> dict[str, list[str]]:
        """Return the classes, labels or steps, by target."""
        return {target: names_in(facts) for target, facts in self.classes.items()}


def read_registry(path: Path) -> Registry:
    """Read the registry.

    Raises:
        ValueError: the file is missing, or is not a registry.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: restore it with git") from None
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or a thousand brackets
        content = None
    if not _is_registry(content):
        raise ValueError(f'{path} is damaged, expected {{"version": 0, "classes": {{}}}}: restore it with git')
    return Registry(version=content["version"], classes=content["classes"])


def kind_in(facts: Facts) -> str:
    return "classes" if isinstance(facts, list) else str(facts["kind"])


def names_in(facts: Facts) -> list[str]:
    """Return the classes, labels or steps of a target."""
    return facts if isinstance(facts, list) else list(facts.get(NAMES.get(kind_in(facts), ""), []))


def declared(facts: Facts) -> Facts:
    """Return the facts without what training sets."""
    return facts if isinstance(facts, list) else {key: value for key, value in facts.items() if key not in OF_TRAINING}


def continues(facts: Facts, *, registered: Facts) -> bool:
    """Return whether a target has the registered kind, and its names in the same places; a scale has no others."""
    names, known = names_in(facts), names_in(registered)
    kind = kind_in(facts)
    return kind == kind_in(registered) and names[: len(known)] == known and (kind != "ordinal" or names == known)


def _is_registry(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        return False
    classes = content.get("classes")
    return isinstance(classes, dict) and all(map(_are_facts, classes.values()))


def _are_facts(facts: Any) -> bool:
    if isinstance(facts, dict):
        kind = facts.get("kind")
        is_named = isinstance(kind, str) and kind in NAMES and _is_list_of_names(facts.get(NAMES[kind]))
        return kind == "number" or (is_named and _is_list_of_names(facts.get("columns", [])))
    return _is_list_of_names(facts)


def _is_list_of_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
