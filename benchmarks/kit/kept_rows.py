"""The finished runs of a long benchmark, kept in a file of one JSON object a line, so that it can be resumed."""

import json
from pathlib import Path
from typing import Any


def read_rows(kept: Path | None) -> list[dict[str, Any]]:
    """Return the runs that a file keeps; none where there is no file yet."""
    return list(map(json.loads, kept.read_text("utf-8").splitlines())) if kept and kept.is_file() else []


def keep_row(row: dict[str, Any], kept: Path | None) -> None:
    """Add a run to the file, if one is named."""
    if kept:
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
