"""Find the held-out samples that come in groups: they are alike, so that they are worth less than as many others."""

from pathlib import Path

import pandas as pd

from tasks.data.health.leaks import LEAKED, read_leaks


def clusters(rows: pd.DataFrame, audit: Path) -> "pd.Series[str] | None":
    """Return (n,) the name of each held-out sample's group; None where no two samples are in one group.

    It is the manifest's `group`. A sample without one is in a group with those that have the same twin in train or val,
    which the audit found.
    """
    twins = read_leaks(audit / LEAKED).drop_duplicates("sample_id").set_index("sample_id")["twin_sample_id"]
    group, twin = rows["group"].astype(object), rows["sample_id"].map(twins).astype(object)
    found = group.where(group.notna(), twin.where(twin.notna(), rows["sample_id"])).astype(str)
    return found if found.duplicated().any() else None
