"""Samples in; their activations at the freeze boundary, which the trained part of a model takes, out.

The frozen layers give the same activations of a sample in every epoch and in every later run. A store of their own
keeps those of a few augmented views of each sample, within a budget of bytes. Activations that it does not keep are
computed anew each time, to the same bits. A value in the store is the view of an image, or a page of a text.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from tasks.embedding.embedder import Embeds
from tasks.embedding.recipe import recipe
from tasks.images.transform import Transform
from tasks.machine.cores import Device, num_cores, one_thread_each, spread
from tasks.machine.peers import ALONE, Peers
from tasks.text.packed import Lengths, Packed, num_pages
from tasks.text.transform import TextTransform
from tasks.training.finetuning.options import ActivationOptions

KEPT = {"bf16": torch.bfloat16, "fp32": torch.float16}  # by the precision of the frozen layers: two bytes a number
LARGEST = torch.finfo(torch.float16).max

SamplesInView = tuple[Positions, int | None]  # samples, and the view of all of them


class Views(Protocol):
    """Makes numbered views of a minibatch that the transform stacked: pixels (n, 3, size, size) uint8, or n texts.

    `facts` is everything that the views depend on besides the samples and the number.
    """

    @property
    def facts(self) -> dict[str, Any]: ...

    def __call__(self, prepared: Any, sample_ids: Sequence[str], view: int, /) -> Any: ...


class Activations:
    """The activations of samples at the boundary of `embedder`, which returns values (num_values, width) of samples.

    Args:
        views: makes the augmented views; the view None is the unchanged sample.
        options: `num_views` are made of each sample of `train`; samples of `val` stay unchanged. If one fits
            into `cache_gigabytes` and not all do, there are fewer. If not one fits, all are made, and those of the
            first samples are kept. The store counts those of other boundaries and backbones, too. Values that are too
            large for a store are not kept.
        path: the folder of the store, which is made if there is none.
        backbone: the fingerprint of its weights and transform.
        lengths: of texts, the lengths of the windows of each sample. A text fills as many pages as they need; of an
            image there is one value.
    """

    def __init__(
        self,
        samples: Samples[Any],
        *,
        embedder: Embeds,
        boundary: Boundary | int,
        backbone: str,
        views: Views,
        options: ActivationOptions,
        train: Positions,
        val: Positions,
        path: Path,
        lengths: Sequence[Lengths] | None = None,
    ) -> None:
        self.samples = samples
        self.embedder = embedder
        self.views = views
        self.lengths = lengths
        self.num_values = (
            np.ones(len(samples), dtype=np.intp) if lengths is None else np.array([*map(num_pages, lengths)], np.intp)
        )  # of each sample
        self.most_bytes = round(options.cache_gigabytes * 1e9)
        self.dtype = KEPT[embedder.plan.precision]
        self.value_bytes = embedder.dim * self.dtype.itemsize
        self.record_bytes = self.value_bytes + KEY.itemsize  # on disk
        room = self.most_bytes // self.record_bytes if self.value_bytes <= MOST_VALUE_BYTES else 0
        num_val, num_train = (int(self.num_values[rows].sum()) for rows in (val, train))
        self.num_epoch = num_val + num_train  # values that an epoch reads
        fitting = (room - num_val) // max(num_train, 1)
        self.num_views = min(options.num_views, fitting) if fitting > 0 else options.num_views
        self.num_asked = options.num_views
        self.asked_bytes = (num_val + options.num_views * num_train) * self.record_bytes
        self.wanted: list[SamplesInView] = []  # that are kept
        self.num_wanted = self.num_kept = 0  # values
        computed_anew = 0.0
        for rows, view in [(val, None), *((train, view) for view in range(self.num_views))]:
            ends = self.num_wanted + np.cumsum(self.num_values[rows])
            kept = rows[ends <= room]
            self.wanted.append((kept, view))
            self.num_kept += int(self.num_values[kept].sum())
            self.num_wanted += int(self.num_values[rows].sum())
            left_out = int(self.num_values[rows].sum() - self.num_values[kept].sum())
            computed_anew += left_out / (1 if view is None else self.num_views)  # an epoch reads one of the views
        self.num_again = round(computed_anew)  # values that an epoch computes anew, on average
        handed_in = (samples.decode, type(views))
        self.store = (
            open_activations(path, embedder, boundary=boundary, backbone=backbone, handed_in=handed_in)
            if self.num_kept
            else None
        )

    def keys(self, rows: Positions, view: int | None) -> list[str]:
        """Return the keys of the samples' values in the store: SHA-256, hex."""
        facts = "" if view is None else json.dumps([self.views.facts, view], sort_keys=True)
        return [
            key_of(self.samples.ids[row], facts, page=page) for row in rows for page in range(self.num_values[row])
        ]  # fmt: skip

    def compute(self, rows: Positions, view: int | None) -> Tensor:
        """Return (num_values, width). Call it where each thread computes on one core, see `one_thread_each`."""
        size, parts = self.embedder.plan.minibatch_size, []
        transform = self.embedder.transform
        for some in np.split(rows, range(size, len(rows), size)):
            prepared = transform.stack(
                [transform.prepare(self.samples.decoded(int(row), shorter_side=transform.shorter_side)) for row in some]
            )
            if view is not None:
                prepared = self.views(prepared, [self.samples.ids[row] for row in some], view)
            found = self.embedder(prepared)
            # numbers beyond the range of half precision, which hardly occur, would be infinite
            found = found.clamp(-LARGEST, LARGEST) if self.dtype == torch.float16 else found
            parts.append(found.to("cpu", self.dtype))
        return torch.cat(parts)

    def keep(self, *, show: Callable[..., Iterator[Any]] = lambda items, total: items, peers: Peers = ALONE) -> int:
        """Compute the values that the store lacks, and return how many.

        `show` passes minibatches on, and shows how many of `total` have passed. Peers compute a part each.
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
            missing = self.missing(rows, view)
            parts += [(missing[start : start + size], view) for start in range(0, len(missing), size)]
        peers.wait()  # until all of them know the missing values

        def work(part: SamplesInView) -> tuple[list[str], NDArray[np.uint8]]:
            torch.get_num_threads()  # the first call in a thread makes it compute on one core
            return self.keys(*part), to_bytes(self.compute(*part))

        own = parts[peers.rank :: peers.num]
        with self.store.writer() as writer, one_thread_each():
            for keys, values in show(spread(own, work, ahead=2 * num_cores()), total=len(own)):
                writer.add(keys, values)
        peers.wait()
        return sum(int(self.num_values[rows].sum()) for rows, _ in parts)

    def missing(self, rows: Positions, view: int | None) -> Positions:
        """Return the samples of which a value is missing in the store."""
        assert self.store is not None
        owners = np.repeat(np.arange(len(rows)), self.num_values[rows])
        return rows[np.unique(owners[self.store.missing(self.keys(rows, view))])]

    def shortfall(self, *, seconds_each: float | None) -> str | None:
        """Describe what is not kept, why, and what that costs; None where all is kept.

        Args:
            seconds_each: to compute a value, where that is known.
        """
        parts = [f"{self.num_views} of {self.num_asked} views are made"] if self.num_views < self.num_asked else []
        if self.num_again:
            parts.append(f"{self.num_again:,} of {self.num_epoch:,} values are computed anew in every epoch")
            parts += [f"about {self.num_again * seconds_each:,.0f} s each time"] if seconds_each else []
        why = (
            f"a value takes {self.value_bytes / 1e6:,.0f} MB, and those up to {MOST_VALUE_BYTES / 1e6:,.0f} MB are kept"
            if self.value_bytes > MOST_VALUE_BYTES
            else f"finetune.cache_gigabytes is {self.most_bytes / 1e9:g}, and all activations take "
            f"{self.asked_bytes / 1e9:,.1f} GB"
        )
        return f"{why}: {', '.join(parts)}" if parts else None

    def num_missing(self) -> int:
        """Return the number of values that should be kept but are not in the store."""
        return sum(int(self.num_values[self.missing(*part)].sum()) for part in self.wanted)

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Any]:
        """Yield the activations of `size` samples, fewer in the last minibatch, in the order of `rows`; in float32.

        Those of images are tensors (size, width), those of texts are packed.
        """
        starts = np.append(0, np.cumsum(self.num_values[rows]))  # of the values of each row, among those of all
        with self._reader(rows, view) as reader:

            def load(start: int) -> Any:
                end = min(start + size, len(rows))
                values = np.arange(starts[start], starts[end])
                owners = np.repeat(np.arange(start, end), self.num_values[rows[start:end]])
                lacking = np.unique(owners[np.isin(values, reader.missing)]) if reader else np.arange(start, end)
                is_kept = ~np.isin(owners, lacking)
                loaded = torch.empty(len(values), self.embedder.dim)
                if reader and is_kept.any():
                    loaded[torch.from_numpy(is_kept)] = self.from_bytes(reader.values(values[is_kept])).float()
                if len(lacking):
                    torch.set_num_threads(1)  # in this thread and later ones; the thread that trains keeps its number
                    loaded[torch.from_numpy(~is_kept)] = self.compute(rows[lacking], view).float()
                made: Any = loaded
                if self.lengths is not None:
                    made = Packed.of_pages(loaded, [self.lengths[row] for row in rows[start:end]])
                return made.pin_memory() if self.embedder.plan.device == "cuda" else made

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
        return torch.from_numpy(values).view(self.dtype)


class WholeSamples:
    """Samples for a model without frozen layers: normalised images, or packed token ids.

    It has the methods of `Activations`.
    """

    def __init__(
        self, samples: Samples[Any], *, transform: Transform | TextTransform, views: Views, device: Device = "cpu"
    ) -> None:
        self.samples = samples
        self.device = device
        self.num_views = None  # without a limit
        self.transform: Any = transform
        self.views = views

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Any]:
        """Yield `size` samples, fewer in the last minibatch, in the order of `rows`.

        Images are tensors (size, 3, height, width) float32, texts are packed.
        """
        side = self.transform.shorter_side

        def load(start: int) -> Any:
            torch.set_num_threads(1)  # in this thread and later ones; the thread that trains keeps its number
            some = rows[start : start + size]
            prepared = self.transform.stack(
                [self.transform.prepare(self.samples.decoded(int(row), shorter_side=side)) for row in some]
            )
            seen = prepared if view is None else self.views(prepared, [self.samples.ids[row] for row in some], view)
            is_text = isinstance(self.transform, TextTransform)
            made = Packed.of_ids(seen) if is_text else self.transform.normalize(seen)
            return made.pin_memory() if self.device == "cuda" else made

        yield from spread(range(0, len(rows), size), load, ahead=num_cores())


def key_of(sample_id: str, facts: str, *, page: int) -> str:
    """Return the key of a value: SHA-256, hex. The first value of an unchanged sample has the sample's own."""
    if not facts and not page:
        return sample_id
    return hashlib.sha256(f"{sample_id} {facts} {page}".encode()).hexdigest()


def to_bytes(activations: Tensor) -> NDArray[np.uint8]:
    """(k, width) -> (k, value_bytes)."""
    values: NDArray[np.uint8] = activations.contiguous().view(torch.uint8).numpy()
    return values


def open_activations(
    path: Path,
    embedder: Embeds,
    *,
    boundary: Boundary | int,
    backbone: str,
    handed_in: tuple[Callable[..., Any], ...],
) -> Store:
    """Open the activations at a boundary; `handed_in` are the functions that decode samples and make views of them."""
    facts = recipe(embedder, __name__, handed_in=handed_in, backbone=backbone)
    size = embedder.dim * KEPT[embedder.plan.precision].itemsize
    place = boundary.steps if isinstance(boundary, Boundary) else boundary
    return Store(path, recipe=facts | {"boundary": place}, value_bytes=size)


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
