"""Compute the distance between the perceptual hashes of two samples: the number of bits in which they differ."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ALL = slice(None)
_FIRST_LOOK = slice(2, None)  # words: of an image the higher vertical frequencies, which set most pairs apart


def hash_words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return hashes (n, num_views, bytes) as (words, num_views, n), the order in which they are compared."""
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).transpose(2, 1, 0))


def reaches(words: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Return (n,): the number of bits in which the farthest view of each sample differs from the whole one."""
    counts = np.bitwise_count(words ^ words[:, :1]).sum(axis=0, dtype=np.uint16)  # (num_views, n)
    return np.asarray(counts.max(axis=0))


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
        reach: tuple[NDArray[np.uint16], NDArray[np.uint16]],
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        max_distance: int,
    ) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
        """Return which of the pairs left[..., rows] and right[..., columns] are at most `max_distance` apart.

        The distances come second. They are those of `of_pairs`, computed faster. `reach` has the `reaches` of both: by
        the triangle inequality a view comes no nearer to a sample than the whole one does, less the view's reach.
        """

        def within(
            limit: NDArray[np.intp] | int, near: NDArray[np.intp], *, words: slice = _ALL, views: slice = _ALL
        ) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
            one, other = left[words, views], right[words, views]
            taken = np.take(one, rows[near], axis=2), np.take(other, columns[near], axis=2)
            distances = _distances(*taken, self.mirrored[words])
            is_near = distances <= limit
            return near[is_near], distances[is_near]

        farthest = np.maximum(reach[0][rows], reach[1][columns]).astype(np.intp)
        near, _ = within(max_distance + farthest, np.arange(len(rows)), views=slice(1))
        near, _ = within(max_distance, near, words=_FIRST_LOOK)
        return within(max_distance, near)


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
