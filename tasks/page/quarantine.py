"""Add thumbnails to rows of the quarantine ledger, as far as their images can be decoded."""

from pathlib import Path
from typing import Any

import pandas as pd

from tasks.machine.cores import spread
from tasks.page.thumbnails import thumbnail

# reasons for which a sample was decoded whole when it was scanned; other samples may take hours or crash a decoder
DECODED = (
    "unlabelled_copy",
    "conflicting_labels",
    "exact_duplicate",
    "duplicate_path",
    "unknown_class",
    "class_in_probation",
)


def with_pictures(ledger: pd.DataFrame, *, raw: Path, size: int) -> list[dict[str, Any]]:
    """Return the rows with `picture`, a data URI, or None for a row of which no picture can be made."""

    def draw(row: dict[str, Any]) -> str | None:
        # a row without an id, such as that of a text beside the class folders, was never read
        if row["reason"] not in DECODED or not row["sample_id"]:
            return None
        try:
            return thumbnail(raw / row["batch"], row["path"], row["sample_id"], size=size)
        except (ValueError, OSError):  # it was removed or changed since: the ledger has its reason all the same
            return None

    rows = [{str(key): value for key, value in row.items()} for row in ledger.to_dict("records")]
    return [row | {"picture": picture} for row, picture in zip(rows, spread(rows, draw), strict=True)]
