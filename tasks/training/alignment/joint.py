"""A shift of the features and of the classes' shares at once: estimate the shares, and whether both moved.

Without labels a part of one shift looks like the other (generalised target shift, Zhang et al. 2013). Three estimates
of the shares err in different ways. Those at vectors as they are take the features' shift for one of shares. Those of
`infomax` are drawn to even ones. Those at standardised features run away where the sources' head fails there.
"""

import numpy as np

from tasks.targets.classes import likeliest
from tasks.training.alignment.domains import Array, Domains
from tasks.training.alignment.shares import estimate_shares
from tasks.training.alignment.source_only import Fit, calibrated
from tasks.training.alignment.spaces import Space, with_shares

NUM_ROUNDS = 10
LEAST_MOVED = {"infomax": 0.25, "infomax_as_is": 0.3}  # share of samples that change class, by the method
NEARER = 0.85  # than the answers of infomax
LEAST_KEPT = 2 / 3  # of the answers of the sources' head, when it knows the shares


def standardised_shares(space: Space, domains: Domains, fit: Fit) -> Array:
    """Return the shares (k,) that expectation maximisation finds where the target is standardised at these shares.

    Each round goes half of the way, in logarithms: to standardise by shares that are wrong makes them look right.
    """
    shares = domains.shares
    for _ in range(NUM_ROUNDS):
        target = with_shares(space, domains.labels, shares / domains.shares).target
        estimated = estimate_shares(calibrated(fit, target @ fit.layer[0].T + fit.layer[1]), domains.shares)
        shares = np.sqrt(shares * estimated)
        shares /= shares.sum()
    return np.asarray(shares)


def have_shares_moved(
    domains: Domains, log_p: Array, *, plain: Array, standardised: Array, informed: Array, least_moved: float
) -> bool:
    """Return whether the shares (k,) estimated at standardised features can be trusted, and have moved.

    They can be trusted under three conditions. The estimate at vectors as they are, `plain`, is nearer to them than to
    that of `infomax`, `informed`. They are not much farther from `informed` than `plain` is. And `plain` does not
    overturn the answers of the sources' head, log_p (m, k): a head that is so unsure finds shares that do not exist.
    """
    kept = likeliest(log_p) == likeliest(log_p + np.log(plain / domains.shares))
    return bool(
        distance(standardised, domains.shares) >= least_moved
        and distance(standardised, plain) <= NEARER * distance(plain, informed)
        and distance(standardised, informed) * NEARER <= distance(plain, informed)
        and kept.mean() >= LEAST_KEPT
    )


def distance(shares: Array, others: Array) -> float:
    """Return the total variation: the share of samples that change their class."""
    return float(np.abs(shares - others).sum()) / 2
