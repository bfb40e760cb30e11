"""The statistics of a network's batch-normalisation layers: read them, or put others in their place."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.models.backbone import Backbone


def normalisation_layers(network: nn.Module) -> list[_BatchNorm]:
    """Return the layers that normalise by running statistics, in the order of the network's parts."""
    return [part for part in network.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]


def num_channels(network: nn.Module) -> int:
    """Return how many channels all these layers have together; 0 where the network has none of them."""
    return sum(layer.num_features for layer in normalisation_layers(network))


def running_statistics(network: nn.Module) -> Tensor:
    """Return the running means and variances (2, num_channels) of all these layers, one layer behind the other."""
    layers = normalisation_layers(network)
    means, variances = ([getattr(layer, name) for layer in layers] for name in ("running_mean", "running_var"))
    return torch.stack([torch.cat(means), torch.cat(variances)])


def with_statistics(trunk: Any, statistics: Tensor) -> Any:
    """Return a copy of a trunk that shares its weights and normalises by these statistics.

    `statistics` (2, num_channels) are as `running_statistics` returns them.
    """
    shared: list[Any] = [*trunk.parameters(), *trunk.buffers()]
    if isinstance(trunk, Backbone):
        shared.append(trunk._captured)  # the hooks of a copy write where those of the trunk do
    own = copy.deepcopy(trunk, memo={id(part): part for part in shared})
    layers = normalisation_layers(own)
    parts = torch.split(statistics, [layer.num_features for layer in layers], dim=1)
    for layer, (mean, variance) in zip(layers, parts, strict=True):
        layer.running_mean, layer.running_var = mean, variance
    return own
