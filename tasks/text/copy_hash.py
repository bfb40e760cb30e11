"""Compute the shingle hash of a text: bits that change little when the text is copied and altered.

The hash is a 1-bit MinHash ("b-Bit Minwise Hashing", Li and König 2010) of the shingles of a text: every run of
5 characters of its words, in lower case and without punctuation, tags and addresses of pages, because unrelated texts
from one site have those in common. Each of the 512 bits has a hash function, and is the last bit of the least hash of
all shingles. Two texts differ in about 256 x (1 - J) bits, where J is the Jaccard similarity of their shingles: half of
the bits where they share none.

A text of fewer than 20 such characters has too few shingles: "Ok.." and "Ok..." would be copies. Its hash is drawn from
the text as it stands, so that it lies as far from any other text as chance has it.
"""

import hashlib
import html
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.bits import HashDistance

NUM_BITS = 512
HASHES_SHAPE = (1, NUM_BITS // 8)  # of one text, uint8; a text has one view
DISTANCE = HashDistance(num_bits=NUM_BITS, has_mirrored=False)
SHINGLE = 5  # characters
LEAST_CHARACTERS = 20
MOST_CHARACTERS = 20_000  # of a longer text the first, which cost 0.1 s
CHUNK = 256  # shingles at a time, so that their hashes stay in the cache

_NO_WORD = re.compile(r"[\W_]+")
_MARKUP = re.compile(r"<[a-zA-Z!/][^<>]{0,1000}>|\bhttps?://\S+")
# odd numbers, so that each multiplication permutes 2**64 (Dietzfelbinger et al. 1997)
_FACTORS = np.frombuffer(hashlib.shake_256(b"graftline shingles").digest(8 * NUM_BITS), dtype="<u8") | np.uint64(1)
_POWERS = np.array([0x100000001B3**power % 2**64 for power in range(SHINGLE)], dtype=np.uint64)


def copy_hashes(text: str) -> NDArray[np.uint8]:
    """Return the hash (1, NUM_BITS / 8) of a text."""
    words = _MARKUP.sub(" ", html.unescape(unicodedata.normalize("NFKC", text))).casefold()
    plain = " ".join(_NO_WORD.sub(" ", words).split())[:MOST_CHARACTERS]
    if len(plain) < LEAST_CHARACTERS:
        drawn = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(NUM_BITS // 8)
        return np.frombuffer(drawn, dtype=np.uint8)[None].copy()
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, SHINGLE)  # (num_shingles, SHINGLE)
    shingles = np.unique(_mixed((windows * _POWERS).sum(axis=1, dtype=np.uint64)))
    least = np.full(NUM_BITS, np.iinfo(np.uint64).max, dtype=np.uint64)
    for start in range(0, len(shingles), CHUNK):
        np.minimum(least, (shingles[start : start + CHUNK, None] * _FACTORS).min(axis=0), out=least)
    # the low bits of a product depend on the low bits of its factors alone, so a bit is taken after mixing
    return np.packbits((_mixed(least) & np.uint64(1)).astype(bool))[None]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of each number, one to one (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
