"""The log of a service's answers: a folder of Parquet files, each whole, with the columns of predictions.

While it grows, a file is a journal: an Arrow stream that its writer holds locked. `turn` makes a Parquet file of each
journal that nobody holds. So a service that was killed loses no row: the next one in this folder finds its journal.
"""

import fcntl
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedWriter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.samples.parquet_cells import BROKEN, one_line
from tasks.machine.files import whole_file
from tasks.machine.names import of_a_cell
from tasks.prediction.prediction_table import SCHEMAS, holds_predictions

logger = logging.getLogger("graftline")

FILES = "answers-*.parquet"
JOURNALS = ".answers-*.journal"
EVERY_COLUMN = pa.unify_schemas(SCHEMAS)


@dataclass(frozen=True, kw_only=True)
class LogLimits:
    """The limits of the log: when a file of it ends, and how much is kept."""

    max_rows: int = 20_000  # of a file
    max_seconds: float = 600.0  # from the first row of a file to its end
    max_bytes: int = 2_000_000_000  # of all files; the oldest are removed


class AnswerLog:
    """Writes rows of `prediction_table.rows` to files in a folder. Any number of threads may add rows.

    Raises:
        ValueError: the folder is a file.
    """

    def __init__(self, folder: Path, *, limits: LogLimits | None = None) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"the log {folder} is a file, expected a folder: name another")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.limits = limits or LogLimits()
        self._lock = threading.Lock()
        self._journal: Journal | None = None

    def add(self, rows: Sequence[dict[str, Any]], schema: pa.Schema, *, model: str) -> None:
        """Add the rows of answers that a model gave now; they are in the journal when the call returns.

        Args:
            schema: of `schema_of`, with `is_log`. Another one than before begins a file.
            model: the SHA-256 of its weights, hex.

        Raises:
            OSError: the disk is full, for example. The rows before these stay whole.
        """
        if not rows:
            return
        facts = {"answered_at": datetime.now(UTC), "model": model}
        batch = pa.RecordBatch.from_pylist([row | facts for row in rows], schema=schema)
        with self._lock:
            if self._journal and self._journal.schema != schema:
                self._end()
            self._journal = self._journal or Journal(self.folder, schema)
            try:
                self._journal.add(batch)
            except BaseException:
                self._end()  # its last rows may be torn: the next rows begin a new file
                raise

    def turn(self, *, is_over: bool = False) -> None:
        """End the file where it is full or old, or the log `is_over`; then remove the oldest beyond the limit.

        Raises:
            OSError: a file cannot be read or written; its journal stays for the next turn, and holds up no other.
        """
        with self._lock:
            journal = self._journal
            if journal and (is_over or journal.num_rows >= self.limits.max_rows or self._is_old(journal)):
                self._end()
        first: Exception | None = None
        for path in sorted(self.folder.glob(JOURNALS)):
            try:
                make_whole(path)
            except (OSError, pa.ArrowException) as error:
                first = first or error
        self._remove_oldest()
        if first:
            raise first

    def _is_old(self, journal: "Journal") -> bool:
        return time.monotonic() - journal.since >= self.limits.max_seconds

    def _end(self) -> None:
        journal, self._journal = self._journal, None
        if journal:
            journal.close()

    def _remove_oldest(self) -> None:
        files = sorted(self.folder.glob(FILES), reverse=True)  # their names begin with the time
        total = 0
        for path in files:
            with suppress(FileNotFoundError):  # another service in this folder removed it
                total += path.stat().st_size
            if total > self.limits.max_bytes:
                path.unlink(missing_ok=True)
                logger.info("removed %s: the log is limited to %s bytes", path, f"{self.limits.max_bytes:,}")


