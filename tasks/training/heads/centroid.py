"""The nearest-centroid head: labelled vectors in, a linear layer whose largest logit is that of the nearest class mean out."""

from collections.abc import Sequence

import numpy as np

from tasks.training.heads.multinomial import label_sums
from tasks.training.heads.rows import Array, Labels, TrainingRows, Vectors


def fit_centroids(train: tuple[Vectors, Labels], *, classes: Sequence[str]) -> tuple[Array, Array]:
    """Weight (num_classes, dim) and bias (num_classes,): -|x - c|^2 / 2 of standardised vectors, but for |x|^2, which is
    the same for all classes. `train` as for `fit_head`, which raises the same errors."""
    rows = TrainingRows(*train, classes)
    sums = np.zeros((rows.num_classes, rows.dim + 1))
    for present, found in rows.map(label_sums):
        sums[present] += found
    centres = sums[:, :-1] / sums[:, -1:]
    return rows.fold(centres, -(centres**2).sum(axis=1) / 2)
