"""Write predictions, as they come, to a Parquet file, a group of rows at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.raw.parquet_table import is_parquet
from tasks.data.samples.parquet_cells import BROKEN

ROWS_AT_ONCE = 16_384  # rows in memory, and in a row group; fewer if a row has many classes
CLASSES_AT_ONCE = 8 * ROWS_AT_ONCE
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "sample_id": pa.string(),  # SHA-256 of the bytes, hex
        "target": pa.string(),
        "label": pa.string(),
        "probability": pa.float64(),  # of the label, calibrated
        "top_labels": pa.list_(pa.string()),  # the likeliest first
        "top_probabilities": pa.list_(pa.float64()),
        "reason": pa.string(),  # why there is no label; null if there is one
        "detail": pa.string(),
    }
)


class PredictionWriter:
    """Collects rows, which are dictionaries by SCHEMA's column names, and writes them in groups.

    A column that a row lacks becomes null.
    """

    def __init__(self, file: pq.ParquetWriter) -> None:
        self.file = file
        self.waiting: list[dict[str, Any]] = []
        self.num_classes = 0  # in all waiting rows

    def add(self, row: dict[str, Any]) -> None:
        self.waiting.append(row)
        self.num_classes += len(row.get("top_labels") or ())
        if len(self.waiting) == ROWS_AT_ONCE or self.num_classes >= CLASSES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self.waiting:
            self.file.write_table(pa.Table.from_pylist(self.waiting, schema=SCHEMA))
            self.waiting = []
            self.num_classes = 0


def holds_predictions(path: Path) -> bool:
    """Return whether the file is a whole table that this module wrote."""
    try:
        return is_parquet(path) and bool(pq.read_schema(path).equals(SCHEMA))
    except BROKEN:
        return False


@contextmanager
def prediction_writer(path: Path) -> Iterator[PredictionWriter]:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as file:
        writer = PredictionWriter(file)
        yield writer
        writer.flush()
