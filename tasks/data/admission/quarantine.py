"""Find samples that cannot be used, with the reasons.

A function that sets samples aside returns a table of `reason` and `detail`, with the index of those samples.
"""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from tasks.machine.names import on_one_line

LEDGER_COLUMNS = ["batch", "path", "sample_id", "reason", "detail"]
WAITING = "class_in_probation"  # the sample itself is good
UNKNOWN = "unknown_class"
COPY = "unlabelled_copy"
NOT_A_SAMPLE = "not_a_sample"  # a file that is not meant as a sample
BY_HAND = "set_aside_by_hand"  # a person decided it in corrections.csv
CONTRADICTED = "contradicting_corrections"  # two people decided differently, and it waits for a third look
NO_LOSS = (WAITING, COPY, NOT_A_SAMPLE, BY_HAND, CONTRADICTED)  # no quarantine limit counts these reasons
OF_A_TABLE = "unreadable_table"
MAX_REASONS = 3  # that a message names
LONGEST_DETAIL = 200  # characters of a message


def unlabelled_copies(samples: pd.DataFrame, *, targets: Sequence[str]) -> pd.DataFrame:
    """Set aside unlabelled copies of samples that have a label, and all but one of samples that have none."""
    is_unlabelled = samples[list(targets)].isna().all(axis=1)
    if not is_unlabelled.any():
        return _reasons(samples[:0], COPY, "")
    unlabelled, labelled = samples[is_unlabelled], samples[~is_unlabelled]
    is_copy = unlabelled.duplicated("sample_id")
    if len(unlabelled):
        is_copy |= unlabelled["sample_id"].isin(labelled["sample_id"])
    copies = unlabelled[is_copy]
    firsts = [rows[rows["sample_id"].isin(copies["sample_id"])] for rows in (labelled, unlabelled)]
    place = copies["sample_id"].map(_places(pd.concat(firsts).drop_duplicates("sample_id")))
    return _reasons(copies, COPY, "").assign(detail="no label, and the same bytes as " + place)


def duplicates(samples: pd.DataFrame, *, targets: Sequence[str]) -> pd.DataFrame:
    """Set aside copies with equal bytes: all of them if their labels for a target conflict, else all but the first.

    `samples` has the columns batch, path, sample_id and the targets, the preferred copy first.
    """
    copies = samples[samples.duplicated("sample_id", keep=False)]
    num_labels = copies.groupby("sample_id")[list(targets)].nunique(dropna=True).max(axis=1)
    is_conflict = copies["sample_id"].map(num_labels) > 1
    is_later = copies.duplicated("sample_id", keep="first")
    is_same_path = copies.duplicated(["batch", "path"], keep="first")
    repeats = copies[~is_conflict & is_later]
    place = repeats["sample_id"].map(_places(copies[~is_later]))
    later = _reasons(repeats, "exact_duplicate", "").assign(detail="the same bytes as " + place)
    later.loc[is_same_path[repeats.index], ["reason", "detail"]] = ["duplicate_path", "the path is listed twice"]
    return pd.concat([_conflicts(copies[is_conflict], targets=targets), later])


def _conflicts(copies: pd.DataFrame, *, targets: Sequence[str]) -> pd.DataFrame:
    """Set aside copies whose labels conflict; the detail names a copy with another label, and its label."""
    conflicts = _reasons(copies, "conflicting_labels", "")
    for target in reversed(list(targets)):
        labelled = copies.dropna(subset=[target])
        first = labelled.drop_duplicates("sample_id")
        is_other = labelled[target] != labelled["sample_id"].map(first.set_index("sample_id")[target])
        other = labelled[is_other].drop_duplicates("sample_id")
        conflicting = copies[copies["sample_id"].isin(other["sample_id"])]
        has_first = conflicting[target] == conflicting["sample_id"].map(first.set_index("sample_id")[target])
        for rows, twins in ((conflicting[has_first], other), (conflicting[~has_first], first)):
            label, place = (rows["sample_id"].map(of) for of in (twins.set_index("sample_id")[target], _places(twins)))
            detail = "the same bytes are " + label.map(repr) + f" of {target} in " + place
            conflicts.loc[rows.index, "detail"] = detail
    return conflicts


def _places(samples: pd.DataFrame) -> "pd.Series[str]":
    """Return the batch and path of samples, by sample_id."""
    places = samples.set_index("sample_id")
    return places["batch"] + "/" + places["path"]


def labels_not_let_in(
    samples: pd.DataFrame,
    *,
    allowed: Mapping[str, Sequence[str]],
    always: Collection[str],
    reason: str,
    details: Mapping[tuple[str, str], str],
) -> pd.DataFrame:
    """Set aside samples that have labels, but none that is allowed for its target.

    Args:
        samples: with the columns of the targets.
        allowed: by target, the classes that are allowed.
        always: the targets of which every label is allowed.
        reason: the reason code in the ledger.
        details: by target and class, the detail in the ledger; by default, that the class is not allowed.
    """
    is_in = samples[list(always)].notna().any(axis=1)
    for target, names in allowed.items():
        is_in |= samples[target].isin(names)
    rows = samples[~is_in]
    reasons = _reasons(rows, reason, "")
    for target in reversed(list(allowed)):
        labels = rows[target].dropna()
        detail_of = {name: details.get((target, name), not_let_in(target, name)) for name in labels.unique()}
        reasons.loc[labels.index, "detail"] = labels.map(detail_of)
    return reasons


def not_let_in(target: str, name: str) -> str:
    return f"class {name!r} of {target} is not one of the fixed classes"


def corrected_away(samples: pd.DataFrame, reasons: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Set aside samples that people took out: `reasons` has the reason and the detail by sample_id."""
    rows = samples[samples["sample_id"].isin(list(reasons))]
    details = [reasons[sample_id] for sample_id in rows["sample_id"]]
    return pd.DataFrame(details, columns=["reason", "detail"], index=rows.index, dtype="str")


def ledger_of(samples: pd.DataFrame, reasons: pd.DataFrame) -> pd.DataFrame:
    """Return the ledger's rows: batch, path and sample_id of the samples, and the reasons why they were set aside."""
    return samples.loc[reasons.index, ["batch", "path", "sample_id"]].join(reasons)


def commonest(ledger: pd.DataFrame) -> str:
    """Return the commonest reasons of rows of the ledger, with their numbers and an example each; "" without rows.

    A fault of a table comes first, because faults of rows follow from it; reasons of NO_LOSS come last.
    """
    num_rows = ledger["reason"].value_counts()
    order = sorted(
        num_rows.index, key=lambda reason: (reason != OF_A_TABLE, reason in NO_LOSS, -num_rows[reason], reason)
    )
    named = [f"{num_rows[reason]:,} {reason}, such as {_example(ledger, reason)}" for reason in order[:MAX_REASONS]]
    return "; ".join(named + [f"and {len(order) - MAX_REASONS} other reasons"] * (len(order) > MAX_REASONS))


def _example(ledger: pd.DataFrame, reason: str) -> str:
    row = ledger[ledger["reason"] == reason].iloc[0]
    return on_one_line(f"{row['batch']}/{row['path']} ({row['detail'][:LONGEST_DETAIL]})")


def _reasons(rows: pd.DataFrame, reason: str, detail: str) -> pd.DataFrame:
    return pd.DataFrame({"reason": reason, "detail": detail}, index=rows.index, dtype="str")
