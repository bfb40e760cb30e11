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


def pair_distances(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """How many of NUM_BITS bits differ, pair by pair: hashes (n, NUM_VIEWS, bytes) of both -> (n,).

    The least of all ways in which one picture may be a copy of the other: either one whole against the other whole or
    any view of it, as it is or mirrored.
    """
    return _distances(_words(left), _words(right), _ODD_FREQUENCIES)


def near_pairs(
    left: NDArray[np.uint8], right: NDArray[np.uint8], *, max_distance: int
) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
    """The pairs that are at most so far apart, and their distances; the same as `pair_distances`, sooner."""
    one, other = _words(left), _words(right)
    part = _FIRST_LOOK
    near = np.flatnonzero(_distances(one[:, :, part], other[:, :, part], _ODD_FREQUENCIES[part]) <= max_distance)
    distances = _distances(one[near], other[near], _ODD_FREQUENCIES)
    is_near = distances <= max_distance
    return near[is_near], distances[is_near]


def _hash(thumbnail: Image.Image, box: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    view = thumbnail.resize((2 * HASH_SIZE, 2 * HASH_SIZE), Image.Resampling.BILINEAR, box=box)
    bits: NDArray[np.bool_] = imagehash.phash(view, HASH_SIZE, highfreq_factor=2).hash.ravel()
    return bits


def _words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(n, NUM_VIEWS, bytes) -> (n, NUM_VIEWS, words)."""
    return np.ascontiguousarray(hashes).view(np.uint64)


def _distances(left: NDArray[np.uint64], right: NDArray[np.uint64], odd: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Of words (n, NUM_VIEWS, words), pair by pair; `odd` (words,) are the bits that a mirrored picture has otherwise."""
    one, other = (np.ascontiguousarray(side.transpose(1, 2, 0)) for side in (left, right))  # (views, words, n)
    nearest = np.full(len(left), NUM_BITS, dtype=np.uint16)
    for differing in (one[:1] ^ other, one[1:] ^ other[:1]):
        for each in (differing, differing ^ odd[:, None]):
            counts = np.bitwise_count(each).sum(axis=1, dtype=np.uint16)  # (views, n)
            np.minimum(nearest, counts.min(axis=0), out=nearest)
    return nearest
