"""Training losses over all targets, with missing labels left out."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.targets.target import Target


def summed_losses(
    targets: Sequence[Target], logits: Sequence[Tensor], labels: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the loss of each target (num_targets,), summed over the labels that are there.

    Logits are (n, num_outputs) a target, labels (n, total width).
    """
    columns = columns_of(targets, labels)
    return torch.stack(
        [
            target.summed_loss(own, truths, label_smoothing=label_smoothing)
            for target, own, truths in zip(targets, logits, columns, strict=True)
        ]
    )


def columns_of(targets: Sequence[Target], labels: Tensor) -> Sequence[Tensor]:
    """Return the columns (n, width) of each target in labels (n, total width)."""
    columns: Sequence[Tensor] = torch.split(labels, [target.width for target in targets], dim=1)
    return columns


def label_counts(targets: Sequence[Target], labels: Tensor) -> Tensor:
    """Return how many labels (num_targets,) each target has among labels (n, total width)."""
    columns = columns_of(targets, labels)
    return torch.stack([(~truths[:, 0].isnan()).sum() for truths in columns])
