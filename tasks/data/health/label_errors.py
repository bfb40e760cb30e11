"""Find labels that are probably wrong, by confident learning ("Confident learning: estimating uncertainty in dataset
labels", Northcutt et al. 2021).

A class has a threshold: the mean probability that samples with its label have of it. A label is suspected where another
class is at or above its threshold, and is likelier than the label: the off-diagonal entries of the confident joint.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Judge = Callable[[NDArray[np.bool_]], Array]  # the samples (n,) that may be learned from -> log-probabilities (n, c)


@dataclass(frozen=True, kw_only=True)
class LabelErrors:
    """What is thought of the label of each of n samples.

    is_suspected: (n,) whether it is probably wrong.
    score: (n,) 0 to 1, how sure that is: half of 1 + the probability of the likeliest other class - that of the label.
    likeliest: (n,) the likeliest other class.
    log_probabilities: (n, num_classes), out of fold.
    """

    is_suspected: NDArray[np.bool_]
    score: Array
    likeliest: NDArray[np.int64]
    log_probabilities: Array


def find_label_errors(labels: NDArray[np.int64], judge: Judge) -> LabelErrors:
    """Return what is thought of the labels (n,), in 0..num_classes-1.

    They are judged twice: the second time nothing is learned from the labels that the first time suspected.

    Args:
        judge: gives each sample's log-probabilities by a classifier that did not learn from it.
    """
    first = suspect(labels, judge(np.ones(len(labels), bool)))
    return suspect(labels, judge(~first.is_suspected)) if first.is_suspected.any() else first


def suspect(labels: NDArray[np.int64], log_probabilities: Array) -> LabelErrors:
    """Return what log-probabilities (n, num_classes) say of the labels."""
    every = np.arange(len(labels))
    probabilities = np.exp(log_probabilities)
    own = probabilities[every, labels]
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    sums = np.bincount(labels, weights=own, minlength=probabilities.shape[1])
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    others = probabilities.copy()
    others[every, labels] = -1.0
    likeliest = others.argmax(axis=1)
    above = np.where(others >= thresholds, others, -1.0)
    is_suspected = (above.max(axis=1, initial=-1.0) > own) & (others[every, likeliest] > own)
    return LabelErrors(
        is_suspected=is_suspected,
        score=(1 + others[every, likeliest] - own) / 2,
        likeliest=likeliest.astype(np.int64),
        log_probabilities=log_probabilities,
    )
