"""The kind `classes`: exactly one class for each sample, with softmax, the likeliest class and "is right"."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.targets.target import Floats, Target, Truths, places
from tasks.targets.temperature import fit_temperature

if TYPE_CHECKING:
    from torch import Tensor

MISSING = -1  # the index of a label that a sample does not have; cross_entropy leaves it out


def probabilities(logits: Floats, *, temperature: float) -> NDArray[np.float64]:
    """Return the calibrated probabilities (n, num_classes) of logits (n, num_classes)."""
    with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite stay; the caller reports them
        scaled = logits.astype(np.float64) / temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def log_probabilities(logits: Floats) -> Floats:
    """Return the logarithms (n, num_classes) of the probabilities of logits (n, num_classes), in their precision."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def losses(logits: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return the cross-entropy (n,) in nats of logits (n, num_classes) with labels (n,)."""
    return np.asarray(-log_probabilities(logits)[np.arange(len(labels)), labels])


def likeliest(scores: Floats) -> NDArray[np.intp]:
    """Return the index (n,) of the class with the highest logit or probability (n, num_classes)."""
    return np.asarray(scores.argmax(axis=1))


def is_right(scores: Floats, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the likeliest class of each sample is its label: (n, num_classes) and (n,) -> (n,)."""
    return np.asarray(likeliest(scores) == labels)


@dataclass(frozen=True)
class Classes(Target):
    """A target of one class, out of `names`. The loss is cross-entropy; the error is 1 for a wrong answer, else 0."""

    names: tuple[str, ...]
    kind: ClassVar[str] = "classes"

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    @property
    def unit(self) -> str:
        return "share of wrong answers"

    def facts(self) -> list[str]:
        return list(self.names)

    declared = facts

    def read(self, cell: str) -> str:
        return cell

    def encode(self, labels: pd.Series) -> NDArray[np.int64]:
        return places(labels, self.names, what="class")

    def has_label(self, truths: Truths) -> NDArray[np.bool_]:
        return np.asarray(truths != MISSING)

    def truths_of(self, columns: NDArray[np.float32]) -> Truths:
        return columns[:, 0].astype(np.int64)

    def answers(self, logits: Floats, *, temperature: float) -> NDArray[np.float64]:
        return probabilities(logits, temperature=temperature)

    def calibrate(self, logits: Floats, truths: Truths, *, doubt: float | None = None) -> tuple["Classes", float]:
        return self, fit_temperature(logits, truths, doubt=doubt)

    def losses(self, logits: Floats, truths: Truths, *, temperature: float = 1.0) -> Floats:
        return losses(logits / temperature, truths)

    def errors(self, answers: Floats, truths: Truths) -> NDArray[np.float64]:
        return np.asarray(~is_right(answers, truths), np.float64)

    def is_right(self, answers: Floats, truths: Truths) -> NDArray[np.bool_]:
        return is_right(answers, truths)

    def constant(self, truths: Truths) -> NDArray[np.float64]:
        counts = np.bincount(truths, minlength=len(self.names))
        return np.asarray(np.arange(len(self.names)) == counts.argmax(), np.float64)[None]

    def said_probabilities(self, answers: Floats) -> NDArray[np.float64]:
        return np.asarray(answers.max(axis=1))

    def shown(self, answers: Floats) -> list[str]:
        return [self.names[place] for place in likeliest(answers)]

    def aligned(self, answers: Floats, wanted: Target) -> tuple[NDArray[np.float64], Target] | None:
        return (reordered(answers, self.names, wanted.names), wanted) if isinstance(wanted, Classes) else None

    def summed_loss(self, logits: "Tensor", truths: "Tensor", *, label_smoothing: float = 0.0) -> "Tensor":
        import torch.nn.functional as F

        labels = truths[:, 0].nan_to_num(nan=MISSING).long()
        return F.cross_entropy(
            logits, labels, ignore_index=MISSING, reduction="sum", label_smoothing=label_smoothing
        )  # fmt: skip

    def deployed(self, logits: "Tensor", *, temperature: float) -> "Tensor":
        return (logits / temperature).softmax(dim=1)


def reordered(answers: Floats, known: Sequence[str], wanted: Sequence[str]) -> NDArray[np.float64]:
    """Return probabilities (n, num_known) in the order of the wanted names; zero for an unknown one."""
    ordered = np.zeros((len(answers), len(wanted)))
    place = {name: column for column, name in enumerate(wanted)}
    for column, name in enumerate(known):
        if name in place:
            ordered[:, place[name]] = answers[:, column]
    return ordered
