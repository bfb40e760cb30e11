"""Candidate, baseline and the held-out samples in; a prediction a row, metrics and plot data out. Measures, judges nothing."""

import hashlib
import json
import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from tasks import stage
from tasks.data.batches import read_batches
from tasks.data.copies import PERTURBATIONS
from tasks.data.embeddings import read_embeddings
from tasks.data.leaks import is_leaked
from tasks.data.manifest import MISSING, label_indices, read_manifest, write_table, write_text_table
from tasks.data.samples import Samples, minibatches, num_minibatches
from tasks.data.splits import Split, held_out_before
from tasks.files import read_json, sha256, whole_folder, write_json
from tasks.metrics.accuracy import measure_accuracy
from tasks.metrics.bootstrap import intervals
from tasks.metrics.calibration import reliability, squared_errors
from tasks.metrics.significance import compare
from tasks.metrics.slices import check_slices, slice_table
from tasks.models.bundle import DESCRIPTION, WEIGHTS, load_bundle
from tasks.models.classifier import Classifier
from tasks.models.head import load_heads
from tasks.models.latency import latency
from tasks.params import EvaluateParams
from tasks.progress import progress

logger = logging.getLogger("graftline")

Probabilities = dict[str, NDArray[np.float64]]  # by target: (n, num_classes), columns in the candidate's class order


def run(
    *,
    manifests: Path,
    split: Path,
    audit: Path,
    batches: Path,
    raw: Path,
    embeddings: Path,
    head: Path,
    candidate: Path,
    baseline_record: Path,
    baseline: Path,
    out: Path,
    evaluate: EvaluateParams,
    seed: int,
) -> None:
    """Measure the candidate, the head alone and the model in use on the same held-out samples."""
    manifest = read_manifest(manifests, read_batches(batches))
    is_heldout = (manifest["split"] == "heldout").to_numpy()
    rows = manifest[is_heldout].reset_index(drop=True)
    check_slices(rows, evaluate.slices)
    model, lineage = load_bundle(candidate)
    classes = model.classes
    vectors = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest))  # (n, dim)
    leaked = is_leaked(rows, audit)
    ask = partial(predict, rows=rows, raw=raw, classes=classes, minibatch_size=evaluate.minibatch_size)
    predictions: dict[str, Probabilities] = {
        "candidate": ask(model, what="candidate"),
        "head": predict_from_embeddings(head, vectors[np.flatnonzero(is_heldout)]),
    }
    perturbed = {name: ask(model, what="candidate", perturbation=name) for name in evaluate.perturbations}
    latencies = {"candidate": latency(model)}
    record = read_json(baseline_record)
    in_use = record.get("model_sha256")
    known: dict[str, list[str]] = {}
    is_new = np.ones(len(rows), dtype=bool)  # to the model in use
    if in_use is not None:
        check_baseline(baseline, record)
        model, learned = load_bundle(baseline)
        known = model.classes
        predictions["baseline"] = ask(model, what="baseline")
        latencies["baseline"] = latency(model)
        is_new = held_out_before(rows, now=Split(**read_json(split)), before=Split.read(learned.get("split")))
        if not is_new.all():
            logger.warning(
                "warning: the split is another than the model in use was trained by: candidate and model in use are compared on the %s of %s "
                "held-out samples that neither learned from",
                f"{is_new.sum():,}",
                f"{len(rows):,}",
            )
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
        metrics[target]["candidate"]["unchanged"] = {
            name: share_unchanged(by_model["candidate"], found[target][is_there]) for name, found in perturbed.items()
        }
        said = prediction_table(there, target, labels[is_there], by_model, names)
        said = said.assign(is_leaked=leaked[is_there], is_shared=is_shared)
        table = said.join(there[[each for each in there if each not in said]])
        slices.append(slice_table(table, columns=evaluate.slices, target=target, confidence=evaluate.confidence))
        tables.append(table.drop(columns=[each for each in ("split", *classes) if each not in said]))
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
        subject = {"candidate": sha256(candidate / WEIGHTS), "baseline": in_use, "stage": lineage["stage"]}
        sizes = {"candidate_bytes": folder_bytes(candidate)} | (
            {"baseline_bytes": folder_bytes(baseline)} if in_use else {}
        )
        heldout = {"heldout": version_of(rows, list(classes)), "num_heldout": len(rows)}
        lost = {
            target: [each for each in names if each not in classes.get(target, [])] for target, names in known.items()
        }
        unseen = {
            target: [each for each in names if each not in metrics[target]["candidate"]["recall"]]
            for target, names in classes.items()
        }
        about = {"confidence": evaluate.confidence, "lost_classes": lost, "classes_without_samples": unseen}
        write_json(folder / "subject.json", subject | sizes | heldout | about | {"lineage": lineage})
    for target, measured in metrics.items():
        accuracies = ", ".join(f"{name} {measured[name]['accuracy']:.4f}" for name in predictions)
        logger.info("evaluated %s on %s held-out samples: accuracy of %s", target, f"{len(rows):,}", accuracies)
    # told and not kept: equal runs leave equal bytes
    logger.info("one sample at a time: %s", ", ".join(f"{name} {each:.1f} ms" for name, each in latencies.items()))


