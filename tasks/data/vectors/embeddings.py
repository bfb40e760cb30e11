"""Read and write the embeddings of a batch: a safetensors file with `vectors` (n, dim) float16 and a recipe."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tasks.data.vectors.tensors import Tensor, write_tensors

ROWS_AT_ONCE = 128  # whose numbers are widened: they stay in the processor's cache
SPARSE = 4  # rows that lie further apart than this on average are read run by run, others all at once


def write_embeddings(
    path: Path,
    vectors: Iterable[NDArray[np.float16]],
    *,
    shape: tuple[int, int],
    recipe: str,
    part_dims: Sequence[int] = (),
) -> None:
    """Write the vectors of a batch.

    Args:
        vectors: pieces that together are (n, dim) = `shape`, in the order of the batch's manifest.
        recipe: the fingerprint of the backbone that made them.
        part_dims: see `Embeddings`.
    """
    tensor = Tensor(shape=shape, dtype=np.float16, pieces=vectors)
    facts = {"part_dims": ",".join(map(str, part_dims))} if part_dims else {}
    write_tensors(path, {"vectors": tensor}, metadata={"recipe": recipe} | facts)


@dataclass(frozen=True, kw_only=True)
class BatchFile:
    """The place of a batch's vectors (num_rows, dim) float16 in its file."""

    path: Path
    offset: int  # bytes
    num_rows: int
    dim: int

    def read(self, rows: NDArray[np.integer], *, into: NDArray[np.float32]) -> None:
        """Read rows (k,), which ascend and may repeat, into (k, dim).

        They are read and not mapped: mapped pages count as memory of this process, and a mapped file that is cut short
        meanwhile kills the process.
        """
        gaps = np.flatnonzero(np.diff(rows) > 1) + 1
        is_dense = rows[-1] - rows[0] < SPARSE * len(rows)
        cuts = [] if is_dense else gaps.tolist()
        with self.path.open("rb", buffering=0) as file:
            for start, stop in pairwise([0, *cuts, len(rows)]):
                first, last = int(rows[start]), int(rows[stop - 1])
                run = self._run(file.fileno(), first, last + 1)
                is_wanted = len(cuts) == len(gaps) and len(run) == stop - start  # each row of the run, once
                widen(run if is_wanted else run.take(rows[start:stop] - first, axis=0), into=into[start:stop])

    def _run(self, descriptor: int, start: int, stop: int) -> NDArray[np.float16]:
        """Return the rows start..stop-1."""
        length, at = (stop - start) * self.dim * 2, self.offset + start * self.dim * 2
        content = bytearray()
        while len(content) < length:  # a call returns at most 2 GiB
            part = os.pread(descriptor, length - len(content), at + len(content))
            if not part:
                raise ValueError(f"{self.path} was cut short while it was read: remove it and run embed again")
            content += part
        return np.frombuffer(content, dtype=np.float16).reshape(stop - start, self.dim)


def widen(vectors: NDArray[np.float16], *, into: NDArray[np.float32]) -> None:
    """Write vectors (k, dim) in another precision. To look each number up takes a quarter of numpy's own time."""
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        _every_number().take(vectors[rows].view(np.uint16), out=into[rows], mode="clip")  # without a copy of `into`


@cache
def _every_number() -> NDArray[np.float32]:
    """Return all float16 numbers, each at the place that its bits name."""
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


