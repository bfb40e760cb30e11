"""The pixels of the samples that a manifest names: rows in, minibatches of uint8 tensors out, in the order of the rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from tasks.data.images import in_order, read_sample


def minibatches(
    rows: pd.DataFrame, *, raw: Path, shorter_side: int | None, pixels: Callable[[Image.Image], Tensor], size: int
) -> Iterator[Tensor]:
    """Tensors (size, 3, height, width) uint8, the last one shorter.

    Args:
        rows: manifest rows (batch, path, sample_id).
        raw: the folder of the batches.
        shorter_side: px that a JPEG is decoded to at least; None for all that it has.
        pixels: the transform of a decoded picture.

    Raises:
        ValueError: a sample is missing, or its bytes are not those that were validated.
    """
    sources = zip(rows["batch"], rows["path"], rows["sample_id"], strict=True)

    def read(source: tuple[str, str, str]) -> Tensor:
        batch, path, identity = source
        return pixels(read_sample(raw / batch / path, identity, batch=raw / batch, shorter_side=shorter_side))

    yield from in_minibatches(in_order(sources, read), size=size)


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
