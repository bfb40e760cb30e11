"""Statistics of a network's batch-normalisation layers for one domain, from samples without labels.

Adaptive batch normalisation (Li et al. 2016) puts the target's own means and variances into every layer. Those of a
pretrained network are not the sources' own, so this alone would move the target's vectors even where no domain shifted.
So a layer gets the statistics with which the target's activations have the mean and the deviation that the sources'
activations have there. The sources keep their statistics. The upper layers keep theirs, too: their channels depend on
the classes, so that other shares of the classes would look like a shift.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.data.samples.samples import Samples
from tasks.machine.cores import one_thread_each, spread
from tasks.models.normalisation import normalisation_layers, running_statistics, with_statistics

MOST_SAMPLES = 500  # of a domain, whose activations make its moments; each has many positions
MINIBATCH_SIZE = 64  # of a pass that looks at activations
LOWER_SHARE = 0.5  # of the layers, from the input on, that get statistics of the domain's own
PRIOR_SAMPLES = 16  # that the sources' moments count for (Schneider et al. 2020)


def statistics_of_domain(trunks: Sequence[Any], *, sources: Samples[Any], target: Samples[Any]) -> Tensor:
    """Return the statistics (num_trunks, 2, num_channels) of the target domain, for `AdaptedHeads.of`.

    They come from at most MOST_SAMPLES samples of either side, drawn evenly from their ids in order.
    """
    of_trunks = []
    with one_thread_each():
        for trunk in trunks:
            num = min(len(target), MOST_SAMPLES)
            usual = moments_of_layers(trunk, minibatches(sources, trunk.transform))
            of_trunks.append(own_statistics(trunk, minibatches(target, trunk.transform), num_samples=num, usual=usual))
    return torch.stack(of_trunks)


def minibatches(samples: Samples[Any], transform: Any) -> Iterator[Tensor]:
    """Yield normalised images (n, 3, size, size) of at most MOST_SAMPLES samples, in minibatches of about one size."""
    order = np.argsort(np.array(samples.ids), kind="stable")
    rows = order[np.linspace(0, len(order) - 1, min(len(order), MOST_SAMPLES)).round().astype(int)]
    pixels = spread(
        rows.tolist(), lambda row: transform.prepare(samples.decoded(row, shorter_side=transform.shorter_side))
    )
    for part in np.array_split(rows, -(-len(rows) // MINIBATCH_SIZE)):
        yield transform.normalize(transform.stack(list(islice(pixels, len(part)))))


@torch.no_grad()
def own_statistics(trunk: Any, minibatches: Iterable[Tensor], *, num_samples: int, usual: Sequence[Tensor]) -> Tensor:
    """Return the running means and variances (2, num_channels) of a domain, for `with_statistics`.

    The moments of its `num_samples` samples are drawn towards those of the sources, `usual`, as if PRIOR_SAMPLES
    samples had these. Within the pass each minibatch is normalised by moments of its own. The upper layers keep theirs.

    `minibatches` are the prepared samples, all of about the same size.
    """
    normalising = with_statistics(trunk, running_statistics(trunk))
    layers = normalisation_layers(normalising)
    share = num_samples / (num_samples + PRIOR_SAMPLES)
    running: list[tuple[Any, Any]] = [(layer.running_mean, layer.running_var) for layer in layers]
    num_lower = math.ceil(LOWER_SHARE * len(layers))

    def normalise(number: int, moments: Tensor) -> None:
        if number >= num_lower:
            return
        layers[number].running_mean, layers[number].running_var = moved(
            drawn(moments, usual[number], share), usual[number], running[number], eps=layers[number].eps
        )

    for number, moments in enumerate(moments_of_layers(normalising, minibatches, before=normalise)[:num_lower]):
        normalise(number, moments)
    return running_statistics(normalising)


@torch.no_grad()
def moments_of_layers(
    trunk: Any, minibatches: Iterable[Tensor], *, before: Callable[[int, Tensor], None] | None = None
) -> list[Tensor]:
    """Return the mean and variance (2, channels) of the input of each normalisation layer.

    `before` gets the number of a layer and the moments of a minibatch, before the layer normalises it.
    """
    layers = normalisation_layers(trunk)
    sums = [torch.zeros(2, layer.num_features, dtype=torch.float64) for layer in layers]
    nums = [0] * len(layers)  # of images that entered, several times if they are looked at in several ways

    def observe(number: int, layer: Any, inputs: tuple[Tensor]) -> None:
        values = inputs[0].transpose(0, 1).flatten(1).double()  # (channels, n * positions)
        variance, mean = torch.var_mean(values, dim=1, correction=0)
        sums[number] += len(inputs[0]) * torch.stack([mean, variance + mean**2])
        nums[number] += len(inputs[0])
        if before:
            before(number, torch.stack([mean, variance]))

    hooks = [layer.register_forward_pre_hook(partial(observe, number)) for number, layer in enumerate(layers)]
    for minibatch in minibatches:
        trunk(minibatch)
    for hook in hooks:
        hook.remove()
    moments = (own / num for own, num in zip(sums, nums, strict=True))
    return [torch.stack([mean, (square - mean**2).clamp(min=0)]) for mean, square in moments]


def drawn(moments: Tensor, prior: Tensor, share: float) -> Tensor:
    """Return the moments (2, channels) of a mixture: `share` of the samples have `moments`, the others `prior`."""
    mean = share * moments[0] + (1 - share) * prior[0]
    between = share * (1 - share) * (moments[0] - prior[0]) ** 2
    return torch.stack([mean, share * moments[1] + (1 - share) * prior[1] + between])


def moved(moments: Tensor, usual: Tensor, running: tuple[Tensor, Tensor], *, eps: float) -> tuple[Tensor, Tensor]:
    """Return the running mean and variance that map `moments` to the values to which `running` maps `usual`."""
    ratio = (moments[1] + eps) / (usual[1] + eps)
    mean = moments[0] - (usual[0] - running[0]) * ratio.sqrt()
    variance = ((running[1] + eps) * ratio - eps).clamp(min=0)
    return mean.float(), variance.float()
