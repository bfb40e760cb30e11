"""Arrays and texts in; short text that a page's script unpacks, out: base64 of zlib's format (RFC 1950), little-endian."""

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEPARATOR = "\0"  # the one character that no path and no name of a file can hold


def pack(array: NDArray[Any]) -> str:
    """Any shape, row by row, in its own dtype."""
    return _pack(array.astype(array.dtype.newbyteorder("<")).tobytes())


def pack_texts(texts: Sequence[str]) -> str:
    return _pack(SEPARATOR.join(texts).encode())


def pack_within(texts: Sequence[str], *, order: NDArray[np.integer], max_bytes: int) -> tuple[str, int]:
    """The texts as far as they fit into `max_bytes` of page, those that come first in `order` (n,) before others; the rest
    are empty. And how many were kept."""
    num_kept = len(texts)
    while len(packed := pack_texts(_keep(texts, order[:num_kept]))) > max_bytes and num_kept:
        num_kept = int(num_kept * 0.95 * max_bytes / len(packed))
    return packed, num_kept


def _keep(texts: Sequence[str], rows: NDArray[np.integer]) -> list[str]:
    kept = [""] * len(texts)
    for row in rows.tolist():
        kept[row] = texts[row]
    return kept


def _pack(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")
