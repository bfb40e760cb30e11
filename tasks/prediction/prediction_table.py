"""Write predictions, as they come, to a file: Parquet, a group of rows at a time; CSV or JSON, row by row."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.data.raw.parquet_table import is_parquet
from tasks.data.samples.parquet_cells import BROKEN
from tasks.machine.names import in_a_cell
from tasks.prediction.answers import Answerer
from tasks.prediction.stream import UNLIKE, Answers
from tasks.targets.number import COLUMNS as NUMBER_COLUMNS
from tasks.targets.number import Number
from tasks.targets.target import Target

ROWS_AT_ONCE = 16_384  # rows in memory, and in a row group; fewer if a row has many classes
CLASSES_AT_ONCE = 8 * ROWS_AT_ONCE
COLUMNS = {
    "path": pa.string(),
    "sample_id": pa.string(),  # SHA-256 of the bytes, hex
    "target": pa.string(),
    "label": pa.string(),
    "probability": pa.float64(),  # of the label, calibrated; null for several labels at once and for a number
}
COLUMNS_OF_NUMBERS = dict.fromkeys(NUMBER_COLUMNS, pa.float64())  # low and high are null where there is no interval
COLUMN_OF_DOMAINS = {"domain": pa.string()}  # whose adapted head answered; null is the general head
COLUMN_OF_UNLIKE = {UNLIKE: pa.bool_()}  # whether the sample is unlike those that the model was trained on
MORE_COLUMNS = {
    "top_labels": pa.list_(pa.string()),  # the likeliest first; null for a number
    "top_probabilities": pa.list_(pa.float64()),
    "reason": pa.string(),  # why there is no label; null if there is one
    "detail": pa.string(),
}
COLUMNS_OF_TEXTS = {
    "truncated": pa.bool_(),  # whether the encoder reads a part of the text alone
    "share_unknown": pa.float64(),  # of the tokens, that the encoder's vocabulary lacks
}

COLUMN_OF_EMBEDDINGS = {"embedding": pa.list_(pa.float16())}  # that the heads read, of several trunks one after another
# of the log of a service: when, and the model by the SHA-256 of its weights, hex
COLUMNS_OF_LOGS = {"answered_at": pa.timestamp("ms", tz="UTC"), "model": pa.string()}

JSON_BEGINNING = '[\n{"path": '


def schema_of(
    modality: str,
    targets: Iterable[Target],
    *,
    has_domains: bool = False,
    has_unlike: bool = False,
    has_embeddings: bool = False,
    is_log: bool = False,
) -> pa.Schema:
    """Return the columns of predictions.

    Those of numbers are there where a target is a number, that of domains where the model is adapted to some, and that
    of unlike samples where it finds them.
    """
    of_numbers = COLUMNS_OF_NUMBERS if any(isinstance(target, Number) for target in targets) else {}
    of_domains = COLUMN_OF_DOMAINS if has_domains else {}
    of_unlike = COLUMN_OF_UNLIKE if has_unlike else {}
    of_texts = COLUMNS_OF_TEXTS if modality == "text" else {}
    of_embeddings = COLUMN_OF_EMBEDDINGS if has_embeddings else {}
    of_logs = COLUMNS_OF_LOGS if is_log else {}
    return pa.schema(COLUMNS | of_numbers | of_domains | of_unlike | MORE_COLUMNS | of_texts | of_embeddings | of_logs)


def schema_for(answerer: Answerer, *, has_embeddings: bool = False, is_log: bool = False) -> pa.Schema:
    """Return the columns of the predictions of a model."""
    return schema_of(
        answerer.transform.modality, answerer.targets.values(),
        has_domains=answerer.domains is not None, has_unlike=answerer.unlike is not None,
        has_embeddings=has_embeddings, is_log=is_log,
    )  # fmt: skip


YES_OR_NO = (False, True)
SCHEMAS = [
    schema_of(
        modality, targets, has_domains=has_domains, has_unlike=has_unlike, has_embeddings=has_embeddings, is_log=is_log
    )
    for modality, targets, has_domains, has_unlike, has_embeddings, is_log in product(
        ("images", "text"), ([], [Number()]), YES_OR_NO, YES_OR_NO, YES_OR_NO, YES_OR_NO
    )
]


def rows(
    answers: Answers,
    targets: Mapping[str, Target],
    *,
    top_k: int,
    in_words: bool = False,
    has_embeddings: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each input and target, in the order of the inputs; `in_words` the label is for a person."""
    embeddings = np.hstack(answers.vectors) if has_embeddings and answers.places else None  # (m, dim of all trunks)
    numbers = {place: number for number, place in enumerate(answers.places)}
    cells = {
        name: cells_of(targets[name], of_target, top_k=top_k, in_words=in_words)
        for name, of_target in answers.answers.items()
    }
    for place, (item, sample_id) in enumerate(zip(answers.inputs, answers.sample_ids, strict=True)):
        for target in targets:
            row: dict[str, Any] = {"path": item.path, "sample_id": sample_id or None, "target": target}
            if item.reason:
                yield row | {"reason": item.reason, "detail": item.detail}
            else:
                number = numbers[place]
                if target in answers.adapted:
                    row["domain"] = answers.adapted[target]
                if embeddings is not None:
                    row["embedding"] = embeddings[number]
                yield row | answers.remarks[number] | cells[target][number]


