"""Spread the values of a deep image over 0..255: deep grey must not become black.

A file of 16 or 32 bits often holds fewer: a camera or a scanner gives 10, 12 or 14, and some programs store 8 bits that
way. The range that counts is a pure function of the file:

- the range that the file declares (`declared`), if it is less than the type's own and holds all values;
- else the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value, or that value itself;
- for real numbers that are all in 0..1, that range;
- from the least to the largest value, if some are negative.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS = (8, 10, 12, 14, 16)
MOST = 1e30  # of a real number; more would overflow
PX_AT_ONCE = 2**20  # so that a large image costs little memory beside its own


def to_8_bits(values: NDArray[Any], *, declared: int | None = None) -> NDArray[np.uint8]:
    """Return grey values, (height, width) integers or real numbers, as uint8 of the same shape.

    NaN becomes the least value, and infinity the largest finite one.
    """
    limits = [limits_of(values[rows]) for rows in strips(*values.shape[:2])]
    least, largest = min(low for low, _ in limits), max(high for _, high in limits)
    bottom, top = range_of(least, largest, is_real=values.dtype.kind == "f", declared=declared)
    shallow = np.empty(values.shape, np.uint8)
    for rows in strips(*values.shape[:2]):
        part = np.nan_to_num(values[rows].astype(np.float64), nan=least).clip(least, largest)
        shallow[rows] = spread(part, bottom=bottom, top=top)
    return shallow


def strips(height: int, width: int) -> Iterator[slice]:
    """Yield rows, about PX_AT_ONCE px at a time."""
    rows = max(PX_AT_ONCE // width, 1)
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def limits_of(values: NDArray[Any]) -> tuple[float, float]:
    """Return the least and the largest finite value; zeros if there is none."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    limits = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return max(limits[0], -MOST), min(limits[1], MOST)


def range_of(least: float, largest: float, *, is_real: bool, declared: int | None) -> tuple[float, float]:
    """Return the values that become 0 and 255."""
    if least < 0:
        return least, largest if largest > least else least + 1
    if is_real and largest <= 1:
        return 0.0, 1.0
    if declared is not None and largest <= declared:
        return 0.0, float(declared)
    return 0.0, next((2.0**bits - 1 for bits in BITS if largest < 2**bits), largest)


def spread(values: NDArray[Any], *, bottom: float, top: float | NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return finite values as uint8 of the same shape; those outside of the range are clipped.

    `top` may be one for each channel.
    """
    shallow: NDArray[np.uint8] = np.rint((values - bottom) * (255 / (top - bottom))).clip(0, 255).astype(np.uint8)
    return shallow
