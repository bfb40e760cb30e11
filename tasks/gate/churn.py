"""Who was right among retrainings of one recipe in; how many answers such a retraining turns from right to wrong out."""

from dataclasses import dataclass
from itertools import permutations
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t


@dataclass(frozen=True, kw_only=True)
class Churn:
    """mean, highest: the share of negative flips between two retrainings; budget: what another retraining stays below."""

    mean: float
    highest: float
    budget: float


def measure_churn(is_right: NDArray[np.bool_], *, significance: float) -> Churn:
    """is_right: (num_retrainings, n). The budget is the upper end of Student's prediction interval for one more pair, which another
    retraining passes with a chance of `significance`. Raises ValueError for fewer than three retrainings."""
    num = len(is_right)
    if num < 3:
        raise ValueError(f"there are {num} retrainings, expected at least 3: more seeds tell how far they differ")
    flips = np.array([(one & ~other).mean() for one, other in permutations(is_right, 2)])
    width = float(t.isf(significance, num - 1)) * float(flips.std(ddof=1)) * sqrt(1 + 1 / num)
    return Churn(mean=float(flips.mean()), highest=float(flips.max()), budget=float(flips.mean()) + width)
