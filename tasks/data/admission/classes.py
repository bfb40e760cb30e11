"""The classes of each target, in an order that only ever grows: what is registered stays where it is, the rest is appended."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any

import pandas as pd

MOST_COMPARED = 10_000  # pairs of names; above, only those that differ in case or in spaces are told
ALIKE = 0.8  # difflib's ratio from which a name that came may be a name that went


def classes_in_order(
    samples: pd.DataFrame, *, target: str, registered: Sequence[str], min_samples: int
) -> tuple[list[str], dict[str, int]]:
    """The classes in use, and how many samples those have that wait in probation for `min_samples`.

    First the registered ones, whatever the samples say; then each other in the batch by which it had `min_samples`,
    sorted within the batch. `samples` has the columns batch and target, in the order of the batches.
    """
    place = pd.Series(pd.factorize(samples["batch"])[0], index=samples.index)  # the number of each sample's batch
    labels = samples[target][~samples[target].isin(registered)].dropna()
    nth = labels.groupby(labels).cumcount() + 1  # of its class, in the order of the batches
    since = place[labels.index[nth == min_samples]]
    landed = sorted(zip(since, (str(name) for name in labels[since.index]), strict=True))
    in_use = [*registered, *(name for _, name in landed)]
    waiting = labels[~labels.isin(in_use)].value_counts()
    return in_use, {str(name): int(count) for name, count in sorted(waiting.items())}


def class_changes(
    samples: pd.DataFrame, *, target: str, registered: Sequence[str] = ()
) -> dict[str, dict[str, list[Any]]]:
    """By batch that says anything of the target: the classes that are `new` in it, those registered or of batches before
    it that are `missing` from it, and pairs [missing, new] that look like one renamed. Batches without a change, and
    the first where nothing is registered, are left out."""
    known = set(registered)
    changes: dict[str, dict[str, list[Any]]] = {}
    for batch, names in samples.groupby("batch", sort=False)[target].unique().items():
        here = {str(name) for name in names if isinstance(name, str)}
        if known and here:
            new, missing = sorted(here - known), sorted(known - here)
            found: dict[str, list[Any]] = {
                "new": new,
                "missing": missing,
                "perhaps_renamed": _renamed(missing, new),
            }
            changes |= {str(batch): {what: which for what, which in found.items() if which}} if new or missing else {}
        known |= here
    return changes


def _renamed(missing: Sequence[str], new: Sequence[str]) -> list[list[str]]:
    by_plain_name = {_plain(name): name for name in missing}
    cutoff = ALIKE if len(missing) * len(new) <= MOST_COMPARED else 1.0
    pairs = ((_nearest(_plain(name), by_plain_name, cutoff), name) for name in new)
    return [[by_plain_name[plain], name] for plain, name in pairs if plain is not None]


def _nearest(plain: str, names: Collection[str], cutoff: float) -> str | None:
    if plain in names or cutoff == 1.0:
        return plain if plain in names else None
    return next(iter(get_close_matches(plain, names, n=1, cutoff=cutoff)), None)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
