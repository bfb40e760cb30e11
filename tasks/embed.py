"""A batch's pictures and a frozen backbone in; a vector and the perceptual hashes of each sample, in the manifest's order, out."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tasks import stage
from tasks.data.copies import COPIES
from tasks.data.embeddings import pair_cosines, write_embeddings
from tasks.data.hashes import Probes, write_hashes
from tasks.data.manifest import read_batch
from tasks.data.perceptual_hash import HASHES_SHAPE, hash_words, pair_distances, perceptual_hashes
from tasks.data.samples import in_minibatches, num_minibatches, read_each
from tasks.files import whole_file
from tasks.models.backbone import Backbone
from tasks.models.bundle import load_bundle
from tasks.params import EmbedParams
from tasks.progress import progress

logger = logging.getLogger("graftline")


LONGEST_PROBED = 16_384  # px; a JPEG has 65,500 at most, and a large picture would take long to alter

Looked = tuple[Tensor, NDArray[np.uint8]]  # a picture's pixels as the backbone sees them, and its hashes


def run(*, raw: Path, manifest: Path, backbone: Path, out: Path, hashes: Path, embed: EmbedParams) -> None:
    """Embed the samples that the manifest of one batch names."""
    rows = read_batch(manifest.parent, manifest.stem)
    model, lineage = load_bundle(backbone)
    total = num_minibatches(len(rows), embed.minibatch_size)
    start = time.monotonic()

    def look(image: Image.Image, _: int) -> Looked:
        return model.backbone.transform.pixels(image), perceptual_hashes(image)

    def show(pixels: Iterator[Tensor]) -> Iterator[Tensor]:
        return progress(pixels, total=total, what=f"embed {manifest.stem}", unit="minibatches")

    looked = read_each(rows, raw=raw.parent, work=look)
    vectors, bits = embed_looked(model.backbone, looked, size=embed.minibatch_size, show=show)
    check_finite(vectors, rows["path"].tolist())
    vectors = vectors.half()
    probes = probe(rows, vectors, bits, raw=raw.parent, backbone=model.backbone, params=embed)
    with whole_file(out) as path:
        write_embeddings(path, vectors.numpy(), recipe=lineage["fingerprint"])
    with whole_file(hashes) as path:
        write_hashes(path, bits, probes=probes)
    logger.info("embedded %s images -> %s in %.0f s", f"{len(rows):,}", tuple(vectors.shape), time.monotonic() - start)


def embed_looked(
    backbone: Backbone,
    looked: Iterable[Looked],
    *,
    size: int,
    show: Callable[[Iterator[Tensor]], Iterator[Tensor]] = iter,
) -> tuple[Tensor, NDArray[np.uint8]]:
    """The vectors (n, dim) float32 and the hashes (n, NUM_VIEWS, bytes) of what was looked at."""
    bits: list[NDArray[np.uint8]] = []

    def pixels() -> Iterator[Tensor]:
        for each, hashes in looked:
            bits.append(hashes)
            yield each

    minibatches = show(in_minibatches(pixels(), size=size))
    vectors = torch.cat([torch.empty(0, backbone.dim), *embed_minibatches(backbone, minibatches, size=size)])
    return vectors, np.array(bits, dtype=np.uint8).reshape(len(bits), *HASHES_SHAPE)


def probe(
    rows: pd.DataFrame,
    vectors: Tensor,
    bits: NDArray[np.uint8],
    *,
    raw: Path,
    backbone: Backbone,
    params: EmbedParams,
) -> Probes:
    """Embed altered copies of a few samples, none of them held out, and compare each with its original."""
    is_small = rows[["width", "height"]].max(axis=1) <= LONGEST_PROBED
    in_use = np.flatnonzero((rows["split"] != "heldout") & is_small)
    chosen = in_use[np.argsort(rows["sample_id"].to_numpy()[in_use])[: params.num_probed]]  # a SHA-256 is a fair draw

    def look(image: Image.Image, number: int) -> list[Looked]:
        strength = number / max(len(chosen) - 1, 1)
        copies = [alter(image, strength) for alter in COPIES.values()]
        return [(backbone.transform.pixels(copy), perceptual_hashes(copy)) for copy in copies]

    looked = chain.from_iterable(read_each(rows.iloc[chosen], raw=raw, work=look))
    copied, copied_bits = embed_looked(backbone, looked, size=params.minibatch_size)
    originals = np.repeat(chosen, len(COPIES))
    check_finite(copied, rows["path"].iloc[originals].tolist())
    cosines = pair_cosines(copied.half().numpy(), vectors.numpy()[originals])
    distances = pair_distances(hash_words(copied_bits), hash_words(bits[originals]))
    shape = (len(chosen), len(COPIES))
    return Probes(
        kinds=tuple(COPIES), cosines=cosines.astype(np.float32).reshape(shape), distances=distances.reshape(shape)
    )


@torch.inference_mode()
def embed_minibatches(backbone: Backbone, pixels: Iterator[Tensor], *, size: int) -> Iterator[Tensor]:
    """Pixels (n, 3, size, size) uint8 -> features (n, dim) float32. A minibatch shorter than
    `size` is filled up, so that every forward pass has the same shape and a vector does not depend on its neighbours."""
    for minibatch in pixels:
        n = len(minibatch)
        padded = torch.cat([minibatch, minibatch.new_zeros(size - n, *minibatch.shape[1:])])
        yield backbone(backbone.transform.normalize(padded))[:n]


def check_finite(vectors: Tensor, paths: list[str]) -> None:
    """Raises ValueError naming the first sample whose vector cannot be kept as float16."""
    is_finite = vectors.half().isfinite().all(dim=1)
    if not is_finite.all():
        first = int((~is_finite).nonzero()[0])
        raise ValueError(
            f"the embedding of {paths[first]} has numbers that are not finite in float16: "
            "the weights may be damaged, or backbone.features names parts with too large outputs"
        )


if __name__ == "__main__":
    stage.main(run)
