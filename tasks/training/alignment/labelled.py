"""Choose what a few labels of the target add to an adapted head, by cross-validation over these labels."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tasks.targets.classes import log_probabilities
from tasks.training.alignment.domains import Array, Domains, Labels
from tasks.training.alignment.infomax import STRENGTH
from tasks.training.alignment.objective import Answered, Layer, fit_layer
from tasks.training.alignment.spaces import Space

L2 = 0.03  # of the fits, to 0 or to the adapted head
TARGET_SHARE = 0.3  # of the target's labels beside the sources' in `informed`
MOST_STEPS = 60  # of L-BFGS, from the adapted head on
MOST_FOLDS = 5
NUM_NEIGHBOURS = 10
PROPAGATION = 0.5  # of an answer comes from the neighbours (Zhou et al. 2004)
NUM_ROUNDS = 20  # of propagation
MOST_SAMPLES = 4000  # that labels are propagated to, beside half as many that have one


@dataclass(frozen=True, kw_only=True)
class Few:
    """The samples of the domains in a space, the target's rows that are labelled, and the adapted layer."""

    space: Space
    domains: Domains
    adapted: Layer
    rows: NDArray[np.int64]  # of the target's samples, rising
    labels: Labels  # of these rows

    def of_target(self, weight: float) -> Answered:
        """Return the labelled samples of the target; in all they count `weight`."""
        return self._answered(self.space.target[self.rows], self.labels, weight)

    def of_sources(self, weight: float) -> Answered:
        return self._answered(self.space.train, self.domains.labels, weight)

    def _answered(self, vectors: NDArray[np.float32], labels: Labels, weight: float) -> Answered:
        weights = np.full(len(labels), weight / len(labels))
        return Answered.labelled(vectors, labels, num_classes=len(self.domains.classes), weights=weights)


def choose(space: Space, domains: Domains, adapted: Layer, *, is_far: bool, seed: int) -> tuple[Layer, dict[str, Any]]:
    """Return the layer that suits the target's labels best, and the facts of the choice.

    The adapted layer stays unless a candidate's Brier score over the folds is lower by more than one standard error.
    With fewer than two labels of each class there are no folds: then `informed` is taken where the domains are far
    apart, and the adapted layer elsewhere.
    """
    rows = np.flatnonzero(domains.target.is_labelled)
    few = Few(space=space, domains=domains, adapted=adapted, rows=rows, labels=domains.target.labels[rows])
    counts = np.bincount(few.labels, minlength=len(domains.classes))
    facts: dict[str, Any] = {"num_labels": len(rows)}
    if counts.min() < 2:
        name = "informed" if is_far else "adapted"
    else:
        scores = cross_validated(few, num_folds=min(MOST_FOLDS, int(counts.min())), seed=seed)
        facts["brier"] = {name: float(score.mean()) for name, score in scores.items()}
        name = min(scores, key=lambda each: float(scores[each].mean()))
        gains = scores["adapted"] - scores[name]
        if gains.mean() <= gains.std() / np.sqrt(len(gains)):
            name = "adapted"
    return CANDIDATES[name](few), facts | {"labels": name}


def cross_validated(few: Few, *, num_folds: int, seed: int) -> dict[str, Array]:
    """Return the Brier score (n,) of each candidate on each label, from fits without its fold."""
    generator = np.random.default_rng(seed)
    folds = np.empty(len(few.rows), np.int64)
    for label in np.unique(few.labels):  # each fold has its share of each class
        of_class = generator.permutation(np.flatnonzero(few.labels == label))
        folds[of_class] = (np.arange(len(of_class)) + generator.integers(num_folds)) % num_folds
    scores = {name: np.empty(len(folds)) for name in CANDIDATES}
    for fold in range(num_folds):
        judges, learns = folds == fold, folds != fold
        part = replace(few, rows=few.rows[learns], labels=few.labels[learns])
        for name, candidate in CANDIDATES.items():
            layer = candidate(part)
            scores[name][judges] = brier(layer, few.space.target[few.rows[judges]], few.labels[judges])
    return scores


