"""Compute the distance between the perceptual hashes of two samples: the number of bits in which they differ."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FIRST_LOOK = slice(2, None)  # words: of an image the higher vertical frequencies, which set most pairs apart


def hash_words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return hashes (n, num_views, bytes) as (words, num_views, n), the order in which they are compared."""
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).transpose(2, 1, 0))


@dataclass(frozen=True, kw_only=True)
class HashDistance:
    """The least number of bits in which two samples differ, over all ways in which one may be a copy of the other.

    Either sample may be whole and the other a view of it. `mirrored` (words,) uint64 has the bits that mirroring a
    sample inverts.
    """

    mirrored: NDArray[np.uint64]

    @property
    def num_bits(self) -> int:
        return 64 * len(self.mirrored)

    def of_pairs(self, left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Return the distances (n,), pair by pair, of the `hash_words` of both; one side may be a single sample."""
        return _distances(left, right, self.mirrored)

    def near(
        self,
        left: NDArray[np.uint64],
        right: NDArray[np.uint64],
        *,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        max_distance: int,
    ) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
        """Return which of the pairs left[..., rows] and right[..., columns] are at most `max_distance` apart.

        The distances come second. They are those of `of_pairs`, computed faster.
        """
        part = _distances(
            np.take(left[_FIRST_LOOK], rows, axis=2),
            np.take(right[_FIRST_LOOK], columns, axis=2),
            self.mirrored[_FIRST_LOOK],
        )
        near = np.flatnonzero(part <= max_distance)
        distances = self.of_pairs(np.take(left, rows[near], axis=2), np.take(right, columns[near], axis=2))
        is_near = distances <= max_distance
        return near[is_near], distances[is_near]


def _distances(left: NDArray[np.uint64], right: NDArray[np.uint64], mirrored: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return the distances (n,) of words (words, num_views, n)."""
    num_bits = 64 * len(mirrored)
    smallest = np.uint8 if num_bits < 256 else np.uint16  # that holds the sum: the smaller, the faster
    nearest = np.full(max(left.shape[2], right.shape[2]), num_bits, dtype=smallest)
    for differing in (left[:, :1] ^ right, left[:, 1:] ^ right[:, :1])[: 1 if left.shape[1] == 1 else 2]:
        for bits in (differing, differing ^ mirrored[:, None, None]):
            counts = np.bitwise_count(bits).sum(axis=0, dtype=smallest)  # (num_views, n)
            np.minimum(nearest, counts.min(axis=0), out=nearest)
    return nearest.astype(np.uint16)
