"""Dropout whose chance belongs to a part of a minibatch, so that the cores may compute different parts at once.

The dropout of torch draws from one generator for all threads: the numbers of a part would depend on their order.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

# of the part that this thread computes; None is torch's own
_generator: ContextVar[torch.Generator | None] = ContextVar("generator", default=None)


class Dropout(nn.Module):
    """Zeroes a share `p` of the numbers of each sample, or of the samples `of_rows`, and scales the others up."""

    def __init__(self, p: float, *, of_rows: bool = False) -> None:
        super().__init__()
        self.p, self.of_rows = p, of_rows

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.p:
            return inputs
        size = (len(inputs), *(1 for _ in inputs.shape[1:])) if self.of_rows else inputs.shape
        stays = inputs.new_empty(size).bernoulli_(1 - self.p, generator=_generator.get())
        return inputs * (stays / (1 - self.p) if self.p < 1 else stays)


def draw_by_part(network: nn.Module) -> None:
    """Replace dropout, of numbers and of residual branches, in a network."""
    for name, part in list(network.named_modules()):
        if type(part) is nn.Dropout:
            network.set_submodule(name, Dropout(part.p))
        elif type(part) is StochasticDepth and part.mode == "row":
            network.set_submodule(name, Dropout(part.p, of_rows=True))


@contextmanager
def chance_of(*facts: int) -> Iterator[None]:
    """Let this thread draw by these numbers until the end of the block."""
    seed = int(np.random.SeedSequence(facts).generate_state(1, np.uint64)[0] >> 1)
    token = _generator.set(torch.Generator().manual_seed(seed))
    try:
        yield
    finally:
        _generator.reset(token)
