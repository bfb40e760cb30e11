"""Rows of the quarantine ledger in; the same with a picture, where there is one that can be decoded, out."""

from pathlib import Path
from typing import Any

import pandas as pd

from tasks.page.thumbnails import thumbnails

# why samples are set aside that were decoded whole when they were scanned; of all others some cost hours or crash a decoder
DECODED = (
    "label_missing",
    "conflicting_labels",
    "exact_duplicate",
    "duplicate_path",
    "unknown_class",
    "class_in_probation",
)


def with_pictures(ledger: pd.DataFrame, *, raw: Path, size: int) -> list[dict[str, Any]]:
    """The rows with `picture`, a data URI or None. Raises ValueError as `thumbnails`."""
    pictures = thumbnails(ledger[ledger["reason"].isin(DECODED)], raw=raw, size=size)
    return [
        {str(key): value for key, value in row.items()}
        | {"picture": pictures[row["sample_id"]] if row["reason"] in DECODED else None}
        for row in ledger.to_dict("records")
    ]
