"""Samples in; what each looks like to a frozen backbone, in the embedding store, out. Only what the store lacks is computed.

On a processor each core takes a minibatch of its own, from the files to the vectors: decoding never waits for the network
nor the network for decoding, and the speed is the harmonic combination of both. On a GPU the cores decode, and the GPU
computes one minibatch while the next is on its way to it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tasks.data.images import in_order
from tasks.data.perceptual_hash import perceptual_hashes
from tasks.data.samples import stack
from tasks.data.store import Store
from tasks.embedding.looks import Looks, value_bytes
from tasks.models.embedder import Embedder, one_thread_each

Show = Callable[[Iterator[Any]], Iterator[Any]]
Rows = NDArray[np.intp]  # the positions of a minibatch's samples among all
Decoded = tuple[Rows, Tensor, NDArray[np.uint8]]  # with pixels and hashes
Embedded = tuple[Rows, Tensor, NDArray[np.uint8]]  # with vectors (n, dim) float16 and hashes

DECODED_AHEAD = 4  # minibatches that wait for the GPU


def recipe(embedder: Embedder, *, backbone: str) -> dict[str, Any]:
    """All that what is kept of a sample depends on; `backbone` is the fingerprint of its weights and transform."""
    import torchvision

    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__}
    return embedder.plan.recipe() | {
        "architecture": embedder.architecture,
        "backbone": backbone,
        "versions": versions,
    }


def open_store(path: Any, embedder: Embedder, *, backbone: str) -> Store:
    return Store(path, recipe=recipe(embedder, backbone=backbone), value_bytes=value_bytes(embedder.dim))


def embed(
    sample_ids: Sequence[str],
    picture: Callable[[int], Image.Image],
    *,
    names: Sequence[str],
    embedder: Embedder,
    store: Store,
    show: Callable[[Iterator[Any], int], Iterator[Any]] = lambda items, total: items,
) -> int:
    """Look at the samples that the store lacks, and return how many these were.

    Args:
        sample_ids: (n,) SHA-256, hex.
        picture: decodes the sample at a position, RGB; is called by several threads.
        names: (n,) what an error calls each sample.
        show: passes the minibatches on, and shows how many of how many have passed.

    Raises:
        ValueError: a vector has numbers that float16 cannot hold; the sample is named. Whatever `picture` raises passes
            through. What was computed before stays in the store.
    """
    missing = store.missing(sample_ids)
    size = embedder.plan.minibatch_size
    minibatches = [missing[start : start + size] for start in range(0, len(missing), size)]
    with store.writer() as writer:
        for rows, vectors, hashes in show(look(minibatches, picture, embedder), len(minibatches)):
            looks = Looks(vectors=vectors.numpy(), hashes=hashes)
            is_finite = np.all(np.isfinite(looks.vectors), axis=1)
            writer.add([sample_ids[row] for row in rows[is_finite]], looks[is_finite].pack())
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
        images = [picture(int(row)) for row in rows]
        pixels = stack([embedder.transform.pixels(image) for image in images])
        return rows, pixels, np.stack([perceptual_hashes(image) for image in images])

    def compute(decoded: Decoded) -> Embedded:
        rows, pixels, hashes = decoded
        return rows, embedder(pixels).half(), hashes

    with one_thread_each():
        if embedder.plan.device == "cpu":
            yield from in_order(minibatches, lambda rows: compute(decode(rows)))
        else:
            computing: Embedded | None = None
            for decoded in in_order(minibatches, decode, ahead=DECODED_AHEAD):
                started = compute(decoded)  # returns while the GPU computes
                if computing:
                    yield fetch(computing)
                computing = started
            if computing:
                yield fetch(computing)


def fetch(embedded: Embedded) -> Embedded:
    """Wait for what the GPU computes."""
    rows, vectors, hashes = embedded
    return rows, vectors.cpu(), hashes
