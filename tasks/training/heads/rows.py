"""The rows that a head is trained on: vectors, in memory or on disk, and labels in; standardised chunks out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.machine.cores import num_cores, spread

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
T = TypeVar("T")

SMALLEST_SCALE = 0.01  # of the largest: a feature that hardly varies counts less than the others
MIN_ROWS, MAX_ROWS = 256, 1024  # of a chunk: enough for fast matrix products, few enough for a core's cache
CHUNK_NUMBERS = 2**20  # of a chunk's rows or logits
IN_MEMORY_BYTES = 2**31  # standardised rows within it are kept, which saves about a fifth of each pass


class Vectors(Protocol):
    """Vectors (n, dim) of any float type, read in chunks of rows: an array, or an object that reads a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.floating]: ...


@dataclass(frozen=True)
class Chunk:
    number: int
    vectors: NDArray[np.float32]  # (k, dim) standardised
    labels: Labels  # (k,); empty where the rows have none


class StandardRows:
    """Vectors, standardised to mean 0 and variance 1 of a feature, less for one that hardly varies.

    The chunks depend on the shape of the problem alone. So sums over them have the same bits whether the rows are kept
    in memory or read anew for each pass, and for any number of cores. With `has_one_scale` all features are divided by
    one number, which makes their mean variance 1.

    Args:
        num_outputs: of the head that is trained on them; with many, chunks have fewer rows.

    Raises:
        ValueError: numbers that are not finite.
    """

    def __init__(
        self,
        vectors: Vectors,
        *,
        num_outputs: int = 1,
        num_threads: int | None = None,
        in_memory_bytes: int = IN_MEMORY_BYTES,
        has_one_scale: bool = False,
    ) -> None:
        self.vectors, self.labels = vectors, np.empty(0, dtype=np.int64)
        self.num, self.dim = vectors.shape[0], vectors.shape[1]
        self.num_threads = num_threads or num_cores()
        size = min(max(CHUNK_NUMBERS // max(self.dim, num_outputs), MIN_ROWS), MAX_ROWS)
        self.slices = [slice(start, min(start + size, self.num)) for start in range(0, self.num, size)]
        self.mean, self.scale = self._moments()
        if has_one_scale:
            self.scale = np.full_like(self.scale, np.sqrt((self.scale**2).mean()))
        self._kept: dict[int, NDArray[np.float32]] | None = {} if self.num * self.dim * 4 <= in_memory_bytes else None

    def map(self, work: Callable[[Chunk], T]) -> Iterator[T]:
        """Yield `work(chunk)` for every chunk, in their order, from as many threads as there are cores."""
        return self._in_order(lambda number: work(self.chunk(number)))

    def chunk(self, number: int) -> Chunk:
        """Return one of len(slices) chunks."""
        rows = self.slices[number]
        if self._kept is None:
            return Chunk(number, self.standardise(self.vectors[rows]), self.labels[rows])
        if number not in self._kept:
            self._kept[number] = self.standardise(self.vectors[rows])
        return Chunk(number, self._kept[number], self.labels[rows])

    def standardise(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (k, dim), standardised as the training rows are."""
        standardised = vectors.astype(np.float32)
        standardised -= self.mean.astype(np.float32)
        standardised *= (1 / self.scale).astype(np.float32)
        return standardised

    def fold(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return a linear layer for vectors that are not standardised, from one for standardised vectors.

        Both have weight (k, dim) and bias (k,).
        """
        weight = weight / self.scale
        # `standardise` rounds the mean, and the layer was learned with the rounded one
        return weight, bias - weight @ self.mean.astype(np.float32).astype(np.float64)

    def _in_order(self, work: Callable[[int], T]) -> Iterator[T]:
        """Yield `work(number)` for the number of every chunk."""
        ahead = 2 * self.num_threads  # so that few results wait
        return spread(range(len(self.slices)), work, ahead=ahead, num_threads=self.num_threads)

    def _moments(self) -> tuple[Array, Array]:
        """Return mean and scale (dim,), from the summed moments of the chunks (Chan et al. 1979)."""

        def moments(number: int) -> tuple[int, Array, Array]:
            vectors = self.vectors[self.slices[number]].astype(np.float64)
            check_finite(vectors)
            mean = vectors.mean(axis=0)
            return len(vectors), mean, ((vectors - mean) ** 2).sum(axis=0)

        count, mean, squares = 0, np.zeros(self.dim), np.zeros(self.dim)
        for more, its_mean, its_squares in self._in_order(moments):
            apart = its_mean - mean
            mean = mean + apart * (more / (count + more))
            squares = squares + its_squares + apart**2 * (count * more / (count + more))
            count += more
        scale = np.sqrt(squares / count)
        return mean, np.maximum(scale, max(SMALLEST_SCALE * scale.max(), SMALLEST_SCALE**4))


class TrainingRows(StandardRows):
    """Standardised vectors with the labels of classes.

    Raises:
        ValueError: fewer than two classes in the labels, a class without labels, or numbers that are not finite.
    """

    def __init__(
        self,
        vectors: Vectors,
        labels: Labels,
        classes: Sequence[str],
        *,
        num_threads: int | None = None,
        in_memory_bytes: int = IN_MEMORY_BYTES,
        has_one_scale: bool = False,
    ) -> None:
        check_classes(labels, classes)
        super().__init__(
            vectors, num_outputs=len(classes), num_threads=num_threads, in_memory_bytes=in_memory_bytes,
            has_one_scale=has_one_scale,
        )  # fmt: skip
        self.labels, self.num_classes = labels, len(classes)


def check_classes(labels: Labels, classes: Sequence[str]) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    if len(counts) > len(classes):
        raise ValueError(f"labels up to {len(counts) - 1} for {len(classes)} classes")
    if (counts > 0).sum() < 2:
        raise ValueError(f"train has {(counts > 0).sum()} class, expected at least 2: add samples of another class")
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if absent:
        more = f" and of {len(absent) - 1} more" if len(absent) > 1 else ""
        raise ValueError(f"train has no sample of class {absent[0]}{more}: add some, or take it from the classes")


def check_finite(numbers: NDArray[np.floating]) -> None:
    if not np.isfinite(numbers).all():
        raise ValueError("the embeddings have numbers that are not finite: run embed again")
