"""The pixels of the samples that a manifest names: rows in, minibatches of uint8 tensors out, in the order of the rows."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from tasks.data.images import in_order, read_sample


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
    sources = list(zip(rows["batch"], rows["path"], rows["sample_id"], strict=True))

    def read(source: tuple[str, str, str]) -> Tensor:
        batch, path, identity = source
        return pixels(read_sample(raw / batch / path, identity, batch=raw / batch))

    waiting: list[Tensor] = []
    for tensor in in_order(sources, read):
        waiting.append(tensor)
        if len(waiting) == size:
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)


def num_minibatches(num_rows: int, size: int) -> int:
    return -(-num_rows // size)
