"""The choice of an L2 strength by the losses on val, along a path from strong to weak."""

from collections.abc import Sequence

import numpy as np

from tasks.training.heads.rows import Array

STRONGER = (3.0, 10.0, 30.0)  # strengths that a cautious choice tries besides
CAUTION = 0.25  # nats of val's labels in all, that a cautious choice asks for a strength over the next stronger one
CLEARLY = 4.0  # standard errors
LEAST_LABELS = 30  # of val; with fewer, a standard error means little


class Choice:
    """Keeps the lowest loss on val so far; without labels on val, the strength in the middle is chosen.

    The loss falls along the path until the head learns noise, and rises from there on. So the path may end where the
    loss is clearly above the lowest: weaker strengths also take the most passes over the rows.

    Args:
        cautious: stronger strengths are tried, too, and a weaker one has to be worth it on val.
    """

    def __init__(self, l2_strengths: Sequence[float], *, cautious: bool) -> None:
        self.strengths = sorted({*l2_strengths, *(STRONGER if cautious else ())}, reverse=True)
        self.cautious = cautious
        self.is_over = False  # whether weaker strengths are in vain
        self._lowest = np.inf
        self._losses: Array | None = None  # (n,) of the best so far

    def takes(self, l2: float, losses: Array) -> bool:
        """Return whether a strength is the best so far. The strengths come in their order, with losses (n,) on val."""
        if not len(losses):
            self.is_over = l2 == self.strengths[len(self.strengths) // 2]
            return self.is_over
        compared = losses.mean() + (CAUTION * self.strengths.index(l2) / len(losses) if self.cautious else 0.0)
        if self._losses is None or compared < self._lowest:
            self._lowest, self._losses = float(compared), losses
            return True
        self.is_over = is_clearly_worse(losses, self._losses)
        return False


def is_clearly_worse(losses: Array, best: Array) -> bool:
    """Return whether losses (n,) on val lie above others by more than CLEARLY standard errors of the difference."""
    apart = losses - best
    return len(apart) >= LEAST_LABELS and bool(apart.mean() > CLEARLY * apart.std() / np.sqrt(len(apart)))
