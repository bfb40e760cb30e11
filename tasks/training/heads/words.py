"""The head on the words of texts: multinomial logistic regression. Sparse rows and labels in, a linear layer out."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from tasks.targets.classes import log_probabilities, losses
from tasks.targets.head import SparseRow
from tasks.targets.temperature import fit_temperature
from tasks.training.heads.logistic import LinearHead
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import Array, Labels, check_classes

STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)  # of L2 against the summed loss: rows have norm 1, so they suit any number
TOLERANCE = 1e-6  # of the steepest slope of the mean loss


def fit_words(
    train: tuple[csr_array, Labels], val: tuple[csr_array, Labels], options: HeadOptions, *, classes: Sequence[str]
) -> LinearHead:
    """Return the calibrated head with the lowest log-loss on `val` of a few L2 strengths; without val, the middle one.

    It minimises mean cross-entropy + l2 / 2 * |weight|^2. The bias is free.

    Args:
        train, val: (rows (n, num_terms) as `sparse_rows` makes them, labels (n,) in 0..num_classes-1).
        options: `class_weights` and `max_iterations` count here.
        classes: the names of the classes, for messages.

    Raises:
        ValueError: fewer than two classes in train, or a class without samples.
    """
    rows, labels = train
    check_classes(labels, classes)
    row_weights = np.ones(len(labels))
    if options.class_weights == "balanced":
        row_weights = (len(labels) / (len(classes) * np.bincount(labels)))[labels]
    point = np.zeros((len(classes), rows.shape[1] + 1))
    heads = []
    with threadpool_limits(1):
        for strength in STRENGTHS:
            l2 = strength / len(labels)
            point = solve(rows, labels, row_weights, l2, start=point, max_iterations=options.max_iterations)
            heads.append(calibrated(point, l2, val))
    if not len(val[1]):
        return heads[len(heads) // 2]
    return min(heads, key=lambda head: head.val_log_loss or 0.0)


def sparse_rows(rows: Sequence[SparseRow], *, num_terms: int) -> csr_array:
    """Return the places and weights of n texts as a matrix (n, num_terms) float64."""
    ends = np.cumsum([0, *(len(places) for places, _ in rows)])
    places: list[NDArray[np.int64]] = [np.empty(0, np.int64), *(places for places, _ in rows)]
    weights: list[NDArray[np.float32]] = [np.empty(0, np.float32), *(weights for _, weights in rows)]
    numbers = np.concatenate(weights).astype(np.float64)
    return csr_array((numbers, np.concatenate(places), ends), shape=(len(rows), num_terms))


def logits_of(head: LinearHead, rows: csr_array) -> Array:
    """Return the logits (n, num_classes) of rows (n, num_terms)."""
    logits: Array = rows @ head.weight.T + head.bias
    return logits


def calibrated(point: Array, l2: float, val: tuple[csr_array, Labels]) -> LinearHead:
    """Return a point (num_classes, num_terms + 1) as a head whose logits need no temperature."""
    rows, labels = val
    head = LinearHead(weight=point[:, :-1], bias=point[:, -1], l2=l2, val_log_loss=None)
    logits = logits_of(head, rows)
    temperature = fit_temperature(logits, labels)
    return LinearHead(
        weight=head.weight / temperature, bias=head.bias / temperature, l2=l2,
        val_log_loss=float(losses(logits / temperature, labels).mean()) if len(labels) else None,
    )  # fmt: skip


def solve(
    rows: csr_array, labels: Labels, row_weights: Array, l2: float, *, start: Array, max_iterations: int
) -> Array:
    """Return the point (num_classes, num_terms + 1), the bias last, with the least objective."""
    columns, places = rows.T.tocsr(), (np.arange(len(labels)), labels)

    def objective(flat: Array) -> tuple[float, Array]:
        point = flat.reshape(start.shape)
        logs = log_probabilities(rows @ point[:, :-1].T + point[:, -1])  # (n, num_classes)
        slope = np.exp(logs)
        slope[places] -= 1
        slope *= row_weights[:, None] / len(labels)
        gradient = np.hstack([(columns @ slope).T + l2 * point[:, :-1], slope.sum(axis=0)[:, None]])
        loss = -(row_weights * logs[places]).mean() + l2 / 2 * (point[:, :-1] ** 2).sum()
        return loss, gradient.ravel()

    solution = minimize(
        objective, start.ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": max_iterations, "gtol": TOLERANCE, "ftol": 0.0},
    )  # fmt: skip
    point: Array = solution.x.reshape(start.shape)
    return point
