"""The images of a batch and a frozen backbone in; a vector and the perceptual hashes of every sample out.

They come in the manifest's order. The embedding store keeps them under the sample's id and all that they depend on, so
that only samples that the store lacks are read.
"""

import hashlib
import logging
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.health.bits import hash_words
from tasks.data.health.hashes import Probes, write_hashes
from tasks.data.manifest.manifest import POOL, TRAINING, read_batch
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import pair_cosines, write_embeddings
from tasks.embedding.embedder import Embedder, plan
from tasks.embedding.engine import StoredView, open_store
from tasks.embedding.engine import embed as look_at
from tasks.embedding.looks import LookStore
from tasks.images.alterations import ALTERED_COPIES
from tasks.images.decode import decode_image
from tasks.images.perceptual_hash import DISTANCE, HASHES_SHAPE, perceptual_hashes
from tasks.machine import sources
from tasks.machine.files import whole_file
from tasks.machine.progress import progress
from tasks.models.bundle import load_bundle
from tasks.stage.main import main
from tasks.stage.params import EmbedParams

logger = logging.getLogger("graftline")

LONGEST_PROBED = 13_000  # px a side; Pillow crops no more than 178,956,970 px, and a large image takes long to alter
SAMPLES_PER_PROBE = 50  # so that probing costs a small batch little


def run(*, raw: Path, manifest: Path, backbone: Path, store: Path, out: Path, hashes: Path, embed: EmbedParams) -> None:
    """Embed the samples that the manifest of one batch names.

    Args:
        raw: the batch, a folder or a Parquet file
        out: the safetensors file of the vectors
        hashes: the safetensors file of the perceptual hashes
    """
    start = time.monotonic()
    rows = read_batch(manifest.parent, manifest.stem)
    model, _ = load_bundle(backbone)
    fingerprint = model.backbone.fingerprint()  # computed, not read: others may share the store
    chosen = plan(embed)
    embedder = Embedder(model.backbone, chosen)
    kept = open_store(
        store, embedder, backbone=fingerprint, decode=decode_image, hash_of=perceptual_hashes, hashes_shape=HASHES_SHAPE
    )
    samples = Samples(rows, raw=raw.parent, decode=decode_image)
    show = partial(progress, what=f"embed {manifest.stem}", unit="minibatches")
    view = StoredView(embedder=embedder, store=kept, keys=samples.ids)
    [new] = look_at(samples.content, [view], names=samples.paths, show=show)
    probes = probe(samples, embedder=embedder, store=kept, num_probed=embed.num_probed)
    with whole_file(out) as path:
        vectors = (looks.vectors for looks in kept.looks(samples.ids))
        write_embeddings(path, vectors, shape=(len(rows), embedder.dim), recipe=fingerprint)
    with whole_file(hashes) as path:
        bits = (looks.hashes for looks in kept.looks(samples.ids))
        write_hashes(path, bits, shape=(len(rows), *HASHES_SHAPE), probes=probes)
    logger.info(
        "embedded %s of %s images (%s, %s on %s) -> (%d, %d) in %.0f s",
        f"{new:,}", f"{len(rows):,}", chosen.precision, chosen.execution, chosen.device, len(rows), embedder.dim,
        time.monotonic() - start,
    )  # fmt: skip


def probe(
    samples: Samples[Any],
    *,
    embedder: Embedder,
    store: LookStore,
    num_probed: int,
) -> Probes:
    """Return how near the altered copies of a few samples stay to their originals; train and val are probed."""
    rows = probed(samples.rows, num_probed=num_probed)
    chosen = samples.rows.iloc[rows]
    kinds = list(ALTERED_COPIES)
    code = sources.digest("tasks.embed")  # the copies depend on this module and on the alterations, the samples do not
    strengths = [int(identity[:8], 16) / 0xFFFFFFFF for identity in chosen["sample_id"]]
    names = [f"{path} ({kind})" for path in chosen["path"] for kind in kinds]
    keys = [
        hashlib.sha256(f"{identity} {kind} {strength} {code}".encode()).hexdigest()
        for identity, strength in zip(chosen["sample_id"], strengths, strict=True)
        for kind in kinds
    ]

    def content(number: int) -> bytes:
        return samples.content(int(rows[number // len(kinds)]))

    def alter(number: int, sample: Any) -> Any:
        row, kind = divmod(number, len(kinds))
        return ALTERED_COPIES[kinds[kind]](sample, strengths[row])

    look_at(content, [StoredView(embedder=embedder, store=store, keys=keys, alter=alter)], names=names)
    copies, originals = store.all_looks(keys), store.all_looks(chosen["sample_id"].tolist())
    of_copy = np.repeat(np.arange(len(rows)), len(kinds))
    shape = (len(rows), len(kinds))
    return Probes(
        kinds=tuple(kinds),
        cosines=pair_cosines(copies.vectors, originals.vectors[of_copy]).astype(np.float32).reshape(shape),
        distances=DISTANCE.of_pairs(hash_words(copies.hashes), hash_words(originals.hashes[of_copy])).reshape(shape),
    )


def probed(rows: pd.DataFrame, *, num_probed: int) -> NDArray[np.intp]:
    """Return the rows to probe: at most `num_probed` and one in SAMPLES_PER_PROBE, but one if there is any."""
    is_small = rows[["width", "height"]].max(axis=1) <= LONGEST_PROBED
    in_use = np.flatnonzero(rows["split"].isin(TRAINING) & is_small)
    count = min(num_probed, -(-int((rows["split"] != POOL).sum()) // SAMPLES_PER_PROBE))
    return in_use[np.argsort(rows["sample_id"].to_numpy()[in_use])[:count]]  # a SHA-256 is a fair draw


if __name__ == "__main__":
    main(run)
