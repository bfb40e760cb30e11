"""The embedded samples and their backbone in; the backbone in 8 bits (int8) out, where that is accurate enough.

Samples of train give the ranges of activations. A head is trained on the vectors of int8 and another on those of
params.yaml, and both answer val. Where int8 loses more than MOST_LOSS, nothing is written, and the run fails.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.choosing.sample import first, strata
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import TRAINING, read_manifest
from tasks.data.samples.samples import Samples
from tasks.embedding.embedder import Embedder, plan
from tasks.embedding.engine import StoredView, open_store
from tasks.embedding.engine import embed as look_at
from tasks.embedding.execution import depends_on_neighbours
from tasks.embedding.fusion import fold, trace
from tasks.embedding.quantised import BACKBONE, PIN
from tasks.embedding.ready import make_ready
from tasks.embedding.runtimes import installed, part_of, to_onnx
from tasks.machine.cores import one_thread_each
from tasks.machine.extras import require
from tasks.machine.files import read_json, sha256, whole_file
from tasks.machine.progress import progress
from tasks.models.backbone import Backbone
from tasks.models.bundle import load_bundle
from tasks.prediction.quantise import NUM_CALIBRATION, write_int8
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import EmbedParams
from tasks.targets.classes import Classes
from tasks.targets.kinds import targets_of
from tasks.training.heads.linear import fit_linear
from tasks.training.heads.logistic import all_val_logits
from tasks.training.heads.options import HeadOptions

logger = logging.getLogger("graftline")

MOST_LOSS = 0.005  # of the accuracy on val, for each target of classes
MOST_SAMPLES = {"train": 2000, "val": 2000}  # that are embedded to measure it

Vectors = NDArray[np.float32]


def run(
    *,
    manifests: Path,
    batches: Path,
    classes: Path,
    raw: Path,
    backbone: Path,
    store: Path,
    out: Path,
    embed: EmbedParams,
    train_head: HeadOptions,
    modality: Modality,
    seed: int,
) -> None:
    """Write the backbone in 8 bits where it is accurate enough, and log what to set in params.yaml.

    Args:
        out: the ONNX file, best in the folder of weights
    """
    model, _ = load_bundle(backbone)
    network = model.backbone
    if not isinstance(network, Backbone):
        raise ValueError("the backbone reads texts, and int8 is for images: leave embed.precision at auto")
    require("export")
    kept = {name: target for name, target in targets_of(read_json(classes)).items() if isinstance(target, Classes)}
    manifest = read_manifest(manifests, read_batches(batches))
    rows = drawn(manifest, {name: target for name, target in kept.items() if name in manifest}, seed=seed)
    decode, copy_hash = room(modality, "decode"), room(modality, "copy_hash")
    samples = Samples[Any](rows, raw=raw, decode=decode.decode_sample, read=decode.read)
    options = replace(embed, device="cpu", precision="auto", execution="auto", quantised=None)
    usual = make_ready(network, options, store=store)
    with whole_file(out) as path:
        write_quantised(path, network, samples, size=part_of(usual.plan.minibatch_size))
        quantised = fastest(
            network, replace(options, precision="int8", quantised=f"{path}{PIN}{sha256(path)}"), samples
        )
        vectors = []
        for embedder in (usual, quantised):
            opened = open_store(
                store, embedder, backbone=network.fingerprint(), decode=decode.decode_sample,
                hash_of=copy_hash.copy_hashes, hashes_shape=copy_hash.HASHES_SHAPE,
            )  # fmt: skip
            view = StoredView(embedder=embedder, store=opened, keys=samples.ids)
            show = partial(progress, what=f"embed in {embedder.plan.precision}", unit="minibatches")
            look_at(samples.content, [view], names=samples.paths, show=show)
            vectors.append(opened.all_looks(samples.ids).vectors.astype(np.float32))
        compare(rows, kept, vectors, train_head)
        pin = f"{out}{PIN}{sha256(path)}"
    share = seconds_of(quantised, samples) / seconds_of(usual, samples)
    logger.info(
        "int8 is %s: it takes %.0f %% of the time of %s; in the section embed of params.yaml, set precision to int8, "
        "execution to %s and quantised to %s", "proposed" if share < 1 else "exact enough, but not faster here",
        100 * share, usual.plan.precision, quantised.plan.execution, pin,
    )  # fmt: skip


def fastest(backbone: Backbone, options: EmbedParams, samples: Samples[Any]) -> Embedder:
    """Return the backbone in 8 bits, in the fastest installed runtime in which no neighbour changes a vector.

    Raises:
        ValueError: there is none.
    """
    embedders = []
    for runtime in installed("int8"):
        embedder = Embedder(backbone, plan(replace(options, execution=runtime)))  # type: ignore[arg-type]
        with one_thread_each():
            pixels = minibatch_of(embedder, samples)
            depends = depends_on_neighbours(embedder, pixels, embedder(pixels))
        if depends:
            logger.warning("%s is not used: its vectors depend on the neighbours in a minibatch", runtime)
        else:
            embedders.append(embedder)
    if not embedders:
        raise ValueError("int8 is refused: no runtime gives vectors that do not depend on their neighbours")
    return min(embedders, key=lambda embedder: seconds_of(embedder, samples))


def drawn(manifest: pd.DataFrame, targets: Mapping[str, Classes], *, seed: int) -> pd.DataFrame:
    """Return MOST_SAMPLES rows of train and then of val that have a label, or more where a class would lack samples.

    Held-out samples are never among them.

    Raises:
        ValueError: there is no target of classes, or train or val has no label of one.
    """
    if not targets:
        raise ValueError("int8 is measured by an accuracy, and no target has classes: leave embed.precision at auto")
    parts = []
    for split in TRAINING:
        rows = manifest[manifest["split"] == split].drop_duplicates("sample_id")
        order = [hashlib.sha256(f"{seed}:{identity}".encode()).hexdigest() for identity in rows["sample_id"]]
        rows = rows.iloc[np.argsort(order)]
        is_drawn = np.zeros(len(rows), bool)
        for name, target in targets.items():
            of_target = first(strata(rows[name], target), MOST_SAMPLES[split] // len(targets))
            if not of_target.any():
                raise ValueError(f"{split} has no label of the target {name}, whose accuracy measures int8: label some")
            is_drawn |= of_target
        parts.append(rows[is_drawn])
    return pd.concat(parts, ignore_index=True)


def write_quantised(path: Path, backbone: Backbone, samples: Samples[Any], *, size: int) -> None:
    """Write the backbone in 8 bits, for `size` images; the first samples of train give the ranges."""
    import onnx
    import torch

    transform = backbone.transform
    graph = trace(backbone)
    with torch.inference_mode():
        fold(graph)
    of_train = np.flatnonzero(samples.rows["split"] == "train").tolist()
    minibatches = []
    for start in range(0, NUM_CALIBRATION, size):
        rows = [of_train[number % len(of_train)] for number in range(start, start + size)]  # few are taken again
        pixels = [transform.prepare(samples.decoded(row, shorter_side=transform.shorter_side)) for row in rows]
        minibatches.append((transform.normalize(transform.stack(pixels)).float().contiguous(),))
    exported = path.with_name(f"exported-{path.name}")
    exported.write_bytes(to_onnx(graph, minibatches[0][0]))
    write_int8(path, exported, names=["images"], calibration=minibatches)
    exported.unlink()
    content = onnx.load(path)
    del content.metadata_props[:]
    entry = content.metadata_props.add()
    entry.key, entry.value = BACKBONE, backbone.fingerprint()
    onnx.save(content, path)


def minibatch_of(embedder: Any, samples: Samples[Any]) -> Any:
    transform = embedder.transform
    rows = [number % len(samples) for number in range(embedder.plan.minibatch_size)]
    return embedder.stack(
        [transform.prepare(samples.decoded(row, shorter_side=transform.shorter_side)) for row in rows]
    )


def seconds_of(embedder: Any, samples: Samples[Any]) -> float:
    """Return the processor seconds of a minibatch, the least of three."""
    pixels = minibatch_of(embedder, samples)
    seconds = []
    with one_thread_each():  # as when it embeds: several threads would wait for each other, which counts
        for _ in range(4):
            start = time.process_time()
            embedder(pixels)
            seconds.append(time.process_time() - start)
    return min(seconds[1:])


def compare(
    rows: pd.DataFrame, targets: Mapping[str, Classes], vectors: Sequence[Vectors], options: HeadOptions
) -> None:
    """Log the accuracy on val of heads on the usual `vectors` and on those of int8.

    Raises:
        ValueError: int8 loses more than MOST_LOSS on a target.
    """
    for name, target in targets.items():
        if name not in rows:
            continue
        truths = target.encode(rows[name])
        usual, int8 = (accuracy(target, of_one, truths, rows["split"].to_numpy(), options) for of_one in vectors)
        line = f"target {name}: accuracy on val {int8:.4f} with int8, {usual:.4f} without"
        if usual - int8 > MOST_LOSS:
            raise ValueError(f"int8 is refused: {line}, expected to lose at most {MOST_LOSS}: keep embed.precision")
        logger.info("%s", line)


def accuracy(
    target: Classes, vectors: Vectors, truths: NDArray[Any], splits: NDArray[Any], options: HeadOptions
) -> float:
    """Return the accuracy on val of a linear head on the vectors of train."""
    has_label = target.has_label(truths)
    train, val = (np.flatnonzero((splits == split) & has_label) for split in TRAINING)
    head = fit_linear(target, (vectors[train], truths[train]), (vectors[val], truths[val]), options)
    logits = all_val_logits(head.weight, head.bias, vectors[val])
    return float((logits.argmax(axis=1) == truths[val]).mean())


if __name__ == "__main__":
    main(run)
