"""Look at samples through frozen backbones: compute the vectors and hashes that are not kept yet, and keep them.

On a processor each core takes a minibatch of its own, from the files to the vectors. Decoding never waits for the
network nor the network for decoding, and the speed is the harmonic combination of both. On a GPU the cores decode, and
the GPU computes one minibatch while the next is on its way to it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tasks.data.samples.samples import Positions, decode_verified
from tasks.embedding.embedder import Embeds
from tasks.embedding.looks import Hash, Looks, LookStore
from tasks.embedding.recipe import recipe
from tasks.machine.cores import in_turn

Add = Callable[[Positions, Looks], None]
Show = Callable[..., Iterator[Any]]


def open_store(
    path: Path,
    embedder: Embeds,
    *,
    backbone: str,
    decode: Callable[..., Any],
    hash_of: Hash,
    hashes_shape: tuple[int, int],
) -> LookStore:
    """Open the store of the looks that this embedder, decoder and hash give.

    `backbone` is the fingerprint of its weights and transform.
    """
    facts = recipe(embedder, __name__, handed_in=(decode, hash_of), backbone=backbone)
    return LookStore(
        path, recipe=facts, dim=embedder.dim, hashes_shape=hashes_shape, decode=decode, hash_of=hash_of,
        num_marks=embedder.transform.num_marks,
    )  # fmt: skip


class View(Protocol):
    """A view of samples: the backbone, the alteration if there is one, and the place where the results go."""

    @property
    def embedder(self) -> Embeds: ...

    @property
    def decode(self) -> Callable[..., Any]:
        """The modality's decoder: bytes and `shorter_side` -> a sample. It is the same for all views."""

    def altered(self, position: int, sample: Any) -> Any:
        """Return the decoded sample as the backbone sees it."""

    def hash_of(self, sample: Any) -> NDArray[np.uint8]:
        """Return the perceptual hashes (num_views, bytes) of that sample; an empty array if none are needed."""

    def missing(self) -> Positions:
        """Return the positions of the samples whose looks are not there yet."""

    def adding(self) -> AbstractContextManager[Add]:
        """Take the looks of samples until the end of the block."""


@dataclass(frozen=True, kw_only=True)
class StoredView:
    """A view whose looks the store keeps, under the `keys` (n,) of the samples: SHA-256, hex.

    Where `alter` changes the samples, the keys have to depend on its code; see `tasks.embed`.
    """

    embedder: Embeds
    store: LookStore
    keys: Sequence[str]
    alter: Callable[[int, Any], Any] | None = None

    @property
    def decode(self) -> Callable[..., Any]:
        return self.store.decode

    def altered(self, position: int, sample: Any) -> Any:
        return self.alter(position, sample) if self.alter else sample

    def hash_of(self, sample: Any) -> NDArray[np.uint8]:
        return self.store.hash_of(sample)

    def missing(self) -> Positions:
        return self.store.missing(self.keys)

    @contextmanager
    def adding(self) -> Iterator[Add]:
        with self.store.writer() as writer:
            yield lambda positions, looks: writer.add([self.keys[at] for at in positions], looks.pack())


@dataclass(frozen=True, kw_only=True)
class PassingView:
    """A view of altered samples whose vectors (n, dim) float16 are wanted once and not kept."""

    embedder: Embeds
    decode: Callable[..., Any]
    alter: Callable[[Any], Any]
    vectors: NDArray[np.float16]

    def altered(self, position: int, sample: Any) -> Any:
        return self.alter(sample)

    def hash_of(self, sample: Any) -> NDArray[np.uint8]:
        return np.empty((0, 0), dtype=np.uint8)

    def missing(self) -> Positions:
        return np.arange(len(self.vectors))

    @contextmanager
    def adding(self) -> Iterator[Add]:
        def add(positions: Positions, looks: Looks) -> None:
            self.vectors[positions] = looks.vectors

        yield add


