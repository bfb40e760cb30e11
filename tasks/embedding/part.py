"""Embed a part of a batch in a process of a cluster, and put the looks into the store that all processes share."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.data.samples.samples import Positions, Samples
from tasks.data.store.segment_writer import SegmentWriter
from tasks.embedding.embedder import Embeds
from tasks.embedding.engine import Add, StoredView, embed, open_store
from tasks.embedding.looks import Hash, LookStore
from tasks.embedding.options import PlanOptions
from tasks.embedding.ready import make_ready
from tasks.models.bundle import load_bundle

MINIBATCHES_AT_ONCE = 8, 32  # of a part, at least and at most: seconds of work, which the death of a process costs
PARTS = 4  # of each process at least: one that is slow, or begins late, takes fewer
COLUMNS = ["batch", "path", "sample_id"]  # of the manifest, which a part consists of


@dataclass(frozen=True, kw_only=True)
class EmbedPart:
    """Embeds samples, each a row of COLUMNS, and returns how many; to be called in another process.

    The looks are stored when it returns, so that a call may be repeated.

    Args:
        raw: the folder that holds the batches.
        backbone: the folder of its bundle.
        recipe: of the process that shares out the work, as JSON.
        decode, read, hash_of, hashes_shape: of the modality's room.
    """

    raw: Path
    backbone: Path
    store: Path
    options: PlanOptions
    recipe: str
    decode: Callable[..., Any]
    read: Callable[[Path], bytes]
    hash_of: Hash
    hashes_shape: tuple[int, int]

    def __call__(self, rows: Sequence[dict[str, str]]) -> int:
        """Return the number of samples. Raises ValueError where looks here would differ, and the errors of `embed`."""
        embedder, store, writer = _ready(self)
        # on a processor one minibatch at a time, so that a part takes one core
        size = len(rows) if embedder.plan.device == "cuda" else embedder.plan.minibatch_size
        for start in range(0, len(rows), size):
            samples = Samples(
                pd.DataFrame(rows[start : start + size], columns=COLUMNS), raw=self.raw, decode=self.decode,
                read=self.read,
            )  # fmt: skip
            view = _PartView(embedder=embedder, store=store, keys=samples.ids, writer=writer)
            embed(samples.content, [view], names=samples.paths)
        writer.flush()
        return len(rows)


@dataclass(frozen=True, kw_only=True)
class _PartView(StoredView):
    """A view of samples that are known to be missing, whose looks go to a segment that stays open."""

    writer: SegmentWriter

    def missing(self) -> Positions:
        return np.arange(len(self.keys))

    @contextmanager
    def adding(self) -> Iterator[Add]:
        yield lambda positions, looks: self.writer.add([self.keys[at] for at in positions], looks.pack())


@cache
def _ready(part: EmbedPart) -> tuple[Embeds, LookStore, SegmentWriter]:
    """Return the backbone and an open segment; a process makes them once."""
    model, _ = load_bundle(part.backbone)
    embedder = make_ready(model.backbone, part.options)
    store = open_store(
        part.store, embedder, backbone=model.backbone.fingerprint(), decode=part.decode, hash_of=part.hash_of,
        hashes_shape=part.hashes_shape,
    )  # fmt: skip
    check_recipe(store.recipe, json.loads(part.recipe))
    return embedder, store, store.segment()


def size_of_part(num_samples: int, *, num_processes: int, minibatch_size: int) -> int:
    """Return how many samples a part has. A process waits for its next part, so large parts make it wait less often."""
    least, most = MINIBATCHES_AT_ONCE
    return minibatch_size * min(max(num_samples // (PARTS * num_processes * minibatch_size), least), most)


def check_recipe(own: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise ValueError where a process would compute other bits than the one that shares out the work."""
    for name in sorted({*own, *expected}):
        if own.get(name) != expected.get(name):
            raise ValueError(
                f"its {name} is {own.get(name)}, expected {expected.get(name)} as where the run was started, so its "
                "vectors would differ: give all nodes the same processor, GPU, packages, code and backbone, or take "
                "this node out of the cluster"
            )
