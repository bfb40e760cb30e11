"""An embedding store in; a list of its recipes out, or the store without a recipe, unused or damaged values."""

import errno
import logging
import secrets
import shutil
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.data.store.segments import (
    KEY,
    checksums,
    from_ids,
    list_segments,
    open_values,
    read_keys,
    read_values,
    remove_segment,
    segment_bytes,
    values_of,
)
from tasks.data.store.store import CHUNK, RECIPE, Store, is_store, list_recipes, read_recipe
from tasks.machine.files import remove
from tasks.stage.shell import run_verb

logger = logging.getLogger("graftline")

REMOVED = ".removed-"  # begins the name of a recipe's folder while it is being removed


def run(*, store: Path, recipe: str | None, unused_since: date | None, damaged: bool) -> None:
    """List the recipes of an embedding store, or remove values from it; embed computes missing ones anew.

    --recipe removes the recipe whose fingerprint begins with it, --unused-since the values that no run read or wrote
    since a day such as 2026-01-31, --damaged the values that do not match their checksums.
    """
    if not is_store(store):
        raise ValueError(f"there is no embedding store at {store}: name the folder of one")
    if (recipe is not None) + (unused_since is not None) + damaged > 1:
        raise ValueError("--recipe, --unused-since and --damaged exclude each other: give one of them")
    if recipe is not None:
        freed = remove_folder(choose(store, prefix=recipe))
    elif unused_since is not None:
        freed = remove_unused(store, since=unused_since)
    elif damaged:
        freed = remove_damaged(store)
    else:
        for folder in list_recipes(store):
            logger.info("%s", describe(folder))
        return
    for remnant in store.glob(f"{REMOVED}*"):  # of a prune that was killed
        freed += size_of(remnant)
        remove(remnant)
    logger.info("freed %s", freed)


def describe(folder: Path) -> str:
    """Return a line about a recipe."""
    try:
        recipe = read_recipe(folder)
        made_by = " ".join(str(recipe[key]) for key in ("architecture", "precision") if key in recipe)
    except ValueError:
        made_by = "damaged"
    used = [keys.stat().st_mtime for keys in list_segments(folder)]
    last_use = f"last used {datetime.fromtimestamp(max(used)).date()}" if used else "never used"
    return ", ".join(part for part in (folder.name[:12], made_by, str(size_of(folder)), last_use) if part)


def choose(store: Path, *, prefix: str) -> Path:
    """Return the folder of the recipe whose fingerprint begins with `prefix`. Raises ValueError unless there is one."""
    folders = list_recipes(store)
    chosen = [folder for folder in folders if prefix and folder.name.startswith(prefix)]
    if len(chosen) != 1:
        held = ", ".join(folder.name[:12] for folder in chosen or folders) or "none"
        raise ValueError(f"{prefix!r} begins the name of {len(chosen)} recipes of {store}, expected one of: {held}")
    return chosen[0]


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a part of a store. A sample that two runs embedded at once counts twice."""

    num_samples: int = 0
    num_bytes: int = 0

    def __add__(self, other: "Size") -> "Size":
        return Size(num_samples=self.num_samples + other.num_samples, num_bytes=self.num_bytes + other.num_bytes)

    def __str__(self) -> str:
        return f"{self.num_samples:,} samples, {self.num_bytes / 1e6:,.1f} MB"


def remove_unused(store: Path, *, since: date) -> Size:
    """Remove the segments that were last used before the day began, and recipes that have none left."""
    freed = Size()
    for folder in list_recipes(store):
        segments = list_segments(folder)
        unused = [keys for keys in segments if keys.stat().st_mtime < datetime.combine(since, time.min).timestamp()]
        freed = sum(map(removed, unused), freed)
        if unused and not list_segments(folder):
            freed += remove_folder(folder)
    return freed


def remove_damaged(store: Path) -> Size:
    """Remove the recipes whose recipe.json is damaged, and from others the values that do not match their checksums."""
    freed = Size()
    for folder in list_recipes(store):
        try:
            recipe = read_recipe(folder)
        except ValueError:
            if list_segments(folder):  # a run that begins just now has none yet
                logger.info("removed %s, whose %s is damaged", folder, RECIPE)
                freed += remove_folder(folder)
            continue
        value_bytes = recipe.pop("value_bytes")
        of_recipe = Store(store, recipe=recipe, value_bytes=value_bytes)
        for keys in list_segments(folder):
            freed += mend(keys, of_recipe)
    return freed


def mend(keys: Path, store: Store) -> Size:
    """Replace a segment that has damaged values by one of its whole values."""
    try:
        is_whole = verify(keys, value_bytes=store.value_bytes)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        logger.info("removed %s, which the disk cannot read", error.filename)
        return removed(keys)
    if is_whole.all():
        return Size()
    if is_whole.any():
        with store.writer() as writer, open_values(keys) as descriptor:
            for row, block in read_keys(keys, block=CHUNK):
                at = np.flatnonzero(is_whole[row : row + len(block)])
                values = read_values(descriptor, row + at, value_bytes=store.value_bytes, keys=keys)
                writer.add(from_ids(block["sample_id"][at]), values)
    num_whole, num_damaged = int(is_whole.sum()), int((~is_whole).sum())
    logger.info("removed %s damaged values of %s from %s", f"{num_damaged:,}", f"{len(is_whole):,}", values_of(keys))
    kept = num_whole * (KEY.itemsize + store.value_bytes)
    return Size(num_samples=num_damaged, num_bytes=removed(keys).num_bytes - kept)


def verify(keys: Path, *, value_bytes: int) -> NDArray[np.bool_]:
    """Return (n,): whether the values of a segment match their checksums."""
    is_whole = [np.empty(0, bool)]
    try:
        with open_values(keys) as descriptor:
            for row, block in read_keys(keys, block=CHUNK):
                rows = row + np.arange(len(block))
                values = read_values(descriptor, rows, value_bytes=value_bytes, keys=keys)
                is_whole.append(checksums(block["sample_id"], values) == block["checksum"])
    except FileNotFoundError:
        return np.zeros(keys.stat().st_size // KEY.itemsize, bool)
    return np.concatenate(is_whole)


def remove_folder(folder: Path) -> Size:
    """Remove a recipe. For other processes it disappears at once."""
    freed = size_of(folder)
    removed = folder.rename(folder.with_name(f"{REMOVED}{secrets.token_hex(8)}"))
    shutil.rmtree(removed)
    return freed


def size_of(folder: Path) -> Size:
    """Return the size of a recipe."""
    return sum(map(size_of_segment, list_segments(folder)), Size())


def size_of_segment(keys: Path) -> Size:
    return Size(num_samples=keys.stat().st_size // KEY.itemsize, num_bytes=segment_bytes(keys))


def removed(keys: Path) -> Size:
    """Remove a segment and return its size."""
    freed = size_of_segment(keys)
    remove_segment(keys)
    return freed


if __name__ == "__main__":
    run_verb(run)
