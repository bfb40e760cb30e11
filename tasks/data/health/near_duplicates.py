"""Near-duplicates between two sets: vectors and perceptual hashes of both in; each sample's nearest twin on the other side out.

Exact and blockwise: a matrix product in float32 finds every pair whose cosine may be large enough, the hashes confirm or
refute each of these, and the cosine of what is left is computed again in float64. So the result does not depend on
how the work was cut, and the memory does not depend on what is found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.data.health.bits import HashDistance, hash_words
from tasks.data.vectors.embeddings import pair_cosines
from tasks.machine.cores import spread

TILE = (512, 4096)  # left x right samples
CHUNK = 8192  # pairs whose hashes are compared at once: what the processor's cache holds
ROUNDING = 1e-4  # far above the error of a float32 cosine


@dataclass(frozen=True, kw_only=True)
class Side:
    """Vectors (n, dim) of any float type and hashes (n, num_views, bytes), both may be memory-mapped."""

    vectors: NDArray[np.floating]
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Rows of both sides, their cosine and the distance of their hashes, each (n,)."""

    left: NDArray[np.intp]
    right: NDArray[np.intp]
    cosine: NDArray[np.float64]
    distance: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.left)

    def nearest(self, side: str) -> "Pairs":
        """One pair for each row of a side ("left" or "right"), sorted by it: the least distance, then the largest
        cosine, then the first row of the other side."""
        rows, others = (self.left, self.right) if side == "left" else (self.right, self.left)
        order = np.lexsort((others, -self.cosine, self.distance, rows))
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = rows[order][1:] != rows[order][:-1]
        return self.take(order[is_first])

    def swapped(self) -> "Pairs":
        return Pairs(left=self.right, right=self.left, cosine=self.cosine, distance=self.distance)

    def take(self, keep: NDArray[np.intp]) -> "Pairs":
        return Pairs(
            left=self.left[keep], right=self.right[keep], cosine=self.cosine[keep], distance=self.distance[keep]
        )


def joined(parts: Sequence[Pairs]) -> Pairs:
    """All pairs of the parts, in their order."""
    return Pairs(
        left=np.concatenate([part.left for part in parts]),
        right=np.concatenate([part.right for part in parts]),
        cosine=np.concatenate([part.cosine for part in parts]),
        distance=np.concatenate([part.distance for part in parts]),
    )


NO_PAIRS = Pairs(
    left=np.empty(0, np.intp), right=np.empty(0, np.intp), cosine=np.empty(0), distance=np.empty(0, np.uint16)
)


@dataclass(frozen=True, kw_only=True)
class Twins:
    """The nearest twin of each left sample that has any, and of each right sample that has any."""

    left: Pairs
    right: Pairs


def find_twins(
    left: Side,
    right: Side,
    *,
    distance: HashDistance,
    min_cosine: float,
    max_distance: int,
    tile: tuple[int, int] = TILE,
) -> Twins:
    """Twins are pairs with at least this cosine of their vectors and at most this distance of their hashes."""
    rows, columns = tile
    units = _unit_rows(right.vectors)
    words = hash_words(left.hashes), hash_words(right.hashes)

    def confirm(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Pairs:
        near, distances = distance.near(*words, rows=rows, columns=columns, max_distance=max_distance)
        rows, columns = rows[near], columns[near]
        cosines = pair_cosines(left.vectors[rows], right.vectors[columns])
        pairs = Pairs(left=rows, right=columns, cosine=cosines, distance=distances)
        return pairs.take(np.flatnonzero(cosines >= min_cosine))

    def look(first: int) -> Twins:
        block = np.arange(first, min(first + rows, len(left)))
        ours = _unit_rows(left.vectors[block])
        found = Twins(left=NO_PAIRS, right=NO_PAIRS)
        for start in range(0, len(right), columns):
            cosines = ours @ units[start : start + columns].T  # (rows, columns)
            candidates = np.flatnonzero(cosines >= min_cosine - ROUNDING)
            for chunk in _chunks(candidates):
                row, column = np.divmod(chunk, cosines.shape[1])
                pairs = confirm(block[row], start + column)
                found = _join([found, Twins(left=pairs, right=pairs)]) if len(pairs) else found
        return found

    # a thread a block, rather than all threads on one product
    with threadpool_limits(1):
        return _join([Twins(left=NO_PAIRS, right=NO_PAIRS), *spread(range(0, len(left), rows), look)])


def _join(parts: Sequence[Twins]) -> Twins:
    return Twins(
        left=joined([part.left for part in parts]).nearest("left"),
        right=joined([part.right for part in parts]).nearest("right"),
    )


def _unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each row divided by its length."""
    rows = vectors.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, 1)
    return rows


def _chunks(candidates: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(candidates), CHUNK):
        yield candidates[start : start + CHUNK]
