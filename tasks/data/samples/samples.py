"""Read the samples that a manifest lists, by their rows: the verified bytes, or the decoded sample."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.samples.contents import read_content
from tasks.data.samples.defects import DefectError
from tasks.data.samples.parquet_cells import UnreadableTableError
from tasks.machine.failures import MissingDataError

Positions = NDArray[np.intp]  # of samples among all
Sample = TypeVar("Sample")  # a decoded sample of the modality: an image, a text


class Samples(Generic[Sample]):
    """The samples of the rows of a manifest (columns batch, path, sample_id), by their positions.

    Args:
        raw: the folder that holds the batches.
        decode: the modality's function that decodes a sample's bytes.
        read: the modality's function that returns a sample's bytes by its path.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        *,
        raw: Path,
        decode: Callable[..., Sample],
        read: Callable[[Path], bytes] = read_content,
    ) -> None:
        self.rows = rows
        self.ids: list[str] = rows["sample_id"].tolist()
        self.paths: list[str] = rows["path"].tolist()
        self.batches: list[str] = rows["batch"].tolist()
        self.raw = raw
        self.decode = decode
        self.read = read

    def __len__(self) -> int:
        return len(self.ids)

    def content(self, row: int) -> bytes:
        """Return a sample's bytes. Raises ValueError where they are missing, or changed after they were validated."""
        batch = self.raw / self.batches[row]
        return read_verified(batch / self.paths[row], self.ids[row], batch=batch, read=self.read)

    def decoded(self, row: int, *, shorter_side: int | None = None) -> Sample:
        """Return the decoded sample. Raises ValueError as `content` does, and where it cannot be decoded."""
        decode = partial(self.decode, shorter_side=shorter_side)
        return decode_verified(self.content(row), decode, path=self.raw / self.batches[row] / self.paths[row])


def sample_id(content: bytes) -> str:
    """Return the identity of a sample: the SHA-256 (hex) of its bytes."""
    return hashlib.sha256(content).hexdigest()


def read_verified(path: Path, expected_id: str, *, batch: Path, read: Callable[[Path], bytes] = read_content) -> bytes:
    """Return the bytes of the sample at `path`.

    Raises:
        ValueError: the sample is missing, cannot be read, or its SHA-256 is not `expected_id`.
    """
    try:
        content = read(path)
    except FileNotFoundError:
        pointer = f"{batch}.dvc"
        raise MissingDataError(
            f"sample {path} is missing: restore it, or run `dvc pull {pointer}`", pointer=pointer
        ) from None
    except (UnreadableTableError, DefectError, IsADirectoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"sample {path} cannot be read ({reason}): restore it") from error
    identity = sample_id(content)
    if identity != expected_id:
        raise ValueError(
            f"sample {path} changed after it was validated (SHA-256 {identity[:12]}, expected {expected_id[:12]}): "
            "restore it, or run `dvc repro` to scan its batch again"
        )
    return content


def decode_verified(content: bytes, decode: Callable[[bytes], Sample], *, path: Path) -> Sample:
    """Return the decoded sample. Raises ValueError with `path` where it can no longer be decoded."""
    try:
        return decode(content)
    except DefectError as error:
        raise ValueError(
            f"sample {path} can no longer be decoded, but could be when it was scanned: {error}"
        ) from error
