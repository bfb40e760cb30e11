"""Manifest, embeddings, leaks and texts in; a head for every target, chosen and calibrated on val, out."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tasks.data.health.leaks import leaves_training
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import TRAINING, read_manifest
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import read_embeddings
from tasks.machine.files import read_json, whole_folder
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.targets.classes import MISSING, is_right, label_indices, losses
from tasks.targets.head import NO_WORDS, Head, Layer, WordLayer, save_heads
from tasks.targets.temperature import fit_temperature
from tasks.text.words import MOST_TERMS, Vocabulary, fit_vocabulary, save_vocabulary, terms_of
from tasks.training.heads.centroid import fit_centroids
from tasks.training.heads.joining import join
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import Array, Labels, Vectors, check_finite
from tasks.training.heads.words import fit_words, logits_of, sparse_rows

logger = logging.getLogger("graftline")

MOST_WEIGHTS = 2**22  # of the head on words: terms x classes; fitting it takes 25 times as many numbers
VAL_ROWS = 4096  # vectors that are read at a time


def run(
    *,
    manifests: Path,
    classes: Path,
    embeddings: Path,
    audit: Path,
    batches: Path,
    raw: Path,
    out: Path,
    train_head: HeadOptions,
    modality: Modality,
    seed: int,
) -> None:
    """Train a head on the frozen features of the train split; of texts, join it with a head on their words.

    `raw` is read for the words alone.
    """
    manifest = read_manifest(manifests, read_batches(batches))
    vectors = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest))  # (n, dim)
    stays = ~leaves_training(manifest, audit)
    names_of: dict[str, list[str]] = read_json(classes)
    labels_of = {target: np.array(label_indices(manifest[target], names)) for target, names in names_of.items()}
    words = None
    if modality == "text" and train_head.words == "auto":
        is_labelled = np.any([labels != MISSING for labels in labels_of.values()], axis=0)
        read = np.flatnonzero(is_labelled & stays & manifest["split"].isin(TRAINING))
        words = count_words(manifest, read, raw=raw, num_classes=max(map(len, names_of.values())))
    heads: dict[str, Head] = {}
    facts: dict[str, dict[str, Any]] = {"l2": {}, "val_log_loss": {}}
    for target, names in names_of.items():
        labels = labels_of[target]
        train_rows, val_rows = (
            np.flatnonzero((manifest["split"] == split).to_numpy() & (labels != MISSING) & stays) for split in TRAINING
        )
        train, val = ((vectors.part(rows), labels[rows]) for rows in (train_rows, val_rows))
        try:
            # heads of images stay what they were
            layers, l2 = fit(train, val, names, train_head, cautious=modality == "text", seed=seed)
            logits = val_logits(Head(layers=layers), val, num_classes=len(names))
            head = Head(layers=layers, temperature=fit_temperature(logits, val[1]))
            summary = f"val accuracy {accuracy(logits, val[1]):.4f}"
            if words is not None:
                of_train, of_val = ((words.rows[rows], labels[rows]) for rows in (train_rows, val_rows))
                head, logits, summary = with_words(head, logits, of_train, of_val, names, train_head)
        except ValueError as error:
            raise ValueError(f"target {target}: {error}") from error
        heads[target] = head
        facts["l2"][target] = l2
        facts["val_log_loss"][target] = log_loss(logits / head.temperature, val[1])
        logger.info(
            "trained the %s head of %s on %s vectors: %s%s, temperature %.3f", train_head.head, target,
            f"{len(train[1]):,}", "" if l2 is None else f"l2 {l2:g}, ", summary, head.temperature,
        )  # fmt: skip
    with whole_folder(out) as folder:
        save_heads(folder, heads, targets=names_of, facts={"head": train_head.head, **facts})
        if words is not None:
            save_vocabulary(folder, words.vocabulary)


@dataclass(frozen=True, kw_only=True)
class Words:
    """The counted words of the texts of a manifest: rows (n, num_terms), empty where a text was not read."""

    vocabulary: Vocabulary
    rows: csr_array


def count_words(manifest: pd.DataFrame, read: NDArray[np.intp], *, raw: Path, num_classes: int) -> Words | None:
    """Return the counted words of the rows `read` of the manifest; None where train has no word.

    The vocabulary is that of train. It is smaller where there are many classes, whose weights all lie in memory.
    """
    decode = room("text", "decode")
    samples = Samples[str](manifest, raw=raw, decode=decode.decode_sample, read=decode.read)
    terms = {row: terms_of(samples.decoded(row)) for row in read.tolist()}
    is_train = (manifest["split"] == "train").to_numpy()
    most_terms = min(MOST_TERMS, MOST_WEIGHTS // num_classes)
    vocabulary = fit_vocabulary([terms[row] for row in terms if is_train[row]], most_terms=most_terms)
    if not len(vocabulary):
        return None
    rows = [vocabulary.weigh(terms[row]) if row in terms else NO_WORDS for row in range(len(manifest))]
    return Words(vocabulary=vocabulary, rows=sparse_rows(rows, num_terms=len(vocabulary)))


def fit(
    train: tuple[Vectors, Labels],
    val: tuple[Vectors, Labels],
    names: list[str],
    options: HeadOptions,
    *,
    cautious: bool,
    seed: int,
) -> tuple[tuple[Layer, ...], float | None]:
    """Return the layers of the head that the options name, and the L2 strength if val chose one.

    `cautious` is that of `fit_head`.
    """
    if options.head == "centroid":
        return (half_size(fit_centroids(train, classes=names)),), None
    if options.head == "mlp":
        from tasks.training.heads.mlp import fit_mlp  # torch takes seconds to import

        layers = fit_mlp(train, val, options, classes=names, seed=seed)
        return tuple(half_size(layer) for layer in layers), None
    head = fit_head(train, val, options, classes=names, cautious=cautious)
    return (half_size((head.weight, head.bias)),), head.l2


def with_words(
    head: Head,
    logits: Array,
    train: tuple[csr_array, Labels],
    val: tuple[csr_array, Labels],
    names: list[str],
    options: HeadOptions,
) -> tuple[Head, Array, str]:
    """Return the head joined with one on the words of train, its logits of val, and a summary of both.

    `logits` (n, num_classes) are those of the vectors of val.
    """
    rows, labels = val
    linear = fit_words(train, val, options, classes=names)
    of_words = logits_of(linear, rows)
    joined = join(logits, of_words, labels)
    words = WordLayer(layer=half_size((linear.weight, linear.bias)), factors=joined.factors)
    summary = (
        f"val accuracy of vectors {accuracy(logits, labels):.4f}, of words {accuracy(of_words, labels):.4f}, joined "
        f"{accuracy(joined.logits, labels):.4f} (words count {1 - joined.factors.of_vector:.0%})"
    )
    return Head(layers=head.layers, temperature=joined.temperature, words=words), joined.logits, summary


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


def accuracy(logits: Array, labels: Labels) -> float:
    """Return the share of right answers; NaN without labels."""
    return float(is_right(logits, labels).mean()) if len(labels) else float("nan")


def log_loss(logits: Array, labels: Labels) -> float | None:
    """Return the mean log-loss in nats; None without labels."""
    if not len(labels):
        return None
    return float(losses(logits, labels).mean())


if __name__ == "__main__":
    main(run)
