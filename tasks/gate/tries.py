"""Divide the chance of an error over the tries on one comparison, so that trying again does not help."""

from tasks.metrics.distributions import normal_quantile

FIRST_SHARE = 0.7  # of the chance; most comparisons see one try
OTHERS_SHARE = 0.1  # that of all further tries; the rest is kept, because groups make the score test a little too bold
SUM_OF_SQUARES = 1.6449340668482264  # 1 + 1/4 + 1/9 + … = π²/6


def level_of_try(level: float, *, earlier: float) -> float:
    """Return the level at which a try is tested, so that all tries together are wrong with a chance of `level` at most.

    The first has FIRST_SHARE of it. The k-th after it has a part of OTHERS_SHARE that falls as 1/k².

    Args:
        earlier: the number of earlier tries; one on a held-out set of which a half is new counts as a half.
    """
    if earlier >= 1:
        return level * OTHERS_SHARE / SUM_OF_SQUARES / earlier**2
    second = level_of_try(level, earlier=1)
    return level * FIRST_SHARE + earlier * (second - level * FIRST_SHARE)


def lead_of_try(*, earlier: float) -> float:
    """Return how many standard errors ahead of the model in use an undecided candidate passes by itself.

    The first try passes where it is not behind. The k-th is that far ahead by chance with a probability of 1/(2k²).
    """
    return max(-normal_quantile(0.5 / (1 + earlier) ** 2), 0.0)
