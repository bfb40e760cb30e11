"""Manifest, leaks, head, backbone and samples in; the candidate, between head and fine-tuned as val fits, out.

With `finetune.start: in_use` it lies between the model in use and that model trained on, see `warm_start`.
"""

import hashlib
import logging
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.health.leaks import leaves_training
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import POOL, TRAINING, domains_of, read_batch, read_manifest
from tasks.data.manifest.tables import write_plotted
from tasks.data.samples.samples import Samples
from tasks.embedding.embedder import plan
from tasks.machine import sources
from tasks.machine.cluster import LOCAL
from tasks.machine.files import read_json, whole_folder, write_json
from tasks.machine.options import ScaleOptions
from tasks.machine.peers import ALONE, Peers
from tasks.machine.training_group import train_together
from tasks.models.bundle import check_baseline, load_bundle, save_bundle, versions
from tasks.models.classifier import Classifier
from tasks.models.words import Words
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import ScanParams
from tasks.targets.target import Facts
from tasks.training.finetuning.aligning import domains_to_align, samples_of
from tasks.training.finetuning.checkpoint import Checkpoint
from tasks.training.finetuning.few_labels import for_pairs, learns_from_pairs
from tasks.training.finetuning.grafting import graft
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.trunks import Names, Outcome, fine_tune_trunks
from tasks.training.finetuning.tuning import Data, label_tensor, lengths_of, open_source
from tasks.training.finetuning.warm_start import OF_START, Start, choose_start, digest_of_data, warm_options
from tasks.training.heads.options import HeadOptions

logger = logging.getLogger("graftline")

FEW = "train has so few labels that fine-tuning learns from pairs of texts"
OF_ALIGNMENT = ("align", "align_to", "align_weight")  # params that change nothing where nothing is aligned
OF_PAIRS = ("pairs",)  # params that change nothing where train has many labels, or no texts
OF_PEERS = ("num_workers",)  # params that change nothing where one process trains
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
    start_record: Path,
    start: Path,
    scratch: Path,
    out: Path,
    curves: Path,
    finetune: FinetuneOptions,
    train_head: HeadOptions,
    modality: Modality,
    scan: ScanParams,
    seed: int,
    scale: ScaleOptions = LOCAL,
) -> None:
    """Train the last blocks of the backbone and the heads, starting from trained heads (LP-FT, Kumar et al. 2022)."""
    given = {name: value for name, value in locals().items() if name != "scale"}
    if scale.engine == "ray":
        num_gpus = int(plan(finetune, modality=modality).device == "cuda")
        train_together(
            train, num_workers=finetune.num_workers, address=scale.address, num_gpus=num_gpus, shared=scratch / "ray",
            **given,
        )  # fmt: skip
    elif finetune.num_workers > 1:
        raise ValueError(
            f"finetune.num_workers is {finetune.num_workers}, which needs a Ray cluster: set scale.engine to ray, or "
            "num_workers to 1"
        )
    else:
        train(**given)


def train(
    *,
    manifests: Path,
    classes: Path,
    split: Path,
    audit: Path,
    batches: Path,
    raw: Path,
    backbone: Path,
    head: Path,
    start_record: Path,
    start: Path,
    scratch: Path,
    out: Path,
    curves: Path,
    finetune: FinetuneOptions,
    train_head: HeadOptions,
    modality: Modality,
    scan: ScanParams,
    seed: int,
    peers: Peers = ALONE,
) -> None:
    """Do what `run` does, in a process of its own or in each of the peers. The first of these writes the results."""
    began = time.monotonic()
    names_of_batches = read_batches(batches)
    manifest = read_manifest(manifests, names_of_batches)
    manifest = manifest[~leaves_training(manifest, audit) & manifest["split"].isin((*TRAINING, POOL))]
    aligned = domains_to_align(manifest, finetune)
    is_used = manifest["split"].isin(TRAINING) | domains_of(manifest).isin(aligned)
    manifest = manifest[is_used].reset_index(drop=True)
    pretrained, lineage = load_bundle(backbone)
    model = graft(pretrained.backbone, head, targets=with_heads(read_json(classes), manifest))
    is_one = len(model.targets) == 1
    labels = label_tensor(manifest[manifest["split"] == "train"], model.targets)
    has_pairs = modality == "text" and learns_from_pairs(model.targets, labels, finetune, train_head)
    if peers.num > 1 and (has_pairs or aligned):
        logger.info("%s compares whole minibatches: one worker trains alone", "finetune.align" if aligned else FEW)
        if not peers.is_first:
            return
        peers = ALONE
    unused = {
        *(OF_SEVERAL if is_one else ()),
        *(OF_ALIGNMENT if finetune.align == "never" else ()),
        *(OF_START if finetune.start == "backbone" else ()),
        *(() if has_pairs else OF_PAIRS),
        *(() if peers.num > 1 else OF_PEERS),
    }
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
    if modality == "text":
        facts["text_columns"] = scan.text_columns  # predict reads the tables that it is given as scan does
    goes_on: Start | None = None
    record = read_json(start_record) if finetune.start == "in_use" else {}
    if finetune.start == "in_use":
        goes_on = Start(reason=FEW) if has_pairs else choose_start(
            load_in_use(start, record), manifest, facts=facts, grafted=model, options=finetune,
            earlier=earlier_of(manifest, manifests, names_of_batches),
        )  # fmt: skip
        facts["start"] = facts_of_start(goes_on, record)
        log_start(goes_on, record)
    if has_pairs:
        logger.info("%s: the whole encoder is trained (finetune.pairs)", FEW)
        finetune = for_pairs(finetune)
    if goes_on and goes_on.model:
        finetune = warm_options(finetune, goes_on)
        manifest = manifest[goes_on.kept(manifest["split"])].reset_index(drop=True)
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
    if lengths:
        facts["median_tokens"] = round(statistics.median(map(sum, lengths)))  # of a text, for its latency
    source = open_source(
        samples, model, data, views=views, scratch=scratch, backbone=lineage["fingerprint"], options=finetune,
        lengths=lengths, peers=peers,
    )  # fmt: skip
    if source.num_views is not None and modality == "images" and source.num_views < finetune.num_views:
        facts["num_views"] = source.num_views  # that fitted into the budget
    recipe = facts | on_this_machine(manifest, finetune, modality, model.backbone.packages)
    if aligned:
        recipe["aligned"] = digest_of_ids(manifest["sample_id"].iloc[data.unlabelled])

    def checkpoint(names: Names) -> Checkpoint:
        return Checkpoint(scratch / "checkpoints", recipe=recipe if is_one else recipe | {"training": names})

    outcome = fine_tune_trunks(
        model, source, data, options=finetune, seed=seed, keeper_of=checkpoint,
        build_backbone=lambda: load_bundle(backbone)[0].backbone, in_use=goes_on.model if goes_on else None,
        refit=train_head if has_pairs else None, peers=peers,
    )  # fmt: skip
    if not peers.is_first:
        return
    description = facts | {"stage": "finetuned" if any(outcome.chosen.values()) else "head", "epoch": outcome.epoch}
    if is_one:
        description["share"] = outcome.shares()[next(iter(model.targets))]
    else:
        description |= {"shares": outcome.shares(), "trunks": outcome.trunks()}
    if goes_on:
        description["start"] = facts_of_start(goes_on, record) | {"val": measures_of(outcome)}
    if model.words and not any(own.of_words for own in model.words.factors.values()):
        model.words = None
    with whole_folder(out) as folder:
        save_bundle(folder, model, lineage=description)
    with whole_folder(curves) as folder:
        write_plotted(folder / "curves.csv", outcome.curves())
        started = {"start": description["start"]} if goes_on else {}
        write_json(folder / "finetuning.json", outcome.facts() | started)
    for names in outcome.tuned:
        checkpoint(names).remove()
    logger.info(
        "fine-tuned for %d epochs in %.0f s: %s",
        sum(len(tuned.history.epochs) - 1 for tuned in outcome.tuned.values()), time.monotonic() - began,
        "; ".join(verdict.reason for verdict in outcome.verdicts.values()),
    )  # fmt: skip


