"""Find the samples that are unlike anything a model was trained on, by the distance to their nearest training vectors.

A sample is as far away as its NEIGHBOURS-th nearest of the kept training vectors ("Out-of-distribution detection with
deep nearest neighbors", Sun et al. 2022). The distance is 1 - the cosine of the roots of features, with their signs:
of features that are not negative, as after a ReLU, that is the square of Hellinger's distance but for a factor. Without
the roots, few large features would decide alone.

A limit is set on samples that the model did not learn its weights from, so that of as many new samples like these at
most the wanted share is beyond it (split conformal prediction, Vovk et al. 2005).
"""

import math

import numpy as np
from numpy.typing import NDArray

MOST_REFERENCES = 2000  # vectors that are kept: 2 MB of 512 numbers each, and about 0.4 ms a sample
NEIGHBOURS = 5  # a few may be outliers themselves

Vectors = NDArray[np.floating]


def directions(vectors: Vectors) -> NDArray[np.float32]:
    """Return the roots of vectors (n, dim), with their signs, scaled to length 1; a vector of zeros stays."""
    roots = np.sqrt(np.abs(vectors.astype(np.float32)))
    roots *= np.sign(vectors)
    norms = np.sqrt(np.einsum("nd,nd->n", roots, roots))
    roots /= np.where(norms > 0, norms, 1)[:, None]
    return roots


def distances(references: Vectors, vectors: Vectors) -> NDArray[np.float32]:
    """Return how far away vectors (n, dim) are from references (r, dim), which are `directions`: (n,), 0 to 2.

    Each row is computed by itself, so that no bit depends on the rows beside it.
    """
    kept = references.astype(np.float32)
    rows = [nearness(np.einsum("rd,d->r", kept, row)) for row in directions(vectors)]
    return 1 - np.array(rows, np.float32)


def nearness(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the NEIGHBOURS-th largest of the cosines (…, r): (…)."""
    place = min(NEIGHBOURS, cosines.shape[-1])
    return np.partition(cosines, -place, axis=-1)[..., -place]


def limit_of(known: NDArray[np.floating], *, level: float) -> float | None:
    """Return the distance beyond which at most the share `level` of new samples lies, by those of m known ones.

    Returns:
        None where there are too few to tell: the level 0.01 takes 99.
    """
    place = math.ceil((len(known) + 1) * (1 - level))
    return float(np.sort(known)[place - 1]) if 0 < place <= len(known) else None


def least_for(level: float) -> int:
    """Return the number of known samples that a limit takes."""
    return math.ceil(1 / level - 1e-9) - 1
