"""Keep the values that recipes compute from samples in an embedding store, and return them bit by bit.

    <store>/graftline-store.json           marks the folder as a store, and holds its format
    <store>/<fingerprint>/recipe.json      the recipe of the values, and the bytes of a value
    <store>/<fingerprint>/<token>.keys     with <token>.values: the values of one run, see tasks/data/store/segments.py

Any number of runs on any number of machines may read and write a store at once, without locks: a run appends to its own
files, no written byte is changed, and all runs compute the same value for a sample.
"""

import hashlib
import json
import os
import re
import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.store.segment_writer import FLUSH_SECONDS, SegmentWriter
from tasks.data.store.segments import (
    Ids,
    checksums,
    find_keys,
    list_segments,
    open_values,
    read_values,
    to_ids,
    values_of,
)
from tasks.machine.files import fsync, read_json, whole_file, write_json

MARKER = "graftline-store.json"
FORMAT = {"format": 1}
RECIPE = "recipe.json"
MOST_VALUE_BYTES = 2**24  # the feature maps of a large image
CHUNK = 1024  # values that are read at once
MOST_HELD = 256  # open files; many systems let a process open 1,024
PLACE = np.dtype([("segment", "<i4"), ("row", "<i8"), ("checksum", "<u4")])  # segment is -1 if there is no value


