"""What a picture looks like, in bits that survive a copy: a decoded picture in, a few perceptual hashes out; distances of pairs.

The hash is pHash (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions") as the library
ImageHash has it, `phash(picture, hash_size=16, highfreq_factor=2)`: the picture in grey, scaled to 32 x 32 px by Lanczos'
filter, its cosine transform, and which of the lowest 16 x 16 frequencies lie above their median. What differs: a large
picture is first averaged over whole blocks of px, and scaling and transform, both linear, are one product of matrices,
with no rounding to 8 bits between them. Bits of frequencies next to the median may differ for that: of a photograph of
227 px, 1.5 of the 256 on average.

A crop moves what is in the picture, and that costs it many bits, so a picture is hashed whole and in nine views of 95 %
of each side: wherever a crop of 5 % was cut, it is at most a quarter of the margin away from a view. A mirrored picture
needs no hash of its own.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.data.health.bits import HashDistance

HASH_SIZE = 16  # rows and columns of frequencies: the fine ones tell a copy from another picture of the same kind
NUM_BITS = HASH_SIZE * HASH_SIZE
SCALED = 2 * HASH_SIZE  # px, a side of what is transformed
VIEW_FRACTION = 0.95  # of each side
VIEW_PLACES = (0.0, 0.5, 1.0)  # of the margin, across and down
NUM_VIEWS = 1 + len(VIEW_PLACES) ** 2
HASHES_SHAPE = (NUM_VIEWS, NUM_BITS // 8)  # of one picture, uint8
LONGEST = 8 * HASH_SIZE  # px of a side that are transformed; why no more, `perceptual_hashes` says

_NUM_CUTS = 1 + len(VIEW_PLACES)  # of one side: all of it, then its share of each view
_CUT_PAIRS = np.arange((_NUM_CUTS * HASH_SIZE) ** 2).reshape(_NUM_CUTS, HASH_SIZE, _NUM_CUTS, HASH_SIZE).swapaxes(1, 2)
# where the frequencies of each view are: (NUM_VIEWS, NUM_BITS)
_VIEWS = np.concatenate([_CUT_PAIRS[:1, :1].reshape(1, -1), _CUT_PAIRS[1:, 1:].reshape(NUM_VIEWS - 1, -1)])

# the cosine transform of a mirrored picture is that of the picture with its odd horizontal frequencies negated
_ODD_FREQUENCIES = np.packbits(np.tile(np.arange(HASH_SIZE) % 2 == 1, HASH_SIZE)).view(np.uint64)  # (words,)
DISTANCE = HashDistance(mirrored=_ODD_FREQUENCIES)


def perceptual_hashes(image: Image.Image) -> NDArray[np.uint8]:
    """The bits (NUM_VIEWS, NUM_BITS / 8) of an RGB picture of any size: the whole of it first, then its views, from left
    to right and from top to bottom."""
    small = image.convert("L").reduce((_factor(image.width), _factor(image.height)))
    grey = np.asarray(small, dtype=np.float32)  # (height, width), at most LONGEST each
    down, across = _transform(image.height), _transform(image.width)
    # a product for each cut of 16 rows: one of more than 2**18 multiplications would wake the threads of OpenBLAS, which
    # takes several times as long and is in the way of other threads that call this
    frequencies = down @ grey @ across.reshape(-1, small.width).T
    # rounded, so that what is nothing in exact numbers is nothing here (float32 is 0.2 off at most): the bits of a white
    # page are no noise
    frequencies = np.rint(frequencies).take(_VIEWS)  # (NUM_VIEWS, NUM_BITS)
    # of an even number of values, those above the lower of the middle two are those above the median
    middle = np.partition(frequencies, NUM_BITS // 2 - 1)[:, NUM_BITS // 2 - 1, None]
    return np.packbits(frequencies > middle, axis=1)


def _factor(side: int) -> int:
    """How many px of a side are averaged to one."""
    return -(-side // LONGEST)


@lru_cache(maxsize=512)  # 16 MiB at most
def _transform(side: int) -> NDArray[np.float32]:
    """From the reduced px of a side to the lowest frequencies of each of its cuts, (_NUM_CUTS, HASH_SIZE, px)."""
    num_px = -(-side // _factor(side))  # the last may stand for fewer than the others
    length, margin = side / _factor(side), side / _factor(side) * (1 - VIEW_FRACTION)
    cuts = [(0.0, length), *((place * margin, place * margin + length - margin) for place in VIEW_PLACES)]
    units = Image.fromarray(np.eye(num_px, dtype=np.float32))
    # Pillow tells what it makes of each px: (num_px, SCALED)
    scalings = [units.resize((SCALED, num_px), Image.Resampling.LANCZOS, box=(a, 0, b, num_px)) for a, b in cuts]
    # DCT-II, as SciPy scales it
    waves = 2 * np.cos(np.pi / SCALED * np.outer(np.arange(HASH_SIZE), np.arange(SCALED) + 0.5))
    return np.stack([waves @ np.asarray(scaling).T for scaling in scalings]).astype(np.float32)
