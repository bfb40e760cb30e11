"""The logits of vectors and those of words on val in; their joined logits, with the weight of each, out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.targets.classes import losses
from tasks.targets.head import Factors
from tasks.targets.temperature import fit_temperature

SHARES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])  # of the words
DOUBT = 4.0  # the prior of a share is so many times lower than that of the share before it
LEAST_SHARE = 0.05  # a smaller one would change next to nothing


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Joined logits, (n, num_classes), with their factors and their temperature."""

    factors: Factors
    temperature: float
    logits: NDArray[np.float64]


def join(vectors: NDArray[np.floating], words: NDArray[np.floating], labels: NDArray[np.int64]) -> Joined:
    """Join the logits of vectors and of words, (n, num_classes) each, as the labels (n,) of val suggest.

    Calibrated log-probabilities are averaged. The share of the words is its mean under the posterior: the prior falls
    with the share, and the likelihood is that of the labels. So a few labels give the words little, and many decide.
    Without labels the words count nothing.

    The logits of the words are calibrated; those of the vectors are not.
    """
    alone = fit_temperature(vectors, labels)
    share = words_share(vectors / alone, words, labels) if len(labels) else 0.0
    factors = Factors(of_vector=1 - share, of_words=share * alone) if share >= LEAST_SHARE else Factors()
    logits = factors.of_vector * vectors.astype(np.float64) + factors.of_words * words
    return Joined(factors=factors, temperature=fit_temperature(logits, labels), logits=logits)


def words_share(vectors: NDArray[np.floating], words: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Return the posterior mean of the share of the words, of calibrated logits (n, num_classes)."""
    evidence = []
    for share in SHARES:
        logits = (1 - share) * vectors + share * words
        evidence.append(-losses(logits / fit_temperature(logits, labels), labels).sum())
    posterior = np.array(evidence) - np.log(DOUBT) * np.arange(len(SHARES))
    posterior = np.exp(posterior - posterior.max())
    return float(posterior @ SHARES / posterior.sum())
