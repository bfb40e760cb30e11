"""Pack a sample's vector, hashes and marks into one value of the store, and unpack it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.store.store import Store

Hash = Callable[[Any], NDArray[np.uint8]]  # a decoded sample -> (num_views, bytes)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The vectors, hashes and marks of n samples."""

    vectors: NDArray[np.float16]  # (n, dim)
    hashes: NDArray[np.uint8]  # (n, num_views, bytes)
    marks: NDArray[np.uint8]  # (n, num_marks): the part of a text that was not read, or the quality of an image

    def __getitem__(self, rows: NDArray[np.bool_]) -> "Looks":
        return Looks(vectors=self.vectors[rows], hashes=self.hashes[rows], marks=self.marks[rows])

    def pack(self) -> NDArray[np.uint8]:
        """Return the values (n, value_bytes) of the store."""
        n, dim = self.vectors.shape
        vectors = np.ascontiguousarray(self.vectors).view(np.uint8).reshape(n, 2 * dim)
        return np.concatenate([vectors, self.hashes.reshape(n, prod(self.hashes.shape[1:])), self.marks], axis=1)


def unpack(values: NDArray[np.uint8], *, dim: int, hashes_shape: tuple[int, int]) -> Looks:
    """Reverse `pack`; `hashes_shape` is (num_views, bytes)."""
    vectors, hashes, marks = np.split(values, [2 * dim, 2 * dim + prod(hashes_shape)], axis=1)
    return Looks(
        vectors=np.ascontiguousarray(vectors).view(np.float16),
        hashes=hashes.reshape(len(values), *hashes_shape),
        marks=marks,
    )


class LookStore(Store):
    """The part of an embedding store that belongs to one recipe of looks, with their decoder and hash."""

    def __init__(
        self,
        path: Path,
        *,
        recipe: dict[str, Any],
        dim: int,
        hashes_shape: tuple[int, int],
        decode: Callable[..., Any],
        hash_of: Hash,
        num_marks: int,
    ) -> None:
        super().__init__(path, recipe=recipe, value_bytes=2 * dim + prod(hashes_shape) + num_marks)
        self.dim = dim
        self.decode = decode
        self.hash_of = hash_of
        self.hashes_shape = hashes_shape
        self.num_marks = num_marks

    def looks(self, sample_ids: Sequence[str]) -> Iterator[Looks]:
        """Yield the looks of the samples in their order, in chunks; see `Store.read`."""
        for values in self.read(sample_ids):
            yield self._unpack(values)

    def all_looks(self, sample_ids: Sequence[str]) -> Looks:
        """Return the looks of a few samples at once."""
        values = [np.empty((0, self.value_bytes), dtype=np.uint8), *self.read(sample_ids)]
        return self._unpack(np.concatenate(values))

    def all_marks(self, sample_ids: Sequence[str]) -> NDArray[np.uint8] | None:
        """Return the marks (n, num_marks) of the samples; None where the modality has none."""
        if not self.num_marks:
            return None
        copied = (looks.marks.copy() for looks in self.looks(sample_ids))  # a view would hold the vectors in memory
        return np.concatenate([np.empty((0, self.num_marks), dtype=np.uint8), *copied])

    def _unpack(self, values: NDArray[np.uint8]) -> Looks:
        return unpack(values, dim=self.dim, hashes_shape=self.hashes_shape)
