"""The pixels of the samples that a manifest names: rows in, minibatches of uint8 tensors out, in the order of the rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from tasks.cores import in_order
from tasks.data.images import read_sample


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