class Store:
    """The values of one recipe in a store, whose folder is made if it does not exist.

    Args:
        recipe: everything, besides the sample, that a value depends on.
        value_bytes: the size of a value.

    Raises:
        ValueError: `path` is something other than a store.
    """

    def __init__(self, path: Path, *, recipe: Mapping[str, Any], value_bytes: int) -> None:
        assert 0 < value_bytes <= MOST_VALUE_BYTES
        assert "value_bytes" not in recipe
        self.path = path
        self.value_bytes = value_bytes
        self.recipe = {**recipe, "value_bytes": value_bytes}
        self.fingerprint = fingerprint_of(self.recipe)
        self.folder = path / self.fingerprint
        if not is_store(path):
            path.mkdir(parents=True, exist_ok=True)
            _put(path / MARKER, FORMAT)
            fsync(path.absolute().parent)
        if (self.folder / RECIPE).exists():
            read_recipe(self.folder)

    def missing(self, sample_ids: Sequence[str]) -> NDArray[np.intp]:
        """Return the positions of the samples that have no value here."""
        with self.reader(sample_ids) as reader:
            return reader.missing

    def read(self, sample_ids: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        """Yield the values of the samples in their order, in chunks of (at most CHUNK, value_bytes).

        Raises:
            ValueError: a sample has no value (before the first chunk), or a value is damaged.
        """
        with self.reader(sample_ids) as reader:
            if len(reader.missing):
                raise ValueError(
                    f"{self.path} has no value for {len(reader.missing):,} of {len(sample_ids):,} samples, "
                    f"the first is {sample_ids[int(reader.missing[0])][:12]}: run embed again"
                )
            reader.mark_used()
            for start in range(0, len(sample_ids), CHUNK):
                yield reader.values(np.arange(start, min(start + CHUNK, len(sample_ids))))

    @contextmanager
    def reader(self, sample_ids: Sequence[str]) -> Iterator["Reader"]:
        """Yield a reader of the values of these samples.

        Their files stay open until the end of the block, so that the store may be pruned meanwhile.
        """
        ids, inverse = np.unique(to_ids(sample_ids), return_inverse=True)
        places = np.full(len(ids), -1, PLACE)
        segments: list[Path] = []
        descriptors: list[int | None] = []
        with ExitStack() as held:
            for keys in list_segments(self.folder):
                if (places["segment"] >= 0).all():
                    break
                positions, rows, sums = find_keys(keys, ids)
                is_new = places["segment"][positions] < 0
                if not is_new.any():
                    continue
                try:  # after the keys were read: on a network file system, opening a file refreshes its length
                    descriptor = held.enter_context(open_values(keys)) if len(segments) < MOST_HELD else None
                except FileNotFoundError:  # pruned a moment ago
                    continue
                places["segment"][positions[is_new]] = len(segments)
                places["row"][positions[is_new]] = rows[is_new]
                places["checksum"][positions[is_new]] = sums[is_new]
                segments.append(keys)
                descriptors.append(descriptor)
            yield Reader(ids[inverse], places[inverse], segments, descriptors, value_bytes=self.value_bytes)

    @contextmanager
    def writer(self, *, flush_seconds: float = FLUSH_SECONDS) -> Iterator[SegmentWriter]:
        """Yield a writer of values. A flush puts them on the disk, and other runs can read them from then on.

        The writer flushes at the first `add` that comes `flush_seconds` after the last flush, and at the end of the
        block, however that ends. A block that adds nothing makes no file.
        """
        writer = self.segment(flush_seconds=flush_seconds)
        try:
            yield writer
        finally:
            writer.close()

    def segment(self, *, flush_seconds: float = FLUSH_SECONDS) -> SegmentWriter:
        """Return a writer of values whose owner flushes and closes it; see `writer`."""
        return SegmentWriter(self._make_folder, value_bytes=self.value_bytes, flush_seconds=flush_seconds)

    def _make_folder(self) -> Path:
        if self.folder.is_symlink():
            raise ValueError(f"{self.folder} is a link, which may lead anywhere: remove it")
        self.folder.mkdir(exist_ok=True)
        if not (self.folder / RECIPE).exists():
            _put(self.folder / RECIPE, self.recipe)
            fsync(self.path)
        return self.folder


class Reader:
    """The values of n samples, by their positions. Any number of threads may read them."""

    def __init__(
        self,
        ids: Ids,
        places: NDArray[np.void],
        segments: list[Path],
        descriptors: list[int | None],
        *,
        value_bytes: int,
    ) -> None:
        self._ids = ids  # (n,)
        self._places = places  # (n,) of PLACE
        self._segments = segments  # the files of keys
        self._descriptors = descriptors  # of the files of values; None beyond MOST_HELD: those are opened when read
        self._value_bytes = value_bytes
        self.missing = np.flatnonzero(places["segment"] < 0)  # the positions of samples without a value

    def mark_used(self) -> None:
        """Mark the segments as used now; `prune` removes those that were not used for long."""
        for keys in self._segments:
            with suppress(OSError):  # the store is read-only
                os.utime(keys)

    def values(self, positions: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the values at positions (k,) as (k, value_bytes). Raises ValueError where a value is damaged."""
        places = self._places[positions]
        values = np.empty((len(places), self._value_bytes), np.uint8)
        for number in np.unique(places["segment"]):
            keys, descriptor = self._segments[number], self._descriptors[number]
            at = np.flatnonzero(places["segment"] == number)
            with open_values(keys) if descriptor is None else nullcontext(descriptor) as opened:
                values[at] = read_values(opened, places["row"][at], value_bytes=self._value_bytes, keys=keys)
            if (checksums(self._ids[positions[at]], values[at]) != places["checksum"][at]).any():
                raise damage(values_of(keys), "holds a value that does not match its checksum")
        return values


def is_store(path: Path) -> bool:
    """Return whether there is a store; False if the folder is empty or does not exist.

    Raises:
        ValueError: there is a file, or a folder of other files, or a store of another format.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file, expected the folder of an embedding store: name an empty or new folder")
    is_foreign = path.exists() and any(not entry.name.startswith(".") for entry in path.iterdir())
    if not (path / MARKER).exists():  # checked last: a run that makes the store meanwhile writes the marker first
        if is_foreign:
            raise ValueError(f"{path} holds other files and no embedding store: name an empty or new folder")
        return False
    marker = _read(path / MARKER)
    if marker != FORMAT:
        raise ValueError(
            f"{path / MARKER} says {json.dumps(marker)[:100]}, expected {json.dumps(FORMAT)}: name another folder, or "
            "use the version of graftline that made this store"
        )
    return True


def list_recipes(path: Path) -> list[Path]:
    """Return the folders of a store's recipes, sorted."""
    named = (folder for folder in path.iterdir() if re.fullmatch("[0-9a-f]{64}", folder.name))
    return sorted(folder for folder in named if folder.is_dir() and not folder.is_symlink())  # a link may lead anywhere


def read_recipe(folder: Path) -> dict[str, Any]:
    """Return the recipe with `value_bytes`. Raises ValueError where its fingerprint is not the folder's name."""
    content = _read(folder / RECIPE)
    recipe: dict[str, Any] = content if isinstance(content, dict) else {}
    size = recipe.get("value_bytes")
    if type(size) is not int or not 0 < size <= MOST_VALUE_BYTES or fingerprint_of(recipe) != folder.name:
        raise damage(folder / RECIPE, "is not the recipe that its folder is named after")
    return recipe


def fingerprint_of(recipe: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of a recipe."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def damage(path: Path, what: str) -> ValueError:
    """Return the error for a damaged file in the folder of a recipe."""
    store = path.parent.parent
    return ValueError(
        f"{path} {what}: run `python -m tasks.prune --store {shlex.quote(str(store))} --damaged` to remove what is "
        "damaged, then run the stage again to compute it anew"
    )


def _read(path: Path) -> Any:
    """Return the content of a JSON file, or None if it cannot be read."""
    try:
        return read_json(path)
    except (ValueError, RecursionError):
        return None


def _put(path: Path, content: Mapping[str, Any]) -> None:
    """Write a whole JSON file, even if several runs write it at once."""
    own = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    with whole_file(own) as beside:
        write_json(beside, content)
    own.replace(path)
    fsync(path.parent)
