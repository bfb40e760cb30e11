"""The domains that a classifier is adapted to: linear heads of each, and the layer that tells the domains apart."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import nn

from tasks.targets.head import Layer

# what a person says in place of a domain's name: the one that the samples tell, and the general heads
AUTO = "auto"
NONE = "none"


class AdaptedHeads(nn.Module):
    """Linear heads by domain and target, and the teller of domains.

    A head takes the vectors (n, dim) of its target's trunk. The teller takes those of the first trunk, and gives logits
    (n, 1 + num_domains): that a sample is of the sources, then of each domain in the order of `targets_of`, which has
    the targets with a head, by domain.
    """

    def __init__(self, targets_of: Mapping[str, Sequence[str]], num_outputs: Mapping[str, int], *, dim: int) -> None:
        super().__init__()
        self.targets_of = {domain: tuple(targets) for domain, targets in targets_of.items()}
        self.heads: Any = nn.ModuleList(
            nn.ModuleList(nn.Linear(dim, num_outputs[target]) for target in targets)
            for targets in self.targets_of.values()
        )
        self.teller = nn.Linear(dim, 1 + len(self.targets_of))

    @classmethod
    def of(cls, layers: Mapping[str, Mapping[str, Layer]], teller: Layer) -> Self:
        """Return the heads of these layers, by domain and target, both in alphabetical order.

        Raises:
            ValueError: a domain has a name that means something else.
        """
        sizes = {target: len(bias) for own in layers.values() for target, (_, bias) in own.items()}
        assert list(layers) == sorted(layers), "JSON is sorted, and heads are numbered in its order"
        check_name_of_domain(*layers)
        made = cls({domain: list(own) for domain, own in layers.items()}, sizes, dim=teller[0].shape[1])
        wanted = [layer for own in layers.values() for layer in own.values()]
        linear = [head for own in made.heads for head in own]
        with torch.no_grad():
            for part, (weight, bias) in zip([*linear, made.teller], [*wanted, teller], strict=True):
                part.weight.copy_(torch.from_numpy(weight))
                part.bias.copy_(torch.from_numpy(bias))
        return made

    def of_domain(self, domain: str) -> dict[str, nn.Linear]:
        """Return the heads of a domain, by target. Raises KeyError for an unknown domain."""
        heads = dict(zip(self.targets_of, self.heads, strict=True))[domain]
        return dict(zip(self.targets_of[domain], heads, strict=True))


def check_name_of_domain(*names: str) -> None:
    """Raise ValueError where a domain has a name that means something else."""
    for name in names:
        if name in (AUTO, NONE):
            raise ValueError(f"a domain is called {name!r}, which means something else: rename it")
