"""The mean cross-entropy of a linear layer over rows: a point in; loss, gradient and curvature out, in one pass.

The softmax takes one class a row, the sigmoid any number of labels, each with an output of its own. A point is
(num_outputs, dim + 1), the bias last.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from tasks.training.heads.rows import Array, Chunk, StandardRows

Link = Literal["softmax", "sigmoid"]

CENTRES_EVERY = 16  # chunks: this sample of them shows how far apart the curvature's centres are


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The results of a pass over the rows at a point, by output; the last column belongs to the bias."""

    loss: float  # nats
    gradient: Array  # (num_outputs, dim + 1)
    curvature: Array  # (num_outputs,) mean of p (1 - p)
    centres: Array  # (num_outputs, dim) mean of the vectors, weighted by p (1 - p)


class CrossEntropy:
    """The weighted mean cross-entropy over rows. Matrix products are in float32, sums over chunks in float64.

    That of the sigmoid is summed over the labels, so that a strength of L2 acts on each label as if it were alone.

    Args:
        class_weights: the weight of a row, 1 on average over the rows. Softmax: (num_classes,), by its class. Sigmoid:
            (2, num_labels), without a label and with it.
    """

    def __init__(self, rows: StandardRows, class_weights: Array) -> None:
        self.rows = rows
        self.link: Link = "softmax" if rows.labels.ndim == 1 else "sigmoid"
        self.class_weights = class_weights.astype(np.float32)
        self.num_passes = 0
        self.sums = np.zeros((rows.num_outputs, rows.dim + 1))  # of the labelled vectors and of 1, over the rows
        if self.link == "sigmoid":
            self.totals = np.zeros_like(self.sums)  # of all vectors and of 1, as they count for a label
            for those, all_of in rows.map(lambda chunk: label_totals(chunk, self.class_weights)):
                self.sums += those
                self.totals += all_of
            self.sums /= rows.num
            self.totals /= rows.num
            return
        for present, sums in rows.map(label_sums):
            self.sums[present] += sums
        self.sums *= class_weights[:, None] / rows.num

    @property
    def without_knowledge(self) -> float:
        """Return the loss of a model that knows nothing, in nats."""
        return math.log(self.rows.num_outputs) if self.link == "softmax" else self.rows.num_outputs * math.log(2)

    def without_weights(self) -> tuple[Array, Pass]:
        """The best point whose weights are 0, which the shares of the labels give, and the result of a pass there."""
        shares, point = self.sums[:, -1], np.zeros_like(self.sums)
        if self.link == "sigmoid":
            point[:, -1] = np.log(shares) - np.log1p(-shares)
            totals, loss = self.totals, -float(shares @ np.log(shares) + (1 - shares) @ np.log1p(-shares))
        else:
            point[:, -1] = np.log(shares)
            totals, loss = np.tile(self.sums[:, :-1].sum(axis=0), (len(shares), 1)), -float(shares @ point[:, -1])
            totals = np.hstack([totals, np.ones((len(shares), 1))])
        gradient = -self.sums
        gradient += shares[:, None] * totals
        return point, Pass(loss=loss, gradient=gradient, curvature=shares * (1 - shares), centres=totals[:, :-1])

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
        centres = self._centres(gradient, sampled, centres)
        return Pass(loss=loss / rows.num, gradient=gradient, curvature=curvature / rows.num, centres=centres)

    def _centres(self, gradient: Array, sampled: Array, centres: Array) -> Array:
        """Return the centres of the curvature (num_outputs, dim), from a sample of the rows.

        Args:
            sampled: (num_outputs,), the sample's summed p (1 - p).
            centres: (num_outputs, dim), the sample's vectors, summed with these weights.
        """
        # p x over the rows is the gradient + y x, which is known: the centres are nearly that, times the sample's ratio
        mass = gradient + self.sums
        likely = mass[:, :-1] / np.maximum(mass[:, -1:], 1e-12)
        # labels do not depend on each other, so each has a share of its own; that of a common label may be negative
        axis = 1 if self.link == "sigmoid" else None
        share = (centres * likely).sum(axis=axis, keepdims=axis is not None)
        share = share / np.maximum((sampled[:, None] * likely**2).sum(axis=axis, keepdims=axis is not None), 1e-12)
        return np.asarray(share * likely)

    def _part(
        self, chunk: Chunk, weight: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
        """A chunk's sums; an output a row, so that the sums over outputs run along the cores' vectors."""
        logits = weight @ chunk.vectors.T  # (num_outputs, k)
        logits += bias[:, None]
        loss, p, spread = self._sigmoid(chunk, logits) if self.link == "sigmoid" else self._softmax(chunk, logits)
        centres = spread @ chunk.vectors if chunk.number % CENTRES_EVERY == 0 else None
        return loss, p @ chunk.vectors, p.sum(axis=1), spread.sum(axis=1), centres

    def _softmax(
        self, chunk: Chunk, logits: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
        """Return the summed loss of a chunk, and (num_classes, k) each: its slope and its curvature by logit."""
        labels, columns = chunk.labels, np.arange(len(chunk.labels))
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
        p[labels, columns] -= row_weights
        return loss, p, spread

    def _sigmoid(
        self, chunk: Chunk, logits: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
        """Return the summed loss of a chunk, and (num_labels, k) each: its slope and its curvature by logit."""
        truths = chunk.labels.T.astype(np.float32)
        weights = of_truths(self.class_weights, truths)
        losses = np.maximum(logits, 0) - logits * truths + np.log1p(np.exp(-np.abs(logits)))
        p = expit(logits)
        return float((weights * losses).sum(dtype=np.float64)), weights * (p - truths), weights * p * (1 - p)


def label_sums(chunk: Chunk) -> tuple[NDArray[np.int64], Array]:
    """The labels of a chunk (j,), and the sums of their vectors and of 1: (j, dim + 1)."""
    present, of_row = np.unique(chunk.labels, return_inverse=True)
    rows = np.arange(len(of_row))
    is_of = csr_array((np.ones(len(rows), np.float32), (of_row, rows)), shape=(len(present), len(rows)))
    return present, np.hstack([is_of @ chunk.vectors, np.bincount(of_row)[:, None]]).astype(np.float64)


def label_totals(chunk: Chunk, class_weights: NDArray[np.float32]) -> tuple[Array, Array]:
    """The weighted sums of the vectors with each label and of 1, (num_labels, dim + 1), and those of all vectors."""
    truths = chunk.labels.T.astype(np.float32)
    weights = of_truths(class_weights, truths)
    with_one = np.hstack([chunk.vectors, np.ones((len(chunk.vectors), 1), np.float32)])
    return ((weights * truths) @ with_one).astype(np.float64), (weights @ with_one).astype(np.float64)


def of_truths(class_weights: NDArray[np.float32], truths: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the weight of each row for each label, (num_labels, k)."""
    weights: NDArray[np.float32] = np.where(truths > 0.5, class_weights[1][:, None], class_weights[0][:, None])
    return weights
