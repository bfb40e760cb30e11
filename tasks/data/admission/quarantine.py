"""What may not be used, and why. Each function takes samples and gives, for those it sets aside, `reason` and `detail`
under their index."""

from collections.abc import Mapping, Sequence

import pandas as pd

LEDGER_COLUMNS = ["batch", "path", "sample_id", "reason", "detail"]
WAITING = "class_in_probation"  # nothing is wrong with such a sample: it counts against no budget


def missing_labels(samples: pd.DataFrame, *, targets: Sequence[str]) -> pd.DataFrame:
    """Samples without a label of any target."""
    rows = samples[samples[list(targets)].isna().all(axis=1)]
    return _found(rows, "label_missing", f"no label of {', '.join(targets)}")


def duplicates(samples: pd.DataFrame, *, targets: Sequence[str]) -> pd.DataFrame:
    """Equal bytes: all copies where their labels of a target conflict, otherwise every copy after the first.

    `samples` has the columns batch, path, sample_id and the targets, in the order in which one is to be preferred.
    """
    copies = samples[samples.duplicated("sample_id", keep=False)]
    num_labels = copies.groupby("sample_id")[list(targets)].nunique(dropna=True).max(axis=1)
    is_conflict = copies["sample_id"].map(num_labels) > 1
    is_later = copies.duplicated("sample_id", keep="first")
    is_same_path = copies.duplicated(["batch", "path"], keep="first")
    firsts = copies[~is_later].set_index("sample_id")
    place = copies["sample_id"].map(firsts["batch"] + "/" + firsts["path"])
    conflicts = _found(copies[is_conflict], "conflicting_labels", "the same bytes have different labels")
    repeats = copies[~is_conflict & is_later]
    found = _found(repeats, "exact_duplicate", "").assign(detail="the same bytes as " + place[repeats.index])
    found.loc[is_same_path[repeats.index], ["reason", "detail"]] = ["duplicate_path", "the path is named twice"]
    return pd.concat([conflicts, found])


def labels_not_let_in(
    samples: pd.DataFrame, *, allowed: Mapping[str, Sequence[str]], reason: str, details: Mapping[tuple[str, str], str]
) -> pd.DataFrame:
    """Samples that have a label, but none of those allowed for its target.

    Args:
        samples: with the targets' columns.
        allowed: by target, the classes that are let in.
        reason: the code of the ledger.
        details: by target and class, what is said of it; otherwise that it is not allowed.
    """
    is_in = pd.Series(False, index=samples.index)
    for target, names in allowed.items():
        is_in |= samples[target].isin(names)
    rows = samples[~is_in]
    found = _found(rows, reason, "")
    for target in reversed(list(allowed)):
        labels = rows[target].dropna()
        said = {
            name: details.get((target, name), f"class {name!r} of {target} is not one of those fixed")
            for name in labels.unique()
        }
        found.loc[labels.index, "detail"] = labels.map(said)
    return found


def ledger_of(samples: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The ledger's rows: where and which the samples are, besides why they were set aside."""
    return samples.loc[found.index, ["batch", "path", "sample_id"]].join(found)


def _found(rows: pd.DataFrame, reason: str, detail: str) -> pd.DataFrame:
    return pd.DataFrame({"reason": reason, "detail": detail}, index=rows.index, dtype="str")
