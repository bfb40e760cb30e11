"""Project features onto a plane for a map of the samples: two principal components that outliers do not turn."""

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

MAX_FITTED = 10_000  # samples that the components are fitted to; more would turn the plane by less than a point's width
CHUNK = 8192  # samples projected at once
NUM_PROJECTIONS, NUM_ROUNDS = 12, 8  # of the search for two components: more would move no place by a pixel
FARTHEST = 0.05  # share of samples at each end of an axis that its scale ignores, so that outliers squeeze no others
MARGIN = 1.6  # the plane shows this many times the range of the others; samples beyond it are drawn on the edge
LARGEST = 65535  # the largest uint16


def project(features: NDArray[np.float16]) -> NDArray[np.uint16]:
    """Project features (n, dim) to places (n, 2); both axes have the same scale.

    Each sample counts by its direction from the median, not by its distance (spherical principal components, Locantore
    et al. 1999). The largest weight of each component is positive.
    """
    n, dim = features.shape
    places = np.zeros((n, 2))
    fitted = features[np.unique(np.linspace(0, n - 1, min(n, MAX_FITTED)).astype(np.int64))].astype(np.float32)
    if dim >= 2 and len(fitted) >= 2 and (fitted != fitted[0]).any():
        centre = np.median(fitted, axis=0)
        spokes = fitted - centre
        spokes /= np.maximum(np.linalg.norm(spokes, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        with threadpool_limits(1):  # the last bits of matrix products depend on how many cores share them
            components = principal(spokes)
            for start in range(0, n, CHUNK):
                places[start : start + CHUNK] = (features[start : start + CHUNK] - centre) @ components.T
    return on_plane(places)


def principal(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the two principal components (2, dim) of vectors (n, dim), by random projections (Halko et al. 2011)."""
    centred = vectors - vectors.mean(axis=0)
    num = min(NUM_PROJECTIONS, *centred.shape)
    basis = np.random.default_rng(0).normal(size=(centred.shape[1], num)).astype(np.float32)
    for _ in range(NUM_ROUNDS):
        basis = np.linalg.qr(centred.T @ np.linalg.qr(centred @ basis)[0])[0]
    rotated: NDArray[np.float32] = np.linalg.svd(centred @ basis, full_matrices=False)[2][:2] @ basis.T
    largest = np.abs(rotated).argmax(axis=1)
    rotated *= np.sign(rotated[np.arange(2), largest])[:, None]
    return rotated


def on_plane(places: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Scale places (n, 2) to 0..65535, with the middle of the samples in the middle."""
    if not len(places):
        return np.zeros((0, 2), dtype=np.uint16)
    low, high = np.quantile(places, (FARTHEST, 1 - FARTHEST), axis=0)
    span = MARGIN * float((high - low).max())
    scaled = (places - (low + high) / 2) / (span if span > 0 else 1.0) + 0.5
    rounded: NDArray[np.uint16] = np.round(scaled.clip(0, 1) * LARGEST).astype(np.uint16)
    return rounded
