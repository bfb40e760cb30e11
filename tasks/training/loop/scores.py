"""Loss and accuracy of a model over minibatches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.machine.cores import num_cores, one_thread_each, spread
from tasks.targets.classes import MISSING, is_right, losses
from tasks.training.loop.temperature import fit_temperature

# what the model takes of n samples: a tensor (n, ...) or what has its `to`, `split` and `device`, such as packed texts
Inputs = Any
Minibatch = tuple[Inputs, Tensor]  # with label indices (n, num_targets)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Mean cross-entropy in nats and accuracy in 0..1, over all labels of all targets."""

    loss: float
    accuracy: float


def forward(model: nn.Module, inputs: Inputs, *, is_bf16: bool) -> list[Tensor]:
    """Return logits (n, num_classes) float32, a tensor a target."""
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=is_bf16):
        logits: list[Tensor] = model(inputs)
    return [tensor.float() for tensor in logits]


def score(model: nn.Module, minibatches: Iterable[Minibatch], *, is_bf16: bool = False) -> "Total":
    """Return the logits of the model in evaluation mode."""
    model.eval()
    total = Total()
    device = next(model.parameters()).device

    @torch.no_grad()
    def work(minibatch: Minibatch) -> tuple[list[Tensor], Tensor]:
        inputs, labels = minibatch
        torch.get_num_threads()  # the first call in a thread makes it compute on one core
        return forward(model, inputs.to(device), is_bf16=is_bf16), labels

    with one_thread_each():
        for logits, labels in spread(minibatches, work, ahead=2 * num_cores()):
            total.add(logits, labels)
    return total


class Total:
    """Gathers the logits and labels of minibatches."""

    def __init__(self) -> None:
        self._logits: list[list[Tensor]] = []
        self._labels: list[Tensor] = []

    def add(self, logits: list[Tensor], labels: Tensor) -> None:
        self._logits.append([tensor.detach().cpu() for tensor in logits])
        self._labels.append(labels.cpu())

    @property
    def num_samples(self) -> int:
        return sum(map(len, self._labels))

    def scores(self) -> Scores:
        parts: list[NDArray[Any]] = [np.empty(0)]
        hits: list[NDArray[Any]] = [np.empty(0)]
        for _, logits, labels in self.by_target():
            with np.errstate(invalid="ignore"):  # logits that are not finite give such a loss, which `fit` reports
                parts.append(losses(logits, labels))
            hits.append(is_right(logits, labels))
        count = max(sum(map(len, parts)), 1)
        return Scores(
            loss=float(np.concatenate(parts).sum()) / count, accuracy=float(np.concatenate(hits).sum()) / count
        )

    def calibrated_losses(self) -> NDArray[np.float64]:
        """Return (num_labels,) in nats, with the temperature of each target that makes their mean lowest.

        So label smoothing and overconfidence do not hide how well the classes are distinguished.
        """
        parts = [np.empty(0)]
        for _, logits, labels in self.by_target():
            temperature = fit_temperature(logits, labels, doubt=0.0)
            parts.append(losses(logits / temperature, labels))
        return np.concatenate(parts)

    def by_target(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.int64]]]:
        """Yield for each target the samples that have a label (m,), their logits (m, num_classes) and labels (m,)."""
        labels = torch.cat(self._labels).numpy()
        for target, parts in enumerate(zip(*self._logits, strict=True)):
            rows = np.flatnonzero(labels[:, target] != MISSING)
            yield rows, torch.cat(parts).double().numpy()[rows], labels[rows, target]