def predict(
    model: Classifier,
    rows: pd.DataFrame,
    *,
    raw: Path,
    classes: dict[str, list[str]],
    minibatch_size: int,
    what: str,
    perturbation: str | None = None,
) -> Probabilities:
    """The probabilities that a model gives to `classes`, zero for a class that it does not know; of perturbed pictures where a
    perturbation is named."""
    transform = model.backbone.transform
    samples = Samples(rows, raw=raw, shorter_side=transform.shorter_side)
    perturb = PERTURBATIONS[perturbation] if perturbation else None
    pixels = minibatches(
        samples,
        pixels=lambda picture: transform.pixels(perturb(picture) if perturb else picture),
        size=minibatch_size,
    )
    total = num_minibatches(len(rows), minibatch_size)
    what = f"evaluate {what}" + (f", pictures {perturbation}" if perturbation else "")
    shown = progress(pixels, total=total, what=what, unit="minibatches")
    given = dict(zip(model.classes, model.probabilities(shown), strict=True))
    return {
        target: in_class_order(given[target].numpy(), model.classes[target], names)
        if target in given
        else np.full((len(rows), len(names)), 1 / len(names))
        for target, names in classes.items()
    }


def predict_from_embeddings(head: Path, vectors: NDArray[np.float32]) -> Probabilities:
    """The probabilities that the head alone gives: vectors (n, dim)."""
    heads, _ = load_heads(head)
    return {
        target: softmax(each.logits(vectors).astype(np.float64) / each.temperature, axis=1)
        for target, each in heads.items()
    }


def in_class_order(probabilities: NDArray[np.float64], given: list[str], wanted: list[str]) -> NDArray[np.float64]:
    """(n, len(given)) -> (n, len(wanted))."""
    ordered = np.zeros((len(probabilities), len(wanted)))
    for column, name in enumerate(given):
        if name in wanted:
            ordered[:, wanted.index(name)] = probabilities[:, column]
    return ordered


def measure(
    labels: NDArray[np.int64],
    by_model: dict[str, NDArray[np.float64]],
    names: list[str],
    params: EvaluateParams,
    *,
    leaked: NDArray[np.bool_],
    is_shared: NDArray[np.bool_],
    seed: int,
) -> dict[str, Any]:
    """The numbers of each model and, where there is a baseline, the flips from it to the candidate on samples that it did not learn
    from, of classes that it knows: `is_shared` (n,). Where these are but a part, `shared` has the numbers of both on them, since
    on the others the two do not compare. `leaked` (n,) says which samples have a near-duplicate in train or val."""
    ask = partial(measure_model, names=names, params=params, seed=seed)
    measured: dict[str, Any] = {name: ask(labels, found, leaked=leaked) for name, found in by_model.items()}
    if "baseline" not in by_model:
        return measured
    both = {name: by_model[name][is_shared] for name in ("candidate", "baseline")}
    is_right = {name: found.argmax(axis=1) == labels[is_shared] for name, found in both.items()}
    measured["flips"] = asdict(compare(candidate=is_right["candidate"], baseline=is_right["baseline"]))
    if is_shared.any() and not is_shared.all():
        measured["shared"] = {
            name: ask(labels[is_shared], found, leaked=leaked[is_shared]) for name, found in both.items()
        }
    return measured


