"""Score how well frozen vectors suit a target before any head is trained, in float64 and without random numbers.

The scores are those of n samples with vectors (n, dim). Each is the higher the better:

- `logme`: LogME (You et al. 2021), the log evidence a sample of a Bayesian linear regression on the outputs;
- `h_score`: the H-score with a shrunk covariance (Ibrahim et al. 2022), of classes alone;
- `knn`: the answers of the weighted nearest neighbours of each sample (Wu et al. 2018);
- `probe`: the answers of a ridge regression on other samples (Rifkin and Lippert 2007), in NUM_FOLDS folds.

The last two leave each sample out of its own answer. For classes they are accuracies, for numbers and several labels
the explained variance (R²).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

NEIGHBOURS = 10
NUM_FOLDS = 10  # of the probe
WARMTH = 0.07  # of the weights exp(cosine / WARMTH) of neighbours, as in Wu et al. 2018
RIDGES = np.logspace(-5, 2, 15)  # penalties of the probe, as shares of the mean eigenvalue times the number of features
NOISE = 1e-12  # eigenvalues below this share of the largest are rounding
FINEST, WIDEST, NUM_STEPS, NUM_ROUNDS = 1e-10, 1e6, 33, 6  # of the search for LogME's prior


@dataclass(frozen=True, kw_only=True)
class Transferability:
    """The scores of one backbone on one target. `gains` (n,) are those of the samples, whose mean is `probe`."""

    logme: float
    h_score: float | None
    knn: float
    probe: float
    gains: Floats


def transferability(vectors: NDArray[np.floating], truths: NDArray[Any], *, num_classes: int = 0) -> Transferability:
    """Return the scores of vectors (n, dim) for truths, all there.

    Args:
        truths: int64 (n,) of classes; float64 (n,) or (n, num_outputs) of numbers and labels, of which those that do
            not vary are left out.
        num_classes: of the target; samples may be of fewer, but not be fewer.

    Raises:
        ValueError: fewer samples than classes, or truths that do not vary.
    """
    rows = np.asarray(vectors, np.float64)
    if len(rows) < num_classes:
        raise ValueError(
            f"{len(rows):,} samples have a label, fewer than the {num_classes:,} classes: label more samples"
        )
    is_class = np.issubdtype(truths.dtype, np.integer)
    if not len(rows):
        raise ValueError("no sample has a label, expected some: label samples")
    labels = np.unique(truths, return_inverse=True)[1] if is_class else None
    outputs = one_hot(labels) if labels is not None else varying(truths.astype(np.float64))
    if outputs.shape[1] < 1 + is_class:
        raise ValueError(f"all {len(rows):,} samples have the same label, expected at least two labels: label others")
    gains = gains_of(probed(rows, outputs), outputs, labels)
    return Transferability(
        logme=logme(rows, outputs),
        h_score=h_score(rows, labels) if labels is not None else None,
        knn=float(gains_of(neighbours(rows, outputs), outputs, labels).mean()),
        probe=float(gains.mean()),
        gains=gains,
    )


def one_hot(labels: Labels) -> Floats:
    """Return (n, num_classes) of labels (n,)."""
    return np.eye(int(labels.max()) + 1)[labels]


def varying(truths: Floats) -> Floats:
    """Return the columns that vary, each with mean 0 and variance 1, so that no unit counts."""
    columns = truths.reshape(len(truths), -1)
    columns = columns[:, np.ptp(columns, axis=0) > 0]
    return np.asarray((columns - columns.mean(axis=0)) / columns.std(axis=0))


def gains_of(answers: Floats, outputs: Floats, labels: Labels | None) -> Floats:
    """Return (n,): 1 for a right answer, else 0; of numbers 1 - squared error over variance, their mean."""
    if labels is not None:
        return np.asarray(answers.argmax(axis=1) == labels, np.float64)
    return np.asarray(1 - ((answers - outputs) ** 2 / outputs.var(axis=0)).mean(axis=1))


def logme(vectors: Floats, outputs: Floats) -> float:
    """Return the log evidence a sample, the mean over the outputs (n, num_outputs).

    You et al. 2021 find the precisions of prior and noise by a fixed-point iteration. Here the noise is solved for, so
    that the evidence is a function of the ratio of the two alone: its maximum is searched, whatever the start.
    """
    left, sizes, _ = np.linalg.svd(vectors, full_matrices=False)
    parts = (left.T @ outputs) ** 2  # (k, num_outputs)
    squares = (outputs**2).sum(axis=0)
    rests = np.maximum(squares - parts.sum(axis=0), NOISE * squares)
    evidences = [most_evidence(sizes**2, part, rest, n=len(vectors)) for part, rest in zip(parts.T, rests, strict=True)]
    return float(np.mean(evidences)) / len(vectors)


def most_evidence(eigenvalues: Floats, parts: Floats, rest: float, *, n: int) -> float:
    """Return the largest log evidence of one output.

    Args:
        eigenvalues, parts: (k,) of the vectors, and the squares of the output along their directions.
        rest: the squares of the output beside these directions.
    """
    top = np.log(eigenvalues.max() or 1.0)
    low, high, best = top + np.log(FINEST), top + np.log(WIDEST), -np.inf
    for _ in range(NUM_ROUNDS):  # each round looks closer around the best ratio of the one before
        grid = np.linspace(low, high, NUM_STEPS)
        ratios = np.exp(grid)[:, None]
        shrink = ratios / (eigenvalues + ratios)  # (num_steps, k)
        error = shrink @ parts + rest
        evidence = n / 2 * (np.log(n / (2 * np.pi * error)) - 1) + np.log(shrink).sum(axis=1) / 2
        at = int(evidence.argmax())
        best = max(best, float(evidence[at]))
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, NUM_STEPS - 1)]
    return best


def h_score(vectors: Floats, labels: Labels) -> float:
    """Return tr(C⁻¹ (1 - a) Z): C the covariance shrunk by a (Ledoit and Wolf 2004), Z that of the class means."""
    centred = vectors - vectors.mean(axis=0)
    n, dim = centred.shape
    left, eigenvalues = spectrum(centred)
    if not len(eigenvalues):
        return 0.0
    mean, norm = eigenvalues.sum() / n / dim, (eigenvalues**2).sum() / n**2
    spread = ((centred**2).sum(axis=1) ** 2).sum() / n
    distance = norm - dim * mean**2
    shrinkage = float(np.clip((spread - norm) / n / distance, 0, 1)) if distance > NOISE * norm else 1.0
    means = one_hot(labels).T @ (left * np.sqrt(eigenvalues))  # (num_classes, k): sums over each class
    between = (means**2 / np.bincount(labels)[:, None]).sum(axis=0) / (n - 1)
    return float(((1 - shrinkage) * between / ((1 - shrinkage) * eigenvalues / n + shrinkage * mean)).sum())


def neighbours(vectors: Floats, outputs: Floats) -> Floats:
    """Return the answers (n, num_outputs) of each sample's NEIGHBOURS nearest others, by cosines of centred vectors."""
    centred = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(lengths > 0, lengths, 1.0)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    k = min(NEIGHBOURS, len(vectors) - 1)
    nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    weights = np.exp(np.take_along_axis(cosines, nearest, axis=1) / WARMTH)
    return np.asarray(np.einsum("nk,nko->no", weights / weights.sum(axis=1, keepdims=True), outputs[nearest]))


