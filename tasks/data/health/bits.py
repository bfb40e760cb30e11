"""Compute the distance between the perceptual hashes of two samples: the number of bits in which they differ."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EVERY_SECOND = np.uint64(0x5555555555555555)
ROWS_AT_ONCE = 8  # of all pairs with some thousand columns: their words fit in the processor's cache


@dataclass(frozen=True, kw_only=True)
class HashDistance:
    """The least number of bits in which two samples differ, over all ways in which one may be a copy of the other.

    Either sample may be whole and the other a view of it. `num_bits` is a multiple of 256. `has_mirrored` is whether
    samples may be mirrored, which inverts every second bit.
    """

    num_bits: int
    has_mirrored: bool

    def words(self, hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
        """Return hashes (n, num_views, bytes) as (words, num_views, n), the order in which they are compared.

        Where samples may be mirrored, a word of bits that this keeps comes before one of bits that it inverts.
        """
        words = np.array(np.ascontiguousarray(hashes).view(np.uint64).transpose(2, 1, 0), order="C")  # of its own
        if self.has_mirrored:
            for even, odd in zip(words[::2], words[1::2], strict=True):
                kept = (even & ~EVERY_SECOND) >> np.uint64(1) | odd & ~EVERY_SECOND
                odd[:] = even & EVERY_SECOND | (odd & EVERY_SECOND) << np.uint64(1)
                even[:] = kept
        return words

    def of_pairs(self, left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Return the distances (n,), pair by pair, of the `words` of both; one side may be a single sample."""
        nearest: NDArray[np.uint16] = self._least(left[:, :1] ^ right).min(axis=0).astype(np.uint16)
        if left.shape[1] > 1:
            np.minimum(nearest, self._least(left[:, 1:] ^ right[:, :1]).min(axis=0), out=nearest)
        return nearest

    def near(
        self,
        left: NDArray[np.uint64],
        right: NDArray[np.uint64],
        *,
        rows: NDArray[np.intp],
        columns: NDArray[np.intp],
        max_distance: int,
    ) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
        """Return the numbers of the pairs left[..., rows] and right[..., columns] at most `max_distance` apart.

        Their distances come second. They are those of `of_pairs`, computed faster.
        """

        def within(near: NDArray[np.intp], words: slice) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
            one, other = left[words], right[words]
            distances = self.of_pairs(np.take(one, rows[near], axis=2), np.take(other, columns[near], axis=2))
            is_near = distances <= max_distance
            return near[is_near], distances[is_near]

        # for an image these are the higher vertical frequencies, in which most pairs differ
        near, _ = within(np.arange(len(rows)), slice(len(left) // 2, None))
        return within(near, slice(None))

    def may_be_near(
        self,
        left: NDArray[np.uint64],
        right: NDArray[np.uint64],
        *,
        reach: tuple[NDArray[np.intp], NDArray[np.intp]],
        max_distance: int,
    ) -> NDArray[np.bool_]:
        """Return (n, m): False where the whole samples show that a pair is more than `max_distance` apart.

        `left` and `right` are the words (words, n) and (words, m) of whole samples. `reach` has the `reaches` of both:
        by the triangle inequality a view comes no nearer to a sample than the whole one does, less the view's reach.
        """
        is_near = np.empty((left.shape[1], right.shape[1]), bool)
        for start in range(0, len(is_near), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            distances = self._least(left[:, rows, None] ^ right[:, None])
            most = np.iinfo(distances.dtype).max
            limits = (np.clip(max_distance + own, 0, most) for own in (reach[0][rows, None], reach[1]))
            is_near[rows] = distances <= np.maximum(*(limit.astype(distances.dtype) for limit in limits))
        return is_near

    def _least(self, differing: NDArray[np.uint64]) -> NDArray[np.unsignedinteger]:
        """Return how many of the bits of words (words, …) are set, or would be if one side was mirrored: (…)."""
        counts = np.bitwise_count(differing)
        if not self.has_mirrored:
            return np.asarray(counts.sum(axis=0, dtype=np.uint16))
        dtype = np.uint8 if 64 * len(counts) <= 256 else np.uint16  # the smaller, the faster; no sum is above 192
        kept, inverted = (half.sum(axis=0, dtype=dtype) for half in (counts[::2], counts[1::2]))
        num_inverted = dtype(32 * len(counts))
        return np.asarray(kept + np.minimum(inverted, num_inverted - inverted))


def reaches(words: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return (n,): the number of bits in which the farthest view of each sample differs from the whole one."""
    counts = np.zeros(words.shape[1:], np.uint16)  # (num_views, n)
    for own in words:  # one by one: together they would need as much memory again as the hashes
        counts += np.bitwise_count(own ^ own[:1])
    return np.asarray(counts.max(axis=0), dtype=np.intp)
