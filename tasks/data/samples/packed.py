"""Read the files of a packed folder. Their bytes lie in shards, and an index names the row of each file.

The index `packed.parquet` has a row a file (path, bytes), sorted by path; its metadata list the shards. A shard has
the next rows (path, content). Shards lie beside the index, or at an address that fsspec knows. Code that lists or reads
files sees a packed one at the path that it had before.
"""

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.data.samples.parquet_cells import (
    BROKEN,
    UnreadableTableError,
    cells_of_group,
    one_line,
    open_table,
    read_cells,
    row_groups,
    stamp_of,
)
from tasks.data.samples.remote import RemoteFile, files_at

INDEX = "packed.parquet"
SHARD = re.compile(r"packed-[0-9a-f]{16}\.parquet")  # with the start of the SHA-256 of its bytes
SHARDS = b"graftline.shards"  # the key of the index's metadata
# a path that leaves its folder, or is not written in the one way that a listing writes it
NO_PATH = r"(^|/)\.{0,2}(/|$)|\x00"
FEWEST_BYTES = 2**26  # of paths that an index of any size may hold
LONGEST_PATH = 4096  # bytes, as Linux has it
BYTES_A_BYTE = 200  # of the index: sorted paths compress well
ROWS_A_BYTE = 8


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard as the index lists it."""

    name: str
    rows: int
    bytes: int


@dataclass(kw_only=True)
class Children:
    """The names of the files and folders directly in a folder."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)


class Pack:
    """A packed folder.

    Raises:
        UnreadableTableError: its index is no such index.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = folder / INDEX
        try:
            table = open_table(file)
            said = json.loads(table.schema_arrow.metadata[SHARDS])
            self.address: str | None = said["address"]
            self.shards = [Shard(**shard) for shard in said["shards"]]
            self.starts = list(accumulate((shard.rows for shard in self.shards[:-1]), initial=0))
            self.paths, self.sizes = _columns(file)
        except (*BROKEN, TypeError) as error:
            raise UnreadableTableError(f"{file} cannot be read ({one_line(error)}): restore it") from error
        named = all(SHARD.fullmatch(shard.name) and shard.rows > 0 for shard in self.shards)
        if not named or sum(shard.rows for shard in self.shards) != len(self.paths):
            raise UnreadableTableError(f"{file} lists other shards than its rows need: restore it")

    @property
    def own_files(self) -> set[str]:
        """The names of the files that make the pack."""
        return {INDEX, *(shard.name for shard in self.shards)}

    def check(self) -> None:
        """Raise UnreadableTableError, or OSError for an address, unless every shard is there with its size."""
        place = self.address or str(self.folder)
        if self.address:
            sizes = files_at(self.address)
        else:
            files = {shard.name: self.folder / shard.name for shard in self.shards}
            sizes = {name: file.stat().st_size for name, file in files.items() if file.is_file()}
        wrong = [shard for shard in self.shards if sizes.get(shard.name) != shard.bytes]
        if wrong:
            name, size = wrong[0].name, sizes.get(wrong[0].name)
            found = "is missing" if size is None else f"has {size} bytes, expected {wrong[0].bytes}"
            more = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
            restore = "put it there again" if self.address else f"restore it, or run `dvc pull {self.folder}.dvc`"
            raise UnreadableTableError(f"the shard {place}/{name} {found}{more}: {restore}")

    def children(self, folder: str) -> Children:
        """Return the files and folders directly in a folder of the packed files; the pack's own folder is ""."""
        prefix = f"{folder}/" if folder else ""
        row, end = bisect_left(self, prefix), bisect_left(self, _behind(folder)) if folder else len(self)
        found = Children()
        while row < end:
            name, slash, _ = self[row].removeprefix(prefix).partition("/")
            if slash:
                found.folders.add(name)
                row = bisect_left(self, _behind(prefix + name), row)
            else:
                found.files.add(name)
                row += 1
        return found

    def find(self, path: str) -> int | None:
        """Return the row of a file, by its path in the folder; None if it is not packed."""
        row = bisect_left(self, path)
        return row if row < len(self) and self[row] == path else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> str:
        return str(self.paths[row].as_py())

    def content(self, row: int) -> bytes:
        """Return the bytes of a file. Raises UnreadableTableError where they cannot be read."""
        number = bisect_right(self.starts, row) - 1
        shard = self.shards[number]
        place: Path | RemoteFile = self.folder / shard.name
        if self.address:
            place = RemoteFile(address=f"{self.address}/{shard.name}", size=shard.bytes)
        path, content = read_cells(place, ("path", "content"), row - self.starts[number], what="files")
        if path != self[row] or not isinstance(content, bytes) or len(content) != self.sizes[row].as_py():
            raise UnreadableTableError(f"the shard {shard.name} is not the one that {INDEX} lists: restore it")
        return content


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """A file in a pack."""

    pack: Pack
    row: int

    @property
    def size(self) -> int:
        """The number of its bytes."""
        return int(self.pack.sizes[self.row].as_py())

    def read(self) -> bytes:
        """Return its bytes. Raises UnreadableTableError where they cannot be read."""
        return self.pack.content(self.row)


