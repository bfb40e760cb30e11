"""Read the answers of all files, in the columns that a window needs."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.machine.names import listed
from tasks.prediction.answer_log import read_answers

COLUMNS = ("sample_id", "target", "label", "probability", "value", "unlike", "reason", "answered_at", "model")
TIME = "answered_at"  # by the clock of the machine that answered
VECTOR = "embedding"  # (dim,) float16 of the model's trunks, one after another


def read_files(files: Sequence[Path]) -> pd.DataFrame:
    """Return a row for each input and target, in the order of the files.

    Columns: those of COLUMNS, all missing where no file has one; `file` and `row`, by which `read_vectors` finds the
    vector of the row.

    Raises:
        ValueError: a file is damaged.
    """
    tables = []
    for number, file in enumerate(files):
        answers = read_answers(file, COLUMNS).to_pandas()
        tables.append(answers.assign(file=number, row=np.arange(len(answers))))
    table = pd.concat(tables, ignore_index=True)
    table[TIME] = pd.to_datetime(table[TIME], utc=True)
    table["unlike"] = table["unlike"].map({True: 1.0, False: 0.0})
    typed: pd.DataFrame = table.astype({"probability": float, "value": float, "unlike": float})
    return typed


def read_vectors(files: Sequence[Path], rows: pd.DataFrame) -> NDArray[np.float32] | None:
    """Return the vectors (n, dim) of rows (n) of `read_files`, file by file; None where one has none.

    A service may remove the oldest files of its log meanwhile: their rows have no vectors, either.

    Raises:
        ValueError: the vectors have different lengths, or one is not finite.
    """
    parts = []
    for number, file in enumerate(files):
        of_file = rows[rows["file"] == number]
        if of_file.empty:
            continue
        try:
            column = _vectors_of(file, file.stat().st_mtime_ns)
        except FileNotFoundError:
            return None
        if column is None:
            return None
        cells = column.take(pa.array(of_file["row"].to_numpy()))
        lengths = np.diff(cells.offsets.to_numpy())
        if cells.null_count or not len(cells):
            return None
        parts.append(cells.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(of_file), -1)
                     if len(set(lengths.tolist())) == 1 else np.empty((0, 0), np.float32))  # fmt: skip
    if not parts:
        return None
    if len({part.shape[1] for part in parts}) > 1 or not parts[0].shape[1]:
        raise ValueError(f"{listed([str(file) for file in files])}: embeddings of different lengths: name one model's")
    vectors = np.concatenate(parts)
    if not np.isfinite(vectors).all():
        raise ValueError(f"{listed([str(file) for file in files])}: an embedding is not finite: leave the file out")
    return vectors


@lru_cache(maxsize=2)  # the windows of a file come one after another, and one may end in the next file
def _vectors_of(file: Path, changed_at: int) -> pa.Array | None:
    """Return the vectors of all rows of a file that last changed at that time, ns; None where it has none."""
    if file.suffix.lower() != ".parquet" or VECTOR not in pq.read_schema(file).names:
        return None
    return pq.read_table(file, columns=[VECTOR])[VECTOR].combine_chunks()
