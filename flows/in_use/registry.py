"""The registry of classes after a promotion or a rollback."""

import json
from collections.abc import Mapping
from pathlib import Path

from flows.workspace import paths
from tasks.data.admission.registry import Facts, Registry, continues, declared, read_registry


def classes_of(bundle: Path) -> dict[str, Facts]:
    """Return the facts of the targets of a bundle's model, without what training sets."""
    known: dict[str, Facts] = json.loads((bundle / "model.json").read_text("utf-8"))["classes"]
    return {target: declared(facts) for target, facts in known.items()}


def extended_registry(classes: Mapping[str, Facts]) -> Registry:
    """Return the registry with the targets of a model: registered classes keep their place, new ones are appended.

    Raises:
        ValueError: the model lacks registered classes, has them in another order, or a target of another kind.
    """
    file = paths.class_registry()
    registry = read_registry(file)
    for target, facts in classes.items():
        if target in registry.classes and not continues(facts, registered=registry.classes[target]):
            raise ValueError(
                f"the candidate's classes of {target} do not begin with those of {file}: run `dvc repro` again"
            )
    grown = {**registry.classes, **classes}
    return Registry(version=registry.version + (grown != registry.classes), classes=grown)


def registry_that_has(classes: Mapping[str, Facts]) -> Registry:
    """Return the registry as it is. It only grows, so that it begins with the classes of any earlier model.

    Raises:
        ValueError: it does not begin with these classes.
    """
    file = paths.class_registry()
    registry = read_registry(file)
    for target, facts in classes.items():
        if target not in registry.classes or not continues(registry.classes[target], registered=facts):
            raise ValueError(f"{file} does not begin with the classes of {target} of that model: restore it with git")
    return registry
