"""Manifest, embeddings and hashes in; leaks between train or val and held-out, and the health of the data, out.

Leaks leave training. The health is for people: labels that are probably wrong, outliers, classes that are confused,
groups with worse answers, and how each new batch differs. Of texts it counts the parts that no encoder reads.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.admission.drift import label_drift
from tasks.data.admission.splits import small_classes
from tasks.data.health.batch_drift import drawn
from tasks.data.health.components import Components
from tasks.data.health.confusions import confusions
from tasks.data.health.hashes import read_hashes, read_marks
from tasks.data.health.kept_twins import Batch, find_twins_of_new
from tasks.data.health.label_errors import LabelErrors, find_label_errors, with_votes
from tasks.data.health.leaks import COLUMNS, LEAKED, LEAKS
from tasks.data.health.marks import count_marks, warn_of_marks
from tasks.data.health.near_duplicates import Pairs, Side
from tasks.data.health.neighbours import Neighbours, far_out, find_neighbours
from tasks.data.health.new_batches import NUM_BATCHES, drift_of_batches
from tasks.data.health.odd_sizes import odd_sizes
from tasks.data.health.options import HealthOptions
from tasks.data.health.pictures import bad_pictures
from tasks.data.health.suspects import COLUMNS as COLUMNS_OF_SUSPECTS
from tasks.data.health.suspects import HEALTH, KINDS, SUSPECTS, far_samples, suspects_of, weak_groups, wrong_labels
from tasks.data.health.twin_limits import TwinLimits, set_limits
from tasks.data.health.weak_slices import weak_slices
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import TRAINING, read_manifest
from tasks.data.manifest.tables import write_text_table
from tasks.data.vectors.embeddings import Embeddings, read_embeddings
from tasks.machine.files import read_json, sha256, whole_folder, write_json
from tasks.machine.sources import digest
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import AuditParams
from tasks.targets.classes import MISSING, Classes
from tasks.targets.kinds import targets_of
from tasks.targets.target import Target
from tasks.training.discriminant import Discriminant
from tasks.training.heads.folds import folds_of
from tasks.training.heads.rows import StandardRows

logger = logging.getLogger("graftline")

SEARCH = "tasks.data.health.kept_twins"
MOST_FITTED = 1000  # samples that the principal components of weak slices are computed from
LEAST_LABELS = 50  # of train, so that a head can find wrong ones
MOST_NUMBERS = 2**26  # log-probabilities of a target: samples x classes, which lie in memory
ROWS_AT_ONCE = 4096


def run(
    *,
    manifests: Path,
    classes: Path,
    embeddings: Path,
    hashes: Path,
    batches: Path,
    scratch: Path,
    out: Path,
    health: Path,
    audit: AuditParams,
    modality: Modality,
    seed: int,
) -> None:
    """Find leaks between training and the held-out set, and samples that a person may want to look at.

    Args:
        scratch: the folder that keeps the twins which were found; it may be deleted at any time
        health: the folder of the suspects and of the remarks about the data
    """
    names = read_batches(batches)
    manifest = read_manifest(manifests, names)
    vectors = read_embeddings(embeddings, names, num_samples=len(manifest))
    bits, probes = read_hashes(hashes, names, num_samples=len(manifest))
    is_heldout = (manifest["split"] == "heldout").to_numpy()
    is_used = manifest["split"].isin(TRAINING).to_numpy()  # the pool is on neither side
    used = Side(vectors=vectors.part(np.flatnonzero(is_used)), hashes=bits[is_used])  # too many to hold at once
    judge = Side(vectors=vectors[np.flatnonzero(is_heldout)], hashes=bits[is_heldout])
    distance = room(modality, "copy_hash").DISTANCE
    limits = set_limits(probes, used.hashes, judge.hashes, distance=distance, options=audit)
    twins = find_twins_of_new(
        used, judge, batches=batches_of(names, embeddings, hashes, vectors, is_used=is_used, is_heldout=is_heldout),
        kept=scratch / "twins", code=digest(SEARCH, f"tasks.{modality}.copy_hash"), distance=distance,
        min_cosine=limits.min_cosine, max_distance=limits.max_distance,
    )  # fmt: skip
    leaks = table(manifest, twins.left, ours=np.flatnonzero(is_used), theirs=np.flatnonzero(is_heldout))
    leaked = table(manifest, twins.right.swapped(), ours=np.flatnonzero(is_heldout), theirs=np.flatnonzero(is_used))
    check_something_is_left(manifest, leaks, targets_of(read_json(classes)))
    marks = {batch: own for batch in names if (own := read_marks(hashes, batch)) is not None}
    of_texts = marks if modality == "text" else {}
    warnings = list(warn_of_marks({batch: count_marks(own) for batch, own in of_texts.items()}, audit))
    described = describe(limits, num_probes=probes.cosines.size, num_used=len(used.vectors))
    summary = {
        "limits": described,
        "batches": {batch: count(leaks, leaked, batch) for batch in names},
        "num_leaks": len(leaks),
        "num_leaked": len(leaked),
        "marks": count_marks(np.concatenate(list(of_texts.values()))) if of_texts else None,
        "warnings": warnings,
    }
    with whole_folder(out) as folder:
        write_text_table(folder / LEAKS, leaks)
        write_text_table(folder / LEAKED, leaked)
        write_json(folder / "audit.json", summary)
    logger.info(
        "audited %s samples against %s held out: %s leave training, twins of %s; cosine at least %.3f, "
        "hash distance at most %d",
        f"{len(used.vectors):,}", f"{len(judge.vectors):,}", f"{len(leaks):,}", f"{len(leaked):,}",
        limits.min_cosine, limits.max_distance,
    )  # fmt: skip
    for warning in warnings:
        logger.warning("warning: %s", warning)
    if not described["separates"]:
        logger.info(
            "only %.0f %% of altered copies can be distinguished from other samples of this data: leaks may remain",
            100 * described["expected_recall"],
        )
    stays = is_used & ~manifest["sample_id"].isin(leaks["sample_id"]).to_numpy()
    suspects, findings = examine(
        manifest, vectors, targets_of(read_json(classes)), names, audit, is_learned=stays, seed=seed,
        marks=np.concatenate(list(marks.values())) if modality == "images" and len(marks) == len(names) else None,
    )  # fmt: skip
    with whole_folder(health) as folder:
        write_text_table(folder / SUSPECTS, suspects)
        write_json(folder / HEALTH, findings)
    counts = [f"{count:,} {KINDS[kind]}" for kind, count in findings["num_suspects"].items() if count]
    logger.info("to look at: %s", "; ".join(counts) or "nothing")
    for batch in findings["batches"].values():
        if batch["drift"]:
            logger.info(batch["drift"]["text"])


def batches_of(
    names: Sequence[str], embeddings: Path, hashes: Path, vectors: Embeddings, *, is_used: NDArray[np.bool_],
    is_heldout: NDArray[np.bool_],
) -> list[Batch]:  # fmt: skip
    """Return the batches with what the search for twins reads of each: its vectors, its hashes and its split."""
    batches = []
    for name, rows in zip(names, map(slice, vectors.starts, vectors.starts[1:]), strict=False):
        content = hashlib.sha256(is_used[rows].tobytes() + is_heldout[rows].tobytes())
        for folder in (embeddings, hashes):
            content.update(sha256(folder / f"{name}.safetensors").encode())
        num_left, num_right = int(is_used[rows].sum()), int(is_heldout[rows].sum())
        batches.append(Batch(digest=content.hexdigest(), num_left=num_left, num_right=num_right))
    return batches


def table(manifest: pd.DataFrame, pairs: Pairs, *, ours: NDArray[np.intp], theirs: NDArray[np.intp]) -> pd.DataFrame:
    """Return a row for each left sample of the pairs, with its twin: COLUMNS.

    `ours` and `theirs` are the rows of the manifest that the left and the right side have.
    """
    samples = manifest.iloc[ours[pairs.left]].reset_index(drop=True)[["batch", "path", "sample_id", "split"]]
    twins = (
        manifest.iloc[theirs[pairs.right]].reset_index(drop=True)[["batch", "path", "sample_id"]].add_prefix("twin_")
    )
    rows = samples.join(twins).assign(cosine=pairs.cosine.round(4), hash_distance=pairs.distance)[COLUMNS]
    return rows.sort_values(["batch", "path"], ignore_index=True)


def check_something_is_left(manifest: pd.DataFrame, leaks: pd.DataFrame, targets: Mapping[str, Target]) -> None:
    """Raise ValueError where a class would have no sample left in train or val."""
    problems = small_classes(manifest[~manifest["sample_id"].isin(leaks["sample_id"])], targets)
    if problems:
        raise ValueError(
            f"without the near-duplicates of held-out samples, {problems[0]}: add other samples of it, or lower "
            "audit.max_false_alarms if these are different ones"
        )


def describe(limits: TwinLimits, *, num_probes: int, num_used: int) -> dict[str, Any]:
    """Return the limits and what to expect of them.

    `separates` is whether they find the share of copies that params.yaml asks for without too many false alarms.
    """
    expected = sum(limits.recall.values()) / max(len(limits.recall), 1)
    return {
        "min_cosine": round(limits.min_cosine, 4),
        "max_hash_distance": limits.max_distance,
        "copies_within_distance": limits.copies_within,
        "strangers_beyond_distance": limits.strangers_beyond,
        "num_probes": num_probes,
        "expected_recall": expected,
        "expected_recall_by_kind": limits.recall,
        "expected_false_alarms": None if limits.false_alarms is None else limits.false_alarms * num_used,
        "separates": limits.strangers_beyond is None or limits.copies_within <= limits.strangers_beyond,
    }


def count(leaks: pd.DataFrame, leaked: pd.DataFrame, batch: str) -> dict[str, int]:
    """Count the samples of a batch that leave train and val, and the held-out ones that have a twin."""
    splits = leaks.loc[leaks["batch"] == batch, "split"]
    return {
        "train": int((splits == "train").sum()),
        "val": int((splits == "val").sum()),
        "heldout": int((leaked["batch"] == batch).sum()),
    }


def examine(
    manifest: pd.DataFrame,
    vectors: Embeddings,
    targets: Mapping[str, Target],
    names: Sequence[str],
    options: HealthOptions,
    *,
    is_learned: NDArray[np.bool_],
    marks: NDArray[np.uint8] | None,
    seed: int,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the suspects, and the remarks about the data.

    Args:
        vectors: (n, dim) of the manifest's samples.
        names: the batches, in their order.
        is_learned: (n,) whether a sample of train or val stays in training.
        marks: (n, 2) of images; None for texts.
    """
    train = np.flatnonzero(is_learned)
    near = find_neighbours(vectors, train, seed=seed)
    tables = [far_samples(manifest, near.distances, limit=far_out(near.distances[train]))] if near else []
    odd = [("odd_size", *odd_sizes(manifest)), *(bad_pictures(marks) if marks is not None else ())]
    tables += [suspects_of(manifest, rows, kind=kind, score=scores, detail=said) for kind, rows, scores, said in odd]
    confused: dict[str, Any] = {}
    weak: dict[str, Any] = {}
    for name, target in targets.items():
        judged = judge_labels(manifest, vectors, name, target, near, is_learned=is_learned)
        if judged is None:
            continue
        rows, labels, found = judged
        tables.append(wrong_labels(manifest, rows, name, target.names, found))
        taught = is_learned[rows]
        rows, labels, answers = rows[taught], labels[taught], found.log_probabilities[taught]
        confused[name] = confusions(labels, answers, names=target.names)
        is_wrong = answers.argmax(axis=1) != labels
        components = Components.of(vectors[drawn(rows, seed=seed, most=MOST_FITTED)])
        slices = weak_slices(
            np.concatenate([components.project(part) for part in chunks(vectors, rows)]), is_wrong,
            significance=options.significance, seed=seed,
        )  # fmt: skip
        table, weak[name] = weak_groups(manifest, rows, name, slices, error=is_wrong.mean())
        tables.append(table)
    suspects = pd.concat([table for table in tables if len(table)] or [pd.DataFrame(columns=COLUMNS_OF_SUSPECTS)])
    counts = suspects["kind"].value_counts()
    known = {name: target for name, target in targets.items() if name in manifest}
    shifts = label_drift(manifest, targets=known, significance=options.significance)
    return suspects.groupby("kind", sort=False).head(options.max_suspects), {
        "num_suspects": {kind: int(counts.get(kind, 0)) for kind in KINDS},
        "confusions": confused,
        "weak_slices": weak,
        "batches": drift_of_batches(manifest, vectors, known, names, shifts, options, seed=seed),
        "num_compared": NUM_BATCHES,
        "min_new": options.min_new,
    }


