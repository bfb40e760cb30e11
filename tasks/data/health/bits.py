"""Distances between perceptual hashes: packed bits in, the number of differing bits out."""

import numpy as np
from numpy.typing import NDArray

from tasks.images.perceptual_hash import _ODD_FREQUENCIES

_FIRST_LOOK = slice(2, None)  # words: the higher vertical frequencies, by which most pairs are told apart


def hash_words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(n, NUM_VIEWS, bytes) -> (words, NUM_VIEWS, n), the order in which they are compared."""
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).transpose(2, 1, 0))


def pair_distances(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """How many of NUM_BITS bits differ, pair by pair: `hash_words` of both, one of them may be of a single picture -> (n,).

    The least of all ways in which one picture may be a copy of the other: either one whole against the other whole or
    any view of it, as it is or mirrored.
    """
    return _distances(left, right, _ODD_FREQUENCIES)


def near_pairs(
    left: NDArray[np.uint64],
    right: NDArray[np.uint64],
    *,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    max_distance: int,
) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
    """Which of the pairs of `hash_words` left[..., rows] and right[..., columns] are at most so far apart, and their
    distances: what `pair_distances` says, sooner."""
    part = _distances(
        np.take(left[_FIRST_LOOK], rows, axis=2),
        np.take(right[_FIRST_LOOK], columns, axis=2),
        _ODD_FREQUENCIES[_FIRST_LOOK],
    )
    near = np.flatnonzero(part <= max_distance)
    distances = pair_distances(np.take(left, rows[near], axis=2), np.take(right, columns[near], axis=2))
    is_near = distances <= max_distance
    return near[is_near], distances[is_near]


def _distances(left: NDArray[np.uint64], right: NDArray[np.uint64], odd: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Of words (words, NUM_VIEWS, n) -> (n,); `odd` (words,) are the bits that a mirrored picture has otherwise."""
    smallest = np.uint8 if 64 * len(odd) < 256 else np.uint16  # that holds the sum; the less, the sooner
    nearest = np.full(max(left.shape[2], right.shape[2]), 64 * len(odd), dtype=smallest)
    for differing in (left[:, :1] ^ right, left[:, 1:] ^ right[:, :1]):
        for each in (differing, differing ^ odd[:, None, None]):
            counts = np.bitwise_count(each).sum(axis=0, dtype=smallest)  # (views, n)
            np.minimum(nearest, counts.min(axis=0), out=nearest)
    return nearest.astype(np.uint16)
