"""A small linear adapter on embeddings, trained so that the domains look alike behind it: MMD and DANN.

The adapter adds a map of low rank to a standardised vector, so that it folds into a linear head.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from tasks.machine.cores import one_thread_each
from tasks.training.alignment.domains import Domains
from tasks.training.alignment.objective import Layer
from tasks.training.alignment.source_only import Fit
from tasks.training.alignment.spaces import Space

if TYPE_CHECKING:
    from torch import Tensor

RANK = 32
NUM_STEPS = 200
MINIBATCH = 128  # samples of each side
LEARNING_RATE = 1e-3
STRENGTHS = {"mmd": 1.0, "dann": 0.1}  # of the term that makes the domains alike, over cross-entropy
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, over the median squared distance
HIDDEN = 64  # of the classifier of domains


def train_adapter(space: Space, domains: Domains, start: Fit, *, kind: Literal["mmd", "dann"], seed: int) -> Layer:
    """Return a layer for the target's vectors in `space`, adapter included, that starts at the head of `start`.

    mmd draws the mean embeddings of both domains together under Gaussian kernels (deep adaptation networks, Long et al.
    2015). dann deceives a classifier of domains through a reversed gradient (Ganin et al. 2016).
    """
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(seed)
    dim = space.train.shape[1]
    inward = (torch.randn(dim, RANK, generator=generator) / dim**0.5).requires_grad_()
    outward = torch.zeros(RANK, dim, requires_grad=True)
    weight, bias = (torch.tensor(part, dtype=torch.float32, requires_grad=True) for part in start.layer)
    source, target = torch.from_numpy(space.train), torch.from_numpy(space.target)
    labels = torch.from_numpy(domains.labels)
    parts = [
        (torch.randn(HIDDEN, dim, generator=generator) / dim**0.5).requires_grad_(),
        torch.zeros(HIDDEN, requires_grad=True),
        (torch.randn(1, HIDDEN, generator=generator) / HIDDEN**0.5).requires_grad_(),
        torch.zeros(1, requires_grad=True),
    ]
    learned = [inward, outward, weight, bias, *(parts if kind == "dann" else [])]
    optimizer = torch.optim.Adam(learned, lr=LEARNING_RATE)
    unlike: Callable[[Tensor, Tensor, float], Tensor] = mean_discrepancy
    if kind == "dann":

        def unlike(ours: "Tensor", theirs: "Tensor", progress: float) -> "Tensor":
            ramp = 2 / (1 + np.exp(-10 * progress)) - 1  # as Ganin et al. turn the adversary on
            both = torch.cat([ours, theirs])
            turned = both.detach() * (1 + ramp) - both * ramp  # the same values, the gradient reversed
            hidden = F.relu(F.linear(turned, parts[0], parts[1]))
            is_target = torch.cat([torch.zeros(len(ours)), torch.ones(len(theirs))])
            return F.binary_cross_entropy_with_logits(F.linear(hidden, parts[2], parts[3])[:, 0], is_target)

    with one_thread_each():
        for step in range(NUM_STEPS):
            ours = torch.randint(len(source), (MINIBATCH,), generator=generator)
            theirs = torch.randint(len(target), (MINIBATCH,), generator=generator)
            adapted = [rows + rows @ inward @ outward for rows in (source[ours], target[theirs])]
            loss = F.cross_entropy(F.linear(adapted[0], weight, bias), labels[ours])
            loss = loss + start.l2 / 2 * (weight**2).sum()
            loss = loss + STRENGTHS[kind] * unlike(adapted[0], adapted[1], step / NUM_STEPS)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        folded = weight + (weight @ outward.T) @ inward.T
    return folded.double().numpy(), bias.detach().double().numpy()


def mean_discrepancy(ours: "Tensor", theirs: "Tensor", progress: float) -> "Tensor":
    """Return the squared maximum mean discrepancy of samples (n, dim) and (m, dim), over several Gaussian kernels."""
    import torch

    both = torch.cat([ours, theirs])
    norms = (both**2).sum(dim=1)
    squares = (norms[:, None] + norms - 2 * both @ both.T).clamp(min=0)
    width = squares.detach().median().clamp(min=1e-6)
    kernel = torch.stack([torch.exp(squares / (-width * factor)) for factor in WIDTHS]).mean(dim=0)
    n = len(ours)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
