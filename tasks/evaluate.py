"""Candidate, baseline and the held-out samples in; predictions, metrics and plot data out. It judges nothing."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from tasks.data.admission.options import Split
from tasks.data.admission.splits import held_out_before, read_split
from tasks.data.health.leaks import is_leaked
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import read_manifest, version_of
from tasks.data.manifest.tables import write_table, write_text_table
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import read_embeddings
from tasks.data.vectors.tensors import Tensor, write_tensors
from tasks.machine.files import read_json, sha256, whole_folder, write_json
from tasks.machine.progress import progress
from tasks.metrics.calibration import reliability
from tasks.metrics.measures import is_known, measure, share_unchanged
from tasks.metrics.projection import project
from tasks.metrics.slices import check_slices, slice_table
from tasks.models.bundle import WEIGHTS, check_baseline, folder_bytes, load_bundle
from tasks.prediction.answers import Answerer, TargetAnswers, answers_of_words
from tasks.prediction.answers import answers as answers_of_heads
from tasks.prediction.heldout import Parts, ask, in_classes_of, prediction_table, words_of
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import EvaluateParams
from tasks.targets.classes import MISSING, label_indices
from tasks.targets.head import load_heads
from tasks.text.words import load_vocabulary

logger = logging.getLogger("graftline")

WORDS_ALONE = "words_alone"  # the name of the head's words; the manifest has the number of words as `words`


def run(
    *,
    manifests: Path,
    split: Path,
    audit: Path,
    batches: Path,
    raw: Path,
    embeddings: Path,
    store: Path,
    head: Path,
    candidate: Path,
    baseline_record: Path,
    baseline: Path,
    out: Path,
    evaluate: EvaluateParams,
    modality: Modality,
    seed: int,
) -> None:
    """Measure the candidate, the head alone, its words alone and the model in use on the same held-out samples."""
    manifest = read_manifest(manifests, read_batches(batches))
    is_heldout = (manifest["split"] == "heldout").to_numpy()
    rows = manifest[is_heldout].reset_index(drop=True)
    check_slices(rows, evaluate.slices)
    parts = parts_of(modality, evaluate.perturbations)
    model, lineage = load_bundle(candidate)
    targets = model.targets
    classes = {name: list(target.names) for name, target in targets.items()}
    vectors = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest))  # (n, dim)
    leaked = is_leaked(rows, audit)
    answerers = {"candidate": Answerer(model, minibatch_size=evaluate.minibatch_size)}
    record = read_json(baseline_record)
    in_use = record.get("model_sha256")
    known: dict[str, list[str]] = {}
    is_new = np.ones(len(rows), dtype=bool)  # to the model in use
    if in_use is not None:
        check_baseline(baseline, record)
        model, learned = load_bundle(baseline)
        if (own := model.backbone.transform.modality) != modality:
            raise ValueError(
                f"the model in use reads {own}, and params.yaml has modality: {modality}: start a project of its own "
                "for it, in another clone"
            )
        known = {name: list(target.names) for name, target in model.targets.items()}
        answerers["baseline"] = Answerer(model, minibatch_size=evaluate.minibatch_size)
        is_new = held_out_before(rows, now=Split(**read_json(split)), before=read_split(learned.get("split")))
        if not is_new.all():
            logger.warning(
                "warning: the split is another than the model in use was trained by: candidate and model in use are "
                "compared on the %s of %s held-out samples that neither learned from",
                f"{is_new.sum():,}",
                f"{len(rows):,}",
            )
    show = partial(progress, what="evaluate", unit="minibatches")
    asked = ask(answerers, rows, raw=raw, store=store, parts=parts, alterations=evaluate.perturbations, show=show)
    in_order = {
        name: in_classes_of(answers, known=answerers[name].classes, wanted=classes, num_rows=len(rows))
        for name, answers in asked.models.items()
    }
    heads, head_targets = load_heads(head)
    words = words_of(Samples(rows, raw=raw, decode=parts.decode, read=parts.read), load_vocabulary(head))
    predictions: dict[str, TargetAnswers] = {
        "candidate": in_order.pop("candidate"),
        "head": answers_of_heads(heads, head_targets, vectors[np.flatnonzero(is_heldout)].astype(np.float16), words),
        **({WORDS_ALONE: answers_of_words(heads, words)} if words else {}),
        **in_order,
    }
    metrics, tables, confusions, reliabilities, slices = {}, [], [], [], []
    for target, names in classes.items():
        labels = np.array(label_indices(rows[target], names))
        is_there = labels != MISSING
        by_model = {name: probabilities[target][is_there] for name, probabilities in predictions.items()}
        there = rows[is_there].reset_index(drop=True)
        is_shared = (
            is_known(labels[is_there], names, known=known.get(target, []) if in_use else names) & is_new[is_there]
        )
        metrics[target] = measure(
            labels[is_there], by_model, names, evaluate, leaked=leaked[is_there], is_shared=is_shared, seed=seed
        )
        majority = majority_class(manifest.loc[manifest["split"] == "train", target], names)
        right = float((there[target] == majority).mean())
        metrics[target]["majority_class"] = {"name": majority, "heldout_share": right}
        metrics[target]["candidate"]["unchanged"] = {
            name: share_unchanged(by_model["candidate"], probabilities[target][is_there])
            for name, probabilities in asked.altered.items()
        }
        own = prediction_table(there, target, labels[is_there], by_model, names)
        own = own.assign(is_leaked=leaked[is_there], is_shared=is_shared)
        table = own.join(there[[column for column in there if column not in own]])
        slices.append(slice_table(table, columns=evaluate.slices, target=target, confidence=evaluate.confidence))
        tables.append(table.drop(columns=[column for column in ("split", *classes) if column not in own]))
        confusions.append(tables[-1][["target", "label", "candidate"]])
        bins, _ = reliability(
            labels=labels[is_there], probabilities=by_model["candidate"], num_bins=evaluate.calibration_bins
        )
        reliabilities.append(bins.assign(target=target))
    with whole_folder(out) as folder:
        write_table(folder / "predictions.parquet", pd.concat(tables, ignore_index=True))
        write_json(folder / "metrics.json", metrics)
        pd.concat(confusions).to_csv(folder / "confusion.csv", index=False)
        pd.concat(reliabilities).to_csv(folder / "reliability.csv", index=False)
        write_text_table(folder / "slices.csv", pd.concat(slices))
        places = Tensor(shape=(len(rows), 2), dtype=np.uint16, pieces=[project(asked.features)])
        write_tensors(folder / "places.safetensors", {"places": places}, metadata={})
        subject = {"candidate": sha256(candidate / WEIGHTS), "baseline": in_use, "stage": lineage["stage"]}
        sizes = {"candidate_bytes": folder_bytes(candidate)} | (
            {"baseline_bytes": folder_bytes(baseline)} if in_use else {}
        )
        heldout = {"heldout": version_of(rows, list(classes)), "num_heldout": len(rows)}
        lost = {
            target: [name for name in names if name not in classes.get(target, [])] for target, names in known.items()
        }
        unseen = {
            target: [name for name in names if name not in metrics[target]["candidate"]["recall"]]
            for target, names in classes.items()
        }
        about = {"confidence": evaluate.confidence, "lost_classes": lost, "classes_without_samples": unseen}
        write_json(folder / "subject.json", subject | sizes | heldout | about | {"lineage": lineage})
    for target, measured in metrics.items():
        accuracies = ", ".join(f"{name} {measured[name]['accuracy']:.4f}" for name in predictions)
        logger.info("evaluated %s on %s held-out samples: accuracy of %s", target, f"{len(rows):,}", accuracies)


def parts_of(modality: Modality, perturbations: list[str]) -> Parts:
    """Return what the modality's room has for `ask`. Raises ValueError where it lacks a perturbation."""
    decode, copy_hash = room(modality, "decode"), room(modality, "copy_hash")
    known = room(modality, "alterations").PERTURBATIONS
    if unknown := [name for name in perturbations if name not in known]:
        raise ValueError(f"evaluate.perturbations names {unknown[0]!r}, expected some of {', '.join(known)}")
    return Parts(
        read=decode.read, decode=decode.decode_sample, hash_of=copy_hash.copy_hashes,
        hashes_shape=copy_hash.HASHES_SHAPE, alterations=known,
    )  # fmt: skip


def majority_class(labels: "pd.Series[str]", names: list[str]) -> str:
    """Return the most common class among the labels; of several, the first in `names`."""
    counts = labels.value_counts()
    return max(names, key=lambda name: int(counts.get(name, 0)))


if __name__ == "__main__":
    main(run)
