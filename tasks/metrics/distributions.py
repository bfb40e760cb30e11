"""Compute the functions of the normal, the t, the beta and the binomial distribution that tests need.

The numbers are those of scipy.stats, which takes half a second to import: most are of the functions that it calls.
"""

from bisect import bisect_left
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, gammaln, ndtr, ndtri, stdtr, stdtrit


def normal_quantile(share: float) -> float:
    """Return the number below which a standard normal one lies with a probability of `share`."""
    return float(ndtri(share))


def normal_above(value: Any) -> Any:
    """Return the probability that a standard normal number is above `value`, which may be an array."""
    return ndtr(-value)


def t_above(value: Any, freedom: Any) -> Any:
    """Return the probability that t is above `value`; both may be arrays."""
    return stdtr(freedom, -value)


def t_exceeded(share: float, freedom: float) -> float:
    """Return the value above which t lies with a probability of `share`."""
    return -float(stdtrit(freedom, share))


def share_quantile(level: float, *, hits: int, num: int) -> float:
    """Return the share of which `num` tries have at least so many hits, one or more, with a probability of `level`."""
    return float(betaincinv(hits, num - hits + 1, level))


def more_hits(hits: int, num: int, share: Any) -> Any:
    """Return the probability of more than `hits` hits in `num` tries, by the chance of a hit, which may be an array."""
    if hits < 0:
        return 1.0
    return betainc(hits + 1, num - hits, share) if hits < num else 0.0


def at_most(hits: int, num: int, share: float) -> float:
    """Return the probability of at most so many hits in `num` tries."""
    if hits < 0:
        return 0.0
    return float(betainc(num - hits, hits + 1, 1 - share)) if hits < num else 1.0


def least_hits(level: float, num: int, share: float) -> int:
    """Return the least number for which at most so many of `num` tries hit with a probability of `level` or more."""
    return bisect_left(range(num), level, key=lambda hits: at_most(hits, num, share))


def heads(num: int) -> NDArray[np.float64]:
    """Return the probability of each number of heads, 0..num, when so many coins are tossed: (num + 1,)."""
    counts = np.arange(num + 1)
    return np.asarray(np.exp(gammaln(num + 1) - gammaln(counts + 1) - gammaln(num - counts + 1) - num * np.log(2)))