def measure_model(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    names: list[str],
    params: EvaluateParams,
    leaked: NDArray[np.bool_],
    seed: int,
) -> dict[str, Any]:
    """The numbers of a model that gives the samples these probabilities: (n, num_classes)."""
    found = measure_accuracy(labels=labels, probabilities=probabilities)
    _, error = reliability(labels=labels, probabilities=probabilities, num_bins=params.calibration_bins)
    return {
        "accuracy": found.accuracy,
        "accuracy_without_leaks": accuracy_of(labels[~leaked], probabilities[~leaked]),
        "num_leaked": int(leaked.sum()),
        "macro_f1": found.macro_f1,
        "log_loss": found.log_loss,
        "calibration_error": error,
        "brier": float(squared_errors(labels=labels, probabilities=probabilities).mean()),
        "intervals": intervals(
            labels=labels,
            probabilities=probabilities,
            num_bins=params.calibration_bins,
            confidence=params.confidence,
            num_resamples=params.num_resamples,
            generator=np.random.default_rng(seed),
        ),
        "recall": {each: float(recall) for each, recall in zip(names, found.recall, strict=True) if recall == recall},
    }


def is_known(labels: NDArray[np.int64], names: list[str], *, known: list[str]) -> NDArray[np.bool_]:
    """Of labels (n,), places in `names`: whether their classes are among the known ones."""
    return np.isin(labels, [place for place, name in enumerate(names) if name in known])


def share_unchanged(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Of the samples (n, num_classes), those whose likeliest class stays the same."""
    return float((before.argmax(axis=1) == after.argmax(axis=1)).mean())


def accuracy_of(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float | None:
    """The share of samples whose label is the likeliest; None where there are none."""
    return float((probabilities.argmax(axis=1) == labels).mean()) if len(labels) else None


def prediction_table(
    rows: pd.DataFrame,
    target: str,
    labels: NDArray[np.int64],
    by_model: dict[str, NDArray[np.float64]],
    names: list[str],
) -> pd.DataFrame:
    """A row a sample: what it is, and what each model says it is, with the probability of that and of the truth."""
    table = rows[["sample_id", "batch", "path"]].assign(target=target, label=np.array(names)[labels])
    for name, probabilities in by_model.items():
        table[name] = np.array(names)[probabilities.argmax(axis=1)]
        table[f"{name}_confidence"] = probabilities.max(axis=1)
        table[f"{name}_label_probability"] = probabilities[np.arange(len(labels)), labels]
    return table


def check_baseline(baseline: Path, record: dict[str, str]) -> None:
    """Raises ValueError where the model in use is not here, or is another, in weights or description, than the record says."""
    for key, name in (("model_sha256", WEIGHTS), ("description_sha256", DESCRIPTION)):
        file = baseline / name
        if not file.is_file():
            raise ValueError(f"the model in use is not at {baseline}: run `dvc pull {baseline}.dvc`")
        if sha256(file) != (expected := record.get(key)):
            raise ValueError(
                f"{file} is not that of the model in use (expected SHA-256 {str(expected)[:12]}): run `dvc checkout {baseline}.dvc`"
            )


def version_of(rows: pd.DataFrame, targets: list[str]) -> str:
    """SHA-256 of which samples are held out and what they are, in whatever order."""
    columns = rows[["sample_id", *targets]].astype(object)
    lines = sorted(json.dumps(row) for row in columns.where(columns.notna(), None).to_numpy().tolist())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


if __name__ == "__main__":
    stage.main(run)
