"""Measure the time that a classifier takes for one sample."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer
from tasks.targets.head import NO_WORDS
from tasks.text.transform import MOST_WINDOWS

NUM_RUNS = 20
NUM_WARM = 3  # runs before them, which are slower
MEDIAN_TOKENS = 64  # of a text, where the lineage of a model has no median of its own


@dataclass(frozen=True, kw_only=True)
class Latency:
    milliseconds: float
    sample: str  # in words

    def __str__(self) -> str:
        return f"{self.milliseconds:.1f} ms for {self.sample}"


def latency(model: Classifier, lineage: Mapping[str, Any]) -> Latency:
    """Return the time from one prepared sample to its answers, on this processor: the median of NUM_RUNS.

    The sample is a grey image, or a text of the median length of those that the model learned from. Its content makes
    no difference.
    """
    answerer = Answerer(model, device="cpu", minibatch_size=1)
    prepared = example(answerer.transform, lineage)
    words = "one sample"
    if answerer.transform.modality == "text":
        words += f", a text of {sum(map(len, prepared))} tokens, the median"
    return Latency(milliseconds=milliseconds(lambda: answerer.answer([prepared], [NO_WORDS])), sample=words)


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes: the median of NUM_RUNS."""
    seconds = []
    for _ in range(NUM_WARM + NUM_RUNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[NUM_WARM:])


def example(transform: Any, lineage: Mapping[str, Any]) -> Any:
    """Return a sample as the transform prepares it: a grey image, or a text of the lineage's `median_tokens`."""
    if transform.modality == "images":
        return torch.full((3, transform.crop_size, transform.crop_size), 128, dtype=torch.uint8)
    longest, known = transform.max_tokens, lineage.get("median_tokens")
    most = longest * (MOST_WINDOWS if transform.long == "windows" else 1)
    num_tokens = min(known if isinstance(known, int) and known > 0 else MEDIAN_TOKENS, most)
    token = transform.filler
    return [[token] * min(longest, num_tokens - start) for start in range(0, num_tokens, longest)]
