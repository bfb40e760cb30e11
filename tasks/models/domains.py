"""The domains that a classifier is adapted to: linear heads of each, and the layer that recognises the domain.

A domain may have statistics of its own, by which the trunks' batch-normalisation layers normalise its samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from tasks.models.normalisation import with_statistics
from tasks.targets.head import Layer

# words in place of a domain's name: the domain that the samples show, and the general heads
AUTO = "auto"
NONE = "none"


class AdaptedHeads(nn.Module):
    """The linear heads by domain and target, and the teller: the layer that recognises a sample's domain.

    A head takes the vectors (n, dim) of its target's trunk. The teller takes those of the first trunk, and gives logits
    (n, 1 + num_domains): first of the sources, then of each domain in the order of `targets_of`, which has the targets
    with a head, by domain.

    `statistics` (num_domains, num_trunks, 2, num_channels) are those of the domains in `statistics_of`, for each trunk
    as `normalisation.running_statistics` returns them; `shape` is (num_trunks, 2, num_channels). The heads of such a
    domain take the vectors of trunks that normalise by them.
    """

    statistics: Tensor | None

    def __init__(
        self, targets_of: Mapping[str, Sequence[str]], num_outputs: Mapping[str, int], *, dim: int,
        statistics_of: Sequence[str] = (), shape: Sequence[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.targets_of = {domain: tuple(targets) for domain, targets in targets_of.items()}
        self.heads: Any = nn.ModuleList(
            nn.ModuleList(nn.Linear(dim, num_outputs[target]) for target in targets)
            for targets in self.targets_of.values()
        )
        self.teller = nn.Linear(dim, 1 + len(self.targets_of))
        self.statistics_of = tuple(statistics_of)
        self.register_buffer("statistics", torch.zeros(len(statistics_of), *shape) if statistics_of else None)

    @classmethod
    def of(
        cls, layers: Mapping[str, Mapping[str, Layer]], teller: Layer, statistics: Mapping[str, Tensor] | None = None
    ) -> Self:
        """Return the heads of these layers, by domain and target, both in alphabetical order.

        `statistics` (num_trunks, 2, num_channels) are those of the domains that have some of their own.

        Raises:
            ValueError: a domain has a reserved name.
        """
        own = dict(sorted((statistics or {}).items()))
        sizes = {target: len(bias) for heads in layers.values() for target, (_, bias) in heads.items()}
        assert list(layers) == sorted(layers), "JSON is sorted, and heads are numbered in its order"
        assert own.keys() <= layers.keys(), "statistics belong to heads that were fitted on their vectors"
        check_name_of_domain(*layers)
        made = cls(
            {domain: list(heads) for domain, heads in layers.items()}, sizes, dim=teller[0].shape[1],
            statistics_of=list(own), shape=next(iter(own.values())).shape if own else (),
        )  # fmt: skip
        wanted = [layer for heads in layers.values() for layer in heads.values()]
        linear = [head for heads in made.heads for head in heads]
        with torch.no_grad():
            for part, (weight, bias) in zip([*linear, made.teller], [*wanted, teller], strict=True):
                part.weight.copy_(torch.from_numpy(weight))
                part.bias.copy_(torch.from_numpy(bias))
            if made.statistics is not None:
                made.statistics.copy_(torch.stack(list(own.values())))
        return made

    def of_domain(self, domain: str) -> dict[str, nn.Linear]:
        """Return the heads of a domain, by target. Raises KeyError for an unknown domain."""
        heads = dict(zip(self.targets_of, self.heads, strict=True))[domain]
        return dict(zip(self.targets_of[domain], heads, strict=True))

    def trunks_of(self, domain: str, trunks: Sequence[Any]) -> list[Any]:
        """Return the trunks for samples of a domain, in their order. They share the weights of these trunks."""
        if self.statistics is None or domain not in self.statistics_of:
            return list(trunks)
        own = self.statistics[self.statistics_of.index(domain)]
        return [with_statistics(trunk, part) for trunk, part in zip(trunks, own, strict=True)]

    def check(self) -> None:
        """Raise ValueError where the statistics of a domain have a negative variance."""
        if self.statistics is not None and bool((self.statistics[:, :, 1] < 0).any()):
            raise ValueError("the statistics of a domain have a negative variance")


def check_name_of_domain(*names: str) -> None:
    """Raise ValueError where a domain has a reserved name."""
    for name in names:
        if name in (AUTO, NONE):
            raise ValueError(f"a domain is called {name!r}, which means something else: rename it")
