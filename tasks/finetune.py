"""Manifest, leaks, head, backbone and samples in; the candidate, between head and fine-tuned as val fits, out."""

import hashlib
import logging
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.health.leaks import leaves_training
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import POOL, TRAINING, domains_of, read_manifest
from tasks.data.manifest.tables import write_plotted
from tasks.data.samples.samples import Samples
from tasks.embedding.embedder import plan
from tasks.machine import sources
from tasks.machine.files import read_json, whole_folder, write_json
from tasks.models.bundle import load_bundle, save_bundle, versions
from tasks.models.words import Words
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import ScanParams
from tasks.targets.target import Facts
from tasks.training.finetuning.aligning import domains_to_align, samples_of
from tasks.training.finetuning.checkpoint import Checkpoint
from tasks.training.finetuning.grafting import graft
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.trunks import Names, fine_tune_trunks
from tasks.training.finetuning.tuning import Data, label_tensor, lengths_of, open_source

logger = logging.getLogger("graftline")

OF_ALIGNMENT = ("align", "align_to", "align_weight")  # params that change nothing where nothing is aligned
OF_SEVERAL = ("balance", "significance", "trunks")  # params that change nothing where there is one target


def run(
    *,
    manifests: Path,
    classes: Path,
    split: Path,
    audit: Path,
    batches: Path,
    raw: Path,
    backbone: Path,
    head: Path,
    scratch: Path,
    out: Path,
    curves: Path,
    finetune: FinetuneOptions,
    modality: Modality,
    scan: ScanParams,
    seed: int,
) -> None:
    """Train the last blocks of the backbone and the heads, starting from trained heads (LP-FT, Kumar et al. 2022)."""
    start = time.monotonic()
    manifest = read_manifest(manifests, read_batches(batches))
    manifest = manifest[~leaves_training(manifest, audit) & manifest["split"].isin((*TRAINING, POOL))]
    aligned = domains_to_align(manifest, finetune)
    is_used = manifest["split"].isin(TRAINING) | domains_of(manifest).isin(aligned)
    manifest = manifest[is_used].reset_index(drop=True)
    pretrained, lineage = load_bundle(backbone)
    model = graft(pretrained.backbone, head, targets=with_heads(read_json(classes), manifest))
    decode = room(modality, "decode")
    samples = Samples(manifest, raw=raw, decode=decode.decode_sample, read=decode.read)
    val = np.flatnonzero(manifest["split"] == "val")
    data = Data(
        labels=label_tensor(manifest, model.targets),
        train=np.flatnonzero(manifest["split"] == "train"),
        val=val,
        unlabelled=samples_of(manifest, aligned),
        words=word_logits(model.words, map(samples.decoded, val.tolist())) if model.words else {},
    )
    for side, rows in (("train", data.train), ("val", data.val)):
        if data.labels[rows].isnan().all():
            raise ValueError(
                f"{manifests} has no labelled samples of {side} that are no leaks, expected at least one: land more "
                "samples, or change validate.val_fraction"
            )
    views = room(modality, "augment").AugmentedViews(augmentation=finetune, seed=seed)
    lengths = lengths_of(samples, model.backbone.transform) if modality == "text" else None
    is_one = len(model.targets) == 1
    unused = {*(OF_SEVERAL if is_one else ()), *(OF_ALIGNMENT if finetune.align == "never" else ())}
    facts = {
        "backbone": lineage["fingerprint"],
        "data": digest_of_data(manifest),
        "head": digest_of(head),
        "params": {name: own for name, own in asdict(finetune).items() if name not in unused},
        "seed": seed,
        "split": read_json(split),
        "versions": versions(model.backbone),
    }
    if aligned:
        facts["aligned_to"] = aligned
    if lengths:
        facts["median_tokens"] = round(statistics.median(map(sum, lengths)))  # of a text, for its latency
    if modality == "text":
        facts["text_columns"] = scan.text_columns  # predict reads the tables that it is given as scan does
    source = open_source(
        samples, model, data, views=views, scratch=scratch, backbone=lineage["fingerprint"], options=finetune,
        lengths=lengths,
    )  # fmt: skip
    recipe = facts | on_this_machine(manifest, finetune, modality, model.backbone.packages)
    if aligned:
        recipe["aligned"] = digest_of_ids(manifest["sample_id"].iloc[data.unlabelled])

    def checkpoint(names: Names) -> Checkpoint:
        return Checkpoint(scratch / "checkpoints", recipe=recipe if is_one else recipe | {"training": names})

    outcome = fine_tune_trunks(
        model, source, data, options=finetune, seed=seed, keeper_of=checkpoint,
        build_backbone=lambda: load_bundle(backbone)[0].backbone,
    )  # fmt: skip
    description = facts | {"stage": "finetuned" if any(outcome.chosen.values()) else "head", "epoch": outcome.epoch}
    if is_one:
        description["share"] = outcome.shares()[next(iter(model.targets))]
    else:
        description |= {"shares": outcome.shares(), "trunks": outcome.trunks()}
    if model.words and not any(own.of_words for own in model.words.factors.values()):
        model.words = None
    with whole_folder(out) as folder:
        save_bundle(folder, model, lineage=description)
    with whole_folder(curves) as folder:
        write_plotted(folder / "curves.csv", outcome.curves())
        write_json(folder / "finetuning.json", outcome.facts())
    for names in outcome.tuned:
        checkpoint(names).remove()
    logger.info(
        "fine-tuned for %d epochs in %.0f s: %s",
        sum(len(tuned.history.epochs) - 1 for tuned in outcome.tuned.values()), time.monotonic() - start,
        "; ".join(verdict.reason for verdict in outcome.verdicts.values()),
    )  # fmt: skip


def with_heads(targets: dict[str, Facts], manifest: pd.DataFrame) -> dict[str, Facts]:
    """Return the targets that have labels on train, as `train_head` gives a head to these alone; all if none has."""
    train = manifest[manifest["split"] == "train"]
    return {name: own for name, own in targets.items() if name in train and train[name].notna().any()} or targets


def word_logits(words: Words, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Return the logits (n, num_classes) of n texts by their words alone, for each target."""
    vocabulary = words.vocabulary()
    rows = [vocabulary.row(text) for text in texts]
    return {target: layer.logits(rows) for target, layer in words.layers().items()}


def on_this_machine(
    manifest: pd.DataFrame, options: FinetuneOptions, modality: Modality, packages: Iterable[str]
) -> dict[str, Any]:
    """Return what the steps of a training depend on besides the facts of a candidate.

    A run resumes from a checkpoint only if both are the same.
    """
    chosen = plan(options, modality=modality)
    return {
        "code": sources.digest("tasks.finetune"),
        "order": digest_of_ids(manifest["sample_id"]),
        "packages": {name: version(name) for name in (*packages, "scipy")},
        "plan": chosen.recipe(),
    }


def digest_of_ids(sample_ids: Iterable[str]) -> str:
    """Return the SHA-256 (hex) of the ids of samples, in this order."""
    return hashlib.sha256("".join(sample_ids).encode()).hexdigest()


def digest_of_data(manifest: pd.DataFrame) -> str:
    """Return the version of the data: the SHA-256 (hex) of the samples, their sides and their labels."""
    rows = pd.util.hash_pandas_object(manifest.drop(columns=["batch", "path"]), index=False)
    return hashlib.sha256(rows.sort_values().to_numpy().tobytes()).hexdigest()


def digest_of(folder: Path) -> str:
    """Return the SHA-256 (hex) of the files of a folder."""
    content = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        content.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


if __name__ == "__main__":
    main(run)
