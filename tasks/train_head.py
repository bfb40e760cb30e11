"""Manifest, embeddings and leaks in; a head for every target, chosen and calibrated on val, out."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.leaks import leaves_training
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import read_manifest
from tasks.data.vectors.embeddings import read_embeddings
from tasks.machine.files import read_json, whole_folder
from tasks.stage.main import main
from tasks.targets.classes import MISSING, is_right, label_indices, losses
from tasks.targets.head import Head, Layer, save_heads
from tasks.training.heads.centroid import fit_centroids
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import Array, Labels, Vectors, check_finite
from tasks.training.loop.temperature import fit_temperature

logger = logging.getLogger("graftline")

VAL_ROWS = 4096  # vectors that are read at a time


def run(
    *,
    manifests: Path,
    classes: Path,
    embeddings: Path,
    audit: Path,
    batches: Path,
    out: Path,
    train_head: HeadOptions,
    seed: int,
) -> None:
    """Train a head on the frozen features of the train split."""
    manifest = read_manifest(manifests, read_batches(batches))
    vectors = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest))  # (n, dim)
    stays = ~leaves_training(manifest, audit)
    names_of: dict[str, list[str]] = read_json(classes)
    heads: dict[str, Head] = {}
    facts: dict[str, dict[str, Any]] = {"l2": {}, "val_log_loss": {}}
    for target, names in names_of.items():
        labels = np.array(label_indices(manifest[target], names))

        def labelled(split: str, labels: Labels = labels) -> tuple[Vectors, Labels]:
            rows = np.flatnonzero((manifest["split"] == split).to_numpy() & (labels != MISSING) & stays)
            return vectors.part(rows), labels[rows]

        train, val = labelled("train"), labelled("val")
        try:
            layers, l2 = fit(train, val, names, train_head, seed=seed)
            logits = val_logits(Head(layers=layers), val, num_classes=len(names))
        except ValueError as error:
            raise ValueError(f"target {target}: {error}") from error
        heads[target] = Head(layers=layers, temperature=fit_temperature(logits, val[1]))
        facts["l2"][target] = l2
        facts["val_log_loss"][target] = log_loss(logits / heads[target].temperature, val[1])
        accuracy = is_right(logits, val[1]).mean() if len(val[1]) else float("nan")
        logger.info(
            "trained the %s head of %s on %s vectors: %sval accuracy %.4f, temperature %.3f", train_head.head, target,
            f"{len(train[1]):,}", "" if l2 is None else f"l2 {l2:g}, ", accuracy, heads[target].temperature,
        )  # fmt: skip
    with whole_folder(out) as folder:
        save_heads(folder, heads, classes=names_of, facts={"head": train_head.head, **facts})


def fit(
    train: tuple[Vectors, Labels], val: tuple[Vectors, Labels], names: list[str], options: HeadOptions, *, seed: int
) -> tuple[tuple[Layer, ...], float | None]:
    """Return the layers of the head that the options name, and the L2 strength if val chose one."""
    if options.head == "centroid":
        return (half_size(fit_centroids(train, classes=names)),), None
    if options.head == "mlp":
        from tasks.training.heads.mlp import fit_mlp  # torch takes seconds to import

        layers = fit_mlp(train, val, options, classes=names, seed=seed)
        return tuple(half_size(layer) for layer in layers), None
    head = fit_head(train, val, options, classes=names)
    return (half_size((head.weight, head.bias)),), head.l2


def half_size(layer: tuple[Array, Array]) -> Layer:
    """Return a layer in float32, as the bundle keeps it."""
    weight, bias = layer
    return weight.astype(np.float32), bias.astype(np.float32)


def val_logits(head: Head, val: tuple[Vectors, Labels], *, num_classes: int) -> Array:
    """Return the logits of val, (n, num_classes)."""
    vectors, labels = val
    starts = range(0, len(labels), VAL_ROWS)
    parts: list[NDArray[np.floating]] = [np.empty((0, num_classes))]
    for start in starts:
        chunk = vectors[start : start + VAL_ROWS]
        check_finite(chunk)
        parts.append(head.logits(chunk))
    joined: Array = np.concatenate(parts)
    return joined


def log_loss(logits: Array, labels: Labels) -> float | None:
    """Return the mean log-loss in nats; None without labels."""
    if not len(labels):
        return None
    return float(losses(logits, labels).mean())


if __name__ == "__main__":
    main(run)
