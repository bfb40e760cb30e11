"""A small linear adapter on embeddings, trained so that the domains look alike behind it: MMD and DANN.

The adapter adds a map of low rank to a standardised vector, so that it folds into a linear head.
"""

from typing import Literal

from tasks.machine.cores import one_thread_each
from tasks.training.alignment.domains import Domains
from tasks.training.alignment.objective import Layer
from tasks.training.alignment.source_only import Fit
from tasks.training.alignment.spaces import Space

RANK = 32
NUM_STEPS = 200
MINIBATCH = 128  # samples of each side
LEARNING_RATE = 1e-3
STRENGTHS = {"mmd": 1.0, "dann": 0.1}  # of the term that makes the domains alike, over cross-entropy


def train_adapter(space: Space, domains: Domains, start: Fit, *, kind: Literal["mmd", "dann"], seed: int) -> Layer:
    """Return a layer for the target's vectors in `space`, adapter included, that starts at the head of `start`.

    mmd draws the mean embeddings of both domains together under Gaussian kernels (deep adaptation networks, Long et al.
    2015). dann deceives a classifier of domains through a reversed gradient (Ganin et al. 2016).
    """
    import torch
    import torch.nn.functional as F

    from tasks.training.alignment.discrepancy import Adversary, MeanEmbeddings

    generator = torch.Generator().manual_seed(seed)
    dim = space.train.shape[1]
    inward = (torch.randn(dim, RANK, generator=generator) / dim**0.5).requires_grad_()
    outward = torch.zeros(RANK, dim, requires_grad=True)
    weight, bias = (torch.tensor(part, dtype=torch.float32, requires_grad=True) for part in start.layer)
    source, target = torch.from_numpy(space.train), torch.from_numpy(space.target)
    labels = torch.from_numpy(domains.labels)
    adversary = Adversary(dim, generator)
    unlike = adversary if kind == "dann" else MeanEmbeddings()
    learned = [inward, outward, weight, bias, *unlike.parameters()]
    optimizer = torch.optim.Adam(learned, lr=LEARNING_RATE)
    with one_thread_each():
        for step in range(NUM_STEPS):
            ours = torch.randint(len(source), (MINIBATCH,), generator=generator)
            theirs = torch.randint(len(target), (MINIBATCH,), generator=generator)
            adapted = [rows + rows @ inward @ outward for rows in (source[ours], target[theirs])]
            loss = F.cross_entropy(F.linear(adapted[0], weight, bias), labels[ours])
            loss = loss + start.l2 / 2 * (weight**2).sum()
            loss = loss + STRENGTHS[kind] * unlike(adapted[0], adapted[1], step / NUM_STEPS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        folded = weight + (weight @ outward.T) @ inward.T
    return folded.double().numpy(), bias.detach().double().numpy()
