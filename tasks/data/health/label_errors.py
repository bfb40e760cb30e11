"""Find labels that are probably wrong, by confident learning ("Confident learning: estimating uncertainty in dataset
labels", Northcutt et al. 2021).

The probabilities of a sample are the geometric mean of those by a head that did not learn from it, and of the votes of
its nearest training samples: each finds errors that the other does not.

A class has a threshold: the mean probability of it over the samples with its label, at most SURE. A label is suspected
where another class is at or above its threshold, and is likelier than the label: the off-diagonal entries of the
confident joint.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SURE = 0.9  # a class with a higher mean would leave out half of its wrong labels
SMOOTHING = 1.0  # votes that are spread over all classes
Judge = Callable[[NDArray[np.bool_]], Array]  # the samples (n,) that may be learned from -> log-probabilities (n, c)


@dataclass(frozen=True, kw_only=True)
class LabelErrors:
    """The suspicion against the label of each of n samples.

    is_suspected: (n,) whether it is probably wrong.
    score: (n,) 0 to 1, how sure that is: 1 - the probability of the label.
    likeliest: (n,) the likeliest other class.
    log_probabilities: (n, num_classes), out of fold.
    """

    is_suspected: NDArray[np.bool_]
    score: Array
    likeliest: NDArray[np.int64]
    log_probabilities: Array


def find_label_errors(
    labels: NDArray[np.int64], judge: Judge, *, learns: NDArray[np.bool_] | None = None
) -> LabelErrors:  # fmt: skip
    """Return the suspicion against each of the labels (n,), in 0..num_classes-1.

    They are judged twice: the second judge does not learn from the labels that the first suspected. The mean of both
    probabilities counts: the first judge learns from wrong labels, too, and the second lacks right labels of hard
    samples.

    Args:
        judge: gives each sample's log-probabilities by a classifier that did not learn from it.
        learns: (n,) the samples that are learned from, and that set the thresholds; None is all.
    """
    learned = np.ones(len(labels), bool) if learns is None else learns
    first = suspect(labels, judge(learned), learned)
    if not first.is_suspected.any():
        return first
    second = judge(learned & ~first.is_suspected)
    return suspect(labels, np.logaddexp(first.log_probabilities, second) - np.log(2), learned)


def suspect(labels: NDArray[np.int64], log_probabilities: Array, learned: NDArray[np.bool_]) -> LabelErrors:
    """Return the suspicion by log-probabilities (n, num_classes), with thresholds from the learned samples (n,)."""
    every = np.arange(len(labels))
    probabilities = np.exp(log_probabilities)
    own = probabilities[every, labels]
    counts = np.bincount(labels[learned], minlength=probabilities.shape[1])
    sums = np.bincount(labels[learned], weights=own[learned], minlength=probabilities.shape[1])
    thresholds = np.where(counts > 0, np.minimum(sums / np.maximum(counts, 1), SURE), np.inf)
    others = probabilities.copy()
    others[every, labels] = -1.0
    likeliest = others.argmax(axis=1)
    above = np.where(others >= thresholds, others, -1.0)
    is_suspected = (above.max(axis=1, initial=-1.0) > own) & (others[every, likeliest] > own)
    return LabelErrors(
        is_suspected=is_suspected,
        score=1 - own,
        likeliest=likeliest.astype(np.int64),
        log_probabilities=log_probabilities,
    )


def with_votes(log_probabilities: Array, votes: NDArray[np.int64]) -> Array:
    """Return log-probabilities (n, num_classes), joined with the votes (n, k) of neighbours.

    A vote is a class, in 0..num_classes-1, or below 0 where a neighbour has no label that counts.
    """
    num, num_classes = log_probabilities.shape
    counts = np.full((num, num_classes), SMOOTHING / num_classes)
    for column in votes.T:
        has_voted = column >= 0
        counts[has_voted, column[has_voted]] += 1
    joined: Array = (log_probabilities + np.log(counts)) / 2  # up to a constant of each row
    joined -= joined.max(axis=1, keepdims=True)
    joined -= np.log(np.exp(joined).sum(axis=1, keepdims=True))
    return joined