def chunks(vectors: Embeddings, rows: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
    """Yield the vectors of some rows, ROWS_AT_ONCE at a time."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield vectors[rows[start : start + ROWS_AT_ONCE]]


def judge_labels(
    manifest: pd.DataFrame, vectors: Embeddings, name: str, target: Target, near: Neighbours | None, *,
    is_learned: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.int64], LabelErrors] | None:  # fmt: skip
    """Return the rows (k,) that have a label of a target, their labels (k,), and the suspicion against these.

    The labels of held-out samples are judged, but not learned from. None where the labels are too few, or are no
    classes.
    """
    if not isinstance(target, Classes) or name not in manifest or near is None:
        return None
    truths = target.encode(manifest[name])
    rows = np.flatnonzero(target.has_label(truths))
    labels, learns = truths[rows], is_learned[rows]
    if learns.sum() < LEAST_LABELS or len(np.unique(labels[learns])) < 2:
        return None
    if len(rows) * len(target.names) > MOST_NUMBERS:
        logger.info("target %s has too many classes and labels for a search for wrong ones", name)
        return None
    groups = manifest["group"].fillna(manifest["sample_id"]) if "group" in manifest else manifest["sample_id"]
    folds = folds_of(groups.iloc[rows].astype(str))
    standard = StandardRows(vectors.part(rows))
    by_head = Discriminant(standard, labels, folds, num_classes=len(target.names)).judged

    def judge(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        said = np.full(len(manifest), MISSING)
        said[rows[kept]] = labels[kept]
        return with_votes(by_head(kept), said[near.rows[rows]])

    return rows, labels, find_label_errors(labels, judge, learns=learns)


if __name__ == "__main__":
    main(run)
