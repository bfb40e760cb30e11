"""Find near-duplicates between two sets of samples: the nearest twin of each sample in the other set.

The search is exact and blockwise. A matrix product in float32 finds every pair whose cosine may be large enough, the
hashes confirm or refute the pair, and its cosine is computed again in float64. So the result does not depend on how the
work was cut into blocks, and the memory does not depend on the number of twins.

For many samples the product is that of a few numbers each: their vectors in the main directions of the right side, and
the length of the rest. By the inequality of Cauchy and Schwarz it is no smaller than the cosine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks.data.health.bits import HashDistance, reaches
from tasks.data.vectors.embeddings import Vectors, pair_cosines
from tasks.machine.cores import spread

TILE = (512, 4096)  # left x right samples
CHUNK = 16384  # pairs whose hashes are compared at once: those of whole samples fit in the processor's cache
ROUNDING = 1e-4  # far above the error of a float32 cosine
CROWDED = 0.05  # of a block's pairs: if more may be twins by their cosines, the hashes of all are compared first
OUTSIDE = 0.01  # of the squares of the vectors, that may lie outside of the main directions
MOST_MEASURED = 4096  # samples that these are computed from
PAIRS_FOR_DIRECTIONS = 50  # times dim x dim: fewer pairs cost less than the directions


@dataclass(frozen=True, kw_only=True)
class Side:
    """A set of samples: vectors (n, dim) of any float type and hashes (n, num_views, bytes)."""

    vectors: Vectors
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of samples: the rows of both sides, their cosines and the distances of their hashes, each (n,)."""

    left: NDArray[np.intp]
    right: NDArray[np.intp]
    cosine: NDArray[np.float64]
    distance: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.left)

    def nearest(self, side: str) -> "Pairs":
        """Return the best pair of each row of a side ("left" or "right"), sorted by row.

        It is the pair of least distance, then of largest cosine, then of the first row on the other side.
        """
        rows, others = (self.left, self.right) if side == "left" else (self.right, self.left)
        order = np.lexsort((others, -self.cosine, self.distance, rows))
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = rows[order][1:] != rows[order][:-1]
        return self.take(order[is_first])

    def renumbered(self, left: NDArray[np.intp], right: NDArray[np.intp]) -> "Pairs":
        """Return the pairs with the numbers left[i] and right[j] in the place of i and j."""
        return Pairs(left=left[self.left], right=right[self.right], cosine=self.cosine, distance=self.distance)

    def swapped(self) -> "Pairs":
        return Pairs(left=self.right, right=self.left, cosine=self.cosine, distance=self.distance)

    def take(self, keep: NDArray[np.intp]) -> "Pairs":
        return Pairs(
            left=self.left[keep], right=self.right[keep], cosine=self.cosine[keep], distance=self.distance[keep]
        )


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Return all pairs of the parts, in their order."""
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
    """The nearest twin of each left sample that has one, and of each right sample that has one."""

    left: Pairs
    right: Pairs

    def renumbered(self, left: NDArray[np.intp], right: NDArray[np.intp]) -> "Twins":
        """Return the twins with the numbers left[i] and right[j] in the place of i and j."""
        return Twins(left=self.left.renumbered(left, right), right=self.right.renumbered(left, right))


NO_TWINS = Twins(left=NO_PAIRS, right=NO_PAIRS)


def find_twins(
    left: Side,
    right: Side,
    *,
    distance: HashDistance,
    min_cosine: float,
    max_distance: int,
    tile: tuple[int, int] = TILE,
) -> Twins:
    """Return the nearest twins of both sides.

    Twins are pairs whose vectors have at least the cosine `min_cosine`, and whose hashes have at most the distance
    `max_distance`. `tile` is the number of left and right samples in a block. One block of the left side's vectors is
    in memory, and all vectors of the right side.
    """
    rows, columns = tile
    units = _unit_rows(right.vectors[: len(right)])
    words = distance.words(left.hashes), distance.words(right.hashes)
    whole = [np.ascontiguousarray(side[:, 0]) for side in words]  # (words, n)
    reach = [reaches(side) for side in words]

    def confirm(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Pairs:
        near, distances = distance.near(*words, rows=rows, columns=columns, max_distance=max_distance)
        rows, columns = rows[near], columns[near]
        cosines = pair_cosines(left.vectors[rows], right.vectors[columns])
        pairs = Pairs(left=rows, right=columns, cosine=cosines, distance=distances)
        return pairs.take(np.flatnonzero(cosines >= min_cosine))

    def twins_of_block(first: int) -> Twins:
        block = np.arange(first, min(first + rows, len(left)))
        block_units = _within(_unit_rows(left.vectors[block]), directions)
        twins = NO_TWINS
        for start in range(0, len(right), columns):
            own = slice(start, start + columns)
            may_be_twins = block_units @ units[own].T >= min_cosine - ROUNDING  # (rows, columns)
            if np.count_nonzero(may_be_twins) > CROWDED * may_be_twins.size:
                may_be_twins &= distance.may_be_near(
                    whole[0][:, block], whole[1][:, own], reach=(reach[0][block], reach[1][own]),
                    max_distance=max_distance,
                )  # fmt: skip
            for chunk in _chunks(np.flatnonzero(may_be_twins)):
                row, column = np.divmod(chunk, may_be_twins.shape[1])
                pairs = confirm(block[row], start + column)
                twins = nearest_twins([twins, Twins(left=pairs, right=pairs)]) if len(pairs) else twins
        return twins

    # a thread a block is faster than all threads on one product
    with threadpool_limits(1):
        are_many = len(left) * len(right) >= PAIRS_FOR_DIRECTIONS * units.shape[1] ** 2
        directions = _directions(units) if are_many else None
        units = _within(units, directions)
        return nearest_twins([NO_TWINS, *spread(range(0, len(left), rows), twins_of_block)])


def nearest_twins(parts: Sequence[Twins]) -> Twins:
    """Return the nearest twin of each sample among those that the parts have for it."""
    return Twins(
        left=joined([part.left for part in parts]).nearest("left"),
        right=joined([part.right for part in parts]).nearest("right"),
    )


def _directions(units: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the main directions (dim, k) of unit vectors (n, dim); None where most of dim are needed."""
    measured = units[:: -(-len(units) // MOST_MEASURED)]
    squares, directions = np.linalg.eigh((measured.T @ measured).astype(np.float64))  # the smallest first
    num_outside = int((np.cumsum(squares) <= OUTSIDE * squares.sum()).sum())
    return directions[:, num_outside:].astype(np.float32) if 2 * num_outside >= units.shape[1] else None


def _within(units: NDArray[np.float32], directions: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Return unit vectors (n, dim) in these directions, and the length of the rest: (n, k + 1)."""
    if directions is None:
        return units
    within = units @ directions
    outside = np.sqrt(np.maximum(1 - np.einsum("nk,nk->n", within, within), 0) + ROUNDING / 10)
    return np.concatenate([within, outside[:, None]], axis=1)


def _unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return each row divided by its length."""
    rows = vectors.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 0, lengths, 1)
    return rows


def _chunks(candidates: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(candidates), CHUNK):
        yield candidates[start : start + CHUNK]
