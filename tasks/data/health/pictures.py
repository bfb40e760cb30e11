"""Find pictures that are nearly black, nearly white or blurred, by their marks (n, 2): brightness and sharpness.

The marks are those of `tasks.images.transform.quality`. Blank ones are in the quarantine: `scan` puts them there.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.odd_sizes import FAR, deviations

DARK, BRIGHT = 20, 240  # of 255: mean brightness that is bad where it is unusual, too
LEAST_SPREAD = 6.0  # of a mark: where nearly all pictures are alike, only a mark this far off is odd

Found = tuple[str, NDArray[np.intp], NDArray[np.float64], list[str]]


def bad_pictures(marks: NDArray[np.uint8]) -> Iterator[Found]:
    """Yield a kind of suspects, the rows (k,) of its pictures, their scores (k,), 0 to 1, and sentences about them."""
    brightness, sharpness = marks.astype(float).T
    usual = np.median(brightness)
    far = np.abs(deviations(brightness, least_spread=LEAST_SPREAD))
    for kind, is_bad in (("dark", brightness < min(DARK, usual)), ("bright", brightness > max(BRIGHT, usual))):
        rows = np.flatnonzero(is_bad & (far > FAR / 2))
        said = [f"mean brightness {brightness[row]:.0f} of 255, where {usual:.0f} is usual" for row in rows]
        yield kind, rows, np.abs(brightness[rows] - usual) / 255, said
    rows = np.flatnonzero(deviations(sharpness, least_spread=LEAST_SPREAD) < -FAR)
    said = [f"sharpness {sharpness[row]:.0f} of 255, where {np.median(sharpness):.0f} is usual" for row in rows]
    yield "blurred", rows, np.minimum((np.median(sharpness) - sharpness[rows]) / 255, 1), said