def embed(
    read: Callable[[int], bytes],
    views: Sequence[View],
    *,
    names: Sequence[str],
    show: Show = lambda items, total: items,
) -> list[int]:
    """Look at the samples whose looks are missing, and return how many these were, by view.

    Each sample is read once for all views, and decoded once for each shorter side that they want.

    Args:
        read: returns the verified bytes of the sample at a position; several threads call it.
        views: of one minibatch size and one device.
        names: (n,) the names of the samples in errors.
        show: passes minibatches on and shows how many of `total` have passed.

    Raises:
        ValueError: a vector has numbers that float16 cannot hold; the sample is named. Errors of `read` pass through.
            Results that were computed before stay in the store.
    """
    wanted = np.zeros((len(views), len(names)), dtype=bool)
    for row, view in zip(wanted, views, strict=True):
        row[view.missing()] = True
    # samples that lack the same views stand together, so that few minibatches have empty places
    patterns = np.packbits(wanted, axis=0)  # (bytes, n)
    order = np.lexsort((np.arange(len(names)), *patterns))
    order = order[wanted[:, order].any(axis=0)]
    size = views[0].embedder.plan.minibatch_size if views else 1
    minibatches = [order[start : start + size] for start in range(0, len(order), size)]
    with ExitStack() as held:
        adding = [held.enter_context(view.adding()) for view in views]
        looked = look(minibatches, read, views, names=names, wanted=wanted)
        for parts in show(looked, total=len(minibatches)):
            for part in parts:
                looks = Looks(vectors=part.vectors.numpy(), hashes=part.hashes, marks=part.marks)
                is_finite = np.all(np.isfinite(looks.vectors), axis=1)
                adding[part.view](part.positions[is_finite], looks[is_finite])
                if not is_finite.all():
                    raise ValueError(
                        f"the embedding of {names[part.positions[~is_finite][0]]} has numbers that are not finite in "
                        "float16: the weights may be damaged, or backbone.features names parts with too large outputs"
                    )
    return [int(count) for count in wanted.sum(axis=1)]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """The samples of a minibatch that one view lacks, while they become looks."""

    view: int
    positions: Positions
    prepared: Any  # a minibatch, as the view's transform stacks it
    hashes: NDArray[np.uint8]  # (n, num_views, bytes)
    marks: NDArray[np.uint8]  # (n, num_marks)


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """The vectors and hashes that one view gave for the samples of a minibatch."""

    view: int
    positions: Positions
    vectors: Tensor  # (n, dim) float16
    hashes: NDArray[np.uint8]
    marks: NDArray[np.uint8]


def look(
    minibatches: Iterable[Positions],
    read: Callable[[int], bytes],
    views: Sequence[View],
    *,
    names: Sequence[str],
    wanted: NDArray[np.bool_],
) -> Iterator[list[LookedAt]]:
    """Yield the results of the views for each minibatch, in order.

    `wanted` (num_views, n) marks the samples that a view lacks.
    """

    def decode(positions: Positions) -> list[Decoded]:
        prepared: list[list[Any]] = [[] for _ in views]
        hashes: list[list[NDArray[np.uint8]]] = [[] for _ in views]
        marks: list[list[NDArray[np.uint8]]] = [[] for _ in views]
        for at in positions.tolist():  # one at a time: a decoded sample may be large
            content, decoded = read(at), {}
            for number in np.flatnonzero(wanted[:, at]).tolist():
                view = views[number]
                transform = view.embedder.transform
                side = transform.shorter_side
                if side not in decoded:
                    decode_at = partial(view.decode, shorter_side=side)
                    decoded[side] = decode_verified(content, decode_at, path=Path(names[at]))
                seen = view.altered(at, decoded[side])
                prepared[number].append(transform.prepare(seen))
                hashes[number].append(view.hash_of(seen))
                marks[number].append(transform.marks(seen, prepared[number][-1]))
        return [
            Decoded(
                view=number, positions=positions[wanted[number, positions]],
                prepared=view.embedder.stack(prepared[number]), hashes=np.stack(hashes[number]),
                marks=np.stack(marks[number]),
            )
            for number, view in enumerate(views)
            if prepared[number]
        ]  # fmt: skip

    def compute(parts: list[Decoded]) -> list[LookedAt]:
        return [
            LookedAt(
                view=part.view, positions=part.positions, hashes=part.hashes, marks=part.marks,
                vectors=views[part.view].embedder(part.prepared).half().to("cpu", non_blocking=True),
            )
            for part in parts
        ]  # fmt: skip

    if views:
        yield from in_turn(minibatches, decode, compute, device=views[0].embedder.plan.device)
