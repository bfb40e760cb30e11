"""The registry of classes after a promotion or a rollback."""

import json
from pathlib import Path

from flows.workspace import paths
from tasks.data.admission.registry import Registry, read_registry


def classes_of(bundle: Path) -> dict[str, list[str]]:
    """Return the classes of a bundle's model, by target."""
    classes: dict[str, list[str]] = json.loads((bundle / "model.json").read_text("utf-8"))["classes"]
    return classes


def extended_registry(classes: dict[str, list[str]]) -> Registry:
    """Return the registry with the classes of a model: registered classes keep their place, new ones are appended.

    Raises:
        ValueError: the model lacks registered classes, or has them in another order.
    """
    file = paths.class_registry()
    registry = read_registry(file)
    for target, names in classes.items():
        registered = registry.classes.get(target, [])
        if names[: len(registered)] != registered:
            raise ValueError(
                f"the candidate's classes of {target} do not begin with those of {file}: run `dvc repro` again"
            )
    grown = {**registry.classes, **classes}
    return Registry(version=registry.version + (grown != registry.classes), classes=grown)


def registry_that_has(classes: dict[str, list[str]]) -> Registry:
    """Return the registry as it is. It only grows, so that it begins with the classes of any earlier model.

    Raises:
        ValueError: it does not begin with these classes.
    """
    file = paths.class_registry()
    registry = read_registry(file)
    for target, names in classes.items():
        if registry.classes.get(target, [])[: len(names)] != names:
            raise ValueError(f"{file} does not begin with the classes of {target} of that model: restore it with git")
    return registry
