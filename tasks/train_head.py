"""Manifest, embeddings, leaks and texts in; a head for every target, chosen and calibrated on val, out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from tasks.data.health.leaks import leaves_training
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import TRAINING, read_manifest
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import read_embeddings
from tasks.machine.cluster import LOCAL, on_each
from tasks.machine.files import read_json, whole_folder
from tasks.machine.options import ScaleOptions
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.targets.classes import Classes, is_right
from tasks.targets.head import NO_WORDS, Head, WordLayer, save_heads
from tasks.targets.kinds import targets_of
from tasks.targets.number import Number, least_for
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several
from tasks.targets.target import Target
from tasks.text.words import MOST_TERMS, Vocabulary, fit_vocabulary, save_vocabulary, terms_of
from tasks.training.heads.fitting import Fitted, SharedRows, fit_target, half_size, linear_head
from tasks.training.heads.folds import folds_of
from tasks.training.heads.joining import join
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import Array, Labels, Vectors, check_finite
from tasks.training.heads.sharing import Comparison, Each, Labelled, share
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
    scale: ScaleOptions = LOCAL,
) -> None:
    """Train a head on the frozen features of the train split; of texts, join it with a head on their words.

    `raw` is read for the words alone.
    """
    manifest = read_manifest(manifests, read_batches(batches))
    vectors = read_embeddings(embeddings, read_batches(batches), num_samples=len(manifest))  # (n, dim)
    stays = ~leaves_training(manifest, audit)
    train, val = (
        labelled(targets_of(read_json(classes)), manifest, (manifest["split"] == split).to_numpy() & stays)
        for split in TRAINING
    )
    train = with_labels(train)
    words = None
    of_classes = {name: part.target for name, part in train.items() if isinstance(part.target, Classes)}
    if modality == "text" and train_head.words == "auto" and of_classes:
        read = np.unique(np.concatenate([part[name].rows for name in of_classes for part in (train, val)]))
        words = count_words(
            manifest, read, raw=raw, num_classes=max(target.num_outputs for target in of_classes.values())
        )
    is_cautious = modality == "text"  # heads of images stay as before
    rows = SharedRows(vectors, train_head, cautious=is_cautious, are_several=len(train) > 1)
    each = partial(on_each, scale=scale)
    fitted = dict(
        zip(train, each(train, fit_target, train=train, val=val, rows=rows, options=train_head, seed=seed), strict=True)
    )
    fitted, compared = shared(
        fitted, train, manifest, vectors.part, train_head, cautious=is_cautious, part_dims=vectors.part_dims,
        each=each if scale.engine == "ray" else None,
    )  # fmt: skip
    heads: dict[str, Head] = {}
    targets: dict[str, Target] = {}
    facts: dict[str, dict[str, Any]] = {"l2": {}, "val_log_loss": {}}
    for name, part in train.items():
        target, truths, head = part.target, val[name].truths, Head(layers=fitted[name].layers)
        try:
            logits = val_logits(head, (rows.of_val(val[name].rows), truths), num_outputs=target.num_outputs)
        except ValueError as error:
            raise ValueError(f"target {name}: {error}") from error
        target, temperature = target.calibrate(logits, truths)
        head = replace(head, temperature=temperature)
        summary = measured(target, logits, truths, temperature=temperature)
        if words is not None and isinstance(target, Classes):
            of_train, of_val = ((words.rows[side.rows], side.truths) for side in (part, val[name]))
            head, logits, summary = with_words(head, logits, of_train, of_val, list(target.names), train_head)
        if isinstance(target, Number) and len(truths) < least_for(target.level):
            logger.warning(
                "target %s: val has %d labels, expected at least %d for an interval that holds %g %% of the truths: it "
                "holds fewer; label more samples", name, len(truths), least_for(target.level), 100 * target.level,
            )  # fmt: skip
        heads[name], targets[name], l2 = head, target, fitted[name].l2
        facts["l2"][name] = l2
        loss = float(target.losses(logits, truths, temperature=head.temperature).mean()) if len(truths) else None
        facts.setdefault("val_loss" if isinstance(target, Number) else "val_log_loss", {})[name] = loss
        logger.info(
            "trained the %s head of %s on %s vectors: %s%s, temperature %.3f", train_head.head, name,
            f"{len(part.rows):,}", "" if l2 is None else f"l2 {l2:g}, ", summary, head.temperature,
        )  # fmt: skip
    shares = {name: head.share_of_depths for name, head in fitted.items() if head.share_of_depths is not None}
    if shares:
        facts["share_of_all_depths"] = shares
        logger.info(
            "val lets features of all depths count %s, beside those of the last depth alone",
            ", ".join(f"{share:.0%} ({name})" for name, share in shares.items()),
        )
    if compared:
        facts["sharing"] = {name: comparison.facts() for name, comparison in compared.items()}
    with whole_folder(out) as folder:
        save_heads(folder, heads, targets=targets, facts={"head": train_head.head, **facts})
        if words is not None:
            save_vocabulary(folder, words.vocabulary)


def labelled(targets: Mapping[str, Target], manifest: pd.DataFrame, is_used: NDArray[np.bool_]) -> dict[str, Labelled]:
    """Return the rows that are used and have a label, with their truths, for each target."""
    parts = {}
    for name, target in targets.items():
        truths = target.encode(manifest[name] if name in manifest else pd.Series([None] * len(manifest)))
        rows = np.flatnonzero(is_used & target.has_label(truths))
        parts[name] = Labelled(target=target, rows=rows, truths=truths[rows])
    return parts


def with_labels(train: dict[str, Labelled]) -> dict[str, Labelled]:
    """Return the targets that have labels in train, with the scale of train.

    A target without any gets no head, and changes nothing in the others. Raises ValueError where none has labels.
    """
    parts = {}
    for name, part in train.items():
        if not len(part.rows) and any(len(other.rows) for other in train.values()):
            logger.warning("target %s: no sample of train has a label, so it gets no head: label some", name)
            continue
        try:
            parts[name] = replace(part, target=part.target.standardised(part.truths))
        except ValueError as error:
            raise ValueError(f"target {name}: {error}") from error
    return parts


def shared(
    fitted: dict[str, Fitted],
    train: Mapping[str, Labelled],
    manifest: pd.DataFrame,
    part: Callable[[NDArray[np.intp]], Vectors],
    options: HeadOptions,
    *,
    cautious: bool,
    part_dims: Sequence[int],
    each: Each | None = None,
) -> tuple[dict[str, Fitted], dict[str, Comparison]]:
    """Return the heads, some replaced by heads that learn from the others, and the comparison of both.

    `each` is that of `share`.
    """
    linear = {name: head.linear for name, head in fitted.items() if head.linear}
    if options.sharing == "never" or len(linear) < 2:
        return fitted, {}
    has_groups = "group" in manifest and "group" not in train
    groups = manifest["group"].fillna(manifest["sample_id"]) if has_groups else manifest["sample_id"]
    heads, compared = share(
        train, linear, part, folds_of(groups.astype(str)), options, cautious=cautious, part_dims=part_dims, each=each
    )
    for name, comparison in compared.items():
        logger.info(
            "%s with the %s of %s: cross-validated loss %.4f, alone %.4f (standard error of the difference %.4f), "
            "so it %s", name, comparison.given, ", ".join(comparison.givers), comparison.together,
            comparison.alone, comparison.standard_error, comparison.outcome,
        )  # fmt: skip
    chosen = {name for name, comparison in compared.items() if comparison.is_shared}
    return {name: linear_head(heads[name]) if name in chosen else head for name, head in fitted.items()}, compared


def measured(target: Target, logits: Array, truths: Labels, *, temperature: float) -> str:
    """Return the quality of the answers on val in words."""
    if not len(truths):
        return "no labels on val"
    if isinstance(target, Classes):
        return f"val accuracy {accuracy(logits, truths):.4f}"
    answers = target.answers(logits, temperature=temperature)
    if isinstance(target, Several):
        return f"val macro-F1 {macro_f1(target.said(answers), truths > 0.5):.4f}"
    measure = "mean distance" if isinstance(target, Ordinal) else "mean absolute error"
    return f"val {measure} {target.errors(answers, truths).mean():.4g} {target.unit}"


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


def val_logits(head: Head, val: tuple[Vectors, Labels], *, num_outputs: int) -> Array:
    """Return the logits of val, (n, num_outputs)."""
    vectors, labels = val
    starts = range(0, len(labels), VAL_ROWS)
    parts: list[NDArray[np.floating]] = [np.empty((0, num_outputs))]
    with threadpool_limits(1):  # the bits of a product depend on the number of threads that share it
        for start in starts:
            chunk = vectors[start : start + VAL_ROWS]
            check_finite(chunk)
            parts.append(head.logits(chunk))
    joined: Array = np.concatenate(parts)
    return joined


def accuracy(logits: Array, labels: Labels) -> float:
    """Return the share of right answers; NaN without labels."""
    return float(is_right(logits, labels).mean()) if len(labels) else float("nan")


def macro_f1(said: NDArray[np.bool_], truths: NDArray[np.bool_]) -> float:
    """Return the mean F1 over the labels, of (n, num_labels); a label that is neither answered nor true is left out."""
    in_all = said.sum(axis=0) + truths.sum(axis=0)
    hits = (said & truths).sum(axis=0)
    return float((2 * hits[in_all > 0] / in_all[in_all > 0]).mean()) if in_all.any() else float("nan")


if __name__ == "__main__":
    main(run)