class Journal:
    """A file of the log that grows. Only its writer holds its lock."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self.num_rows = 0
        self.since = time.monotonic()
        self._file = _new_file(folder)
        self._stream = pa.ipc.new_stream(self._file, schema)

    def add(self, batch: pa.RecordBatch) -> None:
        self._stream.write_batch(batch)
        self._file.flush()
        self.num_rows += batch.num_rows

    def close(self) -> None:
        """Let go of the lock; the stream needs no end."""
        with suppress(OSError):  # rows that it could not write are torn, and `make_whole` leaves them out
            self._file.close()


def _new_file(folder: Path) -> BufferedWriter:
    """Return a new journal, locked. Until it is locked, another process may take it for an abandoned one."""
    while True:
        now = datetime.now(UTC)
        file = (folder / f".answers-{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}.journal").open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def make_whole(journal: Path) -> None:
    """Make a Parquet file of a journal, unless its writer holds it. Rows that were half written are left out.

    Raises:
        OSError: the file cannot be written; the journal stays.
    """
    with _held(journal) as is_mine:
        if not is_mine:
            return
        if batches := list(_whole_batches(journal)):
            with whole_file(journal.with_name(journal.stem.removeprefix(".") + ".parquet")) as path:
                pq.write_table(pa.Table.from_batches(batches), path, compression="zstd")
        journal.unlink()


@contextmanager
def _held(journal: Path) -> Iterator[bool]:
    """Hold the lock of a journal, and yield whether it could be had."""
    try:
        file = journal.open("rb+")  # a disk on the network locks only files that are open for writing
    except FileNotFoundError:  # another process made it whole
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield bool(os.fstat(file.fileno()).st_nlink)


def _whole_batches(journal: Path) -> Iterator[pa.RecordBatch]:
    with journal.open("rb") as file:
        try:
            with pa.ipc.open_stream(file) as stream:
                yield from stream
        except pa.ArrowException:
            return  # torn: the stream ends before
        except OSError as error:
            if error.errno is None:  # Arrow's own, of a batch that is shorter than its head says
                return
            raise


def answer_files(named: Iterable[Path]) -> list[Path]:
    """Return the files of answers that a person names: files that `predict` wrote, and folders of a service's log.

    Raises:
        ValueError: there is no such file or folder, it holds no answers, or is another kind of file.
    """
    files: list[Path] = []
    for path in named:
        if path.is_dir():
            inside = sorted(path.glob(FILES))
            if not inside:
                raise ValueError(f"{path} has no {FILES}: name the folder of a service's log, or files of predictions")
            files += inside
        elif holds_predictions(path):
            files.append(path)
        else:
            problem = "holds no predictions" if path.exists() else "is not there"
            raise ValueError(f"{path} {problem}: name files that `graftline predict` or `graftline serve` wrote")
    return list(dict.fromkeys(files))


def read_answers(path: Path, columns: Sequence[str] = EVERY_COLUMN.names) -> pa.Table:
    """Return the rows of a file of answers, with these columns of EVERY_COLUMN; a column that the file lacks is null.

    Rows stand in the order in which they were answered. Those of a service have the time `answered_at` and the
    `model`; those that `predict` wrote have neither.

    Raises:
        ValueError: the file is damaged, or is not there.
    """
    try:
        if path.suffix.lower() == ".csv":
            table = _of_csv(path)
        elif path.suffix.lower() == ".json":
            table = pa.Table.from_pylist(json.loads(path.read_text("utf-8")), schema=EVERY_COLUMN)
        else:
            table = pq.read_table(path, columns=[name for name in pq.read_schema(path).names if name in columns])
        fields = [EVERY_COLUMN.field(name) for name in columns]
        cells = [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in fields
        ]
        return pa.table(cells, schema=pa.schema(fields))
    except (*BROKEN, RecursionError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({one_line(error)}): leave it out, or predict again") from error


def _of_csv(path: Path) -> pa.Table:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows = [{name: of_a_cell(cell) for name, cell in row.items() if cell} for row in table.to_dict("records")]
    columns: dict[str, Any] = {}
    for name in table.columns:
        kind = EVERY_COLUMN.field(name).type
        texts = pa.array([row.get(name) for row in rows], pa.string())
        columns[name] = texts.cast(kind)
    return pa.table(columns)
