"""Measure what a backbone costs on this machine: samples a second, milliseconds an answer, numbers and bytes."""

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.embedding.embedder import Embeds
from tasks.embedding.engine import PassingView, embed
from tasks.machine.cores import num_cores
from tasks.models.backbone import Backbone
from tasks.models.bundle import save_bundle
from tasks.models.classifier import Classifier
from tasks.models.encoder import Encoder
from tasks.prediction.latency import latency
from tasks.targets.target import Target

MINIBATCHES_EACH = 2  # for every core
MOST_TIMED = 512  # samples


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a model with this backbone.

    samples_per_second: from the files to the vectors, as the stage `embed` computes them.
    latency_ms: from one prepared sample to its answers, on the processor.
    """

    samples_per_second: float
    num_parameters: int
    dim: int
    bundle_bytes: int
    latency_ms: float


def measure(
    backbone: Backbone | Encoder,
    embedder: Embeds,
    targets: Mapping[str, Target],
    *,
    read: Callable[[int], bytes],
    decode: Callable[..., Any],
    names: list[str],
) -> Cost:
    """Return the cost of a backbone with a linear head for each target, timed on some of the samples."""
    model = Classifier(backbone, {name: targets[name] for name in sorted(targets)})
    with tempfile.TemporaryDirectory() as folder:
        save_bundle(Path(folder), model, lineage={})
        bundle_bytes = sum(file.stat().st_size for file in Path(folder).iterdir())
    count = min(len(names), MOST_TIMED, MINIBATCHES_EACH * num_cores() * embedder.plan.minibatch_size)
    view = PassingView(
        embedder=embedder, decode=decode, alter=lambda sample: sample,
        vectors=np.empty((count, embedder.dim), np.float16),
    )  # fmt: skip
    start = time.perf_counter()
    embed(read, [view], names=names[:count])
    seconds = time.perf_counter() - start
    return Cost(
        samples_per_second=count / seconds,
        num_parameters=sum(tensor.numel() for tensor in backbone.parameters()),
        dim=backbone.dim,
        bundle_bytes=bundle_bytes,
        latency_ms=latency(model, {}).milliseconds,
    )