def _behind(folder: str) -> str:
    """Return the first text that sorts behind all paths in a folder."""
    return folder + chr(ord("/") + 1)


def packed_file(path: Path) -> PackedFile | None:
    """Return the packed file that had this path, which is no file on disk; None if there is none."""
    for folder in path.parents:
        if (pack := open_pack(folder)) is not None:
            row = pack.find(path.relative_to(folder).as_posix())
            return None if row is None else PackedFile(pack=pack, row=row)
    return None


def pack_in(folder: Path, names: Collection[str]) -> Pack | None:
    """Return the pack of a folder that holds the files `names`, whose shards are all there; None if it is not packed.

    Raises:
        UnreadableTableError: the index or a shard is missing, or is not whole.
        OSError: the address of the shards cannot be read.
    """
    shards = sorted(name for name in names if SHARD.fullmatch(name))
    pack = open_pack(folder) if INDEX in names else None
    if pack is None:
        if shards:
            raise UnreadableTableError(f"{folder} holds the shard {shards[0]}, but no index {INDEX}: restore it")
        return None
    pack.check()
    return pack


def open_pack(folder: Path) -> Pack | None:
    """Return the pack of a folder; None if it has no index. A user's own table of that name is none."""
    try:
        stamp = stamp_of(folder / INDEX)
    except OSError:
        return None
    return _opened(folder, stamp)


@lru_cache(maxsize=16)
def _opened(folder: Path, stamp: tuple[int, int]) -> Pack | None:
    try:
        is_one = SHARDS in (open_table(folder / INDEX).schema_arrow.metadata or {})
    except BROKEN:
        is_one = any(SHARD.fullmatch(child.name) for child in folder.iterdir())
    return Pack(folder) if is_one else None


def _columns(file: Path) -> tuple[pa.LargeStringArray, pa.Int64Array]:
    """Return the paths (n,) and the sizes (n,) of an index. The cost of a stranger's index is bounded."""
    groups, size = row_groups(file, stamp_of(file)), file.stat().st_size
    if groups.num_rows > ROWS_A_BYTE * size:
        raise UnreadableTableError(f"it claims {groups.num_rows} rows in {size} bytes")
    paths: list[pa.Array] = []
    sizes: list[pa.Array] = []
    left = FEWEST_BYTES + BYTES_A_BYTE * size
    for group in range(len(groups.starts)):
        columns = cells_of_group(file, ("path", "bytes"), group, what="paths", most_bytes=left)
        if isinstance(columns, str):
            raise UnreadableTableError(columns)
        paths += columns[0].cast(pa.large_string()).chunks
        sizes += columns[1].cast(pa.int64()).chunks
        left -= columns[0].nbytes
    all_paths: Any = pa.concat_arrays(paths) if paths else pa.array([], pa.large_string())
    all_sizes: Any = pa.concat_arrays(sizes) if sizes else pa.array([], pa.int64())
    if all_paths.null_count or all_sizes.null_count:
        raise UnreadableTableError("it has a row without a path, or without a number of bytes")
    if pc.any(pc.match_substring_regex(all_paths, NO_PATH)).as_py():
        raise UnreadableTableError("it has a path that is absolute, or has '.' or '..' in it")
    if len(all_paths) and pc.max(pc.binary_length(all_paths)).as_py() > LONGEST_PATH:
        raise UnreadableTableError(f"it has a path of more than {LONGEST_PATH:,} bytes")
    if len(all_paths) > 1 and not pc.all(pc.less(all_paths[:-1], all_paths[1:])).as_py():
        raise UnreadableTableError("its paths are not sorted, or one appears twice")
    return all_paths, all_sizes
