"""The base of every kind of target: the encoding of a column, the loss, the answer, calibration, a sample's error.

A target is a column to learn. Its kind has a module of its own in this room; `kinds.py` finds it. The head gives a
target its outputs, called logits for every kind. They become answers, which a person or a paired test compares.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:  # verbs without torch do not wait for its import
    from torch import Tensor

Floats = NDArray[Any]  # of floating point
Truths = NDArray[Any]  # the result of `encode`: (n,) of int64 or float64, or (n, num_labels) float64
MOST_LISTED, MOST_LETTERS = 20, 60  # names in a message, and letters of each
Facts = list[str] | dict[str, Any]  # JSON: a list is the kind `classes`


class Target(ABC):
    """A target: its kind, and its facts. Immutable.

    `names` are the classes, labels or steps in the order of the outputs; a number has none. Some fields are declared in
    params.yaml, and those that `calibrate` sets follow from val.
    """

    kind: ClassVar[str]
    names: tuple[str, ...]

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """Return how many outputs the head has."""

    @property
    def width(self) -> int:
        """Return how many columns the truths of this target take in a tensor of labels."""
        return 1

    @property
    @abstractmethod
    def unit(self) -> str:
        """Return the unit of `errors`, for people."""

    @abstractmethod
    def facts(self) -> Facts:
        """Return all facts as JSON; `kinds.target_of` reads them."""

    @abstractmethod
    def declared(self) -> Facts:
        """Return the facts without those that `standardised` and `calibrate` set."""

    @abstractmethod
    def read(self, cell: str) -> str:
        """Return a cell of a table in the one form of its value. Raises ValueError, in one line, where it has none."""

    @abstractmethod
    def encode(self, labels: pd.Series) -> Truths:
        """Return the truths of labels (n,) that `read` wrote; a missing label is missing there, too.

        Raises ValueError for a class, label or step that is not in `names`.
        """

    @abstractmethod
    def has_label(self, truths: Truths) -> NDArray[np.bool_]:
        """Return (n,): whether each truth is there."""

    def truths_of(self, columns: NDArray[np.float32]) -> Truths:
        """Return truths, all there, from their columns (n, width) in a tensor of labels."""
        return columns[:, 0].astype(np.float64)

    def standardised(self, truths: Truths) -> Self:
        """Return the target with the scale of the truths of train, where the kind has one."""
        return self

    @abstractmethod
    def answers(self, logits: Floats, *, temperature: float) -> NDArray[np.float64]:
        """Return the calibrated answers of logits (n, num_outputs).

        They are probabilities (n, num_names), or for a number (n, 3): value, low and high end of its interval.
        """

    @abstractmethod
    def calibrate(self, logits: Floats, truths: Truths, *, doubt: float | None = None) -> tuple[Self, float]:
        """Return the target and the temperature with which these logits fit the truths of val best.

        No truth is missing. `doubt` is that of `fit_temperature`: 0.0 to compare models, None for use.
        """

    @abstractmethod
    def losses(self, logits: Floats, truths: Truths, *, temperature: float = 1.0) -> Floats:
        """Return the loss (n,) of each sample that training minimises, of logits (n, num_outputs).

        It is in nats, or for a number in squared standard deviations of train.
        """

    def log_likelihood(self, losses: Floats) -> float:
        """Return the log-likelihood of the truths of samples with these losses (n,), in nats."""
        return -float(losses.sum())

    @abstractmethod
    def errors(self, answers: Floats, truths: Truths) -> NDArray[np.float64]:
        """Return the error (n,) of each answer, in `unit`. Every paired test compares these errors."""

    @abstractmethod
    def is_right(self, answers: Floats, truths: Truths) -> NDArray[np.bool_]:
        """Return (n,): whether each answer counts as right."""

    @abstractmethod
    def constant(self, truths: Truths) -> NDArray[np.float64]:
        """Return the one answer (1, …) with the least mean error on these truths: that of a model without inputs."""

    @abstractmethod
    def shown(self, answers: Floats) -> list[str]:
        """Return the text (n) of each answer, in the form of `read`."""

    def in_words(self, answers: Floats) -> list[str]:
        """Return the text (n) of each answer, for a person."""
        return self.shown(answers)

    def said_probabilities(self, answers: Floats) -> NDArray[np.float64] | None:
        """Return the probability (n,) of each answer; None where the kind has no such probability."""
        return None

    @abstractmethod
    def aligned(self, answers: Floats, wanted: "Target") -> "tuple[NDArray[np.float64], Target] | None":
        """Return answers of this target in the order of the `wanted` names, and the target that judges them.

        A name that this target does not know is never its answer. None where the two cannot be compared.
        """

    @abstractmethod
    def summed_loss(self, logits: "Tensor", truths: "Tensor", *, label_smoothing: float = 0.0) -> "Tensor":
        """Return the summed training loss of logits (n, num_outputs) and truths (n, width) float, NaN where missing."""

    @abstractmethod
    def deployed(self, logits: "Tensor", *, temperature: float) -> "Tensor":
        """Return the result of `answers`, computed by operations that an exported file has."""


def sigmoid(values: Floats) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite stay; the caller reports them
        return np.asarray(1 / (1 + np.exp(-values.astype(np.float64))))


def listed(names: Sequence[str]) -> str:
    """Return names as a message lists them: the first of many, each cut short."""
    shown = [name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…" for name in names[:MOST_LISTED]]
    return ", ".join([*shown, "…"] if len(names) > MOST_LISTED else shown)


def places(labels: pd.Series, names: Sequence[str], *, what: str) -> NDArray[np.int64]:
    """Return the place (n,) of each label in `names`, -1 where there is none. Raises ValueError for another label."""
    cells = labels.to_numpy(dtype=object)
    found = pd.Index(list(names), dtype=object).get_indexer(cells)  # type: ignore[arg-type]
    unknown = sorted(set(cells[(found < 0) & labels.notna().to_numpy()]))
    if unknown:
        raise ValueError(
            f"the manifest has {what} {unknown[0]!r}, expected one of {listed(names)}: train the head again"
        )
    return np.asarray(found, dtype=np.int64)
