"""The difference between the features of two domains, as a term of the loss: CORAL, MMD, and an adversary (DANN).

Each takes the features of both minibatches, (n, dim) and (m, dim), and the share of the training that is done, 0..1.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["coral", "mmd", "dann"]

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, over the median squared distance
HIDDEN = 64  # of the classifier of domains


def discrepancy_of(kind: Kind, dim: int, generator: torch.Generator) -> nn.Module:
    """Return the term of this name for features of `dim` numbers; `generator` draws the first weights of dann."""
    if kind == "dann":
        return Adversary(dim, generator)
    return Correlations() if kind == "coral" else MeanEmbeddings()


class Correlations(nn.Module):
    """CORAL: the squared distance of the covariances ("Deep CORAL", Sun and Saenko 2016), which needs n, m >= 2.

    It is divided by the norms of both covariances, where the paper divides by 4 dim^2. So it is the same whatever the
    scale and the number of the features, and cannot be lowered by making them small.
    """

    def forward(self, ours: Tensor, theirs: Tensor, progress: float) -> Tensor:
        one, other = ((part - part.mean(dim=0)) / math.sqrt(len(part) - 1) for part in (ours, theirs))
        # sums over products of samples, which are fewer than those of features
        own, their, both = ((a @ b.T).square().sum() for a, b in ((one, one), (other, other), (one, other)))
        return (own + their - 2 * both) / (own * their).clamp(min=1e-24).sqrt()


class MeanEmbeddings(nn.Module):
    """MMD: the squared distance of the mean embeddings under Gaussian kernels (Long et al. 2015)."""

    def forward(self, ours: Tensor, theirs: Tensor, progress: float) -> Tensor:
        both = torch.cat([ours, theirs])
        norms = (both**2).sum(dim=1)
        squares = (norms[:, None] + norms - 2 * both @ both.T).clamp(min=0)
        width = squares.detach().median().clamp(min=1e-6)
        kernel = torch.stack([torch.exp(squares / (-width * factor)) for factor in WIDTHS]).mean(dim=0)
        n = len(ours)
        return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


class Adversary(nn.Module):
    """DANN: a classifier that learns to separate the domains, and whose gradient is reversed for the features.

    The reversed gradient grows with `progress`, so that the classifier learns first (Ganin et al. 2016). Each domain
    counts by its number of samples.
    """

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inward = nn.Parameter(torch.randn(HIDDEN, dim, generator=generator) / dim**0.5)
        self.inward_bias = nn.Parameter(torch.zeros(HIDDEN))
        self.outward = nn.Parameter(torch.randn(1, HIDDEN, generator=generator) / HIDDEN**0.5)
        self.outward_bias = nn.Parameter(torch.zeros(1))

    def forward(self, ours: Tensor, theirs: Tensor, progress: float) -> Tensor:
        ramp = 2 / (1 + math.exp(-10 * progress)) - 1
        both = torch.cat([ours, theirs])
        turned = both.detach() * (1 + ramp) - both * ramp  # the same values, the gradient reversed
        hidden = F.relu(F.linear(turned, self.inward, self.inward_bias))
        is_target = torch.cat([both.new_zeros(len(ours)), both.new_ones(len(theirs))])
        return F.binary_cross_entropy_with_logits(F.linear(hidden, self.outward, self.outward_bias)[:, 0], is_target)
