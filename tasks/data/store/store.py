"""The embedding store: what a recipe made of a sample goes in under the sample's id, and comes back bit by bit.

    <store>/graftline-store.json           says that this folder is a store, and in which format
    <store>/<fingerprint>/recipe.json      what the values are made by, and how many bytes each has
    <store>/<fingerprint>/<token>.keys     with <token>.values: what one run added, see tasks/data/store/segments.py

Any number of runs on any number of machines may read and write a store at once, without locks: each appends to files of
its own, nothing that was written is changed, and what two runs made of one sample is equal.
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
from tasks.data.store.segments import checksums, find_keys, list_segments, open_values, read_values, to_ids, values_of
from tasks.machine.files import fsync, read_json, whole_file, write_json

MARKER = "graftline-store.json"
FORMAT = {"format": 1}
RECIPE = "recipe.json"
MOST_VALUE_BYTES = 2**24  # the feature maps of a large picture
CHUNK = 1024  # values that are read at once
MOST_HELD = 256  # files; many systems let a process open 1,024
PLACE = np.dtype([("segment", "<i4"), ("row", "<i8"), ("checksum", "<u4")])  # segment is -1 where there is no value


class Store:
    """What a store holds of one recipe: a dict that a value depends on besides the sample, and the size of a value.

    A folder is made where there is nothing. Raises ValueError where there is something else than a store.
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
        """The positions of the samples that have no value here."""
        with self.reader(sample_ids) as reader:
            return reader.missing

    def read(self, sample_ids: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
        """The values of the samples in their order, in chunks of (at most CHUNK, value_bytes).

        Raises ValueError before the first chunk where a sample has no value, and at a value that is damaged.
        """
        with self.reader(sample_ids) as reader:
            if len(reader.missing):
                raise ValueError(
                    f"{self.path} has no value of {len(reader.missing):,} of {len(sample_ids):,} samples, the first is "
                    f"{sample_ids[int(reader.missing[0])][:12]}: run embed again"
                )
            reader.mark_used()
            for start in range(0, len(sample_ids), CHUNK):
                yield reader.values(np.arange(start, min(start + CHUNK, len(sample_ids))))

    @contextmanager
    def reader(self, sample_ids: Sequence[str]) -> Iterator["Reader"]:
        """Knows where the values of these samples lie. Their files stay open until the end of the block, so that somebody
        may prune the store meanwhile."""
        ids, inverse = np.unique(to_ids(sample_ids), return_inverse=True)
        places = np.full(len(ids), -1, PLACE)
        segments: list[Path] = []
        descriptors: list[int | None] = []
        with ExitStack() as held:
            for keys in list_segments(self.folder):
                if (places["segment"] >= 0).all():
                    break
                at, rows, sums = find_keys(keys, ids)
                is_new = places["segment"][at] < 0
                if not is_new.any():
                    continue
                try:  # only now: on a network file system, opening is what shows how long a file has become
                    descriptor = held.enter_context(open_values(keys)) if len(segments) < MOST_HELD else None
                except FileNotFoundError:  # pruned a moment ago
                    continue
                places["segment"][at[is_new]] = len(segments)
                places["row"][at[is_new]] = rows[is_new]
                places["checksum"][at[is_new]] = sums[is_new]
                segments.append(keys)
                descriptors.append(descriptor)
            yield Reader(places[inverse], segments, descriptors, value_bytes=self.value_bytes)

    @contextmanager
    def writer(self, *, flush_seconds: float = FLUSH_SECONDS) -> Iterator[SegmentWriter]:
        """Takes values; they are safe, and others see them, at the first `add` that comes `flush_seconds` after the
        flush before, and at the end of the block, however it ends. A block that adds nothing leaves nothing."""
        writer = SegmentWriter(self._make_folder, value_bytes=self.value_bytes, flush_seconds=flush_seconds)
        try:
            yield writer
        finally:
            writer.close()

    def _make_folder(self) -> Path:
        self.folder.mkdir(exist_ok=True)
        if not (self.folder / RECIPE).exists():
            _put(self.folder / RECIPE, self.recipe)
            fsync(self.path)
        return self.folder


class Reader:
    """The values of (n,) samples, by their positions. Any number of threads may ask for them."""

    def __init__(
        self, places: NDArray[np.void], segments: list[Path], descriptors: list[int | None], *, value_bytes: int
    ) -> None:
        self._places = places  # (n,) of PLACE
        self._segments = segments  # the files of keys
        self._descriptors = (
            descriptors  # of the files of values; None beyond MOST_HELD, they are opened when they are read
        )
        self._value_bytes = value_bytes
        self.missing = np.flatnonzero(places["segment"] < 0)  # the positions that have no value

    def mark_used(self) -> None:
        """Prune asks when a segment was last used."""
        for keys in self._segments:
            with suppress(OSError):  # a store that may only be read
                os.utime(keys)

    def values(self, positions: NDArray[np.intp]) -> NDArray[np.uint8]:
        """(k,) -> (k, value_bytes). Raises ValueError at a value that is damaged."""
        places = self._places[positions]
        values = np.empty((len(places), self._value_bytes), np.uint8)
        for number in np.unique(places["segment"]):
            keys, descriptor = self._segments[number], self._descriptors[number]
            at = np.flatnonzero(places["segment"] == number)
            with open_values(keys) if descriptor is None else nullcontext(descriptor) as opened:
                values[at] = read_values(opened, places["row"][at], value_bytes=self._value_bytes, keys=keys)
            if (checksums(values[at]) != places["checksum"][at]).any():
                raise damage(values_of(keys), "holds a value that does not match its checksum")
        return values


def is_store(path: Path) -> bool:
    """Whether there is a store; it is none where there is nothing yet. Raises ValueError where there is something else,
    or a store of another format."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file, expected the folder of an embedding store: name an empty or new folder")
    is_foreign = path.exists() and any(not each.name.startswith(".") for each in path.iterdir())
    if not (path / MARKER).exists():  # asked last: where others make the store just now, the marker comes first
        if is_foreign:
            raise ValueError(f"{path} holds other files and no embedding store: name an empty or new folder")
        return False
    found = _read(path / MARKER)
    if found != FORMAT:
        raise ValueError(
            f"{path / MARKER} says {json.dumps(found)[:100]}, expected {json.dumps(FORMAT)}: name another folder, or "
            "use the version of graftline that made this one"
        )
    return True


def list_recipes(path: Path) -> list[Path]:
    """The folders of a store's recipes, sorted."""
    named = (each for each in path.iterdir() if re.fullmatch("[0-9a-f]{64}", each.name))
    return sorted(each for each in named if each.is_dir() and not each.is_symlink())  # a link may lead anywhere


def read_recipe(folder: Path) -> dict[str, Any]:
    """The recipe and `value_bytes`. Raises ValueError where the file says something else than the folder's name."""
    content = _read(folder / RECIPE)
    found: dict[str, Any] = content if isinstance(content, dict) else {}
    size = found.get("value_bytes")
    if type(size) is not int or not 0 < size <= MOST_VALUE_BYTES or fingerprint_of(found) != folder.name:
        raise damage(folder / RECIPE, "does not say what its folder is named after")
    return found


def fingerprint_of(recipe: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a recipe."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def damage(path: Path, what: str) -> ValueError:
    """Of a file in the folder of a recipe."""
    store = path.parent.parent
    return ValueError(
        f"{path} {what}: run `python -m tasks.prune --store {shlex.quote(str(store))} --damaged`, then run the stage again, which makes anew "
        "what that removes"
    )


def _read(path: Path) -> Any:
    """The content of a JSON file, None where it has none to read."""
    try:
        return read_json(path)
    except (ValueError, RecursionError):
        return None


def _put(path: Path, content: Mapping[str, Any]) -> None:
    """Whole, also where several runs put the same at once."""
    own = path.with_name(f".{secrets.token_hex(8)}.{path.name}")
    with whole_file(own) as beside:
        write_json(beside, content)
    own.replace(path)
    fsync(path.parent)
