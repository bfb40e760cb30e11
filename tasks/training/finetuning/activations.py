"""Samples in; their activations at the freeze boundary, which the trained part of a model takes, out.

The frozen layers give the same activations of an image in every epoch and in every later run. A store of their own
keeps those of a few augmented views of each sample, within a budget of bytes. Activations that it does not keep are
computed anew each time, to the same bits.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.samples.samples import Positions, Samples
from tasks.data.store.segments import KEY, list_segments, remove_segment, segment_bytes
from tasks.data.store.store import MOST_VALUE_BYTES, Reader, Store, list_recipes
from tasks.embedding.boundary import Boundary
from tasks.embedding.embedder import DTYPES, Embedder
from tasks.embedding.recipe import recipe
from tasks.images.transform import Transform
from tasks.machine.cores import num_cores, one_thread_each, spread
from tasks.training.finetuning.options import ActivationOptions

SamplesInView = tuple[Positions, int | None]  # samples, and the view of all of them


class Views(Protocol):
    """Makes a numbered view of images: pixels (n, 3, size, size) uint8 of samples -> the same shape.

    `facts` are all that the views depend on besides the samples and the number.
    """

    @property
    def facts(self) -> dict[str, Any]: ...

    def __call__(self, pixels: Tensor, sample_ids: Sequence[str], view: int) -> Tensor: ...


class Activations:
    """The activations of samples, (n, width), at the boundary of `embedder`.

    Args:
        views: makes the augmented views; the view None is the unchanged sample.
        options: `num_views` are made of each sample of `train`; samples of `val` stay unchanged. If not all fit into
            `cache_gigabytes`, the first are kept. The store counts those of other boundaries and backbones too. 0 keeps
            nothing, and values larger than a store takes are not kept.
        path: the folder of the store, which is made if there is none.
        backbone: the fingerprint of its weights and transform.
    """

    def __init__(
        self,
        samples: Samples[Any],
        *,
        embedder: Embedder,
        boundary: Boundary,
        backbone: str,
        views: Views,
        options: ActivationOptions,
        train: Positions,
        val: Positions,
        path: Path,
    ) -> None:
        self.samples = samples
        self.embedder = embedder
        self.views = views
        self.most_bytes = round(options.cache_gigabytes * 1e9)
        self.value_bytes = embedder.dim * DTYPES[embedder.plan.precision].itemsize
        self.record_bytes = self.value_bytes + KEY.itemsize  # on disk
        room = self.most_bytes // self.record_bytes if self.value_bytes <= MOST_VALUE_BYTES else 0
        self.num_views = options.num_views
        self.num_wanted = len(val) + len(train) * self.num_views
        self.num_kept = min(room, self.num_wanted)
        wanted: list[SamplesInView] = [(val, None), *((train, view) for view in range(self.num_views))]
        starts = np.cumsum([0, *(len(rows) for rows, _ in wanted)])
        self.wanted = [
            (rows[: max(self.num_kept - start, 0)], view) for (rows, view), start in zip(wanted, starts, strict=False)
        ]
        handed_in = (samples.decode, type(views))
        self.store = (
            open_activations(path, embedder, boundary=boundary, backbone=backbone, handed_in=handed_in)
            if self.num_kept
            else None
        )

    def keys(self, rows: Positions, view: int | None) -> list[str]:
        """Return the keys of the samples in the store: SHA-256, hex."""
        ids = [self.samples.ids[row] for row in rows]
        if view is None:
            return ids
        facts = json.dumps([self.views.facts, view], sort_keys=True)
        return [hashlib.sha256(f"{sample_id} {facts}".encode()).hexdigest() for sample_id in ids]

    def compute(self, rows: Positions, view: int | None) -> Tensor:
        """Return (k, width). Call it where each thread computes on one core, see `one_thread_each`."""
        size, parts = self.embedder.plan.minibatch_size, []
        for some in np.split(rows, range(size, len(rows), size)):
            transform = self.embedder.transform
            pixels = transform.stack(
                [transform.prepare(self.samples.decoded(int(row), shorter_side=transform.shorter_side)) for row in some]
            )
            if view is not None:
                pixels = self.views(pixels, [self.samples.ids[row] for row in some], view)
            parts.append(self.embedder(pixels).to("cpu", DTYPES[self.embedder.plan.precision]))
        return torch.cat(parts)

    def keep(self, *, show: Callable[..., Iterator[Any]] = lambda items, total: items) -> int:
        """Compute the views that the store lacks, and return how many.

        `show` passes minibatches on, and shows how many of `total` have passed.
        """
        if self.store is None:
            return 0
        for part in self.wanted:  # so that segments of other runs are removed first
            with self.store.reader(self.keys(*part)) as reader:
                reader.mark_used()
        make_room(self.store, needed_bytes=lambda: self.num_missing() * self.record_bytes, most_bytes=self.most_bytes)
        size = self.embedder.plan.minibatch_size
        parts: list[SamplesInView] = []
        for rows, view in self.wanted:
            missing = rows[self.store.missing(self.keys(rows, view))]
            parts += [(missing[start : start + size], view) for start in range(0, len(missing), size)]

        def work(part: SamplesInView) -> tuple[list[str], NDArray[np.uint8]]:
            torch.get_num_threads()  # the first call in a thread makes it compute on one core
            return self.keys(*part), to_bytes(self.compute(*part))

        with self.store.writer() as writer, one_thread_each():
            for keys, values in show(spread(parts, work, ahead=2 * num_cores()), total=len(parts)):
                writer.add(keys, values)
        return sum(len(rows) for rows, _ in parts)

    def num_missing(self) -> int:
        """Return how many views are to be kept and not in the store."""
        assert self.store is not None
        return sum(len(self.store.missing(self.keys(*part))) for part in self.wanted)

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Tensor]:
        """Yield tensors (size, width) float32, the last one shorter, in the order of `rows`."""
        with self._reader(rows, view) as reader:

            def load(start: int) -> Tensor:
                part = np.arange(start, min(start + size, len(rows)))
                is_kept = ~np.isin(part, reader.missing) if reader else np.zeros(len(part), bool)
                loaded = torch.empty(len(part), self.embedder.dim)
                if reader and is_kept.any():
                    loaded[torch.from_numpy(is_kept)] = self.from_bytes(reader.values(part[is_kept])).float()
                if not is_kept.all():
                    torch.set_num_threads(1)  # in this thread and later ones; the thread that trains keeps its number
                    loaded[torch.from_numpy(~is_kept)] = self.compute(rows[part[~is_kept]], view).float()
                return loaded

            yield from spread(range(0, len(rows), size), load, ahead=num_cores())

    @contextmanager
    def _reader(self, rows: Positions, view: int | None) -> Iterator[Reader | None]:
        if self.store is None:
            yield None
            return
        with self.store.reader(self.keys(rows, view)) as reader:
            reader.mark_used()
            yield reader

    def from_bytes(self, values: NDArray[np.uint8]) -> Tensor:
        """(k, value_bytes) -> (k, width)."""
        return torch.from_numpy(values).view(DTYPES[self.embedder.plan.precision])


class Pictures:
    """Normalised images (n, 3, size, size), for a model without frozen layers; it has the methods of `Activations`."""

    def __init__(self, samples: Samples[Any], *, transform: Transform, views: Views) -> None:
        self.samples = samples
        self.num_views = None  # without a limit
        self.transform = transform
        self.views = views

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Tensor]:
        """Yield tensors (size, 3, height, width) float32, the last one shorter, in the order of `rows`."""
        side = self.transform.shorter_side
        read = spread(rows, lambda row: self.transform.prepare(self.samples.decoded(int(row), shorter_side=side)))
        for start in range(0, len(rows), size):
            pixels = self.transform.stack(list(islice(read, size)))
            ids = [self.samples.ids[row] for row in rows[start : start + size]]
            yield self.transform.normalize(pixels if view is None else self.views(pixels, ids, view))


def to_bytes(activations: Tensor) -> NDArray[np.uint8]:
    """(k, width) -> (k, value_bytes)."""
    values: NDArray[np.uint8] = activations.contiguous().view(torch.uint8).numpy()
    return values


def open_activations(
    path: Path, embedder: Embedder, *, boundary: Boundary, backbone: str, handed_in: tuple[Callable[..., Any], ...]
) -> Store:
    """Open the activations at a boundary; `handed_in` are the functions that decode samples and make views of them."""
    facts = recipe(embedder, __name__, handed_in=handed_in, backbone=backbone)
    size = embedder.dim * DTYPES[embedder.plan.precision].itemsize
    return Store(path, recipe=facts | {"boundary": boundary.steps}, value_bytes=size)


def make_room(store: Store, *, needed_bytes: Callable[[], int], most_bytes: int) -> None:
    """Remove segments, the least recently used first, until `needed_bytes` and the rest fit into `most_bytes`.

    `needed_bytes` are those that the store's own recipe still needs; segments of any recipe may go.
    """
    segments = []
    for folder in list_recipes(store.path):
        for keys in list_segments(folder):
            with suppress(FileNotFoundError):  # removed by another run a moment ago
                segments.append((keys.stat().st_mtime_ns, keys, segment_bytes(keys)))
    held, needed = sum(size for _, _, size in segments), needed_bytes()
    for _, keys, size in sorted(segments):
        if held + needed <= most_bytes:
            return
        remove_segment(keys)
        held -= size
        if keys.parent == store.folder:
            needed = needed_bytes()
