"""Write a safetensors file piece by piece, so that its content is never in memory as a whole."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = {"float16": "F16", "float32": "F32", "uint16": "U16", "uint8": "U8"}  # of types in the file format
ALIGNMENT = 8  # bytes; the first number begins at a multiple


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor in pieces, which follow each other along the first dimension of `shape`."""

    shape: tuple[int, ...]
    dtype: type[np.generic]
    pieces: Iterable[NDArray[Any]]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str]) -> None:
    """Write the tensors one after the other. Equal contents give equal bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        dtype = NAMES[np.dtype(tensor.dtype).name]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            written = 0
            for piece in tensor.pieces:
                assert piece.dtype == tensor.dtype
                written += file.write(np.ascontiguousarray(piece).data.cast("B") if piece.size else b"")
            assert written == prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