def informed(few: Few) -> Layer:
    """Fit the sources' and the target's labels, and maximise the information that answers on the target carry."""
    rows = few.of_sources(1 - TARGET_SHARE) + few.of_target(TARGET_SHARE)
    return fit_layer(
        rows, start=few.adapted, l2=L2, most_steps=MOST_STEPS, unlabelled=few.space.target, strength=STRENGTH
    )


def pooled(few: Few) -> Layer:
    """Fit the sources' and the target's labels, each domain with the same weight in all."""
    rows = few.of_sources(0.5) + few.of_target(0.5)
    return fit_layer(rows, start=few.adapted, l2=L2, most_steps=MOST_STEPS)


def towards_adapted(few: Few) -> Layer:
    """Fit the target's labels alone, with L2 towards the adapted head."""
    return fit_layer(few.of_target(1.0), start=few.adapted, towards=few.adapted, l2=L2, most_steps=MOST_STEPS)


def propagated(few: Few) -> Layer:
    """Fit the sources, the target's labels, and the answers that these labels give to their neighbours, a third each.

    The unlabelled samples begin with the answers of `towards_adapted`.
    """
    weight, bias = towards_adapted(few)
    chosen = np.arange(len(few.space.target))
    if len(chosen) > MOST_SAMPLES:
        chosen = np.union1d(even(few.rows, MOST_SAMPLES // 2), even(chosen, MOST_SAMPLES))
    vectors = few.space.target[chosen]
    labelled = np.isin(chosen, few.rows)
    answers = np.exp(log_probabilities(vectors @ weight.T + bias))
    answers[labelled] = np.eye(len(few.domains.classes))[few.labels[np.isin(few.rows, chosen)]]
    shares = propagate(vectors, answers)
    shares[labelled] = answers[labelled]
    third = Answered(vectors=vectors, shares=shares, weights=np.full(len(chosen), 1 / (3 * len(chosen))))
    rows = few.of_sources(1 / 3) + few.of_target(1 / 3) + third
    return fit_layer(rows, start=few.adapted, l2=L2, most_steps=MOST_STEPS)


def even(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most `most` of the rows, evenly drawn."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]


def propagate(vectors: NDArray[np.float32], answers: Array) -> Array:
    """Return answers (m, k), drawn to those of the neighbours over the graph of the nearest vectors (m, dim)."""
    m = len(vectors)
    num = min(NUM_NEIGHBOURS, m - 1)
    if num < 1:
        return answers
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    likeness = units @ units.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argpartition(-likeness, num - 1, axis=1)[:, :num]
    graph = csr_array((np.ones(m * num), (np.repeat(np.arange(m), num), nearest.ravel())), shape=(m, m))
    graph = graph + graph.T
    scale = 1 / np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    graph = csr_array(graph.multiply(scale[:, None]).multiply(scale[None]))
    spread = answers
    for _ in range(NUM_ROUNDS):
        spread = PROPAGATION * (graph @ spread) + (1 - PROPAGATION) * answers
    return np.asarray(spread / np.maximum(spread.sum(axis=1, keepdims=True), 1e-12))


CANDIDATES: Mapping[str, Callable[[Few], Layer]] = {
    "adapted": lambda few: few.adapted,
    "informed": informed,
    "pooled": pooled,
    "towards": towards_adapted,
    "propagated": propagated,
}


def brier(layer: Layer, vectors: NDArray[np.float32], labels: Labels) -> Array:
    """Return the squared distance (n,) of each answer from its label (Brier 1950)."""
    p = np.exp(log_probabilities(vectors @ layer[0].T + layer[1]))
    return np.asarray(((p - np.eye(p.shape[1])[labels]) ** 2).sum(axis=1))
