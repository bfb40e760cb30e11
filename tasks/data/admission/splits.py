"""Which side a sample is on: from its content alone, so that it never changes when others come or go, unless the data names it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.manifest.manifest import SPLITS

_PREFERENCE = {"heldout": 0, "val": 1, "train": 2}


@dataclass(frozen=True, kw_only=True)
class Split:
    """The rule by which samples are parted, where the data name no side; a model's lineage has the one that it was trained by."""

    salt: str
    val_fraction: float
    heldout_fraction: float

    @classmethod
    def read(cls, found: Any) -> Self | None:
        """From what a lineage says; None where that is no split."""
        try:
            return cls(
                salt=str(found["salt"]),
                val_fraction=float(found["val_fraction"]),
                heldout_fraction=float(found["heldout_fraction"]),
            )
        except (TypeError, KeyError, ValueError):
            return None

    def side(self, key: str) -> str:
        """`train`, `val` or `heldout`, from a salted SHA-256 of `key` (a group, or a sample_id)."""
        digest = hashlib.sha256(f"{self.salt}:{key}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in 0..1
        if position < self.heldout_fraction:
            return "heldout"
        return "val" if position < self.heldout_fraction + self.val_fraction else "train"


def held_out_before(rows: pd.DataFrame, *, now: Split, before: Split | None) -> NDArray[np.bool_]:
    """Of held-out rows, (n,): which were held out by the split of before, too, or are by the data's own word. A model that was
    trained by that one has learned from the others. None is no other split."""
    if before is None or before == now:
        return np.ones(len(rows), dtype=bool)
    keys = rows["group"].fillna(rows["sample_id"])
    return np.array([now.side(key) != "heldout" or before.side(key) == "heldout" for key in keys], dtype=bool)


def split_of_any_copy(samples: pd.DataFrame) -> "pd.Series[str]":
    """The split that the data names for a sample or for a copy of it: held-out before val before train."""
    named = samples.dropna(subset=["split"])
    first = named.sort_values("split", key=lambda split: split.map(_PREFERENCE), kind="stable").drop_duplicates(
        "sample_id"
    )
    return samples["sample_id"].map(first.set_index("sample_id")["split"]).astype("str")


def small_classes(manifest: pd.DataFrame, classes: Mapping[str, Sequence[str]]) -> list[str]:
    """What is wrong with each class that has samples, but not in every split: it could not be learned, chosen by, or
    judged. A class without any samples keeps its place, and says nothing."""
    problems = []
    for target, names in classes.items():
        counts = pd.crosstab(manifest[target], manifest["split"]).reindex(columns=list(SPLITS), fill_value=0)
        small = counts[(counts == 0).any(axis=1) & counts.index.isin(names)]
        problems += [
            f"class {name!r} of {target} has {train} train, {val} val, {heldout} heldout samples, expected one of each"
            for name, (train, val, heldout) in zip(small.index, small.to_numpy().tolist(), strict=True)
        ]
    return problems


def groups_across_splits(manifest: pd.DataFrame) -> list[str]:
    """The groups that an explicit split tears apart."""
    sides = manifest.groupby("group")["split"].nunique()
    return sorted(sides[sides > 1].index)
