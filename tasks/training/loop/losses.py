"""Training losses over all targets, with missing labels left out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.targets.classes import MISSING


def summed_cross_entropy(logits: list[Tensor], labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Sum over the labels that are there, in nats: logits (n, num_classes) a target, label indices (n, num_targets)."""
    losses = [
        F.cross_entropy(each, labels[:, target], ignore_index=MISSING, reduction="sum", label_smoothing=label_smoothing)
        for target, each in enumerate(logits)
    ]
    return torch.stack(losses).sum()
