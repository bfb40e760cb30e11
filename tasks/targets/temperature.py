"""The temperature that makes the confidence of a classifier honest, fitted on val."""

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = 0.01, 100.0


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64], *, doubt: float | None = None) -> float:
    """Return the temperature with the lowest log-loss of softmax(logits / temperature) (Guo et al. 2017).

    A label counts as 1 - doubt, and the rest is spread over all classes. By default the doubt is 1 / (n + 2), as Platt
    (1999) smooths the targets of his calibration. Else a model that is right on all samples of a small val would become
    certain of every answer. Without doubt the log-loss is the lowest, which is how two models are compared.

    The temperature lies in LOWEST..HIGHEST, and is 1.0 without labels. The log-loss is convex in 1 / temperature, so
    there is one minimum.

    Args:
        logits: (n, num_classes).
        labels: (n,) in 0..num_classes-1.
    """
    if not len(labels):
        return 1.0
    from scipy.optimize import minimize_scalar  # imported late: answering does not need it
    from scipy.special import logsumexp

    centred = logits.astype(np.float64)
    centred -= centred.max(axis=1, keepdims=True)
    if doubt is None:
        doubt = 1 / (len(labels) + 2)
    of_label = (1 - doubt) * centred[np.arange(len(labels)), labels].mean() + doubt * centred.mean()

    def log_loss(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        return float(logsumexp(inverse * centred, axis=1).mean() - inverse * of_label)

    found = minimize_scalar(
        log_loss, bounds=(-np.log(HIGHEST), -np.log(LOWEST)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(-found.x))
