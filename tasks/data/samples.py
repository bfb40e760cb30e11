"""The pixels of the samples that a manifest names: rows in, minibatches of uint8 tensors out, in the order of the rows."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from tasks.data.images import in_order, read_sample

Result = TypeVar("Result")


def minibatches(
    rows: pd.DataFrame, *, raw: Path, pixels: Callable[[Image.Image], Tensor], size: int
) -> Iterator[Tensor]:
    """Tensors (size, 3, height, width) uint8, the last one shorter.

    Args:
        rows: manifest rows (batch, path, sample_id).
        raw: the folder of the batches.
        pixels: the transform of a decoded picture.

    Raises:
        ValueError: a sample is missing, or its bytes are not those that were validated.
    """
    yield from in_minibatches(read_each(rows, raw=raw, work=lambda image, _: pixels(image)), size=size)


def read_each(rows: pd.DataFrame, *, raw: Path, work: Callable[[Image.Image, int], Result]) -> Iterator[Result]:
    """What `work` makes of each row's picture and of the row's number, in the order of the rows; else as `minibatches`."""
    sources = list(enumerate(zip(rows["batch"], rows["path"], rows["sample_id"], strict=True)))

    def read(source: tuple[int, tuple[str, str, str]]) -> Result:
        number, (batch, path, identity) = source
        return work(read_sample(raw / batch / path, identity, batch=raw / batch), number)

    return in_order(sources, read)


def in_minibatches(tensors: Iterable[Tensor], *, size: int) -> Iterator[Tensor]:
    """Stacks of `size` tensors, the last one shorter."""
    waiting: list[Tensor] = []
    for tensor in tensors:
        waiting.append(tensor)
        if len(waiting) == size:
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)


def num_minibatches(num_rows: int, size: int) -> int:
    return -(-num_rows // size)
