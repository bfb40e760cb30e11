"""A loss of the features alone: it draws samples of one class together, and those of different classes apart.

With few labels a classifier of many weights learns each sample by heart. There are many more pairs than samples, and
their lesson holds for every sample of the class (SetFit, Tunstall et al. 2022, "Efficient Few-Shot Learning Without
Prompts").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasks.targets.classes import Classes


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The loss of pairs over whole minibatches, summed over these targets, which are all that have labels."""

    targets: Sequence[Classes]

    def pull(self, shards: Sequence[Tensor], labels: Tensor) -> tuple[float, list[Tensor]]:
        """Return the loss, and its gradient for the features of each shard, in order.

        Args:
            shards: the features (k, dim) of the parts of a minibatch.
            labels: those of the minibatch (n, num_targets), NaN where one is missing.
        """
        leaves = [features.detach().requires_grad_() for features in shards]
        features = torch.cat(leaves)
        value = 0 * features.sum()
        for truths in labels.unbind(dim=1):
            is_labelled = ~truths.isnan()
            value = value + loss_of_pairs(features[is_labelled], truths[is_labelled])
        return value.item(), list(torch.autograd.grad(value, leaves))


def loss_of_pairs(features: Tensor, classes: Tensor) -> Tensor:
    """Return the mean squared error of the cosine similarities of all pairs, 1 expected within a class, else 0.

    Pairs of one class count as much as all others. Without a pair of a sort, that half is 0.

    Args:
        features: (n, dim).
        classes: (n,).
    """
    directions = normalize(features, dim=1)
    one, other = torch.triu_indices(len(classes), len(classes), offset=1, device=classes.device)
    similarities, is_same = (directions @ directions.T)[one, other], classes[one] == classes[other]
    errors = (similarities - is_same.to(similarities)).square()
    halves = [errors[is_same], errors[~is_same]]
    return torch.stack([half.sum() / max(len(half), 1) for half in halves]).mean()
