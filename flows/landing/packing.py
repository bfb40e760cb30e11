"""Packs a copied batch of many files into shards, before DVC tracks it, and compares packed batches with others."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from flows.landing.copies import Log, inside
from flows.landing.listing import LandedBatch
from flows.landing.places import LandedFile, Store
from flows.workspace import paths
from flows.workspace.hashes import hash_of, md5, md5_of, sizes
from flows.workspace.parameters import pack_above

INDEX = "packed.parquet"  # as tasks.data.samples.packed calls it
OWN = re.compile(r"packed(-[0-9a-f]{16})?\.parquet")  # the index and the shards

Facts = tuple[int, Callable[[], str]]  # of a file: its bytes, and a function that returns DVC's hash of it


def packed(batch: LandedBatch, content: Path, *, digest: str, log: Log) -> str:
    """Pack the copy of a batch if it has more files than `ingest.pack_above`, and return DVC's hash of it.

    A copy that is packed already is checked.

    Args:
        digest: DVC's hash of the copy as it is.

    Raises:
        ValueError: it cannot be packed, or its shards are not whole, or lie elsewhere.
    """
    most = pack_above()
    is_large = most is not None and len(batch.files) > most
    if not content.is_dir() or not (is_large or any(PurePosixPath(file.path).name == INDEX for file in batch.files)):
        return digest
    done = _pack("--raw", str(content), "--local")
    log(done.stderr.strip().splitlines()[-1].replace(str(content), batch.name))
    return hash_of(content)


def taken_before(batch: LandedBatch, earlier: Iterable[str], *, store: Store) -> str | None:
    """Return the packed batch among the earlier ones that has the same files; DVC's hash does not show that."""
    for name in sorted(earlier):
        path = paths.raw() / name
        if (path / INDEX).is_file():
            here = _files_of(path)
            alike = len(here) == len(batch.files) and all(_is_in(here, batch, file, store) for file in batch.files)
            if alike:
                return name
    return None


def num_files_if_overlapping(batch: LandedBatch, path: Path, *, store: Store) -> int | None:
    """Return the number of an earlier batch's files; None unless both batches have a file of one name and content."""
    here = _files_of(path)
    return len(here) if any(_is_in(here, batch, file, store) for file in batch.files) else None


def _is_in(here: Mapping[str, Facts], batch: LandedBatch, file: LandedFile, store: Store) -> bool:
    size, digest = here.get(inside(batch, file), (-1, str))
    return size == file.size and md5_of(store.blocks(file.path)) == digest()


def _files_of(path: Path) -> dict[str, Facts]:
    """Return the facts of each file of a batch, packed or not."""
    on_disk = sizes(path)
    if INDEX not in on_disk:
        return {name: (size, partial(md5, path / name)) for name, size in on_disk.items()}
    lines = _pack("--raw", str(path), "--list-files").stdout.splitlines()
    files = {name: (size, partial(md5, path / name)) for name, size in on_disk.items() if not OWN.fullmatch(name)}
    return files | {file["path"]: (file["bytes"], partial(str, file["md5"])) for file in map(json.loads, lines)}


def _pack(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tasks.pack", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["tasks.pack ended without a message"]
        raise ValueError(lines[-1].removeprefix("error: "))
    return done
