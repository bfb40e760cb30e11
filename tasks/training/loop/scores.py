"""Loss, accuracy and error of a model over minibatches."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.machine.cores import in_turn, to_device
from tasks.machine.peers import ALONE, Peers
from tasks.targets.target import Target, Truths
from tasks.training.loop.losses import columns_of

# the inputs for n samples: a tensor (n, ...), or an object with its `to`, `split` and `device`, such as packed texts
Inputs = Any
Minibatch = tuple[Inputs, Tensor]  # with labels (n, total width) float32, NaN where one is missing


@dataclass(frozen=True, kw_only=True)
class OfTarget:
    """Mean loss, accuracy and error over the labels of a target; None without labels. The error is in its unit."""

    loss: float | None = None
    accuracy: float | None = None
    error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Mean loss and accuracy (the share of right answers, 0..1), of each target and the mean of these."""

    loss: float
    accuracy: float
    of_targets: tuple[OfTarget, ...] = ()


def forward(model: nn.Module, inputs: Inputs, *, is_bf16: bool, **asked: bool) -> list[Tensor]:
    """Return other outputs that the model is `asked` for, then the logits (n, num_classes) of each target; float32."""
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=is_bf16):
        parts: list[Tensor] = model(inputs, **asked)
    return [tensor.float() for tensor in parts]


def score(
    model: nn.Module,
    minibatches: Iterable[Minibatch],
    *,
    targets: Sequence[Target],
    is_bf16: bool = False,
    peers: Peers = ALONE,
) -> "Total":
    """Return the logits of the model in evaluation mode; of several processes, each has minibatches of its own."""
    model.eval()
    total = Total(targets)
    device = next(model.parameters()).device

    @torch.no_grad()
    def work(minibatch: Minibatch) -> tuple[list[Tensor], Tensor]:
        inputs, labels = minibatch
        logits = forward(model, to_device(inputs, device), is_bf16=is_bf16)
        return [tensor.to("cpu", non_blocking=True) for tensor in logits], labels

    for logits, labels in in_turn(minibatches, lambda minibatch: minibatch, work, device=device.type):
        total.add(logits, labels)
    return total.joined(peers)


class Total:
    """Gathers the logits and labels of minibatches."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = targets
        self._logits: list[list[Tensor]] = []
        self._labels: list[Tensor] = []

    def add(self, logits: list[Tensor], labels: Tensor) -> None:
        self._logits.append([tensor.detach().cpu() for tensor in logits])
        self._labels.append(labels.cpu())

    def joined(self, peers: Peers) -> "Total":
        """Return the logits and labels of all processes, in their order."""
        if peers.num == 1:
            return self
        whole = Total(self.targets)
        for logits, labels in peers.gather((self._logits, self._labels)):
            whole._logits += logits
            whole._labels += labels
        return whole

    @property
    def num_samples(self) -> int:
        return sum(map(len, self._labels))

    def scores(self) -> Scores:
        of_targets = tuple(_scores_of(target, logits, truths) for target, _, logits, truths in self.by_target())
        losses = [scores.loss for scores in of_targets if scores.loss is not None]
        accuracies = [scores.accuracy for scores in of_targets if scores.accuracy is not None]
        return Scores(
            loss=sum(losses) / max(len(losses), 1),
            accuracy=sum(accuracies) / max(len(accuracies), 1),
            of_targets=of_targets,
        )

    def calibrated_losses(self) -> NDArray[np.float64]:
        """Return (num_labels,), with the calibration of each target that makes their mean lowest.

        So label smoothing and overconfidence do not hide how well the classes are distinguished. Those of several
        targets are scaled, so that each target counts as much in the mean, whatever its number of labels.
        """
        parts = []
        for target, _, logits, truths in self.by_target():
            calibrated, temperature = target.calibrate(logits, truths, doubt=0.0)
            parts.append(calibrated.losses(logits, truths, temperature=temperature))
        num_labels, num_targets = sum(map(len, parts)), sum(len(part) > 0 for part in parts)
        if num_targets > 1:
            parts = [part * (num_labels / (num_targets * max(len(part), 1))) for part in parts]
        return np.concatenate([np.empty(0), *parts])

    def by_target(self) -> Iterator[tuple[Target, NDArray[np.intp], NDArray[np.float64], Truths]]:
        """Yield each target with the samples that have a label (m,), their logits (m, num_outputs) and truths."""
        columns = columns_of(self.targets, torch.cat(self._labels))
        for target, labels, parts in zip(self.targets, columns, zip(*self._logits, strict=True), strict=True):
            rows = np.flatnonzero(~np.isnan(labels[:, 0].numpy()))
            yield target, rows, torch.cat(parts).double().numpy()[rows], target.truths_of(labels.numpy()[rows])


def _scores_of(target: Target, logits: NDArray[np.float64], truths: Truths) -> OfTarget:
    if not len(truths):
        return OfTarget()
    with np.errstate(invalid="ignore"):  # logits that are not finite give such a loss, which `fit` reports
        answers = target.answers(logits, temperature=1.0)
        return OfTarget(
            loss=float(target.losses(logits, truths).sum()) / len(truths),
            accuracy=float(target.is_right(answers, truths).sum()) / len(truths),
            error=float(target.errors(answers, truths).mean()),
        )
