"""Adaptive average pooling as two products of matrices, whose gradients a GPU adds up in one order.

The pooling of torch has no such gradient there. VGG and AlexNet pool to several positions.
"""

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """Maps (n, channels, height, width) to (n, channels, *output_size), as `nn.AdaptiveAvgPool2d` does."""

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, maps: Tensor) -> Tensor:
        rows, columns = (
            shares(inputs, outputs).to(maps) for inputs, outputs in zip(maps.shape[2:], self.output_size, strict=True)
        )
        return rows @ maps @ columns.T


def shares(inputs: int, outputs: int) -> Tensor:
    """Return the share (outputs, inputs) that each place of a side has in each pooled one."""
    places = torch.arange(outputs)
    starts, ends = places * inputs // outputs, -(-(places + 1) * inputs // outputs)
    at = torch.arange(inputs)
    is_inside = (at >= starts[:, None]) & (at < ends[:, None])
    return is_inside / is_inside.sum(dim=1, keepdim=True)


def pool_by_products(network: nn.Module) -> None:
    """Replace the pooling to several positions in a network."""
    for name, part in list(network.named_modules()):
        if isinstance(part, nn.AdaptiveAvgPool2d):
            size = part.output_size if isinstance(part.output_size, tuple) else (part.output_size, part.output_size)
            if size != (1, 1) and None not in size:  # of one position, torch takes the mean, which has such a gradient
                network.set_submodule(name, Pooling((int(size[0] or 1), int(size[1] or 1))))
