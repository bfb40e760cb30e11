"""The mean cross-entropy of a linear layer over rows: a point in; loss, gradient and curvature out, in one pass.

A point is (num_classes, dim + 1), the bias last.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tasks.training.heads.rows import Array, Chunk, TrainingRows

CENTRES_EVERY = 16  # chunks: this sample of them shows how far apart the curvature's centres are


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The results of a pass over the rows at a point, by class; the last column belongs to the bias."""

    loss: float  # nats
    gradient: Array  # (num_classes, dim + 1)
    curvature: Array  # (num_classes,) mean of p (1 - p)
    centres: Array  # (num_classes, dim) mean of the vectors, weighted by p (1 - p)


class Multinomial:
    """The class-weighted mean cross-entropy over rows. Matrix products are in float32, sums over chunks in float64."""

    def __init__(self, rows: TrainingRows, class_weights: Array) -> None:
        self.rows = rows
        self.class_weights = class_weights.astype(np.float32)  # (num_classes,), 1 on average over the rows
        self.num_passes = 0
        self.sums = np.zeros((rows.num_classes, rows.dim + 1))  # of the labelled vectors and of 1, over the rows
        for present, sums in rows.map(label_sums):
            self.sums[present] += sums
        self.sums *= class_weights[:, None] / rows.num

    def without_weights(self) -> tuple[Array, Pass]:
        """The best point whose weights are 0, which the classes' shares give, and what a pass would find there."""
        shares, total = self.sums[:, -1], self.sums[:, :-1].sum(axis=0)
        point, gradient = np.zeros_like(self.sums), -self.sums
        point[:, -1] = np.log(shares)
        gradient += shares[:, None] * np.append(total, 1.0)
        centres = np.tile(total, (len(shares), 1))
        loss = -float(shares @ point[:, -1])
        return point, Pass(loss=loss, gradient=gradient, curvature=shares * (1 - shares), centres=centres)

    def at(self, point: Array) -> Pass:
        rows = self.rows
        weight, bias = point[:, :-1].astype(np.float32), point[:, -1].astype(np.float32)
        self.num_passes += 1
        loss, gradient = 0.0, np.zeros_like(point)
        curvature, sampled, centres = (np.zeros(size) for size in (len(point), len(point), (len(point), rows.dim)))
        for part in rows.map(lambda chunk: self._part(chunk, weight, bias)):
            loss += part[0]
            gradient[:, :-1] += part[1]
            gradient[:, -1] += part[2]
            curvature += part[3]
            if part[4] is not None:
                sampled += part[3]
                centres += part[4]
        gradient /= rows.num
        # p x over the rows is the gradient + y x, which is known: the centres are nearly that, times what the sample
        # gives
        mass = gradient + self.sums
        likely = mass[:, :-1] / np.maximum(mass[:, -1:], 1e-12)
        share = (centres * likely).sum() / max((sampled[:, None] * likely**2).sum(), 1e-12)
        return Pass(loss=loss / rows.num, gradient=gradient, curvature=curvature / rows.num, centres=share * likely)

    def _part(
        self, chunk: Chunk, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
        """A chunk's sums; a class a row, so that the sums over classes run along the cores' vectors."""
        labels, columns = chunk.labels, np.arange(len(chunk.labels))
        logits = weight @ chunk.vectors.T  # (num_classes, k)
        logits += bias[:, None]
        logits -= logits.max(axis=0)
        of_label = logits[labels, columns].astype(np.float64)
        p = np.exp(logits, out=logits)
        total = p.sum(axis=0)
        row_weights = self.class_weights[labels]
        loss = float(row_weights.astype(np.float64) @ (np.log(total.astype(np.float64)) - of_label))
        p /= total
        is_weighted = not (row_weights == 1).all()
        spread = p * (1 - p)
        if is_weighted:
            spread *= row_weights
            p *= row_weights
        centres = spread @ chunk.vectors if chunk.number % CENTRES_EVERY == 0 else None
        p[labels, columns] -= row_weights
        return loss, p @ chunk.vectors, p.sum(axis=1), spread.sum(axis=1), centres


def label_sums(chunk: Chunk) -> tuple[NDArray[np.int64], Array]:
    """The labels of a chunk (j,), and the sums of their vectors and of 1: (j, dim + 1)."""
    present, of_row = np.unique(chunk.labels, return_inverse=True)
    rows = np.arange(len(of_row))
    is_of = csr_array((np.ones(len(rows), np.float32), (of_row, rows)), shape=(len(present), len(rows)))
    return present, np.hstack([is_of @ chunk.vectors, np.bincount(of_row)[:, None]]).astype(np.float64)
