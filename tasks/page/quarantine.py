"""Add thumbnails to rows of the quarantine ledger, as far as their images can be decoded."""

from pathlib import Path
from typing import Any

import pandas as pd

from tasks.page.thumbnails import thumbnails

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
    """Return the rows with `picture`, a data URI or None. Raises ValueError as `thumbnails` does."""
    pictures = thumbnails(ledger[ledger["reason"].isin(DECODED)], raw=raw, size=size)
    return [
        {str(key): value for key, value in row.items()}
        | {"picture": pictures[row["sample_id"]] if row["reason"] in DECODED else None}
        for row in ledger.to_dict("records")
    ]
