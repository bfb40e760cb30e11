"""Samples in; what each looks like to a frozen backbone, in the embedding store, out. Only what the store lacks is computed.

On a processor each core takes a minibatch of its own, from the files to the vectors: decoding never waits for the network
nor the network for decoding, and the speed is the harmonic combination of both. On a GPU the cores decode, and the GPU
computes one minibatch while the next is on its way to it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tasks.data.samples import samples
from tasks.data.samples.samples import stack
from tasks.data.store.store import Store
from tasks.embedding import embedder as embedder_module
from tasks.embedding import fusion, looks
from tasks.embedding.embedder import Embedder
from tasks.embedding.looks import Looks, value_bytes
from tasks.embedding.recipe import recipe
from tasks.images import alterations, decode, perceptual_hash, transform
from tasks.machine.cores import in_turn
from tasks.models import backbone as backbone_module

Rows = NDArray[np.intp]  # the positions of a minibatch's samples among all
Decoded = tuple[Rows, Tensor, NDArray[np.uint8]]  # with pixels and hashes
Embedded = tuple[Rows, Tensor, NDArray[np.uint8]]  # with vectors (n, dim) float16 and hashes


CODE = (alterations, decode, perceptual_hash, samples, looks, backbone_module, embedder_module, fusion, transform)


def open_store(path: Path, embedder: Embedder, *, backbone: str) -> Store:
    return Store(path, recipe=recipe(embedder, CODE, backbone=backbone), value_bytes=value_bytes(embedder.dim))


def embed(
    sample_ids: Sequence[str],
    picture: Callable[[int], Image.Image],
    *,
    names: Sequence[str],
    embedder: Embedder,
    store: Store,
    show: Callable[..., Iterator[Embedded]] = lambda items, total: items,
) -> int:
    """Look at the samples that the store lacks, and return how many these were.

    Args:
        sample_ids: (n,) SHA-256, hex.
        picture: decodes the sample at a position, RGB; is called by several threads.
        names: (n,) what an error calls each sample.
        show: passes the minibatches on, and shows how many of `total` have passed.

    Raises:
        ValueError: a vector has numbers that float16 cannot hold; the sample is named. Whatever `picture` raises passes
            through. What was computed before stays in the store.
    """
    missing = store.missing(sample_ids)
    size = embedder.plan.minibatch_size
    minibatches = [missing[start : start + size] for start in range(0, len(missing), size)]
    with store.writer() as writer:
        for rows, vectors, hashes in show(look(minibatches, picture, embedder), total=len(minibatches)):
            found = Looks(vectors=vectors.numpy(), hashes=hashes)
            is_finite = np.all(np.isfinite(found.vectors), axis=1)
            writer.add([sample_ids[row] for row in rows[is_finite]], found[is_finite].pack())
            if not is_finite.all():
                raise ValueError(
                    f"the embedding of {names[rows[~is_finite][0]]} has numbers that are not finite in float16: the weights "
                    "may be damaged, or backbone.features names parts with too large outputs"
                )
    return len(missing)


def look(minibatches: Iterable[Rows], picture: Callable[[int], Image.Image], embedder: Embedder) -> Iterator[Embedded]:
    """What each minibatch looks like, in order."""

    def decode(rows: Rows) -> Decoded:
        torch.get_num_threads()  # the first call in a thread makes it compute on one core, see `one_thread_each`
        pixels, hashes = [], []
        for row in rows:  # one at a time: a decoded picture may be large
            image = picture(int(row))
            pixels.append(embedder.transform.pixels(image))
            hashes.append(perceptual_hash.perceptual_hashes(image))
        return rows, stack(pixels), np.stack(hashes)

    def compute(decoded: Decoded) -> Embedded:
        rows, pixels, hashes = decoded
        return rows, embedder(pixels).half().to("cpu", non_blocking=True), hashes

    yield from in_turn(minibatches, decode, compute, device=embedder.plan.device)
