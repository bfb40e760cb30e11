"""The kind `ordinal`: one step of an ordered scale for each sample, with cumulative links and distances in steps."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.targets.classes import MISSING
from tasks.targets.target import Floats, Target, Truths, listed, places, sigmoid
from tasks.targets.temperature import HIGHEST, LOWEST

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-12  # of a probability, so that no loss is infinite


@dataclass(frozen=True)
class Ordinal(Target):
    """A step of a scale, `names` from the lowest to the highest.

    Output k is the log-odds that the step lies above step k: score - threshold_k (McCullagh 1980). The answer is the
    median step, which has the least expected distance; the error is the distance in steps. Fine-tuning minimises the
    binary cross-entropy of all outputs (Cao et al. 2020, CORAL).
    """

    names: tuple[str, ...]
    kind: ClassVar[str] = "ordinal"

    @property
    def num_outputs(self) -> int:
        return len(self.names) - 1

    @property
    def unit(self) -> str:
        return "steps"

    def facts(self) -> dict[str, Any]:
        return {"kind": self.kind, "steps": list(self.names)}

    declared = facts

    def read(self, cell: str) -> str:
        if cell.strip() not in self.names:
            raise ValueError(f"{cell.strip()[:60]!r} is no step, expected one of {listed(self.names)}")
        return cell.strip()

    def encode(self, labels: pd.Series) -> NDArray[np.int64]:
        return places(labels, self.names, what="step")

    def has_label(self, truths: Truths) -> NDArray[np.bool_]:
        return np.asarray(truths != MISSING)

    def truths_of(self, columns: NDArray[np.float32]) -> Truths:
        return columns[:, 0].astype(np.int64)

    def answers(self, logits: Floats, *, temperature: float) -> NDArray[np.float64]:
        # outputs that fine-tuning has put out of order are put in order
        above = np.minimum.accumulate(sigmoid(logits / temperature), axis=1)
        ends = np.concatenate([np.ones((len(above), 1)), above, np.zeros((len(above), 1))], axis=1)
        return np.asarray(ends[:, :-1] - ends[:, 1:])

    def calibrate(self, logits: Floats, truths: Truths, *, doubt: float | None = None) -> tuple[Self, float]:
        if not len(truths):
            return self, 1.0
        from scipy.optimize import minimize_scalar  # imported late: answering does not need it

        if doubt is None:
            doubt = 1 / (len(truths) + 2)

        def loss(log_temperature: float) -> float:
            logs = np.log(np.maximum(self.answers(logits, temperature=float(np.exp(log_temperature))), SMALLEST))
            of_label = logs[np.arange(len(truths)), truths].mean()
            return -float((1 - doubt) * of_label + doubt * logs.mean())

        found = minimize_scalar(
            loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-6}
        )
        return self, float(np.exp(found.x))

    def losses(self, logits: Floats, truths: Truths, *, temperature: float = 1.0) -> Floats:
        p = self.answers(logits, temperature=temperature)[np.arange(len(truths)), truths]
        return np.asarray(-np.log(np.maximum(p, SMALLEST)))

    def step_of(self, answers: Floats) -> NDArray[np.int64]:
        """Return the median step (n,) of probabilities (n, num_steps)."""
        return np.asarray((np.cumsum(answers, axis=1) < 0.5).sum(axis=1).clip(max=len(self.names) - 1))

    def errors(self, answers: Floats, truths: Truths) -> NDArray[np.float64]:
        return np.asarray(np.abs(self.step_of(answers) - truths), np.float64)

    def is_right(self, answers: Floats, truths: Truths) -> NDArray[np.bool_]:
        return np.asarray(self.step_of(answers) == truths)

    def constant(self, truths: Truths) -> NDArray[np.float64]:
        middle = int(np.sort(truths)[(len(truths) - 1) // 2])
        return np.asarray(np.arange(len(self.names)) == middle, np.float64)[None]

    def said_probabilities(self, answers: Floats) -> NDArray[np.float64]:
        return np.asarray(answers[np.arange(len(answers)), self.step_of(answers)])

    def shown(self, answers: Floats) -> list[str]:
        return [self.names[step] for step in self.step_of(answers)]

    def aligned(self, answers: Floats, wanted: Target) -> tuple[NDArray[np.float64], Target] | None:
        same = isinstance(wanted, Ordinal) and wanted.names == self.names
        return (np.asarray(answers, np.float64), wanted) if same else None

    def summed_loss(self, logits: "Tensor", truths: "Tensor", *, label_smoothing: float = 0.0) -> "Tensor":
        import torch
        import torch.nn.functional as F

        is_there = ~truths[:, :1].isnan()
        steps = torch.arange(self.num_outputs, device=logits.device)
        above = (truths[:, :1] > steps).to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits, above, reduction="none")
        return (losses * is_there).sum()

    def deployed(self, logits: "Tensor", *, temperature: float) -> "Tensor":
        import torch

        columns = (logits / temperature).sigmoid().tensor_split(self.num_outputs, dim=1)
        above = [columns[0]]
        for column in columns[1:]:
            above.append(torch.minimum(above[-1], column))
        ends = torch.cat([torch.ones_like(above[0]), *above, torch.zeros_like(above[0])], dim=1)
        return ends[:, :-1] - ends[:, 1:]
