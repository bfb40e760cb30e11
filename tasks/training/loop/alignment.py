"""A term beside the loss that makes the features of two domains alike, over whole minibatches of both.

A minibatch is computed in shards, each on a core of its own. The term compares all of its samples at once, so it takes
the features of all shards and gives each shard the gradient for its own; then every shard goes on backwards alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.training.loop.scores import Minibatch

# samples whose labels are all missing, and whether each sample (n,) of the labelled minibatch is of the sources
Unlabelled = tuple[Minibatch, NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """The term, its weight over the loss, and its minibatches. It is 0 where either side has fewer than two rows.

    term: the features of both (n, dim) and (m, dim) and the share of the training that is done -> its value. Its own
        parameters are trained with the model.
    weight: of the term, over the loss.
    learning_rate: the highest, of the term's own parameters.
    minibatches: the number of an epoch -> as many minibatches as the labelled ones, always the same.
    """

    term: nn.Module
    weight: float
    learning_rate: float
    minibatches: Callable[[int], Iterable[Unlabelled]]

    def pull(
        self, labelled: Sequence[Tensor], others: Sequence[Tensor], *, is_source: NDArray[np.bool_], progress: float
    ) -> tuple[float, list[Tensor]]:
        """Return the weighted term, and its gradient for the features of each shard of both minibatches, in order.

        The gradients for its own parameters are set. Features are divided by the root of their mean square, so that no
        setting depends on the scale of the backbone.
        """
        leaves = [features.detach().requires_grad_() for features in (*labelled, *others)]
        ours = torch.cat(leaves[: len(labelled)])[torch.from_numpy(is_source).to(leaves[0].device)]
        theirs = torch.cat(leaves[len(labelled) :])
        if min(len(ours), len(theirs)) < 2:
            return 0.0, [torch.zeros_like(features) for features in leaves]
        scale = torch.cat([ours, theirs]).detach().square().mean().sqrt().clamp(min=1e-12)
        value = self.weight * self.term(ours / scale, theirs / scale, progress)
        parameters = list(self.term.parameters())
        pulls = torch.autograd.grad(value, [*leaves, *parameters], allow_unused=True, materialize_grads=True)
        for parameter, gradient in zip(parameters, pulls[len(leaves) :], strict=True):
            parameter.grad = gradient
        return value.item(), list(pulls[: len(leaves)])
