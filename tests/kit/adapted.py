"""Classifiers that are adapted to domains, with random heads, and a teller that learns from vectors it is shown."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tasks.models.classifier import Classifier
from tasks.models.domains import AdaptedHeads


def adapted(model: Classifier, targets_of: Mapping[str, Sequence[str]], *, seed: int = 5) -> Classifier:
    """Adapt a classifier to domains, each with the targets that have a head of it, and return it."""
    torch.manual_seed(seed)
    num_outputs = {name: target.num_outputs for name, target in model.targets.items()}
    model.domains = AdaptedHeads(targets_of, num_outputs, dim=model.backbone.dim)
    with torch.no_grad():
        for parameter in model.domains.parameters():
            parameter.mul_(20)  # far from those of the general heads
    return model.eval()


def teach(model: Classifier, *, of_sources: Tensor, of_domain: Tensor, logit: float = 6.0) -> None:
    """Let the teller of a classifier with one domain tell vectors (n, dim) of the sources from those of the domain."""
    assert model.domains is not None
    ends = of_sources.double().mean(dim=0), of_domain.double().mean(dim=0)
    way = ends[1] - ends[0]
    weight = 2 * logit * way / way.square().sum()
    with torch.no_grad():
        model.domains.teller.weight.copy_(torch.stack([torch.zeros_like(weight), weight]))
        model.domains.teller.bias.copy_(torch.stack([torch.zeros(()), -weight @ (ends[0] + ends[1]) / 2]))
