"""What a picture looks like, in bits that survive a copy: a decoded picture in, a few perceptual hashes out; distances of pairs.

The hash is `imagehash.phash`: which of a picture's lowest frequencies are positive. A crop moves what is in the picture,
and that costs it many bits, so a picture is hashed whole and in nine views of 95 % of each side: wherever a crop of 5 %
was cut, it is at most a quarter of the margin away from a view. A mirrored picture needs no hash of its own.
"""

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_SIZE = 16  # rows and columns of frequencies: the fine ones tell a copy from another picture of the same kind
NUM_BITS = HASH_SIZE * HASH_SIZE
VIEW_FRACTION = 0.95  # of each side
VIEW_PLACES = tuple((across, down) for down in (0.0, 0.5, 1.0) for across in (0.0, 0.5, 1.0))  # of the margin
NUM_VIEWS = 1 + len(VIEW_PLACES)
HASHES_SHAPE = (NUM_VIEWS, NUM_BITS // 8)  # of one picture, uint8
THUMBNAIL = 4 * HASH_SIZE  # px, what the views are cut from

# the cosine transform of a mirrored picture is that of the picture with its odd horizontal frequencies negated
_ODD_FREQUENCIES = np.packbits(np.tile(np.arange(HASH_SIZE) % 2 == 1, HASH_SIZE)).view(np.uint64)  # (words,)
_FIRST_LOOK = slice(2, None)  # words: the higher vertical frequencies, by which most pairs are told apart


def perceptual_hashes(image: Image.Image) -> NDArray[np.uint8]:
    """The bits (NUM_VIEWS, NUM_BITS / 8) of an RGB picture of any size: the whole of it first, then its views."""
    thumbnail = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    side, margin = THUMBNAIL * VIEW_FRACTION, THUMBNAIL * (1 - VIEW_FRACTION)
    boxes = [(0.0, 0.0, float(THUMBNAIL), float(THUMBNAIL))]
    boxes += [(x * margin, y * margin, x * margin + side, y * margin + side) for x, y in VIEW_PLACES]
    return np.packbits(np.stack([_hash(thumbnail, box) for box in boxes]), axis=1)


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


def _hash(thumbnail: Image.Image, box: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    view = thumbnail.resize((2 * HASH_SIZE, 2 * HASH_SIZE), Image.Resampling.BILINEAR, box=box)
    bits: NDArray[np.bool_] = imagehash.phash(view, HASH_SIZE, highfreq_factor=2).hash.ravel()
    return bits


def _distances(left: NDArray[np.uint64], right: NDArray[np.uint64], odd: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Of words (words, NUM_VIEWS, n) -> (n,); `odd` (words,) are the bits that a mirrored picture has otherwise."""
    smallest = np.uint8 if 64 * len(odd) < 256 else np.uint16  # that holds the sum; the less, the sooner
    nearest = np.full(max(left.shape[2], right.shape[2]), 64 * len(odd), dtype=smallest)
    for differing in (left[:, :1] ^ right, left[:, 1:] ^ right[:, :1]):
        for each in (differing, differing ^ odd[:, None, None]):
            counts = np.bitwise_count(each).sum(axis=0, dtype=smallest)  # (views, n)
            np.minimum(nearest, counts.min(axis=0), out=nearest)
    return nearest.astype(np.uint16)
