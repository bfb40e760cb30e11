"""Write a new segment of the embedding store as values are computed; a kill costs the values of the last seconds."""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.data.store.segments import KEY, checksums, naming, to_ids, values_of
from tasks.machine.files import fsync

FLUSH_SECONDS = 2.0  # of work that a kill may cost


class SegmentWriter:
    """A new segment. Its files are made with the first value, in the folder that `make_folder` returns."""

    def __init__(self, make_folder: Callable[[], Path], *, value_bytes: int, flush_seconds: float) -> None:
        self._make_folder = make_folder
        self._value_bytes = value_bytes
        self._flush_seconds = flush_seconds
        self._files: tuple[FileIO, FileIO] | None = None  # keys and values
        self._pending: list[bytes] = []  # keys whose values are written, but perhaps not on the disk yet
        self._flushed = 0.0  # seconds, of the monotonic clock
        self._is_broken = False

    def add(self, sample_ids: Sequence[str], values: NDArray[np.uint8]) -> None:
        """Add `values` (n, value_bytes), one a sample. Every process can read them after the next flush."""
        assert values.dtype == np.uint8
        assert values.shape == (len(sample_ids), self._value_bytes)
        if not len(sample_ids):
            return
        keys = np.zeros(len(sample_ids), KEY)
        keys["sample_id"] = to_ids(sample_ids)
        keys["checksum"] = checksums(keys["sample_id"], values)
        with self._whole_or_broken():
            if self._files is None:
                self._files = self._make_files()
                self._flushed = time.monotonic()
            _append(self._files[1], values.tobytes())
            self._pending.append(keys.tobytes())
        if time.monotonic() - self._flushed >= self._flush_seconds:
            self.flush()

    def close(self) -> None:
        """Flush and close the files. After an earlier error, only the values flushed before it are kept."""
        try:
            if not self._is_broken:
                self.flush()
        finally:
            for file in self._files or ():
                file.close()

    def flush(self) -> None:
        """Put the added values on the disk."""
        if self._files is None or not self._pending:
            return
        keys, values = self._files
        with self._whole_or_broken():
            _sync(values)
            _append(keys, b"".join(self._pending))
            _sync(keys)
            self._pending.clear()
        self._flushed = time.monotonic()

    @contextmanager
    def _whole_or_broken(self) -> Iterator[None]:
        """Write nothing more after an error.

        Keys and values may be out of step then, and a disk may report a failed write only once.
        """
        assert not self._is_broken
        try:
            yield
        except BaseException:
            self._is_broken = True
            raise

    def _make_files(self) -> tuple[FileIO, FileIO]:
        folder = self._make_folder()
        keys = folder / f"{secrets.token_hex(8)}.keys"
        files = FileIO(keys, "x"), FileIO(values_of(keys), "x")
        fsync(folder)
        return files


def _append(file: FileIO, content: bytes) -> None:
    rest = memoryview(content)
    with naming(Path(file.name)):
        while rest:
            rest = rest[file.write(rest) :]


def _sync(file: FileIO) -> None:
    with naming(Path(file.name)):
        os.fsync(file.fileno())
