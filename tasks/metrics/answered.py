"""The answers of a model to samples, with the target that judges them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.targets.target import Target, Truths


@dataclass(frozen=True)
class Answered:
    """The answers (n, …) of a model, as `Target.answers` returns them.

    The target has the names of the candidate's, in its order, and the model's own calibration.
    """

    answers: NDArray[np.float64]
    target: Target

    def of(self, rows: NDArray[Any]) -> "Answered":
        """Return the answers of some samples: a mask (n,) or places."""
        return Answered(self.answers[rows], self.target)

    def errors(self, truths: Truths) -> NDArray[np.float64]:
        """Return the error (n,) of each answer, in the target's unit."""
        return self.target.errors(self.answers, truths)

    def is_right(self, truths: Truths) -> NDArray[np.bool_]:
        """Return (n,): whether each answer counts as right."""
        return self.target.is_right(self.answers, truths)

    def shown(self) -> list[str]:
        """Return the text (n) of each answer."""
        return self.target.shown(self.answers)
