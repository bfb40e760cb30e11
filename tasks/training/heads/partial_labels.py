"""Learn a head of classes also from rows of which only a set of classes is known: those of a coarser target.

Each of a target's classes may lie in one class of another target: cat and dog among the animals. Then a row that is
known to be an animal informs about cat and dog. Its loss is the negative logarithm of the summed probability of the
classes that it may have (Jin & Ghahramani, "Learning with multiple labels", 2002). The head stays one linear layer.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.training.heads.cross_entropy import CrossEntropy, Pass
from tasks.training.heads.logistic import Solver
from tasks.training.heads.options import ClassWeights
from tasks.training.heads.rows import Array, Chunk, StandardRows

Labels = NDArray[np.int64]
# (n, num_classes): the classes that a row may have; exactly one where its label is known
Candidates = NDArray[np.bool_]

LEAST_AGREEING = 0.95  # of the rows with both labels, so that a few wrong labels hide no nesting


def classes_inside(own: Labels, coarse: Labels, *, num_own: int, num_coarse: int) -> Candidates | None:
    """Return (num_coarse, num_own), the classes that lie in each coarser class; None where they do not nest.

    They nest where nearly all rows of a class have the same coarser class, and at least two coarser classes occur. A
    class that occurs with no coarser one may lie in each.

    Args:
        own, coarse: both labels (n,) of the rows that have both.
    """
    counts = np.zeros((num_coarse, num_own), np.int64)
    np.add.at(counts, (coarse, own), 1)
    is_seen = counts.any(axis=0)
    commonest = counts.argmax(axis=0)
    if len(np.unique(commonest[is_seen])) < 2 or counts.max(axis=0).sum() < LEAST_AGREEING * len(own):
        return None
    inside = (np.arange(num_coarse)[:, None] == commonest) | ~is_seen
    return np.asarray(inside)


class PartialCrossEntropy(CrossEntropy):
    """The mean loss over rows with a label, plus that over rows with candidates: both sides count the same in all.

    The rows' labels are places in `members` (num_labels, num_classes), the classes that each label stands for; the
    first are the classes themselves, each with rows. `class_weights` (num_labels,) are the weights of rows.
    """

    def __init__(self, rows: StandardRows, members: Candidates, class_weights: Array) -> None:
        self.rows, self.link, self.num_passes = rows, "softmax", 0
        self.members = np.where(members.T, np.float32(0), np.float32(-np.inf))  # (num_classes, num_labels)
        self.class_weights = class_weights.astype(np.float32)  # (num_labels,)
        self.sums = np.zeros((members.shape[1], rows.dim + 1))

    def without_weights(self) -> tuple[Array, Pass]:
        """Return the point whose weights are 0, with the shares of the classes among the rows with a label."""
        num_classes = len(self.sums)
        counts = np.bincount(self.rows.labels, minlength=num_classes)[:num_classes] * self.class_weights[:num_classes]
        point = np.zeros_like(self.sums)
        point[:, -1] = np.log(counts / counts.sum())
        return point, self.at(point)

    def _softmax(
        self, chunk: Chunk, logits: NDArray[np.float32]
    ) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
        among = logits + self.members[:, chunk.labels]
        weights = self.class_weights[chunk.labels]
        p, log_total = normalised(logits)
        of_label, log_of_label = normalised(among)
        loss = float(weights.astype(np.float64) @ (log_total - log_of_label))
        return loss, weights * (p - of_label), weights * p * (1 - p)

    def _centres(self, gradient: Array, sampled: Array, centres: Array) -> Array:
        return centres / np.maximum(sampled[:, None], 1e-12)


def normalised(logits: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the softmax of logits (num_classes, k) and the logarithm (k,) of its denominator."""
    most = logits.max(axis=0)
    p = np.exp(logits - most)
    total = p.sum(axis=0)
    p /= total
    return p, np.log(total.astype(np.float64)) + most


def path_with_candidates(
    rows: StandardRows,
    candidates: Candidates,
    is_own: NDArray[np.bool_],
    class_weights: ClassWeights,
    l2_strengths: Sequence[float],
    *,
    max_iterations: int,
    relative_tolerance: float = 0.0,
) -> Iterator[tuple[float, tuple[Array, Array]]]:
    """Yield the strengths, from strong to weak, and their layers for features that are not standardised.

    The loss is not convex, so each strength starts near where the one before ended.

    Args:
        candidates: (n, num_classes), the classes that each row may have.
        is_own: (n,), whether a row has a label of the target, its only candidate; every class has such rows.
    """
    num_classes = candidates.shape[1]
    counts = candidates[is_own].sum(axis=0)
    own = counts.sum() / (num_classes * counts) if class_weights == "balanced" else np.ones(num_classes)
    members, places = np.unique(candidates[~is_own], axis=0, return_inverse=True)
    members = np.concatenate([np.eye(num_classes, dtype=bool), members])
    rows = StandardRows(rows, num_outputs=num_classes)
    rows.labels = candidates.argmax(axis=1)
    rows.labels[~is_own] = num_classes + places.reshape(-1)
    weights = np.full(len(members), rows.num / (~is_own).sum())
    weights[:num_classes] = own * rows.num / is_own.sum()
    solver = Solver(rows, max_iterations=max_iterations, loss=PartialCrossEntropy(rows, members, weights))
    for l2, solution in solver.path(l2_strengths, relative_tolerance=relative_tolerance):
        yield l2, solver.fold(solution)
