"""The embeddings of a batch on disk: one safetensors file, `vectors` (n, dim) float16, the recipe in its header; read row by row."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from tasks.data.vectors.tensors import Tensor, write_tensors

SPARSE = 4  # rows wanted that lie further apart than this on average are read one run at a time


def write_embeddings(
    path: Path, vectors: Iterable[NDArray[np.float16]], *, shape: tuple[int, int], recipe: str
) -> None:
    """`vectors` are pieces of (n, dim) = `shape`, in the order of the batch's manifest; `recipe` is the fingerprint of what
    made them."""
    tensor = Tensor(shape=shape, dtype=np.float16, pieces=vectors)
    write_tensors(path, {"vectors": tensor}, metadata={"recipe": recipe})


@dataclass(frozen=True, kw_only=True)
class BatchFile:
    """Where a batch's vectors (num_rows, dim) float16 begin in its file."""

    path: Path
    offset: int  # bytes
    num_rows: int
    dim: int

    def read(self, start: int, stop: int) -> NDArray[np.float16]:
        """Rows start..stop-1. Read, not mapped: mapped pages count as this process's memory, and a mapped file that is
        cut short meanwhile ends the process."""
        length, at = (stop - start) * self.dim * 2, self.offset + start * self.dim * 2
        content = bytearray()
        with self.path.open("rb", buffering=0) as file:
            while len(content) < length:  # one call gives 2 GiB at most
                more = os.pread(file.fileno(), length - len(content), at + len(content))
                if not more:
                    break
                content += more
        if len(content) != length:
            raise ValueError(f"{self.path} was cut short while it was read: remove it and run embed again")
        return np.frombuffer(content, dtype=np.float16).reshape(stop - start, self.dim)


class Embeddings:
    """The vectors of several batches as one (n, dim), of which rows are read when they are asked for."""

    def __init__(self, files: Sequence[BatchFile]) -> None:
        self.files = files
        self.starts = np.cumsum([0, *(file.num_rows for file in files)])
        self.shape = (int(self.starts[-1]), files[0].dim if files else 0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        """(k, dim) float32 for a slice or for k row numbers in any order."""
        wanted = np.arange(len(self))[rows] if isinstance(rows, slice) else np.asarray(rows)
        if wanted.dtype == bool:
            raise TypeError("rows are chosen by their numbers: use np.flatnonzero")
        order = np.argsort(wanted, kind="stable")
        ordered = wanted[order]
        if len(ordered) and not 0 <= ordered[0] <= ordered[-1] < len(self):
            raise IndexError(f"rows {ordered[0]}..{ordered[-1]} of {len(self)}")
        found = np.empty((len(wanted), self.shape[1]), dtype=np.float32)
        for file, start, stop in zip(self.files, self.starts, self.starts[1:], strict=False):
            first, last = np.searchsorted(ordered, (start, stop))
            if first < last:
                self._read(file, ordered[first:last] - start, into=found, at=order[first:last])
        return found

    def part(self, rows: NDArray[np.integer]) -> "Part":
        return Part(self, rows)

    def _read(
        self, file: BatchFile, rows: NDArray[np.integer], *, into: NDArray[np.float32], at: NDArray[np.integer]
    ) -> None:
        span = int(rows[-1] - rows[0]) + 1
        if span <= SPARSE * len(rows):
            into[at] = file.read(int(rows[0]), int(rows[-1]) + 1)[rows - rows[0]]
            return
        cuts = np.flatnonzero(np.diff(rows) > 1) + 1
        for run, places in zip(np.split(rows, cuts), np.split(at, cuts), strict=True):
            into[places] = file.read(int(run[0]), int(run[-1]) + 1)[run - run[0]]


class Part:
    """Some rows of embeddings, numbered anew from 0."""

    def __init__(self, whole: Embeddings, rows: NDArray[np.integer]) -> None:
        self.whole = whole
        self.rows = rows
        self.shape = (len(rows), whole.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        return self.whole[self.rows[rows]]


def read_embeddings(folder: Path, batches: Sequence[str], *, num_samples: int) -> Embeddings:
    """The vectors of all batches, in their order: (num_samples, dim).

    Raises ValueError where a batch's file is missing or torn, where two batches were embedded by different recipes, or
    where there are not as many vectors as samples.
    """
    files: list[BatchFile] = []
    recipes: dict[str, str] = {}
    for batch in batches:
        with open_tensors(folder, batch, what="embeddings", fact="recipe") as (file, recipe):
            num_rows, dim = file.get_slice("vectors").get_shape()
        path = folder / f"{batch}.safetensors"
        recipes[recipe] = batch
        files.append(BatchFile(path=path, offset=_offset(path, "vectors"), num_rows=num_rows, dim=dim))
    if len(recipes) > 1:
        raise ValueError(f"batches {', '.join(recipes.values())} were embedded by different backbones: run embed again")
    joined = Embeddings(files)
    if len(joined) != num_samples:
        raise ValueError(f"{len(joined)} embeddings for {num_samples} samples: run embed again")
    return joined


def read_tensors(
    folder: Path, batch: str, *, what: str, names: Sequence[str], fact: str
) -> tuple[list[NDArray[Any]], str]:
    """Tensors of a batch's file, by name, and a fact of its header. Raises ValueError where the file is missing or
    torn; `what` says then what it should hold."""
    with open_tensors(folder, batch, what=what, fact=fact) as (file, found):
        return [file.get_tensor(name) for name in names], found


@contextmanager
def open_tensors(folder: Path, batch: str, *, what: str, fact: str) -> Iterator[tuple[Any, str]]:
    """A batch's file, open, and a fact of its header. Raises ValueError as `read_tensors`."""
    path = folder / f"{batch}.safetensors"
    try:
        with safe_open(path, framework="np") as file:
            yield file, (file.metadata() or {})[fact]
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing, though batch {batch} is listed: run `dvc pull scan validate embed`, then again"
        ) from None
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is not a whole file of {what} ({error}): remove it and run embed again") from error


def _offset(path: Path, name: str) -> int:
    """Bytes before a tensor of a safetensors file: 8 for the header's length, the header, and what comes before it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return int(8 + length + header[name]["data_offsets"][0])


def pair_cosines(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.float64]:
    """Pair by pair: vectors (n, dim) of both -> (n,). Of a vector of zeros it is 0."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    norms = np.sqrt((one * one).sum(axis=1) * (other * other).sum(axis=1))
    cosines: NDArray[np.float64] = (one * other).sum(axis=1) / np.where(norms > 0, norms, 1)
    return cosines
