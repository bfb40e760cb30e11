"""The pixels of the samples that a manifest names: rows in, minibatches of uint8 tensors out, in the order of the rows."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from tasks.data.samples.contents import read_content
from tasks.data.samples.defects import ImageDefectError
from tasks.data.samples.parquet_cells import UnreadableTableError
from tasks.images.decode import _one_line, decode_image
from tasks.machine.cores import in_order


class Samples:
    """The pictures of manifest rows (batch, path, sample_id), by their positions.

    Args:
        raw: the folder of the batches.
        shorter_side: px that a JPEG is decoded to at least; None for all that it has.
    """

    def __init__(self, rows: pd.DataFrame, *, raw: Path, shorter_side: int | None) -> None:
        self.rows = rows
        self.ids: list[str] = rows["sample_id"].tolist()
        self.paths: list[str] = rows["path"].tolist()
        self.batches: list[str] = rows["batch"].tolist()
        self.raw = raw
        self.shorter_side = shorter_side

    def __len__(self) -> int:
        return len(self.ids)

    def picture(self, row: int) -> Image.Image:
        """RGB. Raises ValueError where it is missing, or its bytes are not those that were validated."""
        batch = self.raw / self.batches[row]
        return read_sample(batch / self.paths[row], self.ids[row], batch=batch, shorter_side=self.shorter_side)


def minibatches(samples: Samples, *, pixels: Callable[[Image.Image], Tensor], size: int) -> Iterator[Tensor]:
    """Tensors (size, 3, height, width) uint8, the last one shorter, of all samples; `pixels` is the transform of a picture."""
    yield from in_minibatches(in_order(range(len(samples)), lambda row: pixels(samples.picture(row))), size=size)


def in_minibatches(tensors: Iterable[Tensor], *, size: int) -> Iterator[Tensor]:
    """Stacks of `size` tensors, the last one shorter."""
    waiting: list[Tensor] = []
    for tensor in tensors:
        waiting.append(tensor)
        if len(waiting) == size:
            yield stack(waiting)
            waiting = []
    if waiting:
        yield stack(waiting)


def stack(pixels: Sequence[Tensor]) -> Tensor:
    """n tensors (3, height, width) -> (n, 3, height, width), channels last in memory, as those of decoded pictures are."""
    return torch.stack([each.permute(1, 2, 0) for each in pixels]).permute(0, 3, 1, 2)


def num_minibatches(num_rows: int, size: int) -> int:
    return -(-num_rows // size)


def sample_id(content: bytes) -> str:
    """The identity of a sample: SHA-256 (hex) of its bytes."""
    return hashlib.sha256(content).hexdigest()


def read_sample(path: Path, expected_id: str, *, batch: Path, shorter_side: int | None) -> Image.Image:
    """A sample that the manifest names, decoded. Raises ValueError where it is gone or holds other bytes than the
    manifest says."""
    try:
        content = read_content(path)
    except FileNotFoundError:
        raise ValueError(f"sample {path} is missing: restore it, or run `dvc pull {batch}.dvc`") from None
    except (UnreadableTableError, IsADirectoryError) as error:
        raise ValueError(f"sample {path} cannot be read ({_one_line(error)}): restore it") from error
    found = sample_id(content)
    if found != expected_id:
        raise ValueError(
            f"sample {path} changed after it was validated (SHA-256 {found[:12]}, expected {expected_id[:12]}): "
            "restore it, or run `dvc repro` to scan its batch again"
        )
    try:
        return decode_image(content, shorter_side=shorter_side)
    except ImageDefectError as error:
        raise ValueError(f"sample {path} cannot be decoded, though it was when it was scanned: {error}") from error
