"""The answers of models to held-out samples, in the names of the candidate.

Each sample is read once for all models and perturbations. The vectors of a model stay in the embedding store, under its
backbone, the sample and the recipe. So the model in use costs new held-out samples only, and a candidate that is the
head alone takes the vectors that are there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.manifest.manifest import domains_of
from tasks.data.samples.samples import Samples
from tasks.embedding.engine import PassingView, Show, StoredView, embed, open_store
from tasks.embedding.looks import Hash
from tasks.metrics.answered import Answered
from tasks.prediction.answers import Answerer, TargetAnswers
from tasks.targets.classes import Classes, likeliest
from tasks.targets.head import SparseRow
from tasks.targets.number import Number
from tasks.targets.target import Target, Truths
from tasks.text.words import Vocabulary


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a modality: a reader, a decoder that takes `shorter_side`, a hash, and alterations by name."""

    read: Callable[[Path], bytes]
    decode: Callable[..., Any]
    hash_of: Hash
    hashes_shape: tuple[int, int]
    alterations: Mapping[str, Callable[[Any], Any]]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The answers of each model, by name, and those of the candidate to altered samples, by alteration.

    Where a model is adapted to the domain of a sample, its heads of that domain answer. `general` are the answers of
    the candidate's general heads to all samples.

    Where a model reads words, they come from the samples themselves, not from the store.

    `features` (n, dim) float16 are those of the candidate's first trunk.
    """

    models: dict[str, TargetAnswers]
    general: TargetAnswers
    altered: dict[str, TargetAnswers]
    features: NDArray[np.float16]


def ask(
    answerers: Mapping[str, Answerer],
    rows: pd.DataFrame,
    *,
    raw: Path,
    store: Path,
    parts: Parts,
    alterations: Sequence[str],
    show: Show = lambda items, total: items,
) -> Asked:
    """Return every model's answers to the samples in rows of the manifest, and the candidate's to altered samples.

    Args:
        answerers: by name; one is called `candidate`.
        raw: the folder of the batches.
        store: the embedding store.

    Raises:
        ValueError: a sample is missing or has other bytes than it had, or a vector is not finite.
    """
    samples = Samples(rows, raw=raw, decode=parts.decode, read=parts.read)
    views: dict[str, StoredView] = {}  # by the recipe: models that share a backbone share its vectors
    recipes_of: dict[str, list[str]] = {}  # by the name of the model, one a trunk
    for name, answerer in answerers.items():
        recipes_of[name] = []
        for trunk in answerer.trunks:
            kept = open_store(
                store, trunk.embedder, backbone=trunk.fingerprint, decode=parts.decode, hash_of=parts.hash_of,
                hashes_shape=parts.hashes_shape,
            )  # fmt: skip
            recipes_of[name].append(kept.fingerprint)
            views[kept.fingerprint] = StoredView(embedder=trunk.embedder, store=kept, keys=samples.ids)
    candidate = answerers["candidate"]
    passing = {
        name: [
            PassingView(
                embedder=trunk.embedder,
                vectors=np.empty((len(rows), trunk.embedder.dim), dtype=np.float16),
                decode=parts.decode,
                alter=parts.alterations[name],
            )
            for trunk in candidate.trunks
        ]
        for name in alterations
    }

    embed(samples.content, [*views.values(), *chain(*passing.values())], names=samples.paths, show=show)
    domains = domains_of(rows).to_numpy(object)
    models = {}
    for name in sorted(answerers, key="candidate".__eq__):  # the candidate is last: one model's features in memory
        features = [views[recipe].store.all_looks(samples.ids).vectors for recipe in recipes_of[name]]
        words = words_of(samples, answerers[name].vocabulary)
        general = answerers[name].answers(features, words)
        models[name] = by_domain(general, answerers[name], features, words, domains=domains)
    altered = {}
    for name, of_trunks in passing.items():
        words = words_of(samples, candidate.vocabulary, alter=parts.alterations[name])
        vectors = [view.vectors for view in of_trunks]
        altered[name] = by_domain(candidate.answers(vectors, words), candidate, vectors, words, domains=domains)
    for name, answerer in answerers.items():
        for domain in answerer.domains.statistics_of if answerer.domains else ():
            places = np.flatnonzero(domains == domain).tolist()
            if places:
                of_domain = ask(
                    {"candidate": answerer.of_domain(domain)}, rows.iloc[places], raw=raw, store=store, parts=parts,
                    alterations=alterations if name == "candidate" else (), show=show,
                )  # fmt: skip
                put(models[name], of_domain.models["candidate"], places)
                for alteration, answers in of_domain.altered.items():
                    put(altered[alteration], answers, places)
    return Asked(models=models, general=general, altered=altered, features=features[0])


def by_domain(
    general: TargetAnswers,
    answerer: Answerer,
    vectors: Sequence[NDArray[np.float16]],
    words: Sequence[SparseRow],
    *,
    domains: NDArray[np.object_],
) -> TargetAnswers:
    """Return the general heads' answers; to samples of an adapted domain those of the domain's own heads instead.

    A domain with statistics of its own is left as it is: its heads take other vectors.

    Args:
        vectors: those of the samples (n, dim), one array for each trunk; `words` and `domains` (n,) are theirs, too.
    """
    answers = {target: values.copy() for target, values in general.items()} if answerer.domains else general
    known = answerer.domains
    for domain in known.targets_of if known else ():
        if known and domain in known.statistics_of:
            continue
        rows = np.flatnonzero(domains == domain).tolist()
        if rows:
            its_words = [words[row] for row in rows] if words else []
            of_domain = answerer.of_domain(domain).answers([of_trunk[rows] for of_trunk in vectors], its_words)
            put(answers, of_domain, rows)
    return answers


def put(answers: TargetAnswers, own: TargetAnswers, rows: Sequence[int]) -> None:
    """Replace the answers of these rows by others."""
    for target, values in own.items():
        answers[target][rows] = values


def words_of(
    samples: Samples[Any], vocabulary: Vocabulary | None, *, alter: Callable[[Any], Any] = lambda sample: sample
) -> list[SparseRow]:
    """Return the words of samples, which may be altered before; without a vocabulary nothing is read."""
    if vocabulary is None:
        return []
    return [vocabulary.row(alter(samples.decoded(row))) for row in range(len(samples))]


def in_names_of(
    answers: TargetAnswers, *, known: Mapping[str, Target], wanted: Mapping[str, Target], num_rows: int
) -> dict[str, Answered]:
    """Return a model's answers in the names of the `wanted` targets, by target, with its own calibration.

    An unknown class has the probability zero. A target of classes that the model does not know has equal probabilities;
    one of another kind, or one that cannot be compared because its unit or its steps are others, is left out.
    """
    answered = {}
    for name, target in wanted.items():
        aligned = known[name].aligned(answers[name], target) if name in known else None
        if aligned is not None:
            answered[name] = Answered(*aligned)
        elif isinstance(target, Classes):
            answered[name] = Answered(np.full((num_rows, len(target.names)), 1 / len(target.names)), target)
    return answered


def prediction_table(rows: pd.DataFrame, name: str, truths: Truths, by_model: Mapping[str, Answered]) -> pd.DataFrame:
    """Return a row for each sample that has the target: its label, and each model's answer.

    For classes each answer has the probabilities of answer and label. For other kinds it has `_error` and `_is_right`,
    and the `_probabilities` in the order of the names; for a number its `_value`, and the `_low` and `_high` end of its
    interval.
    """
    target = next(iter(by_model.values())).target
    table = rows[["sample_id", "batch", "path"]].assign(target=name)
    if isinstance(target, Classes):
        names = np.array(target.names)
        table["label"] = names[truths]
        for model, answered in by_model.items():
            probabilities = answered.answers
            table[model] = names[likeliest(probabilities)]
            table[f"{model}_confidence"] = probabilities.max(axis=1)
            table[f"{model}_label_probability"] = probabilities[np.arange(len(truths)), truths]
        return table
    table["label"] = rows[name]
    if isinstance(target, Number):
        table["label_value"] = truths
    for model, answered in by_model.items():
        table[model] = answered.shown()
        table[f"{model}_error"] = answered.errors(truths)
        table[f"{model}_is_right"] = answered.is_right(truths)
        if isinstance(target, Number):
            for column, part in enumerate(("value", "low", "high")):
                table[f"{model}_{part}"] = answered.answers[:, column]
        else:
            table[f"{model}_probabilities"] = pd.Series(list(answered.answers), index=table.index, dtype=object)
    return table


def joined_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of all targets as one; a cell of a column that a target does not have is missing."""
    table = pd.concat(tables, ignore_index=True)
    flags = [name for name in map(str, table) if name.endswith("_is_right") and table[name].dtype == object]
    return table.astype(dict.fromkeys(flags, "boolean"))