def cells_of(
    target: Target, answers: NDArray[np.float64], *, top_k: int, in_words: bool
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the cells (m) for the answers (m, …) of a target, by column."""
    columns: dict[str, list[Any]] = {"label": target.in_words(answers) if in_words else target.shown(answers)}
    if (said := target.said_probabilities(answers)) is not None:
        columns["probability"] = said.tolist()
    if isinstance(target, Number):
        known = NUMBER_COLUMNS if target.interval else NUMBER_COLUMNS[:1]
        columns |= dict(zip(known, answers.T[: len(known)].tolist(), strict=True))
    else:
        order = np.argsort(-answers, axis=1, kind="stable")[:, :top_k]  # of equals the one that comes first
        columns["top_labels"] = [[target.names[place] for place in row] for row in order.tolist()]
        columns["top_probabilities"] = np.take_along_axis(answers, order, axis=1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def csv_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of a CSV file, whose cells hold no lists."""
    return [field.name for field in schema if not pa.types.is_list(field.type)]


class Writer(Protocol):
    def add(self, row: dict[str, Any]) -> None:
        """Take a row, a dictionary by the schema's column names; a column that it lacks becomes null."""


class CsvWriter:
    """Writes CSV without the columns of lists, with texts as `in_a_cell` returns them."""

    def __init__(self, file: TextIO, schema: pa.Schema) -> None:
        self.rows = csv.DictWriter(file, csv_columns(schema), extrasaction="ignore", lineterminator="\n")
        self.rows.writeheader()

    def add(self, row: dict[str, Any]) -> None:
        cells = {name: in_a_cell(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        self.rows.writerow(cells)


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
    headers = [",".join(csv_columns(schema)) for schema in SCHEMAS]
    try:
        if ending in (".csv", ".json") and path.is_file():
            with path.open("rb") as file:
                if ending == ".json":
                    return file.read(len(JSON_BEGINNING)) == JSON_BEGINNING.encode()
                return file.readline(max(map(len, headers)) + 1) in [f"{header}\n".encode() for header in headers]
        return is_parquet(path) and any(pq.read_schema(path).equals(schema) for schema in SCHEMAS)
    except BROKEN:
        return False


@contextmanager
def prediction_writer(path: Path, schema: pa.Schema, *, ending: str = ".parquet") -> Iterator[Writer]:
    """A writer of the format that an ending names: .csv, .json, or Parquet for any other."""
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
