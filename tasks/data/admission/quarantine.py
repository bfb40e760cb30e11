"""Find samples that cannot be used, and say why.

A function that sets samples aside returns a table of `reason` and `detail`, with the index of those samples.
"""

from collections.abc import Mapping, Sequence

import pandas as pd

LEDGER_COLUMNS = ["batch", "path", "sample_id", "reason", "detail"]
WAITING = "class_in_probation"  # the sample itself is good, so no quarantine limit counts it


def missing_labels(samples: pd.DataFrame, *, targets: Sequence[str]) -> pd.DataFrame:
    """Set aside samples that have no label for any target."""
    rows = samples[samples[list(targets)].isna().all(axis=1)]
    return _reasons(rows, "label_missing", f"no label for {', '.join(targets)}")


def duplicates(samples: pd.DataFrame, *, targets: Sequence[str]) -> pd.DataFrame:
    """Set aside copies with equal bytes: all of them if their labels for a target conflict, else all but the first.

    `samples` has the columns batch, path, sample_id and the targets, the preferred copy first.
    """
    copies = samples[samples.duplicated("sample_id", keep=False)]
    num_labels = copies.groupby("sample_id")[list(targets)].nunique(dropna=True).max(axis=1)
    is_conflict = copies["sample_id"].map(num_labels) > 1
    is_later = copies.duplicated("sample_id", keep="first")
    is_same_path = copies.duplicated(["batch", "path"], keep="first")
    firsts = copies[~is_later].set_index("sample_id")
    place = copies["sample_id"].map(firsts["batch"] + "/" + firsts["path"])
    conflicts = _reasons(copies[is_conflict], "conflicting_labels", "the same bytes have different labels")
    repeats = copies[~is_conflict & is_later]
    later = _reasons(repeats, "exact_duplicate", "").assign(detail="the same bytes as " + place[repeats.index])
    later.loc[is_same_path[repeats.index], ["reason", "detail"]] = ["duplicate_path", "the path is listed twice"]
    return pd.concat([conflicts, later])


def labels_not_let_in(
    samples: pd.DataFrame, *, allowed: Mapping[str, Sequence[str]], reason: str, details: Mapping[tuple[str, str], str]
) -> pd.DataFrame:
    """Set aside samples that have labels, but none that is allowed for its target.

    Args:
        samples: with the columns of the targets.
        allowed: by target, the classes that are allowed.
        reason: the reason code in the ledger.
        details: by target and class, the detail in the ledger; without an entry it says that the class is not allowed.
    """
    is_in = pd.Series(False, index=samples.index)
    for target, names in allowed.items():
        is_in |= samples[target].isin(names)
    rows = samples[~is_in]
    reasons = _reasons(rows, reason, "")
    for target in reversed(list(allowed)):
        labels = rows[target].dropna()
        detail_of = {
            name: details.get((target, name), f"class {name!r} of {target} is not one of the fixed classes")
            for name in labels.unique()
        }
        reasons.loc[labels.index, "detail"] = labels.map(detail_of)
    return reasons


def ledger_of(samples: pd.DataFrame, reasons: pd.DataFrame) -> pd.DataFrame:
    """Return the ledger's rows: batch, path and sample_id of the samples, and the reasons why they were set aside."""
    return samples.loc[reasons.index, ["batch", "path", "sample_id"]].join(reasons)


def _reasons(rows: pd.DataFrame, reason: str, detail: str) -> pd.DataFrame:
    return pd.DataFrame({"reason": reason, "detail": detail}, index=rows.index, dtype="str")
