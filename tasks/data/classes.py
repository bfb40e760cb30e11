"""The classes of each target, in an order that only ever grows: what is registered stays where it is, the rest is appended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from tasks.files import read_json

ALIKE = 0.8  # difflib's ratio from which a name that came may be a name that went


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The classes of the model in use, by target in the order of its logits; the version counts their extensions."""

    version: int = 0
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_registry(path: Path) -> Registry:
    """Raises ValueError where the file is missing, or is no registry."""
    content = read_json(path)
    try:
        registry = Registry(version=int(content["version"]), classes=dict(content["classes"]))
        lists = registry.classes.values()
        is_sound = all(
            isinstance(names, list) and all(isinstance(each, str) for each in names) and len(set(names)) == len(names)
            for names in lists
        )
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise ValueError(f'{path} is no registry, expected {{"version": 0, "classes": {{}}}}: restore it with git')
    return registry


def classes_in_order(
    samples: pd.DataFrame, *, target: str, registered: Sequence[str], min_samples: int
) -> tuple[list[str], dict[str, int]]:
    """The classes in use, and how many samples those have that wait in probation for `min_samples`.

    First the registered ones, whatever the samples say; then each other in the batch by which it had `min_samples`,
    sorted within the batch. `samples` has the columns batch and target, in the order of the batches.
    """
    batches = pd.Categorical(samples["batch"], categories=list(dict.fromkeys(samples["batch"])))
    counts = pd.crosstab(batches, samples[target]).reindex(batches.categories)  # (num_batches, num_classes)
    new = counts.drop(columns=[name for name in registered if name in counts.columns])
    has_enough = new.cumsum() >= min_samples
    ready = has_enough.any()
    since = has_enough.to_numpy().argmax(axis=0) if len(new.columns) else []
    landed = sorted((place, name) for place, name, is_ready in zip(since, new.columns, ready, strict=True) if is_ready)
    waiting = new.sum()[~ready]
    return [*registered, *(str(name) for _, name in landed)], {str(name): int(n) for name, n in waiting.items() if n}


def class_changes(samples: pd.DataFrame, *, target: str) -> dict[str, dict[str, list[object]]]:
    """By batch after the first that says anything of the target: the classes that are `new` in it, those before it that
    are `missing` from it, and pairs [missing, new] that look like one renamed. Batches without a change are left out."""
    known: set[str] = set()
    changes: dict[str, dict[str, list[object]]] = {}
    for batch, rows in samples.groupby("batch", sort=False)[target]:
        names = set(rows.dropna())
        if known and names:
            new, missing = sorted(names - known), sorted(known - names)
            found = {"new": new, "missing": missing, "perhaps_renamed": _renamed(missing, new)}
            changes |= (
                {str(batch): {what: list(which) for what, which in found.items() if which}} if new or missing else {}
            )
        known |= names
    return changes


def _renamed(missing: Sequence[str], new: Sequence[str]) -> list[list[str]]:
    by_plain_name = {_plain(name): name for name in missing}
    pairs = ((get_close_matches(_plain(name), list(by_plain_name), n=1, cutoff=ALIKE), name) for name in new)
    return [[by_plain_name[match[0]], name] for match, name in pairs if match]


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
