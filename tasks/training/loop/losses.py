"""The training losses over all targets, with missing labels left out.

The loss of a minibatch is the sum of the targets' own, each of which is the mean over its labels there. With the
balance `uncertainty` each has a weight that is learned with the model (Kendall et al. 2018, "Multi-Task Learning Using
Uncertainty to Weigh Losses"): loss * exp(-s) + s / 2, where s is the logarithm of a variance. The factor 1/2 that the
paper gives to a squared error stands in the loss of `Number` itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

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


class Uncertainty(nn.Module):
    """The logarithm of a variance for each target, 0 at the start: the more uncertain a target, the less it counts."""

    def __init__(self, num_targets: int) -> None:
        super().__init__()
        self.log_variances = nn.Parameter(torch.zeros(num_targets))

    def weights(self) -> Tensor:
        """Return the factor (num_targets,) of each target's loss."""
        return torch.exp(-self.log_variances)

    def add_penalty(self, counts: Tensor) -> None:
        """Add the gradient of s / 2, for each target that has labels among `counts` (num_targets,)."""
        gradient = (counts > 0).to(self.log_variances.dtype) / 2
        held = self.log_variances.grad
        self.log_variances.grad = gradient if held is None else held.add_(gradient)
