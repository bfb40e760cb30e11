"""A classifier in; how long one picture takes it out."""

import statistics
import time

import torch

from tasks.models.classifier import Classifier

NUM_RUNS = 20
NUM_WARM = 3  # before them, which are slower


def latency(model: Classifier) -> float:
    """Milliseconds from the pixels of one picture to its probabilities, on the processor as it is: the median of NUM_RUNS. What the
    picture shows makes no difference."""
    size = model.backbone.transform.crop_size
    grey = torch.full((1, 3, size, size), 128, dtype=torch.uint8)
    seconds = []
    for _ in range(NUM_WARM + NUM_RUNS):
        start = time.perf_counter()
        model.probabilities([grey])
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[NUM_WARM:])
