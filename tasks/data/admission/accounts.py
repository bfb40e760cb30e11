"""Counts of the samples that came, are used or are quarantined, so that none is lost, and the limits they keep."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from tasks.data.admission.options import QuarantineLimits
from tasks.data.admission.quarantine import WAITING


def account(
    samples: pd.DataFrame, defects: pd.DataFrame, manifest: pd.DataFrame, ledger: pd.DataFrame, batches: list[str]
) -> dict[str, dict[str, int]]:
    """Count by batch the samples that came `in`, are `used`, or are quarantined for a reason. The sums agree."""
    came = pd.concat([samples["batch"], defects["batch"]]).value_counts()
    used = manifest["batch"].value_counts()
    reasons = {str(batch): rows.value_counts() for batch, rows in ledger.groupby("batch")["reason"]}
    counts = {}
    for batch in batches:
        quarantined = (
            {f"quarantined.{reason}": int(n) for reason, n in reasons[batch].items()} if batch in reasons else {}
        )
        counts[batch] = {"in": int(came.get(batch, 0)), "used": int(used.get(batch, 0))} | quarantined
        assert counts[batch]["in"] == counts[batch]["used"] + sum(quarantined.values()), batch
    return counts


def labels_of(ledger: pd.DataFrame, samples: pd.DataFrame, defects: pd.DataFrame, targets: list[str]) -> pd.DataFrame:
    """Return the labels that the samples of the ledger came with, a column a target."""
    texts = defects["said"]
    labels = pd.DataFrame([json.loads(text) for text in texts], index=defects.index).reindex(columns=targets)
    came = pd.concat([defects[["batch", "path"]].join(labels), samples[["batch", "path", *targets]]])
    return ledger[["batch", "path"]].merge(came.drop_duplicates(["batch", "path"]), how="left")[targets]


def budget(
    manifest: pd.DataFrame,
    ledger: pd.DataFrame,
    *,
    labels: pd.DataFrame,
    classes: Mapping[str, Sequence[str]],
    limits: QuarantineLimits,
) -> dict[str, Any]:
    """Return the quarantined fraction of all samples, and the fractions that exceed their limits.

    A limit holds for all samples, for a batch, or for a class in use. Samples in probation do not count.
    """
    counts = ledger["reason"] != WAITING

    def fractions(used: "pd.Series[Any]", lost: "pd.Series[Any]") -> Iterator[tuple[str, float]]:
        num_lost = lost[counts].value_counts()
        num_used = used.value_counts()
        for name, num in num_lost.items():
            yield str(name), float(num / (num + num_used.get(name, 0)))

    overall = float(counts.sum() / max(len(manifest) + counts.sum(), 1))
    shares = [("all samples", overall, limits.overall)]
    shares += [(f"batch {name}", share, limits.batch) for name, share in fractions(manifest["batch"], ledger["batch"])]
    for target, names in classes.items():
        in_use = set(names)
        of_classes = fractions(manifest[target], labels[target])
        shares += [
            (f"class {name!r} of {target}", share, limits.class_) for name, share in of_classes if name in in_use
        ]
    exceeded = [
        {"of": of, "quarantined_fraction": share, "limit": limit} for of, share, limit in shares if share > limit
    ]
    return {"quarantined_fraction": overall, "exceeded": sorted(exceeded, key=lambda excess: str(excess["of"]))}
