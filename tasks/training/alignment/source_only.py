"""The head of the sources alone, which stands beside every adaptation; its strength is chosen on the sources' val."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.targets.classes import log_probabilities, losses
from tasks.targets.temperature import fit_temperature
from tasks.training.alignment.domains import Array, Domains
from tasks.training.alignment.objective import Layer
from tasks.training.alignment.spaces import Space
from tasks.training.heads.logistic import CHOICE_TOLERANCE, Solver
from tasks.training.heads.rows import TrainingRows

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
MOST_ITERATIONS = 300


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A layer in a space, the strength that val chose, and the temperature that makes it honest on val."""

    layer: Layer
    l2: float
    temperature: float
    val_logits: Array  # (num_val, k)


def fit_sources(space: Space, domains: Domains, *, strengths: Sequence[float] = STRENGTHS) -> Fit:
    """Return the logistic regression over all sources with the least log-loss on their val; without val, a middle one.

    Each strength is tried in every space, so that the source's own head is tuned as carefully as an adapted one.
    """
    labels, val_labels = domains.labels, domains.val_labels
    best: Fit | None = None
    least = math.inf
    solver = Solver(TrainingRows(space.train, labels, domains.classes), max_iterations=MOST_ITERATIONS)
    for l2, solution in solver.path(strengths, relative_tolerance=CHOICE_TOLERANCE):
        weight, bias = solver.fold(solution)
        logits = space.val @ weight.T + bias
        if len(val_labels):
            loss = float(losses(logits, val_labels).mean())
        else:
            loss = abs(math.log(l2 / strengths[len(strengths) // 2]))
        if loss < least:
            least = loss
            temperature = fit_temperature(logits, val_labels)
            best = Fit(layer=(weight, bias), l2=l2, temperature=temperature, val_logits=logits)
    assert best is not None
    return best


def calibrated(fit: Fit, logits: Array) -> Array:
    """Return log-probabilities (m, k) of logits (m, k) at the temperature of val."""
    return log_probabilities(logits / fit.temperature)
