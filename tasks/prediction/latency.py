"""How long a classifier takes for one sample."""

import statistics
import time

import torch

from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer

NUM_RUNS = 20
NUM_WARM = 3  # before them, which are slower


def latency(model: Classifier) -> float:
    """Return the milliseconds from the pixels of one sample to its probabilities, on this processor.

    They are the median of NUM_RUNS. The sample is grey: what it shows makes no difference.
    """
    answerer = Answerer(model, device="cpu", minibatch_size=1)
    size = answerer.transform.crop_size
    grey = torch.full((1, 3, size, size), 128, dtype=torch.uint8)
    seconds = []
    for _ in range(NUM_WARM + NUM_RUNS):
        start = time.perf_counter()
        answerer.answer(grey)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[NUM_WARM:])