class Embeddings:
    """The vectors of several batches as one (n, dim) array, whose rows are read when they are indexed.

    `recipe` is the fingerprint of the backbone that made them. `part_dims` are there where the features are powers (see
    `Backbone`): how many each part of the network gives, in their order, from the input to the output.
    """

    def __init__(self, files: Sequence[BatchFile], *, recipe: str = "", part_dims: Sequence[int] = ()) -> None:
        self.files = files
        self.recipe = recipe
        self.part_dims = tuple(part_dims)
        self.starts = np.cumsum([0, *(file.num_rows for file in files)])
        self.shape = (int(self.starts[-1]), files[0].dim if files else 0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        """Return (k, dim) float32 for a slice of k rows, or for k row numbers in any order."""
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        if wanted.dtype == bool:
            raise TypeError("rows are indexed by their numbers, not by a mask: use np.flatnonzero")
        if (np.diff(wanted) < 0).any():
            order = np.argsort(wanted, kind="stable")
            vectors = np.empty((len(wanted), self.shape[1]), dtype=np.float32)
            vectors[order] = self[wanted[order]]
            return vectors
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(self):
            raise IndexError(f"rows {wanted[0]}..{wanted[-1]} of {len(self)}")
        vectors = np.empty((len(wanted), self.shape[1]), dtype=np.float32)
        for file, start, stop in zip(self.files, self.starts, self.starts[1:], strict=False):
            first, last = np.searchsorted(wanted, (start, stop))
            if first < last:
                file.read(wanted[first:last] - start, into=vectors[first:last])
        return vectors

    def part(self, rows: NDArray[np.integer]) -> "Part":
        return Part(self, rows)


class Vectors(Protocol):
    """Vectors (n, dim) of any float type, an array or a reader of a file; a slice or numbers index the rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> NDArray[np.floating]: ...


class Part:
    """A selection of the rows of vectors, numbered from 0."""

    def __init__(self, whole: Vectors, rows: NDArray[np.integer]) -> None:
        self.whole = whole
        self.rows = rows
        self.shape = (len(rows), whole.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        return self.whole[self.rows[rows]]


def read_embeddings(folder: Path, batches: Sequence[str], *, num_samples: int) -> Embeddings:
    """Return the vectors of all batches, in their order: (num_samples, dim).

    Raises:
        ValueError: the file of a batch is missing or torn, two batches were embedded by different recipes, or the
            number of vectors is not `num_samples`.
    """
    files: list[BatchFile] = []
    recipes: dict[str, str] = {}
    part_dims = ""
    for batch in batches:
        with open_tensors(folder, batch, what="embeddings", fact="recipe") as (file, recipe):
            num_rows, dim = file.get_slice("vectors").get_shape()
            part_dims = file.metadata().get("part_dims", "")
        path = folder / f"{batch}.safetensors"
        recipes[recipe] = batch
        files.append(BatchFile(path=path, offset=_offset(path, "vectors"), num_rows=num_rows, dim=dim))
    if len(recipes) > 1:
        raise ValueError(f"batches {', '.join(recipes.values())} were embedded by different backbones: run embed again")
    dims = [int(number) for number in part_dims.split(",") if number]
    joined = Embeddings(files, recipe=next(iter(recipes), ""), part_dims=dims)
    if len(joined) != num_samples:
        raise ValueError(f"{len(joined)} embeddings for {num_samples} samples: run embed again")
    return joined


def read_tensors(
    folder: Path, batch: str, *, what: str, names: Sequence[str], fact: str
) -> tuple[list[NDArray[Any]], str]:
    """Return the tensors `names` of a batch's file, and the entry `fact` of its header.

    Args:
        what: the content that the file should have, for the error.

    Raises:
        ValueError: the file is missing or torn.
    """
    with open_tensors(folder, batch, what=what, fact=fact) as (file, value):
        return [file.get_tensor(name) for name in names], value


@contextmanager
def open_tensors(folder: Path, batch: str, *, what: str, fact: str) -> Iterator[tuple[Any, str]]:
    """Yield the open file of a batch, and the entry `fact` of its header. Raises ValueError as `read_tensors` does."""
    path = folder / f"{batch}.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            yield file, (file.metadata() or {})[fact]
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing, though batch {batch} is listed: run `dvc pull digest scan validate embed`, then again"
        ) from None
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is not a whole file of {what} ({error}): remove it and run embed again") from error


def _offset(path: Path, name: str) -> int:
    """Return the number of bytes before a tensor of a safetensors file.

    They are 8 for the length of the header, the header, and the tensors before it.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return int(8 + length + header[name]["data_offsets"][0])


def pair_cosines(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each pair of vectors: (n, dim) and (n, dim) -> (n,). That of a vector of zeros is 0."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    norms = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    cosines: NDArray[np.float64] = (one * other).sum(axis=1) / np.where(norms > 0, norms, 1)
    return cosines
