"""Find whether a share is significantly below its floor."""

from tasks.metrics.distributions import at_most, least_hits

FLOORS_SHARE = 0.2  # share of the allowed false alarms that the floors have where a person sets one


def least_share(floor: float, *, num_samples: float, level: float) -> float:
    """Return the smallest share, 0..1, that is not significantly below its floor (exact binomial).

    A candidate whose true share is the floor is below this share with a chance of at most `level`. The share is 0 where
    even no hit at all among the samples would be no evidence.

    Args:
        num_samples: samples that come in groups count as fewer (Korn & Graubard 1998).
    """
    n = max(round(num_samples), 1)
    return least_hits(level, n, floor) / n


def p_value_of_floor(share: float, *, floor: float, num_samples: float) -> float:
    """Return the one-sided exact p-value that the true share is below its floor."""
    n = max(round(num_samples), 1)
    return at_most(round(share * n), n, floor)
