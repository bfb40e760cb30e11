"""Manifest, embeddings and leaks in; a linear head for each target, its regularisation chosen on val, out."""

import logging
from pathlib import Path

import numpy as np

from tasks import stage
from tasks.data.batches import read_batches
from tasks.data.embeddings import read_embeddings
from tasks.data.leaks import leaves_training
from tasks.data.manifest import MISSING, label_indices, read_manifest
from tasks.files import read_json, whole_folder
from tasks.models.head import save_heads
from tasks.params import TrainHeadParams
from tasks.training.logistic import LinearHead, fit_head

logger = logging.getLogger("graftline")


def run(
    *,
    manifests: Path,
    classes: Path,
    embeddings: Path,
    audit: Path,
    batches: Path,
    out: Path,
    train_head: TrainHeadParams,
) -> None:
    """Train a head on the frozen features of the train split."""
    manifest = read_manifest(manifests, read_batches(batches))
    vectors = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest)).astype(
        np.float64
    )  # (n, dim)
    stays = ~leaves_training(manifest, audit)
    names_of: dict[str, list[str]] = read_json(classes)
    heads: dict[str, LinearHead] = {}
    for target, names in names_of.items():
        labels = np.array(label_indices(manifest[target], names))
        in_train = (manifest["split"] == "train").to_numpy() & (labels != MISSING) & stays
        in_val = (manifest["split"] == "val").to_numpy() & (labels != MISSING) & stays
        heads[target] = fit_head(
            (vectors[in_train], labels[in_train]),
            (vectors[in_val], labels[in_val]),
            num_classes=len(names),
            l2_strengths=train_head.l2_strengths,
            max_iterations=train_head.max_iterations,
        )
        accuracy = (heads[target].log_probabilities(vectors[in_val]).argmax(axis=1) == labels[in_val]).mean()
        logger.info(
            "trained the head of %s on %s vectors: l2 %g, val accuracy %.4f", target, f"{in_train.sum():,}",
            heads[target].l2, accuracy,
        )  # fmt: skip
    with whole_folder(out) as folder:
        layers = {
            target: (head.weight.astype(np.float32), head.bias.astype(np.float32)) for target, head in heads.items()
        }
        facts = {
            "l2": {target: head.l2 for target, head in heads.items()},
            "val_log_loss": {target: head.val_log_loss for target, head in heads.items()},
        }
        save_heads(folder, layers, classes=names_of, facts=facts)


if __name__ == "__main__":
    stage.main(run)
