"""Read a segment of the embedding store: two files, keys and values, to which one run has appended.

    <token>.keys    records of 36 bytes: a sample's id as 32 bytes, the CRC-32 of id and value (little endian)
    <token>.values  the values in the order of the keys, all of one size

Values are on the disk before their keys are written, so every key has its value. Bytes that a kill or a power loss
leaves behind the last whole key are ignored. Files are read by position and never mapped: a mapped file that is cut
short kills the process, and mapped pages count as its memory.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

READING = os.O_RDONLY | os.O_NONBLOCK  # opening a pipe that somebody put there does not wait
ID_BYTES = 32
BLOCK = 65_536  # keys that are read at once
KEY = np.dtype(
    {
        "names": ["sample_id", "head", "checksum"],  # head: the first 8 bytes of the id, as a number
        "formats": ["S32", ">u8", "<u4"],
        "offsets": [0, 0, 32],
        "itemsize": 36,
    }
)

Ids = NDArray[np.bytes_]  # (n,) of 32 bytes


def list_segments(folder: Path) -> list[Path]:
    """Return the key files of a folder, sorted; an empty list if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            keys = [entry for entry in entries if entry.name.endswith(".keys")]
            return sorted(Path(entry.path) for entry in keys if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []


def values_of(keys: Path) -> Path:
    return keys.with_suffix(".values")


def find_keys(path: Path, ids: Ids) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.uint32]]:
    """Return which of the sorted `ids` have a key here: their positions, rows and checksums, each (m,), by row."""
    heads = ids.view(">u8")[::4].astype(np.uint64)  # searching numbers is faster than searching strings
    positions, rows, sums = [np.empty(0, np.intp)], [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
    for first, keys in read_keys(path):
        head = keys["head"].astype(np.uint64)
        near = np.flatnonzero(heads[np.searchsorted(heads, head).clip(max=len(ids) - 1)] == head)
        position = np.searchsorted(ids, keys["sample_id"][near]).clip(max=len(ids) - 1)
        is_same = ids[position] == keys["sample_id"][near]
        positions.append(position[is_same])
        rows.append(first + near[is_same])
        sums.append(keys["checksum"][near[is_same]])
    return np.concatenate(positions), np.concatenate(rows), np.concatenate(sums)


def read_keys(path: Path, *, block: int = BLOCK) -> Iterator[tuple[int, NDArray[np.void]]]:
    """Yield blocks of whole keys, (n,) of KEY, with the row of the first key; nothing if the file is gone."""
    try:
        descriptor = os.open(path, READING)
    except FileNotFoundError:
        return
    try:
        row = 0
        while True:
            content = _pread(descriptor, block * KEY.itemsize, row * KEY.itemsize, path=path)
            keys = np.frombuffer(content, KEY, count=len(content) // KEY.itemsize)
            if not len(keys):
                return
            yield row, keys
            row += len(keys)
    finally:
        os.close(descriptor)


@contextmanager
def open_values(keys: Path) -> Iterator[int]:
    """Yield a descriptor of the values that belong to a file of keys."""
    descriptor = os.open(values_of(keys), READING)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_values(descriptor: int, rows: NDArray[np.int64], *, value_bytes: int, keys: Path) -> NDArray[np.uint8]:
    """Return the values of some rows, in their order: (n, value_bytes).

    A value behind the end of the file is filled with zeros, which its checksum refutes.
    """
    values = np.zeros((len(rows), value_bytes), np.uint8)
    order = np.argsort(rows, kind="stable")
    for run in np.split(order, np.flatnonzero(np.diff(rows[order]) != 1) + 1):  # adjacent rows are read at once
        if len(run):
            size, offset = len(run) * value_bytes, int(rows[run[0]]) * value_bytes
            content = _pread(descriptor, size, offset, path=values_of(keys)).ljust(size, b"\0")
            values[run] = np.frombuffer(content, np.uint8).reshape(len(run), value_bytes)
    return values


def segment_bytes(keys: Path) -> int:
    values = values_of(keys)
    return keys.stat().st_size + (values.stat().st_size if values.exists() else 0)


def remove_segment(keys: Path) -> None:
    values_of(keys).unlink(missing_ok=True)
    keys.unlink(missing_ok=True)  # last, so that another removal can find the segment


def checksums(ids: Ids, values: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each id followed by its row of (n, value_bytes): a changed id finds another's value."""
    names, rows = np.ascontiguousarray(ids).view(np.uint8).reshape(len(ids), ID_BYTES), np.ascontiguousarray(values)
    sums = (zlib.crc32(row.data, zlib.crc32(name.data)) for name, row in zip(names, rows, strict=True))
    return np.fromiter(sums, np.uint32, count=len(rows))


def to_ids(sample_ids: Sequence[str]) -> Ids:
    """Return the 32 bytes of each SHA-256 in hex. Raises ValueError with an id that is not a SHA-256."""
    ids = np.empty(len(sample_ids), "S32")
    for start in range(0, len(ids), 1024):  # few objects at a time
        raw = b"".join(map(_to_id, sample_ids[start : start + 1024]))
        ids[start : start + 1024] = np.frombuffer(raw, "S32")
    return ids


def from_ids(ids: Ids) -> list[str]:
    """Return the ids in hex, the inverse of `to_ids`."""
    text = ids.tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


def _to_id(sample_id: str) -> bytes:
    try:
        raw = bytes.fromhex(sample_id)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ValueError(f"the sample id {sample_id!r} is not a SHA-256 in hex: scan its batch again")
    return raw


def _pread(descriptor: int, size: int, offset: int, *, path: Path) -> bytes:
    """Return `size` bytes, or fewer where the file ends."""
    parts: list[bytes] = []
    with naming(path):
        while size and (part := os.pread(descriptor, size, offset)):
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the name of the file to errors of an open file."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
