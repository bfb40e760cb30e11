"""The labels that were set aside while their samples stay."""

from pathlib import Path

import pandas as pd

from tasks.data.manifest.tables import read_text_table

COLUMNS = ("batch", "path", "sample_id", "target", "label", "reason", "detail")


def read_labels(path: Path) -> pd.DataFrame:
    """Return the ledger of labels, with the columns COLUMNS; without rows if there is none."""
    return read_text_table(path) if path.is_file() else pd.DataFrame(columns=list(COLUMNS))
