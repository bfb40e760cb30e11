"""The head of the sources alone, which stands beside every adaptation; its strength is chosen on the sources' val."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.targets.classes import log_probabilities
from tasks.targets.temperature import fit_temperature
from tasks.training.alignment.domains import Array, Domains
from tasks.training.alignment.objective import Layer
from tasks.training.alignment.spaces import Space
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.options import HeadOptions

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
MOST_ITERATIONS = 500


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A layer in a space, the strength that val chose, and the temperature that makes it honest on val."""

    layer: Layer
    l2: float
    temperature: float
    val_logits: Array  # (num_val, k)


def fit_sources(space: Space, domains: Domains, *, strengths: Sequence[float] = STRENGTHS) -> Fit:
    """Return the head on frozen features (`heads.logistic`) over all sources, by the strength that their val chooses.

    Each strength is tried in every space, so that the sources' own head is tuned as carefully as an adapted one.
    """
    options = HeadOptions(
        head="logistic", class_weights="none", hidden_features=1, l2_strengths=list(strengths),
        max_iterations=MOST_ITERATIONS, words="never", sharing="never",
    )  # fmt: skip
    val = space.val, domains.val_labels
    head = fit_head((space.train, domains.labels), val, options, classes=domains.classes)
    logits = space.val @ head.weight.T + head.bias
    return Fit(
        layer=(head.weight, head.bias), l2=head.l2, temperature=fit_temperature(logits, val[1]), val_logits=logits
    )


def calibrated(fit: Fit, logits: Array) -> Array:
    """Return log-probabilities (m, k) of logits (m, k) at the temperature of val."""
    return log_probabilities(logits / fit.temperature)
