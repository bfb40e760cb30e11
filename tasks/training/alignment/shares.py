"""The classes' shares in an unlabelled domain, and whether nothing else moved."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from tasks.targets.classes import log_probabilities
from tasks.training.alignment.domains import Array, Labels

PRIOR_SAMPLES = 20  # that the source's shares count for
MOST_STEPS = 500
CONVERGED = 1e-6
LEAST_SHARE = 1e-4


def estimate_shares(log_p: Array, shares: Array) -> Array:
    """Return the share (k,) of each class in a domain where p(vector | class) is that of the source.

    It is the maximum of likelihood that expectation maximisation finds (Saerens, Latinne and Decaestecker 2002), with
    the source's shares as a prior that counts PRIOR_SAMPLES samples.

    Args:
        log_p: log-probabilities (m, k), those of a calibrated head of the source.
        shares: (k,) of the source's train.
    """
    likelihoods = np.exp(log_p) / shares
    estimated = shares
    for _ in range(MOST_STEPS):
        posteriors = likelihoods * estimated
        posteriors /= posteriors.sum(axis=1, keepdims=True)
        counts = posteriors.sum(axis=0) + PRIOR_SAMPLES * shares
        previous, estimated = estimated, counts / counts.sum()
        if abs(estimated - previous).max() < CONVERGED:
            break
    return np.asarray(np.maximum(estimated, LEAST_SHARE))


def predicted_shares(logits: Array, shares: Array) -> Array:
    """Return the share (k,) of each class in the answers of logits (m, k), with the source's shares as a prior."""
    counts = np.exp(log_probabilities(logits)).sum(axis=0) + PRIOR_SAMPLES * shares
    return np.asarray(counts / counts.sum())


def histogram_p_value(source: Labels, target: Labels, *, num_classes: int) -> float:
    """Return the p-value of equal shares of the predicted classes (n,) and (m,): a chi-squared test of homogeneity.

    Predictions on source must be on samples that the head did not learn from ("black box shift detection", Lipton et
    al. 2018).
    """
    counts = np.stack([np.bincount(part, minlength=num_classes) for part in (source, target)])
    counts = counts[:, counts.sum(axis=0) > 0]
    if counts.shape[1] < 2 or (counts.sum(axis=1) == 0).any():
        return 1.0
    return float(chi2_contingency(counts).pvalue)


def resampled(labels: Labels, ratios: Array, *, seed: int) -> NDArray[np.bool_]:
    """Return which samples (n,) to keep so that the classes' shares change by these ratios (k,)."""
    kept = np.random.default_rng(seed).random(len(labels)) < ratios[labels] / ratios[np.unique(labels)].max()
    return np.asarray(kept)
