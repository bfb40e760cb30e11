"""Find samples of a size unlike that of the others: images by area and by shape, texts by their characters."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FAR = 5.0  # robust standard deviations: of a million ordinary sizes, fewer than one is so far
LEAST_SPREAD = 0.1  # of a logarithm: where nearly all have one size, 1.6 times as much is odd
MOST_SCORE = 20.0  # standard deviations; the score of a size is its share of these
NORMAL = 1.4826  # of the median absolute deviation, which makes it the standard deviation of a normal distribution


def odd_sizes(manifest: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.float64], list[str]]:
    """Return the rows (k,) of samples of an odd size, their scores (k,), 0 to 1, and a sentence about each (k).

    Sizes are compared by their logarithms: the distance from the median in robust standard deviations (Iglewicz and
    Hoaglin 1993).
    """
    if len(manifest) < 2:
        return np.empty(0, np.intp), np.empty(0), []
    if "width" in manifest:
        width, height = (manifest[name].to_numpy(float) for name in ("width", "height"))
        measures = {"area": width * height, "shape": width / np.maximum(height, 1)}
        said = [f"{int(w)} x {int(h)} px" for w, h in zip(width, height, strict=True)]
        usual = f"{int(np.median(width))} x {int(np.median(height))} px"
    elif "characters" in manifest:
        measures = {"length": manifest["characters"].to_numpy(float)}
        said = [f"{int(length):,} characters" for length in measures["length"]]
        usual = f"{int(np.median(measures['length'])):,} characters"
    else:
        return np.empty(0, np.intp), np.empty(0), []
    logarithms = (np.log(np.maximum(values, 1e-6)) for values in measures.values())
    far = np.max([np.abs(deviations(own, least_spread=LEAST_SPREAD)) for own in logarithms], axis=0)
    rows = np.flatnonzero(far > FAR)
    return rows, np.minimum(far[rows] / MOST_SCORE, 1), [f"{said[row]}, where {usual} are usual" for row in rows]


def deviations(values: NDArray[np.float64], *, least_spread: float) -> NDArray[np.float64]:
    """Return how many robust standard deviations values (n,) are above their median, below 0 for those under it: (n,).

    A standard deviation is at least `least_spread`.
    """
    apart: NDArray[np.float64] = values - np.median(values)
    return apart / max(NORMAL * float(np.median(np.abs(apart))), least_spread)
