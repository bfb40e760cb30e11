"""A batch's pictures and a frozen backbone in; the batch's embeddings, one vector a sample in the manifest's order, out."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from tasks import stage
from tasks.data.embeddings import write_embeddings
from tasks.data.manifest import read_batch
from tasks.data.samples import minibatches, num_minibatches
from tasks.files import whole_file
from tasks.models.backbone import Backbone
from tasks.models.bundle import load_bundle
from tasks.params import EmbedParams
from tasks.progress import progress

logger = logging.getLogger("graftline")


def run(*, raw: Path, manifest: Path, backbone: Path, out: Path, embed: EmbedParams) -> None:
    """Embed the samples that the manifest of one batch names."""
    rows = read_batch(manifest.parent, manifest.stem)
    model, lineage = load_bundle(backbone)
    transform = model.backbone.transform
    pixels = minibatches(rows, raw=raw.parent, pixels=transform.pixels, size=embed.minibatch_size)
    total = num_minibatches(len(rows), embed.minibatch_size)
    start = time.monotonic()
    shown = progress(pixels, total=total, what=f"embed {manifest.stem}", unit="minibatches")
    vectors = torch.cat(
        [torch.empty(0, model.backbone.dim), *embed_minibatches(model.backbone, shown, size=embed.minibatch_size)]
    )
    check_finite(vectors, rows["path"].tolist())
    with whole_file(out) as path:
        write_embeddings(path, vectors.numpy(), recipe=lineage["fingerprint"])
    logger.info("embedded %s images -> %s in %.0f s", f"{len(rows):,}", tuple(vectors.shape), time.monotonic() - start)


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
