"""The samples of a batch and a frozen backbone in; a vector, the hashes and the marks of every sample out.

They come in the manifest's order. The embedding store keeps them under the sample's id and all that they depend on, so
that only samples that the store lacks are read.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.health.bits import HashDistance
from tasks.data.health.hashes import Probes, write_hashes
from tasks.data.health.marks import count_marks, describe_marks
from tasks.data.manifest.manifest import POOL, TRAINING, read_batch
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import pair_cosines, write_embeddings
from tasks.embedding.embedder import Embeds
from tasks.embedding.engine import StoredView, open_store
from tasks.embedding.engine import embed as look_at
from tasks.embedding.looks import LookStore
from tasks.embedding.part import COLUMNS, EmbedPart, size_of_part
from tasks.embedding.ready import make_ready
from tasks.embedding.runtimes import RUNTIMES
from tasks.machine import sources
from tasks.machine.cluster import LOCAL, blocks_of, joined, num_processes, spread_to_cluster
from tasks.machine.files import whole_file
from tasks.machine.options import ScaleOptions
from tasks.machine.progress import progress
from tasks.models.bundle import load_bundle
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import EmbedParams

logger = logging.getLogger("graftline")

SAMPLES_PER_PROBE = 50  # so that probing costs a small batch little


def run(
    *,
    raw: Path,
    manifest: Path,
    backbone: Path,
    store: Path,
    out: Path,
    hashes: Path,
    embed: EmbedParams,
    modality: Modality,
    scale: ScaleOptions = LOCAL,
) -> None:
    """Embed the samples that the manifest of one batch names.

    Args:
        raw: the batch, a folder or a Parquet file
        out: the safetensors file of the vectors
        hashes: the safetensors file of the hashes by which copies are found, and of the marks
    """
    start = time.monotonic()
    rows = read_batch(manifest.parent, manifest.stem)
    model, _ = load_bundle(backbone)
    fingerprint = model.backbone.fingerprint()  # computed, not read: others may share the store
    part_dims = model.backbone.part_dims if model.backbone.power != 1 else ()
    embedder = make_ready(model.backbone, embed, store=store)
    del model  # it takes memory, and the embedder has weights of its own
    decode, copy_hash = room(modality, "decode"), room(modality, "copy_hash")
    kept = open_store(
        store, embedder, backbone=fingerprint, decode=decode.decode_sample, hash_of=copy_hash.copy_hashes,
        hashes_shape=copy_hash.HASHES_SHAPE,
    )  # fmt: skip
    samples = Samples(rows, raw=raw.parent, decode=decode.decode_sample, read=decode.read)
    show = partial(progress, what=f"embed {manifest.stem}", unit="minibatches")
    view = StoredView(embedder=embedder, store=kept, keys=samples.ids)
    if scale.engine == "local":
        [new] = look_at(samples.content, [view], names=samples.paths, show=show)
    else:
        own: Any = embedder.plan.execution
        options = replace(embed, execution=own) if own in RUNTIMES else embed  # the nodes measure nothing
        part = EmbedPart(
            raw=raw.parent, backbone=backbone, store=store, options=options, recipe=json.dumps(kept.recipe),
            decode=decode.decode_sample, read=decode.read, hash_of=copy_hash.copy_hashes,
            hashes_shape=copy_hash.HASHES_SHAPE,
        )  # fmt: skip
        new = embed_on_cluster(part, rows, view=view, address=scale.address, name=manifest.stem)
    probes = probe(
        samples, room(modality, "alterations"), embedder=embedder, store=kept, num_probed=embed.num_probed,
        distance=copy_hash.DISTANCE,
    )  # fmt: skip
    with whole_file(out) as path:
        vectors = (looks.vectors for looks in kept.looks(samples.ids))
        write_embeddings(path, vectors, shape=(len(rows), embedder.dim), recipe=fingerprint, part_dims=part_dims)
    marks = kept.all_marks(samples.ids)
    with whole_file(hashes) as path:
        bits = (looks.hashes for looks in kept.looks(samples.ids))
        write_hashes(path, bits, shape=(len(rows), *copy_hash.HASHES_SHAPE), probes=probes, marks=marks)
    logger.info(
        "embedded %s of %s samples (%s, %s on %s) -> (%d, %d) in %.0f s",
        f"{new:,}", f"{len(rows):,}", embedder.plan.precision, embedder.plan.execution,
        embedder.plan.device, len(rows), embedder.dim,
        time.monotonic() - start,
    )  # fmt: skip
    if marks is not None and modality == "text":
        logger.info(describe_marks(count_marks(marks), longest=embedder.transform.longest))


def embed_on_cluster(part: EmbedPart, rows: pd.DataFrame, *, view: StoredView, address: str | None, name: str) -> int:
    """Embed the samples that the store lacks on a Ray cluster, whose nodes share it. Return how many these were."""
    plan = view.embedder.plan
    missing: list[dict[str, str]] = [
        dict(zip(COLUMNS, cells, strict=True)) for cells in rows.iloc[view.missing()][COLUMNS].to_numpy().tolist()
    ]
    if not missing:
        return 0
    num_gpus = int(plan.device == "cuda")
    with joined(address, num_gpus=num_gpus):
        size = size_of_part(
            len(missing), num_processes=num_processes(num_gpus=num_gpus), minibatch_size=plan.minibatch_size
        )
        blocks = list(blocks_of(missing, size))
        counts = spread_to_cluster(blocks, part, address=address, num_gpus=num_gpus)
        new = sum(progress(counts, total=len(blocks), what=f"embed {name}", unit="parts"))
    if lacks := len(view.missing()):
        raise ValueError(
            f"the nodes of the Ray cluster embedded {new:,} samples, but {part.store} here lacks {lacks:,} of them: "
            "put the store into a folder that all nodes share, at the same path"
        )
    return new


def probe(
    samples: Samples[Any],
    alterations: Any,
    *,
    embedder: Embeds,
    store: LookStore,
    num_probed: int,
    distance: HashDistance,
) -> Probes:
    """Return how near the altered copies of a few samples stay to their originals; train and val are probed.

    `alterations` is that part of the modality's room.
    """
    rows = probed(samples.rows, may_be_altered=alterations.may_be_altered, num_probed=num_probed)
    chosen = samples.rows.iloc[rows]
    kinds = list(alterations.ALTERED_COPIES)
    code = sources.digest("tasks.embed")  # the copies depend on this module and on the alterations, the samples do not
    strengths = [strength_of(identity) for identity in chosen["sample_id"]]
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
        return alterations.ALTERED_COPIES[kinds[kind]](sample, strengths[row])

    look_at(content, [StoredView(embedder=embedder, store=store, keys=keys, alter=alter)], names=names)
    copies, originals = store.all_looks(keys), store.all_looks(chosen["sample_id"].tolist())
    of_copy = np.repeat(np.arange(len(rows)), len(kinds))
    shape = (len(rows), len(kinds))
    return Probes(
        kinds=tuple(kinds),
        cosines=pair_cosines(copies.vectors, originals.vectors[of_copy]).astype(np.float32).reshape(shape),
        distances=distance.of_pairs(*map(distance.words, (copies.hashes, originals.hashes[of_copy]))).reshape(shape),
    )


def strength_of(identity: str) -> float:
    """Return how much the copies of a sample are altered, 0..1.

    It comes from the last digits of the id: `probed` chooses by the first ones, so that these are all nearly 0.
    """
    return int(identity[-8:], 16) / 0xFFFFFFFF


def probed(
    rows: pd.DataFrame, *, may_be_altered: Callable[[pd.DataFrame], "pd.Series[bool]"], num_probed: int
) -> NDArray[np.intp]:
    """Return the rows to probe: at most `num_probed` and one in SAMPLES_PER_PROBE, but one if there is any."""
    in_use = np.flatnonzero(rows["split"].isin(TRAINING) & may_be_altered(rows))
    count = min(num_probed, -(-int((rows["split"] != POOL).sum()) // SAMPLES_PER_PROBE))
    return in_use[np.argsort(rows["sample_id"].to_numpy()[in_use])[:count]]  # a SHA-256 is a fair draw


if __name__ == "__main__":
    main(run)
