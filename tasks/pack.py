"""A raw batch of many files in; the same batch in a few shards out, or the files again.

Readers of a batch see the same files at the same paths, so that nothing is trained again. Shards follow the order of
the paths, and the content of a file decides whether it is the last of its shard: a batch that is mended changes the
shards of the mended files alone, and equal batches give equal bytes.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.data.raw.entries import readable
from tasks.data.raw.files import walk
from tasks.data.raw.options import PackOptions
from tasks.data.raw.usual_names import OTHER_TABLE_ENDINGS, TEXT_TABLE_ENDINGS, has_ending
from tasks.data.samples.contents import read_file, size_of
from tasks.data.samples.packed import INDEX, SHARD, SHARDS, Pack, Shard, open_pack
from tasks.data.samples.remote import asked, files_at, store_of
from tasks.machine.dvc_files import is_cached
from tasks.machine.files import fsync, remove, sha256
from tasks.machine.progress import progress
from tasks.stage.main import main

logger = logging.getLogger("graftline")

TABLES = (*TEXT_TABLE_ENDINGS, *OTHER_TABLE_ENDINGS)
LARGEST = 2**26  # bytes of a file that is packed; a larger one stays a file
GROUP_BYTES = 2**20  # of a row group, which is read for the sake of one file
GROUP_ROWS = 1000
INDEX_ROWS = 100_000  # of a row group of the index


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The files of a batch that are packed, sorted, and those that stay files: tables and very large ones."""

    packed: list[str]
    others: list[str]
    bytes: int  # of all of them
    bytes_of_others: int


