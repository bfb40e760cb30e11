"""What may not be used, and why: samples in; the same samples less those set aside, and a ledger row for each of these."""

from collections.abc import Sequence

import pandas as pd

from tasks.data.manifest import SPLITS

LEDGER_COLUMNS = ["batch", "path", "sample_id", "reason", "detail"]


def exact_duplicates(samples: pd.DataFrame, *, targets: Sequence[str]) -> pd.DataFrame:
    """Ledger rows for equal bytes: all copies where their labels conflict, otherwise every copy after the first.

    `samples` has the columns batch, path, sample_id and the targets, in the order in which the batches landed.
    """
    copies = samples[samples.duplicated("sample_id", keep=False)]
    num_labels = copies.groupby("sample_id")[list(targets)].nunique(dropna=False).max(axis=1)
    is_conflict = copies["sample_id"].map(num_labels) > 1
    later = copies.duplicated("sample_id", keep="first")
    firsts = copies[~later].set_index("sample_id")
    first_path = firsts["batch"] + "/" + firsts["path"]
    conflicts = _rows(copies[is_conflict], "conflicting_labels", "the same bytes have different labels")
    repeats = _rows(copies[~is_conflict & later], "exact_duplicate", "")
    repeats["detail"] = "the same bytes as " + repeats["sample_id"].map(first_path)
    return pd.concat([conflicts, repeats], ignore_index=True)


def small_classes(samples: pd.DataFrame, *, target: str) -> pd.DataFrame:
    """Ledger rows for all samples of each class that is missing from a split: it could not be learned, chosen by, or
    judged. `samples` has the columns batch, path, sample_id, split and the target."""
    counts = pd.crosstab(samples[target], samples["split"]).reindex(columns=list(SPLITS), fill_value=0)
    small = counts[(counts == 0).any(axis=1)]
    details = {
        name: "class {!r} has {} train, {} val, {} heldout samples, expected one of each: add samples of it".format(
            name, *row[list(SPLITS)]
        )
        for name, row in small.iterrows()
    }
    rows = samples[samples[target].isin(small.index)]
    ledger = _rows(rows, "class_too_small", "")
    ledger["detail"] = rows[target].map(details).to_numpy()
    return ledger


def without(samples: pd.DataFrame, ledger: pd.DataFrame) -> pd.DataFrame:
    """The samples that the ledger does not name."""
    named = pd.MultiIndex.from_frame(ledger[["batch", "path"]])
    return samples[~pd.MultiIndex.from_frame(samples[["batch", "path"]]).isin(named)].reset_index(drop=True)


def _rows(samples: pd.DataFrame, reason: str, detail: str) -> pd.DataFrame:
    return samples.assign(reason=reason, detail=detail)[LEDGER_COLUMNS]
