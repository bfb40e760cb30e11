"""The epochs, the mixup and the learning rates of a training; the number of samples alone gives the defaults.

They follow BiT-HyperRule (Kolesnikov et al. 2020, "Big Transfer", section 3.3), which gives three sizes of data sets
500, 10,000 and 20,000 steps. Here these are the steps at the sizes of its data sets, 1,000 (VTAB-1k), 50,000 (CIFAR)
and 1,280,000 (ImageNet); sizes between them are interpolated.
"""

import math
from dataclasses import replace
from typing import TypeVar

import numpy as np

from tasks.training.loop.options import FitOptions

Options = TypeVar("Options", bound=FitOptions)

NUM_SAMPLES = (1_000, 50_000, 1_280_000)
NUM_STEPS = (500, 10_000, 20_000)
MOST_EPOCHS = 30  # by then a network has learned a small data set by heart
MIXUP_FROM = 20_000  # samples: fewer are fitted too slowly with it
MIXUP_ALPHA = 0.1


def for_samples(options: Options, num_samples: int, *, minibatch_size: int) -> Options:
    """Return the options; where they leave epochs or mixup open, the number of samples gives these."""
    epochs = num_epochs(num_samples, minibatch_size=minibatch_size) if options.epochs is None else options.epochs
    return replace(options, epochs=epochs, mixup=mixup_alpha(num_samples) if options.mixup is None else options.mixup)


def num_epochs(num_samples: int, *, minibatch_size: int) -> int:
    """Return the epochs that come nearest to the steps of the rule, 1..MOST_EPOCHS."""
    per_epoch = max(num_samples // minibatch_size, 1)
    return min(max(round(num_steps(num_samples) / per_epoch), 1), MOST_EPOCHS)


def num_steps(num_samples: int) -> float:
    """Return the steps of the rule; below 1,000 samples they lie on the line through the first two sizes."""
    logs = np.log(NUM_SAMPLES), np.log(NUM_STEPS)
    if num_samples < NUM_SAMPLES[0]:
        slope = (logs[1][1] - logs[1][0]) / (logs[0][1] - logs[0][0])
        return float(NUM_STEPS[0] * (max(num_samples, 1) / NUM_SAMPLES[0]) ** slope)
    return float(np.exp(np.interp(math.log(num_samples), *logs)))


def mixup_alpha(num_samples: int) -> float:
    """Return alpha of the Beta distribution; 0 for no mixup."""
    return MIXUP_ALPHA if num_samples >= MIXUP_FROM else 0.0


def learning_rate_factor(step: int, *, num_steps: int, warmup_fraction: float) -> float:
    """Return a factor that rises linearly to 1 over the warm-up, then falls to 0 as a half cosine.

    It begins above 0 (Loshchilov & Hutter 2017).
    """
    warmup = int(num_steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(num_steps - warmup, 1)))


def first_epoch(block: int, *, num_blocks: int, epochs: int) -> int:
    """Return the first epoch of a block when blocks are unfrozen one by one, from the output (block 0) to the input.

    They are spread evenly over the first half of the epochs, so that all train together in the second (Howard & Ruder
    2018, "ULMFiT").
    """
    return 1 + block * (epochs // 2) // num_blocks
