"""The side of a sample: train, val or held-out.

It follows from the sample alone, so that it never changes when others come or go, unless the data names a side.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.admission.labels import names_of
from tasks.data.admission.options import Split
from tasks.data.manifest.manifest import SPLITS, used_of
from tasks.targets.target import Target

KEYS_AT_ONCE = 100_000
_PREFERENCE = {"heldout": 0, "val": 1, "train": 2}


def side_of(key: str, split: Split) -> str:
    """Return `train`, `val` or `heldout`, from a salted SHA-256 of `key` (a group, or a sample_id)."""
    digest = hashlib.sha256(f"{split.salt}:{key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in 0..1
    if position < split.heldout_fraction:
        return "heldout"
    return "val" if position < split.heldout_fraction + split.val_fraction else "train"


def facts_of(split: Split) -> dict[str, Any]:
    """Return the facts of a split for split.json and the lineage of a model."""
    return {field.name: getattr(split, field.name) for field in fields(Split)}


def read_split(facts: Any) -> Split | None:
    """Return the split whose facts a lineage holds; None where it holds none."""
    try:
        return Split(
            salt=str(facts["salt"]),
            val_fraction=float(facts["val_fraction"]),
            heldout_fraction=float(facts["heldout_fraction"]),
        )
    except (TypeError, KeyError, ValueError):
        return None


def held_out_before(rows: pd.DataFrame, *, now: Split, before: Split | None) -> NDArray[np.bool_]:
    """Return (n,) of held-out rows: whether the split before held them out too, or the data names them held-out.

    A model that was trained by that split has learned from the others. None means that there was no other split.
    """
    if before is None or before == now:
        return np.ones(len(rows), dtype=bool)
    keys = rows["group"].fillna(rows["sample_id"])
    return np.array([side_of(key, now) != "heldout" or side_of(key, before) == "heldout" for key in keys], dtype=bool)


def batches_without_val(samples: pd.DataFrame, *, targets: Sequence[str]) -> list[str]:
    """Return the batches whose labelled samples are named train and held-out, but never val."""
    return _batches_that_name({"train", "heldout"}, samples, targets=targets)


def batches_without_heldout(samples: pd.DataFrame, *, targets: Sequence[str]) -> list[str]:
    """Return the batches whose labelled samples are named train and val, but never held-out."""
    return _batches_that_name({"train", "val"}, samples, targets=targets)


def _batches_that_name(splits: set[str], samples: pd.DataFrame, *, targets: Sequence[str]) -> list[str]:
    named = samples[samples["split"].notna() & samples[list(targets)].notna().any(axis=1)]
    by_batch = {str(batch): set(rows.unique()) for batch, rows in named.groupby("batch", sort=False)["split"]}
    return [batch for batch, names in by_batch.items() if names == splits]


def with_val(samples: pd.DataFrame, batches: Sequence[str], *, split: Callable[[str], str]) -> "pd.Series[str]":
    """Return the named splits, with val in place of train where `split` puts a sample of these batches into val.

    Otherwise there would be no samples to choose settings by. Samples that are named held-out stay held-out.
    """
    train = samples[samples["batch"].isin(batches) & (samples["split"] == "train")]
    keys = train["group"].fillna(train["sample_id"])
    return samples["split"].where(~samples.index.isin(keys.index[keys.map(split) == "val"]), "val")


def split_of_any_copy(samples: pd.DataFrame) -> "pd.Series[str]":
    """Return the split that the data names for a sample or a copy of it: held-out before val before train."""
    named = samples.dropna(subset=["split"])
    if named.empty:
        return samples["split"].astype("str")
    first = named.sort_values("split", key=lambda split: split.map(_PREFERENCE), kind="stable").drop_duplicates(
        "sample_id"
    )
    return samples["sample_id"].map(first.set_index("sample_id")["split"]).astype("str")


def sides_of(keys: "pd.Series[str]", split: Callable[[str], str]) -> "pd.Series[str]":
    """Return the split of each key (n,), a part of them at a time."""
    parts = (keys.iloc[start : start + KEYS_AT_ONCE].tolist() for start in range(0, len(keys), KEYS_AT_ONCE))
    return pd.Series([split(key) for part in parts for key in part], index=keys.index, dtype="str")


def small_classes(manifest: pd.DataFrame, targets: Mapping[str, Target]) -> list[str]:
    """Return a message for each class, label, step or number that could not be learned or judged.

    A class or a label that has samples needs one in each split; without any samples it keeps its place and gets no
    message. Some sample of train must also lack the label. A step needs a sample in train, a number two different
    ones; for both, val and held-out need a label.
    """
    problems = []
    for name, target in targets.items():
        labels, splits = manifest[name].dropna(), manifest["split"]
        if target.kind == "classes":
            problems += list(_not_everywhere(labels, splits, f"class {{!r}} of {name}", target.names))
        elif target.kind == "several":
            problems += list(_not_everywhere(names_of(labels, target), splits, f"label {{!r}} of {name}", target.names))
            of_train = labels[splits == "train"]
            counts = names_of(of_train, target).value_counts()
            problems += [
                f"label {label!r} of {name} is constant: all {len(of_train):,} samples of train have it"
                for label in target.names
                if counts.get(label, 0) == len(of_train) > 0
            ]
        else:
            problems += list(_lacking(labels, splits, name, target))
    return problems


def _not_everywhere(
    labels: "pd.Series[str]", splits: "pd.Series[str]", what: str, names: Sequence[str]
) -> Iterator[str]:
    counts = pd.crosstab(labels.array, splits[labels.index].array).reindex(columns=list(SPLITS), fill_value=0)
    small = counts[(counts == 0).any(axis=1) & counts.index.isin(names)]
    for name, (train, val, heldout) in zip(small.index, small.to_numpy().tolist(), strict=True):
        yield (f"{what.format(name)} has {train} train, {val} val, {heldout} heldout samples, expected one of each")


def _lacking(labels: "pd.Series[str]", splits: "pd.Series[str]", name: str, target: Target) -> Iterator[str]:
    missing = [split for split in SPLITS if not (splits[labels.index] == split).any()]
    if missing:
        yield f"target {name!r} has no label in {' and '.join(missing)}, expected some in each split"
        return
    of_train = labels[splits == "train"].unique()
    if target.kind == "number" and len(of_train) == 1:
        yield f"target {name!r} is constant: every label of train is {of_train[0]}, expected different numbers"
    if target.kind == "ordinal":
        lacking = [step for step in target.names if step not in of_train]
        if len(of_train) == 1:
            yield f"target {name!r} is constant: every label of train is {of_train[0]!r}, expected each of its steps"
        elif lacking:
            yield f"step {lacking[0]!r} of {name} has no train sample, expected at least one"


def groups_across_splits(manifest: pd.DataFrame) -> list[str]:
    """Return the groups whose samples the data put on several sides."""
    sides = used_of(manifest).groupby("group")["split"].nunique()
    return sorted(sides[sides > 1].index)
