"""Low-rank adapters (LoRA, Hu et al. 2022): small matrices that are trained in the place of the large ones."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SCALE = 2.0  # alpha over rank, as the paper's own settings have it


class LowRank(nn.Module):
    """A linear layer whose weight stays, and two matrices beside it, `down` (rank, inputs) and `up` (outputs, rank).

    `up` is zero at the start, so that the layer begins as it came.
    """

    def __init__(self, linear: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear
        bound = linear.in_features**-0.5
        down = torch.rand(rank, linear.in_features, generator=generator) * 2 * bound - bound
        self.down = nn.Parameter(down.to(linear.weight))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        added = nn.functional.linear(nn.functional.linear(inputs, self.down), self.up)
        return torch.add(self.linear(inputs), added, alpha=SCALE)

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Add the product of the matrices to the weight, set `up` to zero, and return the layer."""
        self.linear.weight.add_(self.up @ self.down, alpha=SCALE)
        self.up.zero_()
        return self.linear


def adapt(model: nn.Module, blocks: Sequence[nn.Module], *, rank: int, seed: int) -> None:
    """Put an adapter in the place of every linear layer in these blocks of the model."""
    generator = torch.Generator().manual_seed(seed)
    inside = {part for block in blocks for part in block.modules()}
    for name, part in list(model.named_modules()):
        if type(part) is nn.Linear and part in inside:
            model.set_submodule(name, LowRank(part, rank, generator))


def merge(model: nn.Module) -> None:
    """Merge all adapters, so that the model has the layers and the names that it came with."""
    for name, part in list(model.named_modules()):
        if isinstance(part, LowRank):
            model.set_submodule(name, part.merge())


def adapter_parameters(block: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the adapters in a block."""
    return [parameter for part in block.modules() if isinstance(part, LowRank) for parameter in (part.down, part.up)]
