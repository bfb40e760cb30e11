"""Find the samples that are unlike anything a model was trained on, by the distance to their nearest training vectors.

The distance is that of deep nearest neighbours ("Out-of-distribution detection with deep nearest neighbors", Sun et al.
2022): vectors are centred on the mean of train and scaled to length 1, and a sample is as far away as its NEIGHBOURS-th
nearest of the kept training vectors.

A limit is set on samples that the model did not learn its weights from, so that of as many new samples like these at
most the wanted share is beyond it (split conformal prediction, Vovk et al. 2005).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_REFERENCES = 2000  # vectors that are kept: 2 MB of 512 numbers each, and about 0.3 ms a sample
NEIGHBOURS = 2  # one alone may be an outlier itself

Vectors = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Neighbourhood:
    """What is kept of n training vectors: their mean (dim,) float32, and the references (r, dim) float16, of length 1.

    The references are centred on the mean.
    """

    mean: NDArray[np.float32]
    references: NDArray[np.float16]

    @classmethod
    def of(cls, train: Vectors, *, most: int = MOST_REFERENCES, seed: int = 0) -> "Neighbourhood":
        """Return that of training vectors (n, dim), of which at most `most` are drawn at random to be references."""
        mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
        drawn = np.sort(np.random.default_rng(seed).permutation(len(train))[:most])
        return cls(mean=mean, references=units(train[drawn], mean).astype(np.float16))

    def distances(self, vectors: Vectors) -> NDArray[np.float32]:
        """Return how far away vectors (n, dim) are: (n,), 0 to 2.

        Each row is computed by itself, so that no bit depends on the rows beside it.
        """
        references = self.references.astype(np.float32)
        rows = [nearness(np.einsum("rd,d->r", references, row)) for row in units(vectors, self.mean)]
        return 1 - np.array(rows, np.float32)


def units(vectors: Vectors, mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors (n, dim) that are centred and scaled to length 1; a vector of zeros stays."""
    centred = vectors.astype(np.float32) - mean
    norms = np.sqrt(np.einsum("nd,nd->n", centred, centred))
    scaled: NDArray[np.float32] = centred / np.where(norms > 0, norms, 1)[:, None]
    return scaled


def nearness(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the NEIGHBOURS-th largest of the cosines (…, r): (…)."""
    place = min(NEIGHBOURS, cosines.shape[-1])
    return np.partition(cosines, -place, axis=-1)[..., -place]


def limit_of(distances: NDArray[np.floating], *, level: float) -> float | None:
    """Return the distance beyond which at most the share `level` of new samples lies, by those of m known ones.

    Returns:
        None where there are too few to tell: the level 0.01 takes 99.
    """
    place = math.ceil((len(distances) + 1) * (1 - level))
    return float(np.sort(distances)[place - 1]) if 0 < place <= len(distances) else None


def least_for(level: float) -> int:
    """Return the number of known samples that a limit takes."""
    return math.ceil(1 / level - 1e-9) - 1