def probed(vectors: Floats, outputs: Floats) -> Floats:
    """Return the answers (n, num_outputs) to each sample of a ridge regression on the other folds.

    Features are standardised, as the head's are, and the intercept is free. The answers are exact: one decomposition
    gives those of every fold and penalty. The penalty is the one whose answers have the least squared error.
    """
    deviations = vectors.std(axis=0)
    varies = deviations > NOISE * np.abs(vectors).max(initial=NOISE)
    standard = (vectors - vectors.mean(axis=0))[:, varies] / deviations[varies]
    n, dim = standard.shape
    left, eigenvalues = spectrum(standard)
    mean = outputs.mean(axis=0)
    parts = left.T @ (outputs - mean)
    numbers = folds(outputs)
    held = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    best, least = outputs, np.inf
    for ridge in RIDGES * n * max(dim, 1):
        kept = eigenvalues / (eigenvalues + ridge)
        misses = outputs - mean - left @ (kept[:, None] * parts)
        answers = np.empty_like(outputs)
        for rows in held:
            hat = 1 / n + (left[rows] * kept) @ left[rows].T
            answers[rows] = outputs[rows] - np.linalg.solve(np.eye(len(rows)) - hat, misses[rows])
        error = float(((answers - outputs) ** 2).sum())
        if error < least:
            best, least = answers, error
    return best


def folds(outputs: Floats) -> Labels:
    """Return the fold (n,) of each sample. All have the same shares of the classes, and alike numbers.

    With one sample a fold, the mean of the others would always point away from its class.
    """
    numbers = np.empty(len(outputs), np.int64)
    numbers[np.lexsort(outputs.T)] = np.arange(len(outputs)) % min(NUM_FOLDS, len(outputs))
    return numbers


def spectrum(centred: Floats) -> tuple[Floats, Floats]:
    """Return the left singular vectors (n, k) and squared singular values (k,) of (n, dim), without those of noise."""
    n, dim = centred.shape
    is_wide = n < dim
    eigenvalues, vectors = np.linalg.eigh(centred @ centred.T if is_wide else centred.T @ centred)
    kept = eigenvalues > NOISE * eigenvalues.max(initial=0.0)
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    return (vectors if is_wide else centred @ vectors / np.sqrt(eigenvalues)), eigenvalues
