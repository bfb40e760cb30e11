"""Count the samples that came, are used, wait in the pool or are quarantined, and check the limits of these."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from tasks.data.admission.labels import num_labels
from tasks.data.admission.options import QuarantineLimits
from tasks.data.admission.quarantine import NO_LOSS, OF_A_TABLE, UNKNOWN, WAITING, commonest
from tasks.data.manifest.manifest import POOL, used_of
from tasks.targets.target import Target


def account(
    samples: pd.DataFrame, defects: pd.DataFrame, manifest: pd.DataFrame, ledger: pd.DataFrame, batches: list[str]
) -> dict[str, dict[str, int]]:
    """Count by batch the samples that came `in`, are `used`, in the `pool`, or quarantined for a reason. Sums agree."""
    came = pd.concat([samples["batch"], defects["batch"]]).value_counts()
    is_pool = manifest["split"] == POOL
    used, pool = manifest.loc[~is_pool, "batch"].value_counts(), manifest.loc[is_pool, "batch"].value_counts()
    reasons = {str(batch): rows.value_counts() for batch, rows in ledger.groupby("batch")["reason"]}
    counts = {}
    for batch in batches:
        quarantined = (
            {f"quarantined.{reason}": int(n) for reason, n in reasons[batch].items()} if batch in reasons else {}
        )
        num_in, num_used, num_pool = (int(number.get(batch, 0)) for number in (came, used, pool))
        assert num_in == num_used + num_pool + sum(quarantined.values()), batch
        counts[batch] = {"in": num_in, "used": num_used, "pool": num_pool} | quarantined
    return counts


def account_labels(
    given: Mapping[str, int],
    manifest: pd.DataFrame,
    labels: pd.DataFrame,
    of_ledger: Mapping[str, int],
    *,
    targets: Mapping[str, Target],
) -> dict[str, dict[str, Any]]:
    """Count by target the labels that were `given`, are `used`, or are `set_aside`, alone or with their sample.

    The sums agree. Each of several labels counts; one that cannot be read counts once.
    """
    reasons = {str(target): rows.value_counts() for target, rows in labels.groupby("target")["reason"]}
    counts = {}
    for name, target in targets.items():
        set_aside = {str(reason): int(n) for reason, n in sorted(reasons.get(name, pd.Series(dtype=int)).items())}
        used = num_labels(manifest[name], target)
        assert given[name] == used + sum(set_aside.values()) + of_ledger[name], name
        counts[name] = {
            "given": given[name], "used": used, "of_quarantined_samples": of_ledger[name], "set_aside": set_aside,
        }  # fmt: skip
    return counts


def lost_labels(
    counts: Mapping[str, Mapping[str, Any]], labels: pd.DataFrame, *, limits: QuarantineLimits
) -> list[dict[str, Any]]:
    """Return the targets that lose more of their labels than the limit for all samples, with the reasons.

    Classes and labels that wait, or that params.yaml does not let in, are not lost.
    """
    lost = labels[~labels["reason"].isin([WAITING, UNKNOWN])]
    shares = {
        name: float((lost["target"] == name).sum() / max(counted["given"], 1)) for name, counted in counts.items()
    }
    return [
        {"target": name, "fraction": share, "limit": limits.overall, "reasons": commonest(lost[lost["target"] == name])}
        for name, share in shares.items()
        if share > limits.overall
    ]


def labels_of(ledger: pd.DataFrame, samples: pd.DataFrame, defects: pd.DataFrame) -> pd.DataFrame:
    """Return the labels that the samples of the ledger came with, a column for each target.

    Args:
        samples: columns batch, path and the targets.
        defects: the same columns.
    """
    of_ledger = samples[samples["path"].isin(ledger["path"])]  # of millions of samples these are few
    came = pd.concat([defects, of_ledger]).drop_duplicates(["batch", "path"])
    return ledger[["batch", "path"]].merge(came, how="left").drop(columns=["batch", "path"])


def labels_said(defects: pd.DataFrame, targets: list[str]) -> pd.DataFrame:
    """Return batch and path of the defects, and the labels that they came with, a column for each target."""
    labels = pd.DataFrame([json.loads(text) for text in defects["said"]], index=defects.index)
    return defects[["batch", "path"]].join(labels.reindex(columns=targets))


def budget(
    manifest: pd.DataFrame,
    ledger: pd.DataFrame,
    *,
    labels: pd.DataFrame,
    classes: Mapping[str, Sequence[str]],
    limits: QuarantineLimits,
) -> dict[str, Any]:
    """Return the quarantined fraction of all samples, and the fractions that exceed their limits, with the reasons.

    A limit holds for all samples, for a batch, or for a class in use. Reasons of NO_LOSS do not count. The pool counts
    only in a batch without any label: there the losses are a fraction of it.
    """
    is_lost = ~ledger["reason"].isin(NO_LOSS)
    lost = ledger[is_lost]
    used = used_of(manifest)
    labelled = {*used["batch"].unique(), *ledger.loc[labels.notna().any(axis=1), "batch"].unique()}
    counted = pd.concat([used, manifest[(manifest["split"] == POOL) & ~manifest["batch"].isin(labelled)]])

    def shares(kept: "pd.Series[Any]", gone: "pd.Series[Any]") -> Iterator[tuple[str, float, pd.DataFrame]]:
        num_kept = kept.value_counts()
        for name, num in gone.value_counts().items():
            yield str(name), float(num / (num + num_kept.get(name, 0))), lost[gone == name]

    overall = float(len(lost) / max(len(counted) + len(lost), 1))
    fractions = [("all samples", overall, limits.overall, lost)]
    fractions += [
        (f"batch {name}", share, limits.batch, rows) for name, share, rows in shares(counted["batch"], lost["batch"])
    ]
    for target, names in classes.items():
        in_use = set(names)
        of_classes = shares(used[target], labels.loc[is_lost, target])
        fractions += [
            (f"class {name!r} of {target}", share, limits.class_, rows)
            for name, share, rows in of_classes
            if name in in_use
        ]
    exceeded = [
        {"of": of, "quarantined_fraction": share, "limit": limit, "reasons": commonest(rows)}
        for of, share, limit, rows in fractions
        if share > limit
    ]
    return {"quarantined_fraction": overall, "exceeded": sorted(exceeded, key=lambda excess: str(excess["of"]))}


def lost_classes(manifest: pd.DataFrame, ledger: pd.DataFrame, *, labels: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Return, by target, each class of which every sample is lost, with the reasons.

    A class in probation waits, and one that params.yaml does not let in is not lost.
    """
    gone = ~ledger["reason"].isin([*NO_LOSS, "unknown_class"])
    lost: dict[str, dict[str, str]] = {}
    for target in map(str, labels.columns):
        there = {*manifest[target].dropna().unique(), *labels.loc[ledger["reason"] == WAITING, target].dropna()}
        names = sorted(set(labels.loc[gone, target].dropna()) - there)
        if names:
            lost[target] = {name: commonest(ledger[gone & (labels[target] == name)]) for name in names}
    return lost


def batches_without_table(ledger: pd.DataFrame, counts: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """Return the batches of which a table cannot be read and nothing is used, with the reasons of the batch."""
    broken = ledger.loc[ledger["reason"] == OF_A_TABLE, "batch"].unique()
    return {batch: commonest(ledger[ledger["batch"] == batch]) for batch in broken if not counts[batch]["used"]}
