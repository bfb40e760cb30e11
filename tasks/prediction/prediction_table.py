"""Write predictions, as they come, to a file: Parquet, a group of rows at a time; CSV or JSON, row by row."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.raw.parquet_table import is_parquet
from tasks.data.samples.parquet_cells import BROKEN
from tasks.prediction.stream import Answers

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
SCHEMAS = {
    "images": SCHEMA,
    "text": pa.schema(
        [
            *SCHEMA,
            ("truncated", pa.bool_()),  # whether the encoder reads a part of the text alone
            ("share_unknown", pa.float64()),  # of the tokens, that the encoder's vocabulary lacks
        ]
    ),
}  # by modality

JSON_BEGINNING = '[\n{"path": '


def rows(answers: Answers, classes: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    """Yield a row for each input and target, in the order of the inputs."""
    numbers = {place: number for number, place in enumerate(answers.places)}
    ranked = {target: (values.tolist(), indices.tolist()) for target, (values, indices) in answers.ranked.items()}
    for place, (item, sample_id) in enumerate(zip(answers.inputs, answers.sample_ids, strict=True)):
        for target, names in classes.items():
            row: dict[str, Any] = {"path": item.path, "sample_id": sample_id or None, "target": target}
            if item.reason:
                yield row | {"reason": item.reason, "detail": item.detail}
                continue
            values, indices = (part[numbers[place]] for part in ranked[target])
            labels = [names[index] for index in indices]
            yield row | answers.remarks[numbers[place]] | {
                "label": labels[0], "probability": values[0], "top_labels": labels, "top_probabilities": values
            }  # fmt: skip


def csv_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of a CSV file, whose cells hold no lists."""
    return [name for name in schema.names if not name.startswith("top_")]


class Writer(Protocol):
    def add(self, row: dict[str, Any]) -> None:
        """Take a row, a dictionary by the schema's column names; a column that it lacks becomes null."""


class CsvWriter:
    """Writes CSV without the columns of lists."""

    def __init__(self, file: TextIO, schema: pa.Schema) -> None:
        self.rows = csv.DictWriter(file, csv_columns(schema), extrasaction="ignore", lineterminator="\n")
        self.rows.writeheader()

    def add(self, row: dict[str, Any]) -> None:
        self.rows.writerow(row)


class JsonWriter:
    """Writes a JSON array of objects, one a line."""

    def __init__(self, file: TextIO, schema: pa.Schema) -> None:
        self.file = file
        self.names = schema.names
        self.is_empty = True

    def add(self, row: dict[str, Any]) -> None:
        whole = {name: row.get(name) for name in self.names}
        self.file.write(("[\n" if self.is_empty else ",\n") + json.dumps(whole, ensure_ascii=False, allow_nan=False))
        self.is_empty = False

    def end(self) -> None:
        self.file.write("[]\n" if self.is_empty else "\n]\n")


class ParquetWriter:
    """Collects rows, which are dictionaries by the schema's column names, and writes them in groups.

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
            self.file.write_table(pa.Table.from_pylist(self.waiting, schema=self.file.schema))
            self.waiting = []
            self.num_classes = 0


def holds_predictions(path: Path) -> bool:
    """Return whether the file is one that this module wrote."""
    ending = path.suffix.lower()
    headers = [",".join(csv_columns(schema)) for schema in SCHEMAS.values()]
    try:
        if ending in (".csv", ".json") and path.is_file():
            with path.open("rb") as file:
                if ending == ".json":
                    return file.read(len(JSON_BEGINNING)) == JSON_BEGINNING.encode()
                return file.readline(max(map(len, headers)) + 1) in [f"{header}\n".encode() for header in headers]
        return is_parquet(path) and any(pq.read_schema(path).equals(schema) for schema in SCHEMAS.values())
    except BROKEN:
        return False


@contextmanager
def prediction_writer(path: Path, *, modality: str, ending: str = ".parquet") -> Iterator[Writer]:
    """A writer of the format that an ending names: .csv, .json, or Parquet for any other."""
    schema = SCHEMAS[modality]
    if ending == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            yield CsvWriter(file, schema)
    elif ending == ".json":
        with path.open("w", encoding="utf-8") as file:
            objects = JsonWriter(file, schema)
            yield objects
            objects.end()
    else:
        with pq.ParquetWriter(path, schema, compression="zstd") as table:
            groups = ParquetWriter(table)
            yield groups
            groups.flush()
