"""The registry of classes: each target's classes in the order of the logits; it only grows."""

import json
from pathlib import Path
from typing import Any

from flows.in_use.verdict import read_object
from flows.workspace import paths

FROM_GIT = "restore it with git"


def classes_of(bundle: Path) -> dict[str, list[str]]:
    known: dict[str, list[str]] = json.loads((bundle / "model.json").read_text("utf-8"))["classes"]
    return known


def read_registry() -> dict[str, Any]:
    """The registry of classes. Raises ValueError where it is damaged."""
    found = read_object(paths.class_registry(), advice=FROM_GIT)
    if not isinstance(found.get("version"), int) or not isinstance(found.get("classes"), dict):
        raise ValueError(f"{paths.class_registry()} is damaged, expected `version` and `classes`: {FROM_GIT}")
    return found


def extended_registry(classes: dict[str, list[str]]) -> dict[str, Any]:
    """The registry with the classes of a model: what stands in it keeps its place, what is new is appended.

    Raises:
        ValueError: the model has the registered classes in another order, or lacks some.
    """
    registry = read_registry()
    for target, names in classes.items():
        registered = registry["classes"].get(target, [])
        if names[: len(registered)] != registered:
            raise ValueError(
                f"the candidate's classes of {target} do not begin as {paths.class_registry()} has them: run `dvc repro` again"
            )
    grown = registry["classes"] | classes
    return {"version": registry["version"] + (grown != registry["classes"]), "classes": grown}


def registry_that_has(classes: dict[str, list[str]]) -> dict[str, Any]:
    """The registry as it is: it only grows, so that an earlier model's classes are where it begins. Raises ValueError where
    they are not."""
    registry = read_registry()
    for target, names in classes.items():
        if registry["classes"].get(target, [])[: len(names)] != names:
            raise ValueError(
                f"{paths.class_registry()} does not begin with the classes of {target} of that model: restore it from git"
            )
    return registry
