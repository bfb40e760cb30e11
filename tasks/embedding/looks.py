"""What is kept of each sample that was looked at, its vector and its perceptual hashes: arrays in, fixed-size values of the embedding store out, and back."""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from tasks.images.perceptual_hash import HASHES_SHAPE

HASH_BYTES = prod(HASHES_SHAPE)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """A row a sample."""

    vectors: NDArray[np.float16]  # (n, dim)
    hashes: NDArray[np.uint8]  # (n, *HASHES_SHAPE)

    def __getitem__(self, rows: NDArray[np.bool_]) -> "Looks":
        return Looks(vectors=self.vectors[rows], hashes=self.hashes[rows])

    def pack(self) -> NDArray[np.uint8]:
        """(n, value_bytes)."""
        n, dim = self.vectors.shape
        vectors = np.ascontiguousarray(self.vectors).view(np.uint8).reshape(n, 2 * dim)
        return np.concatenate([vectors, self.hashes.reshape(n, HASH_BYTES)], axis=1)


def value_bytes(dim: int) -> int:
    return 2 * dim + HASH_BYTES


def unpack(values: NDArray[np.uint8]) -> Looks:
    """(n, value_bytes) -> what `pack` was given."""
    n = len(values)
    vectors = np.ascontiguousarray(values[:, :-HASH_BYTES]).view(np.float16)
    return Looks(vectors=vectors, hashes=values[:, -HASH_BYTES:].reshape(n, *HASHES_SHAPE))
