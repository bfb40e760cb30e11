"""Pack arrays and texts for the page's script: base64 of zlib's format (RFC 1950), numbers in little-endian."""

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.machine.names import without_commands

SEPARATOR = "\0"  # the only character that no path can contain


def pack(array: NDArray[Any]) -> str:
    """Pack an array of any shape, row by row, in its own dtype."""
    return _pack(array.astype(array.dtype.newbyteorder("<")).tobytes())


def pack_texts(texts: Sequence[str]) -> str:
    return _pack(SEPARATOR.join(map(without_commands, texts)).encode())


def pack_within(texts: Sequence[str], *, order: NDArray[np.integer], max_bytes: int) -> tuple[str, int]:
    """Pack as many texts as fit into `max_bytes` of the page, and return how many were kept.

    The first ones in `order` (n,) are kept; the others become empty texts.
    """
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