def with_heads(targets: dict[str, Facts], manifest: pd.DataFrame) -> dict[str, Facts]:
    """Return the targets that have labels on train, as `train_head` gives a head to these alone; all if none has."""
    train = manifest[manifest["split"] == "train"]
    return {name: own for name, own in targets.items() if name in train and train[name].notna().any()} or targets


def load_in_use(bundle: Path, record: Mapping[str, Any]) -> tuple[Classifier, dict[str, Any]] | None:
    """Return the model that was in use when the newest batch landed, and its lineage; None where none is recorded.

    Raises ValueError where its bundle is missing, or another one is there.
    """
    if not record:
        return None
    check_baseline(bundle, dict(record))
    return load_bundle(bundle)


def earlier_of(used: pd.DataFrame, manifests: Path, batches: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield those of the `used` samples that were there before the last batch, before the last two, and so on."""
    tables = [read_batch(manifests, batch) for batch in batches]
    for num in range(len(tables) - 1, 0, -1):
        rows = pd.concat(tables[:num], ignore_index=True)
        yield rows[rows["sample_id"].isin(used["sample_id"])]


def facts_of_start(start: Start, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a training starts, as JSON.

    `last_from_backbone` has the results of the last training that began there: on val, and the held-out ones where the
    log of promotions has them.
    """
    if not start.model:
        return {"reason": start.reason, "warm_runs": 0}
    before = start.lineage.get("start", {})
    last = before.get("last_from_backbone") or {"val": before.get("val"), "heldout": record.get("metrics")}
    return {
        "model_sha256": record["model_sha256"], "new": len(start.new), "replayed": len(start.replayed),
        "last_from_backbone": last, "warm_runs": start.warm_runs,
    }  # fmt: skip


def measures_of(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return the results on val of the answers that were chosen, by target."""
    return {name: verdict.taken.facts() for name, verdict in outcome.verdicts.items()}


def log_start(start: Start, record: Mapping[str, Any]) -> None:
    if not start.model:
        logger.info("fine-tuning starts from the backbone: %s", start.reason)
        return
    logger.info(
        "fine-tuning goes on from the model in use, %s: %s new samples of train and %s old ones, run %d since the last "
        "one from the backbone",
        record["model_sha256"][:12], f"{len(start.new):,}", f"{len(start.replayed):,}", start.warm_runs,
    )  # fmt: skip


def word_logits(words: Words, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Return the logits (n, num_classes) of n texts by their words alone, for each target."""
    vocabulary = words.vocabulary()
    rows = [vocabulary.row(text) for text in texts]
    return {target: layer.logits(rows) for target, layer in words.layers().items()}


def on_this_machine(
    manifest: pd.DataFrame, options: FinetuneOptions, modality: Modality, packages: Iterable[str]
) -> dict[str, Any]:
    """Return everything that the steps of a training depend on besides the facts of a candidate.

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


def digest_of(folder: Path) -> str:
    """Return the SHA-256 (hex) of the files of a folder."""
    content = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        content.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


if __name__ == "__main__":
    main(run)
