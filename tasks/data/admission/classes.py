"""Order the classes of each target in a list that only grows: registered classes keep their places, new ones follow."""

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any

import pandas as pd

from tasks.data.admission.spellings import plain

MOST_COMPARED = 10_000  # pairs of names; beyond that, only names that differ in case or spaces are reported
ALIKE = 0.8  # difflib's ratio from which a new name may be a renamed missing one


def classes_in_order(
    samples: pd.DataFrame, *, target: str, registered: Sequence[str], min_samples: int
) -> tuple[list[str], dict[str, int]]:
    """Return the classes in use, and the number of samples of each class in probation.

    The registered classes come first, even without samples. The others follow in the order of the batches in which they
    reached `min_samples`, sorted within a batch. A class with fewer samples is in probation. `samples` has the columns
    batch and target, in the order of the batches.
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
    """Return the changes of the classes by batch, for batches with labels for the target.

    A batch's changes are the classes that are `new` in it, the classes (registered, or of earlier batches) that are
    `missing` from it, and `perhaps_renamed`: pairs [missing, new] of similar names. Batches without a change are left
    out, and so is the first batch if no class is registered.
    """
    known = set(registered)
    changes: dict[str, dict[str, list[Any]]] = {}
    for batch, names in samples.groupby("batch", sort=False)[target].unique().items():
        here = {str(name) for name in names if isinstance(name, str)}
        if known and here:
            new, missing = sorted(here - known), sorted(known - here)
            change: dict[str, list[Any]] = {
                "new": new,
                "missing": missing,
                "perhaps_renamed": _renamed(missing, new),
            }
            changes |= (
                {str(batch): {kind: entries for kind, entries in change.items() if entries}} if new or missing else {}
            )
        known |= here
    return changes


def _renamed(missing: Sequence[str], new: Sequence[str]) -> list[list[str]]:
    by_plain_name = {plain(name): name for name in missing}
    cutoff = ALIKE if len(missing) * len(new) <= MOST_COMPARED else 1.0
    pairs = ((_nearest(plain(name), by_plain_name, cutoff), name) for name in new)
    return [[by_plain_name[nearest], name] for nearest, name in pairs if nearest is not None]


def _nearest(name: str, names: Collection[str], cutoff: float) -> str | None:
    if name in names or cutoff == 1.0:
        return name if name in names else None
    return next(iter(get_close_matches(name, names, n=1, cutoff=cutoff)), None)
