"""Compute the perceptual hashes of an image: bits that change little when the image is copied and altered.

The hash is pHash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions") as the library
ImageHash implements it, `phash(image, hash_size=16, highfreq_factor=2)`. The image is turned to grey and scaled to
32 x 32 px by Lanczos' filter. A bit says whether one of the lowest 16 x 16 frequencies of its cosine transform is above
their median. There are two differences: a large image is first averaged over whole blocks of px; and scaling and
transform, both linear, are one product of matrices, without rounding to 8 bits in between. So bits of frequencies next
to the median may differ: on average 1.5 of the 256 for a photograph of 227 px.

A crop shifts the content of an image, which changes many bits. So an image is hashed as a whole and in nine views of
95 % of each side: wherever a crop of 5 % was cut, it is at most a quarter of the margin away from a view. A mirrored
image needs no hash of its own.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.data.health.bits import HashDistance

HASH_SIZE = 16  # rows and columns of frequencies; the fine ones separate copies from similar images
NUM_BITS = HASH_SIZE * HASH_SIZE
SCALED = 2 * HASH_SIZE  # px, a side of the image that is transformed
VIEW_FRACTION = 0.95  # of each side
VIEW_PLACES = (0.0, 0.5, 1.0)  # of the margin, across and down
NUM_VIEWS = 1 + len(VIEW_PLACES) ** 2
HASHES_SHAPE = (NUM_VIEWS, NUM_BITS // 8)  # of one image, uint8
LONGEST = 8 * HASH_SIZE  # px of a side after averaging; `copy_hashes` explains the limit

_NUM_CUTS = 1 + len(VIEW_PLACES)  # of one side: all of it, then the part of each view
_CUT_PAIRS = np.arange((_NUM_CUTS * HASH_SIZE) ** 2).reshape(_NUM_CUTS, HASH_SIZE, _NUM_CUTS, HASH_SIZE).swapaxes(1, 2)
# the places of the frequencies of each view: (NUM_VIEWS, NUM_BITS)
_VIEWS = np.concatenate([_CUT_PAIRS[:1, :1].reshape(1, -1), _CUT_PAIRS[1:, 1:].reshape(NUM_VIEWS - 1, -1)])

# mirroring an image negates the odd horizontal frequencies of its cosine transform
DISTANCE = HashDistance(num_bits=NUM_BITS, has_mirrored=True)


def copy_hashes(image: Image.Image) -> NDArray[np.uint8]:
    """Return the hashes (NUM_VIEWS, NUM_BITS / 8) of an RGB image of any size.

    The whole image comes first, then its views, from left to right and from top to bottom.
    """
    small = image.convert("L").reduce((_factor(image.width), _factor(image.height)))
    grey = np.asarray(small, dtype=np.float32)  # (height, width), at most LONGEST each
    down, across = _transform(image.height), _transform(image.width)
    # a product for each cut of 16 rows: with more than 2**18 multiplications, OpenBLAS would start threads, which takes
    # several times as long and slows other threads that call this
    frequencies = down @ grey @ across.reshape(-1, small.width).T
    # rounded, so that an exact 0 is 0 here too (the error of float32 is at most 0.2), and the bits of a white page are
    # not noise
    frequencies = np.rint(frequencies).take(_VIEWS)  # (NUM_VIEWS, NUM_BITS)
    # the values above the median of an even number of values are those above the lower of the middle two
    middle = np.partition(frequencies, NUM_BITS // 2 - 1)[:, NUM_BITS // 2 - 1, None]
    return np.packbits(frequencies > middle, axis=1)


def _factor(side: int) -> int:
    """Return the number of px of a side that are averaged to one."""
    return -(-side // LONGEST)


@lru_cache(maxsize=512)  # 16 MiB at most
def _transform(side: int) -> NDArray[np.float32]:
    """Return the matrices (_NUM_CUTS, HASH_SIZE, px) from a side's reduced px to the lowest frequencies of its cuts."""
    num_px = -(-side // _factor(side))  # the last may average fewer px than the others
    length, margin = side / _factor(side), side / _factor(side) * (1 - VIEW_FRACTION)
    cuts = [(0.0, length), *((place * margin, place * margin + length - margin) for place in VIEW_PLACES)]
    units = Image.fromarray(np.eye(num_px, dtype=np.float32))
    # resizing unit vectors gives Pillow's weights of each px: (num_px, SCALED)
    scalings = [units.resize((SCALED, num_px), Image.Resampling.LANCZOS, box=(a, 0, b, num_px)) for a, b in cuts]
    # DCT-II in the scale of SciPy
    waves = 2 * np.cos(np.pi / SCALED * np.outer(np.arange(HASH_SIZE), np.arange(SCALED) + 0.5))
    return np.stack([waves @ np.asarray(scaling).T for scaling in scalings]).astype(np.float32)