def run(*, raw: Path, to: str | None, unpack: bool, list_files: bool, local: bool, ingest: PackOptions) -> None:
    """Pack a batch, or unpack it.

    Args:
        raw: the batch, a folder
        to: an address that fsspec knows, such as s3://bucket/photos, where the shards shall lie
        unpack: put the files back
        list_files: print the path, the bytes and the MD5 of every packed file, a JSON object a line
        local: refuse a batch whose shards lie at an address, as one from strangers may
    """
    recover(raw)
    if not raw.is_dir():
        raise ValueError(f"there is no folder {raw}: name a batch, such as data/raw/photos")
    if raw.is_symlink():
        raise ValueError(f"{raw} is a link: put the folder itself there, then pack")
    if not local and (pointer := next(raw.glob("*.dvc"), None)):
        raise ValueError(f"{raw} holds batches, such as {pointer.stem}: name one of them")
    if local:
        refuse_addresses(raw)
    pack = open_pack(raw)
    if (to is not None) + unpack + list_files > 1:
        raise ValueError("--to, --unpack and --list-files exclude each other: give one of them")
    if (unpack or list_files) and pack is None:
        raise ValueError(f"{raw} is not packed: it has no {INDEX}")
    if list_files:
        assert pack
        for row, path in enumerate(pack.paths.to_pylist()):
            content = pack.content(row)
            facts = {
                "path": path,
                "bytes": len(content),
                "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            }
            sys.stdout.write(json.dumps(facts) + "\n")
        return
    files = plan(raw)
    check_room(raw, files.bytes if to is None else 2 * ingest.shard_megabytes * 10**6 + files.bytes_of_others)
    if unpack:
        with swapped(raw) as beside:
            put_back(raw, [*files.packed, *files.others], beside)
        logger.info("unpacked %s: %s files", raw, f"{len(files.packed):,}")
        return
    if not files.packed:
        logger.info("%s has no files to pack: tables, and files above %s bytes, stay files", raw, f"{LARGEST:,}")
        return
    if pack and to in (None, pack.address) and len(pack) == len(files.packed):
        pack.check()
        logger.info("%s is packed already: %s files in %s", raw, f"{len(pack):,}", _shards(pack))
        return
    check_address(to)
    with swapped(raw) as beside:
        write_pack(raw, files.packed, beside, mean_bytes=ingest.shard_megabytes * 10**6, address=to)
        put_back(raw, files.others, beside)
    packed = Pack(raw)
    num_bytes = sum(shard.bytes for shard in packed.shards)
    stay = f"; {len(files.others):,} stay files" if files.others else ""
    place = f" at {to}" if to else ""
    logger.info(
        "packed %s: %s files in %s of %.1f MB%s%s",
        raw, f"{len(packed):,}", _shards(packed), num_bytes / 1e6, place, stay,
    )  # fmt: skip


def refuse_addresses(raw: Path) -> None:
    """Raise ValueError if an index in the batch leads to an address: its author would choose the data."""
    for index in sorted(raw.rglob(INDEX)):
        if (pack := open_pack(index.parent)) is not None and pack.address:
            raise ValueError(
                f"its {INDEX} names shards at {pack.address}: put the shards beside it, or make such a batch yourself "
                "with `python -m tasks.pack --raw … --to …`"
            )


def plan(raw: Path) -> Plan:
    """Return which files of a batch are packed.

    Raises:
        ValueError: a folder or a link could not be packed without a loss, or a file has a name that packs need.
    """
    paths, unread = walk(raw)
    if unread:
        raise ValueError(f"{raw / unread[0].path}: {unread[0].detail}: mend that, then pack")
    packed: list[str] = []
    others: list[str] = []
    num_bytes = bytes_of_others = 0
    for path in paths:
        place = raw / path
        if place.is_symlink() and not is_cached(place.resolve(), root=raw):
            raise ValueError(f"{place} is a link: put the file itself there, or remove it, then pack")
        if place.exists() and not place.is_file():
            raise ValueError(f"{place} is no regular file: remove it, then pack")
        if path == INDEX or SHARD.fullmatch(path):
            raise ValueError(f"{place} has the name of a file of a pack: rename it, then pack")
        size = size_of(place)
        num_bytes += size
        is_kept = has_ending(path, TABLES) or size > LARGEST or readable(path) != path or "\0" in path
        (others if is_kept else packed).append(path)
        bytes_of_others += size if is_kept else 0
    return Plan(packed=packed, others=others, bytes=num_bytes, bytes_of_others=bytes_of_others)


def check_room(raw: Path, num_bytes: int) -> None:
    """Raise OSError if the disk has no room for the bytes that are written beside a batch."""
    free = shutil.disk_usage(raw.parent).free
    if num_bytes > free:
        raise OSError(f"{raw} needs {num_bytes:,} bytes, and there is room for {free:,}: make room, then run again")


def check_address(address: str | None) -> None:
    """Raise ValueError unless shards can be put at the address."""
    if address is None:
        return
    scheme, _, path = address.rpartition("://")
    if not scheme or not path.strip("/") or address.endswith("/"):
        raise ValueError(f"--to is {address}, expected an address with a path, such as s3://bucket/photos")
    if "@" in path.split("/")[0]:
        raise ValueError("--to holds a user or a password: give them in the environment")


def write_pack(raw: Path, paths: list[str], out: Path, *, mean_bytes: int, address: str | None = None) -> None:
    """Write the shards and the index of the files `paths`, which are sorted, into the folder `out`.

    Args:
        mean_bytes: of a shard before compression; none but the last has less than a quarter or more than twice of that.
        address: where the shards go instead.
    """
    files = ((path, read_file(raw / path)) for path in paths)
    there = _listed(address) if address else {}
    sizes: list[int] = []
    shards = []
    for part in parts(progress(files, total=len(paths), what=f"pack {raw}", unit="files"), mean_bytes=mean_bytes):
        file = out / "shard.part"
        rows = write_shard(file, part, sizes=sizes)
        name = f"packed-{sha256(file)[:16]}.parquet"
        shard = Shard(name=name, rows=rows, bytes=file.stat().st_size)
        shards.append(shard)
        if address is None:
            file.rename(out / name)
        else:
            if there.get(name) != shard.bytes:
                upload(file, f"{address}/{name}")
            file.unlink()
    listed = json.dumps({"address": address, "shards": [asdict(shard) for shard in shards]}, sort_keys=True)
    index = pa.table({"path": pa.array(paths, pa.string()), "bytes": pa.array(sizes, pa.int64())})
    index = index.replace_schema_metadata({SHARDS: listed.encode()})
    pq.write_table(index, out / INDEX, row_group_size=INDEX_ROWS, compression="zstd", use_dictionary=False)


def parts(files: Iterable[tuple[str, bytes]], *, mean_bytes: int) -> Iterator[Iterator[tuple[str, bytes]]]:
    """Yield the files of one shard at a time; each has to be used up before the next is asked for."""
    source = iter(files)
    waiting = list(_first(source))

    def part() -> Iterator[tuple[str, bytes]]:
        num_bytes = 0
        while waiting:
            path, content = waiting.pop()
            yield path, content
            num_bytes += len(content)
            waiting.extend(_first(source))
            chance = int.from_bytes(hashlib.sha256(content).digest()[:8]) / 2**64
            if num_bytes >= mean_bytes / 4 and chance < len(content) / (0.75 * mean_bytes):
                return
            if waiting and num_bytes + len(waiting[0][1]) > 2 * mean_bytes:
                return

    while waiting:
        yield part()


def write_shard(file: Path, rows: Iterable[tuple[str, bytes]], *, sizes: list[int]) -> int:
    """Write a shard of files, add their sizes to `sizes`, and return their number."""
    schema = pa.schema([("path", pa.string()), ("content", pa.binary())])
    num_rows = 0
    with pq.ParquetWriter(file, schema, compression="zstd", compression_level=1, use_dictionary=False) as writer:
        group: list[tuple[str, bytes]] = []
        num_bytes = 0

        def write() -> None:
            names, contents = zip(*group, strict=True)
            writer.write_table(pa.table([pa.array(names, pa.string()), pa.array(contents, pa.binary())], schema=schema))

        for path, content in rows:
            if group and (num_bytes + len(content) > GROUP_BYTES or len(group) == GROUP_ROWS):
                write()
                group, num_bytes = [], 0
            group.append((path, content))
            num_bytes += len(content)
            sizes.append(len(content))
            num_rows += 1
        write()
    return num_rows


def upload(file: Path, address: str) -> None:
    """Put a file at an address. Raises OSError where it cannot be put there whole."""
    files, path = store_of(address)
    asked(address, lambda: files.put_file(str(file), path))
    if (size := asked(address, lambda: files.info(path))["size"]) != file.stat().st_size:
        raise OSError(f"{address} has {size} bytes, expected {file.stat().st_size}: run again")


def put_back(raw: Path, paths: Iterable[str], out: Path) -> None:
    """Write the files `paths` of a batch, packed or not, as files into `out`, and its empty folders."""
    for path in paths:
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if (raw / path).is_file():
            shutil.copy(raw / path, target)
        else:
            target.write_bytes(read_file(raw / path))
    for folder, folders, files in os.walk(raw):
        if not folders and not files:
            (out / Path(folder).relative_to(raw)).mkdir(parents=True, exist_ok=True)


@contextmanager
def swapped(raw: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it takes the place of `raw` when the block ends well. Until then `raw` stays.

    Between the two renames there is no `raw`; `recover` then puts it back.
    """
    beside, aside = _beside(raw)
    beside.mkdir()
    try:
        yield beside
        for folder, _, files in os.walk(beside):
            for name in files:
                fsync(Path(folder, name))
            fsync(Path(folder))
        raw.rename(aside)
        beside.rename(raw)
        fsync(raw.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    shutil.rmtree(aside)


def recover(raw: Path) -> None:
    """Put back the batch that a killed run moved aside, and remove its other remains."""
    beside, aside = _beside(raw)
    remove(beside)
    if raw.exists():
        remove(aside)
    elif aside.is_dir():
        aside.rename(raw)


def _beside(raw: Path) -> tuple[Path, Path]:
    return raw.with_name(f".{raw.name}.packing"), raw.with_name(f".{raw.name}.before")


def _first(source: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    if (item := next(source, None)) is not None:
        yield item


def _listed(address: str) -> dict[str, int]:
    """Return the sizes of the shards that an earlier run put at an address, which may have nothing yet."""
    try:
        return files_at(address)
    except OSError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return {}
        raise


def _shards(pack: Pack) -> str:
    return f"{len(pack.shards):,} shard{'s' if len(pack.shards) > 1 else ''}"


if __name__ == "__main__":
    main(run)
