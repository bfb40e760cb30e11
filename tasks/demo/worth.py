"""Measure the worth of the demo's pretrained encoder: held-out accuracy with and without it, by share of labels.

- words alone: logistic regression on the words of the labelled texts, from scratch;
- head: logistic regression on the vectors of the frozen encoder, whose computation is not part of the seconds;
- both joined, as the pipeline does it.

Val chooses all settings. Few labels are drawn three times; the mean is shown. The last line is one JSON object.
"""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.health.leaks import leaves_training
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import TRAINING, read_manifest
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import read_embeddings
from tasks.machine.files import read_json
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.targets.classes import Classes, is_right
from tasks.text.words import fit_vocabulary, terms_of
from tasks.training.heads.joining import join
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.words import fit_words, logits_of, sparse_rows

FRACTIONS = (0.05, 0.2, 1.0)
NUM_DRAWS = 3
LEAST = 2  # samples of a class, whatever the share
TARGET = "label"

Rows = NDArray[np.intp]


def run(
    *, manifests: Path, classes: Path, embeddings: Path, audit: Path, batches: Path, raw: Path,
    train_head: HeadOptions, modality: Modality,
) -> None:  # fmt: skip
    """Print the accuracies of a project whose chain is up to date."""
    names: list[str] = read_json(classes)[TARGET]
    manifest = read_manifest(manifests, read_batches(batches))
    decode = room(modality, "decode")
    samples = Samples[str](manifest, raw=raw, decode=decode.decode_sample, read=decode.read)
    labels = Classes(tuple(names)).encode(manifest[TARGET])
    is_used = (labels >= 0) & ~leaves_training(manifest, audit)
    train, val, heldout = (np.flatnonzero(is_used & (manifest["split"] == split)) for split in (*TRAINING, "heldout"))
    everything = np.arange(len(manifest))
    vectors = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest)).part(everything)[:]
    terms = [terms_of(samples.decoded(row) if is_used[row] else "") for row in everything.tolist()]
    rows = []
    for fraction in FRACTIONS:
        draws = [
            trained(
                drawn(train, labels, fraction, seed), drawn(val, labels, fraction, seed), heldout,
                vectors=vectors, terms=terms, labels=labels, names=names, options=train_head,
            )
            for seed in range(NUM_DRAWS if fraction < 1 else 1)
        ]  # fmt: skip
        rows += [
            {"method": method, "fraction": fraction}
            | {name: statistics.mean(draw[method][name] for draw in draws) for name in draws[0][method]}
            for method in draws[0]
        ]
    sys.stdout.write(json.dumps({"raw": rows}) + "\n")


def trained(
    train: Rows, val: Rows, heldout: Rows, *, vectors: NDArray[np.float32], terms: list[Any],
    labels: NDArray[np.int64], names: list[str], options: HeadOptions,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Return the held-out accuracy of each method, trained on these rows, and the processor seconds of training."""
    start = time.process_time()
    vocabulary = fit_vocabulary([terms[row] for row in train])
    counted = sparse_rows([vocabulary.weigh(of_text) for of_text in terms], num_terms=len(vocabulary))
    words = fit_words((counted[train], labels[train]), (counted[val], labels[val]), options, classes=names)
    between = time.process_time()
    head = fit_head((vectors[train], labels[train]), (vectors[val], labels[val]), options, classes=names)
    end = time.process_time()
    of_words, of_vectors = logits_of(words, counted), vectors @ head.weight.T + head.bias  # (n, num_classes)
    factors = join(of_vectors[val], of_words[val], labels[val]).factors
    methods = {
        "words alone, from scratch": (of_words, between - start),
        "head on the pretrained encoder": (of_vectors, end - between),
        "both joined": (factors.of_vector * of_vectors + factors.of_words * of_words, end - start),
    }
    return {
        method: {
            "accuracy": float(is_right(logits[heldout], labels[heldout]).mean()),
            "processor_seconds": seconds,
        }
        for method, (logits, seconds) in methods.items()
    }


def drawn(rows: Rows, labels: NDArray[np.int64], fraction: float, seed: int) -> Rows:
    """Return a share of the rows, and of each class at least LEAST, drawn by the seed."""
    shuffled = np.random.default_rng(seed).permutation(rows)
    of_classes = (shuffled[labels[shuffled] == label] for label in np.unique(labels[rows]))
    return np.sort(np.concatenate([of_class[: max(LEAST, round(fraction * len(of_class)))] for of_class in of_classes]))


if __name__ == "__main__":
    main(run)
