"""Keep the twins that were found, so that the next search compares the samples of new batches alone.

Whether two samples are twins depends on their vectors and hashes and on the limits alone. So the twins among batches
that did not change are found again, to the last bit. Two searches are left: the new batches against the whole other
side, and the batches before them against new samples of the other side.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tasks.data.health.bits import HashDistance
from tasks.data.health.near_duplicates import NO_TWINS, Pairs, Side, Twins, find_twins, nearest_twins
from tasks.data.vectors.embeddings import Part

Arrays = Mapping[str, NDArray[Any]]
Recipe = Mapping[str, str | float]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch: a digest of all that its samples have on both sides, and the number of them on each."""

    digest: str
    num_left: int
    num_right: int


def find_twins_of_new(
    left: Side,
    right: Side,
    *,
    batches: Sequence[Batch],
    kept: Path,
    code: str,
    distance: HashDistance,
    min_cosine: float,
    max_distance: int,
) -> Twins:
    """Return what `find_twins` returns, but compare only what was not compared before.

    A file in the folder `kept` has the last twins of a project. It counts if it is of these limits and this code, and
    if each of its batches is still there as it was. Then it is replaced by one of all batches.

    Args:
        batches: at least one; the samples of both sides are theirs, one batch after the other.
        code: a digest of the code that computes hashes and twins.
    """
    recipe: Recipe = {"code": code, "numpy": version("numpy"), "min_cosine": min_cosine, "max_distance": max_distance}
    digests = [batch.digest for batch in batches]
    file = kept / f"{digests[0]}.safetensors"  # projects may share the folder
    before, twins = _read(file, recipe=recipe)
    is_old = np.isin(digests, before)
    if [digest for digest, is_known in zip(digests, is_old, strict=True) if is_known] != before:
        is_old, twins = np.zeros_like(is_old), NO_TWINS
    old_left = np.repeat(is_old, [batch.num_left for batch in batches])
    old_right = np.repeat(is_old, [batch.num_right for batch in batches])
    parts = [twins.renumbered(np.flatnonzero(old_left), np.flatnonzero(old_right))]
    for rows, columns in ((~old_left, np.ones_like(old_right)), (old_left, ~old_right)):
        if rows.any() and columns.any():
            found = find_twins(
                _part(left, rows), _part(right, columns), distance=distance, min_cosine=min_cosine,
                max_distance=max_distance,
            )  # fmt: skip
            parts.append(found.renumbered(np.flatnonzero(rows), np.flatnonzero(columns)))
    twins = nearest_twins(parts)
    _write(file, twins, recipe=recipe, digests=digests)
    return twins


def _part(side: Side, rows: NDArray[np.bool_]) -> Side:
    if rows.all():
        return side
    return Side(vectors=Part(side.vectors, np.flatnonzero(rows)), hashes=side.hashes[rows])


def _arrays(twins: Twins) -> dict[str, NDArray[Any]]:
    sides = (("left", twins.left), ("right", twins.right))
    return {f"{side}.{field.name}": getattr(pairs, field.name) for side, pairs in sides for field in fields(Pairs)}


def _checksum(facts: str, arrays: Arrays) -> str:
    content = hashlib.sha256(facts.encode())
    for name, array in sorted(arrays.items()):
        content.update(name.encode() + array.tobytes())
    return content.hexdigest()


def _write(file: Path, twins: Twins, *, recipe: Recipe, digests: Sequence[str]) -> None:
    arrays = _arrays(twins)
    facts = json.dumps({"recipe": recipe, "batches": digests})
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=file.parent) as beside:  # another run may write the same file
        path = Path(beside, file.name)
        save_file(arrays, path, metadata={"facts": facts, "checksum": _checksum(facts, arrays)})
        path.replace(file)


def _read(file: Path, *, recipe: Recipe) -> tuple[list[str], Twins]:
    """Return the digests of the batches and their twins; none where there is no whole file of this recipe."""
    try:
        with safe_open(file, framework="np") as kept:
            metadata = kept.metadata() or {}
            arrays = {name: kept.get_tensor(name) for name in _arrays(NO_TWINS)}
    except (OSError, SafetensorError):
        return [], NO_TWINS
    text = metadata.get("facts", "")
    if metadata.get("checksum") != _checksum(text, arrays) or (facts := json.loads(text))["recipe"] != recipe:
        return [], NO_TWINS
    left, right = (
        Pairs(**{field.name: arrays[f"{side}.{field.name}"] for field in fields(Pairs)}) for side in ("left", "right")
    )
    return facts["batches"], Twins(left=left, right=right)
