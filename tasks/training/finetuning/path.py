"""The weights on the way from the head alone to the fine-tuned model (WiSE-FT, Wortsman et al. 2022).

A share of the way, 0..1, is a model between both. It costs no more to run than either, and val can choose among a few
of them. Running means and variances of normalisation layers go the same way as the weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Weights = Mapping[str, Tensor]  # by the names of a state dict

HEAD, MIDDLE, FINETUNED = 0.0, 0.5, 1.0
SHARES = (HEAD, 0.25, MIDDLE, 0.75, FINETUNED)


def weights_at(share: float, start: Weights, end: Weights) -> dict[str, Tensor]:
    """Return the weights at a share of the way, those that `end` has. A count, as of minibatches, is that of `end`."""
    return {
        name: torch.lerp(start[name], tensor, share) if tensor.is_floating_point() else tensor
        for name, tensor in end.items()
    }


@torch.no_grad()
def put(module: nn.Module, weights: Weights) -> None:
    """Set the tensors of a module that `weights` has."""
    state = module.state_dict()
    for name, tensor in weights.items():
        state[name].copy_(tensor)
