"""The labels that were set aside while their samples stay: counts, and rows of a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.manifest.tables import read_text_table
from tasks.page.wording import shortened

COLUMNS = ("batch", "path", "sample_id", "target", "label", "reason", "detail")


def read_labels(path: Path) -> pd.DataFrame:
    """Return the ledger of labels, with the columns COLUMNS; without rows if the project has none."""
    return read_text_table(path) if path.is_file() else pd.DataFrame(columns=list(COLUMNS))


def set_aside(ledger: pd.DataFrame, batches: Sequence[str], *, limit: int) -> dict[str, Any]:
    """Return at most `limit` rows, the newest batch first, and the number of labels by target and reason."""
    age = {batch: number for number, batch in enumerate(reversed(batches))}
    newest = ledger.sort_values("batch", key=lambda column: column.map(age), kind="stable").head(limit)
    counts = ledger.groupby(["target", "reason"], sort=True).size()
    return {
        "rows": newest.assign(label=newest["label"].map(shortened)).to_dict("records"),
        "num_rows": len(ledger),
        "counts": [
            {"target": target, "reason": reason, "count": int(count)} for (target, reason), count in counts.items()
        ],
    }
