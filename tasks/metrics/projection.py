"""Project features onto a plane for a map of the samples: two principal components that outliers do not turn."""

import numpy as np
from numpy.typing import NDArray

MAX_FITTED = 10_000  # samples that the components are fitted to; more would turn the plane by less than a point's width
CHUNK = 8192  # samples projected at once
FARTHEST = 0.05  # share of samples at each end of an axis that its scale ignores, so that outliers squeeze no others
MARGIN = 1.6  # the plane shows this many times the range of the others; samples beyond it are drawn on the edge
LARGEST = 65535  # the largest uint16


def project(features: NDArray[np.float16]) -> NDArray[np.uint16]:
    """Project features (n, dim) to places (n, 2); both axes have the same scale.

    Each sample counts by its direction from the median, not by its distance (spherical principal components, Locantore
    et al. 1999). The components have the signs of scikit-learn: the largest weight of each component is positive.
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    n, dim = features.shape
    places = np.zeros((n, 2))
    fitted = features[np.unique(np.linspace(0, n - 1, min(n, MAX_FITTED)).astype(np.int64))].astype(np.float32)
    if dim >= 2 and len(fitted) >= 2 and (fitted != fitted[0]).any():
        centre = np.median(fitted, axis=0)
        spokes = fitted - centre
        spokes /= np.maximum(np.linalg.norm(spokes, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        with threadpool_limits(1):  # the last bits of matrix products depend on how many cores share them
            components = PCA(2, random_state=0).fit(spokes).components_
            for start in range(0, n, CHUNK):
                places[start : start + CHUNK] = (features[start : start + CHUNK] - centre) @ components.T
    return on_plane(places)


def on_plane(places: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Scale places (n, 2) to 0..65535, with the middle of the samples in the middle."""
    if not len(places):
        return np.zeros((0, 2), dtype=np.uint16)
    low, high = np.quantile(places, (FARTHEST, 1 - FARTHEST), axis=0)
    span = MARGIN * float((high - low).max())
    scaled = (places - (low + high) / 2) / (span if span > 0 else 1.0) + 0.5
    rounded: NDArray[np.uint16] = np.round(scaled.clip(0, 1) * LARGEST).astype(np.uint16)
    return rounded
