"""Draw the samples on which backbones are ranked: labelled ones of train and val, in the shares of their classes."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.manifest.manifest import TRAINING
from tasks.targets.target import Target

NUM_PARTS = 10  # of a number's range, which are drawn from alike
LEAST_EACH = 2  # samples of a class, because one alone has no neighbour of its class


def draw(manifest: pd.DataFrame, targets: Mapping[str, Target], *, max_samples: int, seed: int) -> pd.DataFrame:
    """Return at most `max_samples` rows of the manifest; held-out samples are never among them.

    One sample is drawn from a group, such as the pictures of one patient, and from equal samples: the others would give
    its answer away.
    Where samples are added, most of those that were drawn before are drawn again, so that their vectors are kept.
    Several targets share the number. A class has LEAST_EACH samples where it has so many, even beyond its share.

    Raises:
        ValueError: no sample of train or val has a label.
    """
    rows = manifest[manifest["split"].isin(TRAINING)]
    rows = rows.drop_duplicates("sample_id")
    order = [hashlib.sha256(f"{seed}:{sample_id}".encode()).digest() for sample_id in rows["sample_id"]]
    rows = rows.iloc[sorted(range(len(rows)), key=order.__getitem__)]
    if "group" in rows and "group" not in targets:
        rows = rows[rows["group"].isna() | ~rows["group"].duplicated()]
    chosen = np.zeros(len(rows), bool)
    for name in targets:
        if name in rows:
            chosen |= first(strata(rows[name], targets[name]), max(max_samples // len(targets), 1))
    if not chosen.any():
        raise ValueError("no sample of train or val has a label, expected some: label samples before you choose")
    return rows[chosen].sort_values(["batch", "path"]).reset_index(drop=True)


def strata(labels: "pd.Series[str]", target: Target) -> NDArray[np.int64]:
    """Return the part (n,) that each sample is drawn from: its class, labels or step; -1 without a label."""
    if target.kind == "number":
        values = target.encode(labels)
        ranks = pd.Series(values).rank(pct=True).to_numpy()
        return np.where(np.isnan(values), -1, np.ceil(np.nan_to_num(ranks) * NUM_PARTS)).astype(np.int64)
    return np.asarray(pd.factorize(labels)[0], np.int64)


def first(parts: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Return (n,): the rows that are drawn, `count` of them, or more where LEAST_EACH asks for it."""
    rows = pd.Series(parts)
    place = rows.groupby(rows).cumcount().to_numpy()
    total = rows.map(rows.value_counts()).to_numpy()
    turn = np.where(place < LEAST_EACH, -1.0, (place + 0.5) / total)  # evenly over each part
    turn[parts < 0] = np.inf
    order = np.argsort(turn, kind="stable")
    drawn = np.zeros(len(parts), bool)
    drawn[order[: max(count, int((turn < 0).sum()))]] = True
    return drawn & (parts >= 0)
