"""The rows that a head is trained on: vectors, in memory or on disk, and labels in; standardised chunks out."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.machine.cores import num_cores, spread
from tasks.training.heads.prior import Prior

Array = NDArray[np.float64]
Labels = NDArray[Any]  # (n,) int64 places of classes or steps; (n, num_labels) of 0 and 1 for several; (n,) numbers
T = TypeVar("T")

SMALLEST_SCALE = 0.01  # of the largest: a feature that hardly varies counts less than the others
MIN_ROWS, MAX_ROWS = 256, 1024  # of a chunk: enough for fast matrix products, few enough for a core's cache
CHUNK_NUMBERS = 2**20  # of a chunk's rows or logits
FEW_CHUNKS = 2  # threads cost more than the work on so few
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
    labels: Labels  # (k,) or (k, num_labels); empty where the rows have none


class StandardRows:
    """Vectors, standardised to mean 0 and variance 1 of a feature, less for one that hardly varies.

    The chunks depend on the shape of the problem alone. So sums over them have the same bits whether the rows are kept
    in memory or read anew for each pass, and for any number of cores. Rows may be given as vectors: their intermediate
    results are then shared.

    Args:
        part_dims: how many features each part of a vector has, where the features of a part are divided by one number.
            Then the parts have the same variance in all, and features a mean variance of 1.
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
        part_dims: Sequence[int] = (),
    ) -> None:
        self.num, self.dim = vectors.shape[0], vectors.shape[1]
        size = min(max(CHUNK_NUMBERS // max(self.dim, num_outputs), MIN_ROWS), MAX_ROWS)
        self.slices = [slice(start, min(start + size, self.num)) for start in range(0, self.num, size)]
        self.labels: Labels = np.empty(0, dtype=np.int64)
        if isinstance(vectors, StandardRows) and vectors.slices == self.slices:
            self.__dict__ |= vectors.__dict__ | {"labels": self.labels, "num_outputs": num_outputs}
            return
        given = vectors.part_dims if isinstance(vectors, StandardRows) else ()
        self.part_dims: tuple[int, ...] = tuple(part_dims) or given
        self.vectors, self.num_outputs = vectors, num_outputs
        self.prior: Prior | None = vectors.prior if isinstance(vectors, StandardRows) else None
        self.num_threads = num_threads or num_cores()
        self.mean, self.scale = self._moments()
        if self.part_dims:
            parts = np.split(self.scale, np.cumsum(self.part_dims)[:-1])
            sums = [(part**2).sum() * len(parts) / self.dim for part in parts]
            self.scale = np.repeat(np.sqrt(sums), self.part_dims)
        fits = self.num * self.dim * 4 <= in_memory_bytes
        # one array, for which the system has large pages: to fill it is three times as fast as an array a chunk
        self._kept: NDArray[np.float32] | None = np.empty(self.shape, np.float32) if fits else None
        self._is_kept = np.zeros(len(self.slices), bool)
        self._known: dict[str, Any] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        return self.num, self.dim

    def __getitem__(self, rows: slice, /) -> NDArray[np.floating]:
        """Return the vectors as they came."""
        return self.vectors[rows]

    def once(self, name: str, make: Callable[[Self], T]) -> T:
        """Return the result of `make` on the rows without their labels, made once for all heads on these rows."""
        if name not in self._known:
            self._known[name] = make(self)
        known: T = self._known[name]
        return known

    def under(self, prior: Prior | None) -> Self:
        """Return these rows so that a plain L2 strength acts on them as this prior."""
        rows = copy.copy(self)
        rows.prior, rows._known = prior, {}
        rows._kept = None if self._kept is None else np.empty_like(self._kept)
        rows._is_kept = np.zeros_like(self._is_kept)
        return rows

    def map(self, work: Callable[[Chunk], T]) -> Iterator[T]:
        """Yield `work(chunk)` for every chunk, in their order, from as many threads as there are cores."""
        return self._in_order(lambda number: work(self.chunk(number)))

    def chunk(self, number: int) -> Chunk:
        """Return one of len(slices) chunks."""
        rows = self.slices[number]
        if self._kept is None:
            return Chunk(number, self.standardise(self.vectors[rows]), self.labels[rows])
        if not self._is_kept[number]:
            self._kept[rows] = self.standardise(self.vectors[rows])
            self._is_kept[number] = True
        return Chunk(number, self._kept[rows], self.labels[rows])

    def standardise(self, vectors: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return (k, dim), standardised as the training rows are."""
        standardised = vectors.astype(np.float32)
        standardised -= self.mean.astype(np.float32)
        standardised *= (1 / self.scale).astype(np.float32)
        return self.prior.stretch(standardised) if self.prior else standardised

    def fold(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Return a linear layer for vectors that are not standardised, from one for standardised vectors.

        Both have weight (k, dim) and bias (k,).
        """
        if self.prior:
            weight = self.prior.stretch(weight.astype(np.float32)).astype(np.float64)
        weight = weight / self.scale
        # `standardise` rounds the mean, and the layer was learned with the rounded one
        return weight, bias - weight @ self.mean.astype(np.float32).astype(np.float64)

    def _in_order(self, work: Callable[[int], T]) -> Iterator[T]:
        """Yield `work(number)` for the number of every chunk."""
        if len(self.slices) <= FEW_CHUNKS:
            yield from map(work, range(len(self.slices)))
            return
        ahead = 2 * self.num_threads  # so that few results wait
        yield from spread(range(len(self.slices)), work, ahead=ahead, num_threads=self.num_threads)

    def _moments(self) -> tuple[Array, Array]:
        """Return mean and scale (dim,), from the summed moments of the chunks (Chan et al. 1979)."""

        def moments(number: int) -> tuple[int, Array, Array]:
            part = self.vectors[self.slices[number]]
            if part.dtype == np.float16:
                part = part.astype(np.float32)  # numpy takes three times as long to go to float64 at once
            vectors = part.astype(np.float64)
            with np.errstate(invalid="ignore"):  # of infinities
                mean = vectors.mean(axis=0)
            check_finite(mean)  # the mean is finite only where all its numbers are
            vectors -= mean  # in place: memory for another array takes ten times as long as the sums
            vectors *= vectors
            return len(vectors), mean, vectors.sum(axis=0)

        count, mean, squares = 0, np.zeros(self.dim), np.zeros(self.dim)
        for more, its_mean, its_squares in self._in_order(moments):
            apart = its_mean - mean
            mean = mean + apart * (more / (count + more))
            squares = squares + its_squares + apart**2 * (count * more / (count + more))
            count += more
        scale = np.sqrt(squares / count)
        return mean, np.maximum(scale, max(SMALLEST_SCALE * scale.max(), SMALLEST_SCALE**4))


class TrainingRows(StandardRows):
    """Standardised vectors with the labels of classes, or with 0 and 1 for each of several labels.

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
        part_dims: Sequence[int] = (),
        what: str = "class",
    ) -> None:
        if labels.ndim == 1:
            check_classes(labels, classes, what=what)
        super().__init__(
            vectors, num_outputs=len(classes), num_threads=num_threads, in_memory_bytes=in_memory_bytes,
            part_dims=part_dims,
        )  # fmt: skip
        self.labels = labels


def check_classes(labels: Labels, classes: Sequence[str], *, what: str = "class") -> None:
    counts = np.bincount(labels, minlength=len(classes))
    if len(counts) > len(classes):
        raise ValueError(
            f"labels up to {len(counts) - 1} for {len(classes)} {'steps' if what == 'step' else 'classes'}"
        )
    if (counts > 0).sum() < 2:
        raise ValueError(f"train has {(counts > 0).sum()} {what}, expected at least 2: add samples of another {what}")
    absent = [name for name, count in zip(classes, counts, strict=True) if not count]
    if absent:
        more = f" and of {len(absent) - 1} more" if len(absent) > 1 else ""
        where = "scale" if what == "step" else "classes"
        raise ValueError(f"train has no sample of {what} {absent[0]}{more}: add some, or take it from the {where}")


def check_finite(numbers: NDArray[np.floating]) -> None:
    if not np.isfinite(numbers).all():
        raise ValueError("the embeddings have numbers that are not finite: run embed again")
