"""Takes one folder or file that a person names: it becomes a tracked and listed batch, as one of a landing does."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from flows.landing.arrivals import arrival_of, begun, content_of, finish, record, settle, unfinished
from flows.landing.copies import Log, copy, size
from flows.landing.enlist import enlist
from flows.landing.intake import refuse_changed
from flows.landing.listing import LandedBatch, Landing
from flows.landing.options import MARKER
from flows.landing.packing import packed, taken_before
from flows.landing.places import LocalFolder
from flows.workspace import paths
from flows.workspace.batches import (
    digest_of,
    extent_of,
    fit_name,
    forget,
    free_name,
    listed,
    namesakes,
    tracked,
)
from flows.workspace.dvc import dvc
from flows.workspace.hashes import hash_of, sizes
from flows.workspace.parameters import pack_above
from tasks.data.raw.usual_names import PATHS, TEXT_TABLE_ENDINGS, has_ending, is_table_of_labels
from tasks.machine.dvc_files import dvc_settings
from tasks.machine.names import on_one_line

LINKS = "reflink,hardlink,symlink"

LONGEST_HEADER = 2**16  # bytes


@dataclass(frozen=True, kw_only=True)
class Handed:
    """A batch that a person handed in."""

    batch: str
    is_new: bool


def source_of(path: Path, *, may_be_texts: bool) -> Path:
    """Return the folder or file that a person means as a batch.

    A table of labels that names files stands for their folder, and so does every table but Parquet, unless it may be a
    table of texts.

    Raises:
        ValueError: it can be no batch.
    """
    path = path.expanduser()
    if not path.exists():
        raise ValueError(f"there is nothing at {path}: name a folder of samples, a table or a Parquet file")
    path = path.resolve()
    if path.is_file() and not has_ending(path.name, TEXT_TABLE_ENDINGS):
        if path.suffix.lower() == ".json":
            raise ValueError(f"{path} is no table that is read: write it as JSON Lines (.jsonl), an object a line")
        raise ValueError(f"{path} is a file: name the folder that it lies in, or a table")
    is_parquet = path.suffix.lower() == ".parquet"
    if path.is_file() and not is_parquet and (not may_be_texts or _names_files(path)):
        path = path.parent
    inside, root = paths.raw().resolve(), Path.cwd().resolve()
    holds_project = root.is_relative_to(path) or inside.is_relative_to(path)
    if holds_project or (path.is_relative_to(inside) and path.parent != inside):
        raise ValueError(f"{path} is no place for a batch: name one folder of samples, outside of this project")
    return path


def take_handed(source: Path, *, name: str | None, log: Log) -> Handed:
    """Copy a batch into this project, have DVC track it, and list it. A batch that is there already stays.

    Args:
        source: a result of `source_of`.
        name: the name of the batch; None for that of the source.

    Raises:
        OSError: it cannot be copied.
        ValueError: it is empty, has a file that cannot be taken, or has files of an earlier batch.
        DvcError: DVC fails.
    """
    complete_unfinished(log)
    if source.parent == paths.raw().resolve():
        return _take_in_place(source.name, name=name, log=log)
    landing = Landing(LocalFolder(source.parent), marker=MARKER)
    batch = landing.named(source.name)
    if batch.problem:
        raise ValueError(batch.problem)
    if not batch.files:
        raise ValueError(f"{source} is empty: name a folder with samples in it")
    if known := _same(batch, source):
        return _known(known, log=log)
    fit = fit_name(_named(name, source))
    if known := taken_before(batch, namesakes(fit), store=landing.store):
        return _known(known, log=log)
    refuse_changed(batch, namesakes(fit), landing)
    with begun() as place:
        digest = copy(batch, content_of(place), store=landing.store, log=log)
        if landing.again(batch).files != batch.files:
            raise ValueError(f"{source} changed while it was copied: run again once it is whole")
        digest = packed(batch, content_of(place), digest=digest, log=log)
        if (known := tracked().get(digest)) and os.path.lexists(paths.raw() / known):
            return _known(known, log=log)
        arrival = arrival_of(batch, name=known or free_name(fit, digest), digest=digest, landing=landing)
        record(arrival, place=place)
    settle(arrival, place=place, log=log)
    finish(place)
    return Handed(batch=arrival.batch, is_new=True)


def complete_unfinished(log: Log) -> None:
    """Settle the batches whose copies a killed run left. Raises ValueError where a journal is torn."""
    for place, arrival in unfinished():
        if isinstance(arrival, ValueError):
            raise arrival
        log(f"{arrival.batch} was on its way when an earlier run ended: going on")
        settle(arrival, place=place, log=log)
        finish(place)


def link_batches(log: Log) -> None:
    """Have DVC link data/raw to its cache from now on, so that a batch takes its room once; a person's choice stays."""
    types = dvc_settings().get("cache", "type", fallback="").strip("\"' ")
    if types and types != "copy":
        return
    dvc("config", "--local", "cache.type", LINKS, log=log)
    log(
        f"cache.type of this checkout is {LINKS} now: a batch takes its room once, in DVC's cache, and its files here "
        "are links that nobody can write to; `dvc config --local --unset cache.type` undoes it"
    )


def _names_files(table: Path) -> bool:
    """Return whether a table is called like one of labels and has a column of paths."""
    if not is_table_of_labels(table.name):
        return False
    with table.open("rb") as file:
        first = file.readline(LONGEST_HEADER).decode("utf-8-sig", "replace")
    try:
        row = json.loads(first)
        columns = list(row) if isinstance(row, dict) else []
    except (ValueError, RecursionError):  # no JSON Lines, so its first line has the columns
        columns = re.split(r"[,;\t]", first)
    return any(column.strip(" \"'\r\n").lower() in PATHS for column in columns)


def _take_in_place(batch: str, *, name: str | None, log: Log) -> Handed:
    """Track and list a batch that a person put into the folder of raw data."""
    if name not in (None, batch) or fit_name(batch) != batch:
        raise ValueError(f"{paths.raw() / batch} has its name already: rename it to {fit_name(name or batch)}")
    is_new = batch not in listed()
    place, most = paths.raw() / batch, pack_above()
    if most is not None and place.is_dir() and len(sizes(place)) > most:
        log(
            f"{batch} has more than {most:,} files, with which DVC is slow: `python -m tasks.pack --raw {place}` "
            "packs it"
        )
    if not digest_of(batch):
        forget(batch)
        dvc("add", str(paths.raw() / batch), log=log)
    enlist(batch, log=log)
    return Handed(batch=batch, is_new=is_new)


def _same(batch: LandedBatch, source: Path) -> str | None:
    """Return the tracked batch with the same content, if its files are here; only one of its extent is compared."""
    extent = (len(batch.files), batch.bytes)
    alike = [name for name in tracked().values() if extent_of(name) == extent]
    digest = hash_of(source) if alike else ""
    return next((name for name in alike if digest_of(name) == digest and os.path.lexists(paths.raw() / name)), None)


def _known(batch: str, *, log: Log) -> Handed:
    is_new = batch not in listed()
    enlist(batch, log=log)
    return Handed(batch=batch, is_new=is_new)


def _named(name: str | None, source: Path) -> str:
    """Return the name for a batch; that of a file keeps its ending."""
    if name is None:
        return source.name
    return f"{name.removesuffix(source.suffix)}{source.suffix}" if source.is_file() else name


def described(batch: str) -> str:
    """Return the extent of a batch, in words."""
    num_files, num_bytes = extent_of(batch)
    return f"{on_one_line(batch)} ({num_files:,} files, {size(num_bytes)})"
