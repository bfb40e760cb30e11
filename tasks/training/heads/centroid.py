"""The nearest-centroid head: labelled vectors in, a linear layer that prefers the nearest class mean out."""

from collections.abc import Sequence

import numpy as np

from tasks.training.heads.cross_entropy import label_sums
from tasks.training.heads.rows import Array, Labels, TrainingRows, Vectors


def fit_centroids(train: tuple[Vectors, Labels], *, classes: Sequence[str]) -> tuple[Array, Array]:
    """Return weight (num_classes, dim) and bias (num_classes,).

    The logits are -|x - c|^2 / 2 of standardised vectors without |x|^2, which is the same for all classes. `train` and
    the errors are those of `fit_head`.
    """
    rows = TrainingRows(*train, classes)
    sums = np.zeros((rows.num_outputs, rows.dim + 1))
    for present, sums_of_chunk in rows.map(label_sums):
        sums[present] += sums_of_chunk
    centres = sums[:, :-1] / sums[:, -1:]
    return rows.fold(centres, -(centres**2).sum(axis=1) / 2)
