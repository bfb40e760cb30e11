"""Find groups of alike samples with worse answers than others: clusters of vectors with more errors.

The clusters are those of k-means (Lloyd 1982) on principal components, which see no label and no answer. An error rate
counts where chance does not explain it: by the binomial test, times the number of clusters (Bonferroni).
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.machine.garbage import rarely_collected
from tasks.machine.late_exports import late_exports

SAMPLES_PER_SLICE = 100
MOST_SLICES = 30
LEAST_SAMPLES = 20  # of a slice
MOST_SHOWN = 10  # samples of a slice, those with wrong answers that are nearest to its centre
MOST_FITTED = 20_000  # samples that the centres are computed from

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class WeakSlice:
    """A group of samples: how many, the share of wrong answers, the p-value, and the rows to look at."""

    num_samples: int
    error: float
    p_value: float
    rows: NDArray[np.intp]


def weak_slices(components: Array, is_wrong: NDArray[np.bool_], *, significance: float, seed: int) -> list[WeakSlice]:
    """Return the weak slices of n samples, the worst first.

    Args:
        components: (n, num_components).
        is_wrong: (n,) whether the answer to a sample that the head did not learn from is wrong.
    """
    num = min(len(components) // SAMPLES_PER_SLICE, MOST_SLICES)
    if num < 2 or not is_wrong.any():
        return []
    with late_exports("scipy.cluster"), rarely_collected():  # the page, which shows the slices, waits for neither
        from scipy.cluster.vq import kmeans2
        from scipy.special import betainc

    generator = np.random.default_rng(seed)
    fitted = components[np.sort(generator.permutation(len(components))[:MOST_FITTED])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster may be empty
        centres, _ = kmeans2(fitted, num, minit="++", rng=generator)
    squares = (components**2).sum(axis=1)[:, None] - 2 * components @ centres.T + (centres**2).sum(axis=1)  # (n, num)
    own = squares.argmin(axis=1)
    found = []
    for number in range(num):
        rows = np.flatnonzero(own == number)
        wrong = int(is_wrong[rows].sum())
        if len(rows) < LEAST_SAMPLES or len(rows) == len(own):
            continue
        others = float(is_wrong[own != number].mean())
        # of so many wrong answers or more, by the binomial
        chance = float(betainc(wrong, len(rows) - wrong + 1, others)) if wrong else 1.0
        p_value = min(chance * num, 1.0)
        if p_value <= significance:
            wrongs = rows[is_wrong[rows]]
            shown = wrongs[np.argsort(squares[wrongs, number], kind="stable")[:MOST_SHOWN]]
            found.append(WeakSlice(num_samples=len(rows), error=wrong / len(rows), p_value=p_value, rows=shown))
    return sorted(found, key=lambda one: -one.error)
