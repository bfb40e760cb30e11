"""A classifier: a backbone, or several, with a head grafted on for each target. Samples in, logits out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tasks.models.backbone import Backbone
from tasks.models.domains import AdaptedHeads
from tasks.models.encoder import Encoder
from tasks.models.unlike import Unlike
from tasks.models.words import Words
from tasks.targets.kinds import targets_of
from tasks.targets.target import Facts, Target


class Classifier(nn.Module):
    """Maps n prepared samples to logits (n, num_outputs), one tensor per target, in order.

    A backbone of images takes them normalised, (n, 3, size, size); a text encoder takes packed token ids and lengths.

    `targets` are its targets by name, or their facts, in the order of the heads. A head is one linear layer, or two
    with `hidden_features` and a ReLU between them. `temperatures` divide the logits of a target before they become
    answers; a target that is not named has 1.0. `words` are those of a classifier of texts that reads them too: the
    caller joins their logits, because the backbone does not know the text.

    The backbone is trunk 0. Targets may have other trunks, of the same architecture and transform: `trunks` are those
    from number 1 on, and `trunk_of` has the number of each target's own.

    `domains` are heads for samples of domains that it was adapted to. They have no part in the forward pass:
    `of_domain` returns the classifier that answers to samples of a domain.

    `unlike` finds samples that are unlike those that it was trained on. It has no part in the forward pass, either.
    """

    def __init__(
        self,
        backbone: Backbone | Encoder,
        targets: Mapping[str, Target | Facts],
        *,
        hidden_features: int | None = None,
        temperatures: Mapping[str, float] | None = None,
        words: Words | None = None,
        trunks: Sequence[Backbone | Encoder] = (),
        trunk_of: Mapping[str, int] | None = None,
        domains: AdaptedHeads | None = None,
        unlike: Unlike | None = None,
    ) -> None:
        super().__init__()
        self.backbone: Any = backbone  # its transform and its forward pass are the modality's
        self.targets = targets_of(targets)
        self.plant(trunks, trunk_of or {})
        self.hidden_features = hidden_features
        self.temperatures = dict.fromkeys(targets, 1.0) | dict(temperatures or {})
        self.heads = nn.ModuleList(
            build_head(backbone.dim, own.num_outputs, hidden_features) for own in self.targets.values()
        )
        self.words = words
        self.domains = domains
        self.unlike = unlike

    def plant(self, trunks: Sequence[Backbone | Encoder], trunk_of: Mapping[str, int]) -> None:
        """Set the trunks from number 1 on, and the trunk of each target: 0, the backbone, for one that is not named."""
        self.trunks = nn.ModuleDict({str(number): trunk for number, trunk in enumerate(trunks, start=1)})
        self.trunk_of = dict.fromkeys(self.targets, 0) | dict(trunk_of)

    def all_trunks(self) -> list[Any]:
        """Return the trunks in the order of their numbers, the backbone first."""
        return [self.backbone, *self.trunks.values()]

    def forward(self, *samples: Any) -> list[Tensor]:
        """Return the logits of the trunks' vectors, without those of words."""
        features = [trunk(*samples) for trunk in self.all_trunks()]  # (n, dim) each
        return [head(features[self.trunk_of[name]]) for name, head in zip(self.targets, self.heads, strict=True)]

    @torch.no_grad()
    def fold_temperatures(self) -> None:
        """Divide the last layer of each head by its temperature, which becomes 1. No answer changes."""
        for name, head in zip(self.targets, self.heads, strict=True):
            last = [part for part in head.modules() if isinstance(part, nn.Linear)][-1]
            for parameter in last.parameters():
                parameter.div_(self.temperatures[name])
            self.temperatures[name] = 1.0

    def part(self, names: Sequence[str]) -> "Classifier":
        """Return a classifier of some of the targets, without words, that shares the weights of backbone and heads."""
        read = self.words.factors if self.words else {}
        part = Classifier(
            self.backbone,
            {name: self.targets[name] for name in names},
            hidden_features=self.hidden_features,
            # one that was fitted with words is not that of the head alone
            temperatures={name: 1.0 if name in read else self.temperatures[name] for name in names},
        )
        heads = dict(zip(self.targets, self.heads, strict=True))
        part.heads = nn.ModuleList(heads[name] for name in names)
        return part.train(self.training)

    def of_domain(self, domain: str) -> "Classifier":
        """Return the classifier for samples of a domain, which shares the weights of this one.

        A target that has a head of the domain answers by it, without words and at temperature 1. The others answer as
        before: where the domain has statistics of its own, by which all trunks normalise, the others keep their trunks.

        Raises:
            KeyError: the classifier is not adapted to the domain.
        """
        adapted = self.domains.of_domain(domain) if self.domains else {}
        if not adapted:
            raise KeyError(domain)
        assert self.domains
        all_trunks, trunk_of = self.all_trunks(), dict(self.trunk_of)
        trunks = self.domains.trunks_of(domain, all_trunks)
        if domain in self.domains.statistics_of:
            for number in sorted({self.trunk_of[name] for name in self.targets if name not in adapted}):
                trunk_of |= {
                    name: len(trunks) for name, own in self.trunk_of.items() if own == number and name not in adapted
                }
                trunks.append(all_trunks[number])
        backbone, *trunks = trunks
        words = self.words.without(adapted) if self.words else None
        with torch.device("meta"):  # the heads that it is built with are replaced
            own = Classifier(
                backbone, self.targets, hidden_features=self.hidden_features,
                temperatures=self.temperatures | dict.fromkeys(adapted, 1.0), words=words,
                trunks=trunks, trunk_of=trunk_of,
            )  # fmt: skip
        heads = dict(zip(self.targets, self.heads, strict=True)) | adapted
        own.heads = nn.ModuleList(heads.values())
        return own.train(self.training)

    def graft(self, heads: Mapping[str, Sequence[tuple[Tensor, Tensor]]]) -> None:
        """Set the linear layers of each target's head.

        A layer is a pair of weight (num_outputs, num_inputs) and bias (num_outputs,).
        """
        with torch.no_grad():
            for head, target in zip(self.heads, self.targets, strict=True):
                linear = [part for part in head.modules() if isinstance(part, nn.Linear)]
                for layer, (weight, bias) in zip(linear, heads[target], strict=True):
                    layer.weight.copy_(weight)
                    layer.bias.copy_(bias)


def build_head(dim: int, num_outputs: int, hidden_features: int | None) -> nn.Module:
    if hidden_features is None:
        return nn.Linear(dim, num_outputs)
    return nn.Sequential(nn.Linear(dim, hidden_features), nn.ReLU(), nn.Linear(hidden_features, num_outputs))
