"""How long a classifier takes for one sample."""

import statistics
import time

from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer

NUM_RUNS = 20
NUM_WARM = 3  # before them, which are slower


def latency(model: Classifier) -> float:
    """Return the milliseconds from the pixels or tokens of one sample to its probabilities, on this processor.

    They are the median of NUM_RUNS. The sample is the example of the transform: what it shows makes no difference.
    """
    answerer = Answerer(model, device="cpu", minibatch_size=1)
    prepared, words = answerer.example()
    seconds = []
    for _ in range(NUM_WARM + NUM_RUNS):
        start = time.perf_counter()
        answerer.answer(prepared, words)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[NUM_WARM:])
