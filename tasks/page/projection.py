"""Embeddings in; where each held-out sample lies on a plane out: their two principal components."""

import numpy as np
from numpy.typing import NDArray

from tasks.data.vectors.embeddings import Part

MAX_FITTED = (
    10_000  # samples that the components are found from: more of them turn the plane by less than a point's width
)
CHUNK = 8192  # samples projected at once
FARTHEST = 0.001  # of the samples, on each side of an axis, have no say in its scale: no outlier squeezes the others
MARGIN = 1.15  # times the range of those that have is shown; what is farther away is drawn on the edge
LARGEST = 65535  # of uint16


def project(vectors: Part) -> NDArray[np.uint16]:
    """(n, dim) -> (n, 2), both axes of one scale. The components' signs are those of scikit-learn: the largest weight of each
    is positive."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    n, dim = vectors.shape
    places = np.zeros((n, 2))
    fitted = vectors[np.unique(np.linspace(0, n - 1, min(n, MAX_FITTED)).astype(np.int64))]
    if dim >= 2 and len(fitted) >= 2 and (fitted != fitted[0]).any():
        with threadpool_limits(1):  # sums of matrix products depend on how many cores share them
            components = PCA(2, random_state=0).fit(fitted)
            for start in range(0, n, CHUNK):
                places[start : start + CHUNK] = components.transform(vectors[start : start + CHUNK])
    return on_plane(places)


def on_plane(places: NDArray[np.float64]) -> NDArray[np.uint16]:
    """(n, 2) of any scale -> 0..65535, the middle of the samples in the middle."""
    if not len(places):
        return np.zeros((0, 2), dtype=np.uint16)
    low, high = np.quantile(places, (FARTHEST, 1 - FARTHEST), axis=0)
    span = MARGIN * float((high - low).max())
    scaled = (places - (low + high) / 2) / (span if span > 0 else 1.0) + 0.5
    rounded: NDArray[np.uint16] = np.round(scaled.clip(0, 1) * LARGEST).astype(np.uint16)
    return rounded
