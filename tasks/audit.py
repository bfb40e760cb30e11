"""Manifest, embeddings and hashes in; the near-duplicates between train or val and held-out, and their limits, out.

Of texts it also counts what the encoder could not read.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.admission.splits import small_classes
from tasks.data.health.hashes import read_hashes, read_marks
from tasks.data.health.leaks import COLUMNS, LEAKED, LEAKS
from tasks.data.health.marks import count_marks, warn_of_marks
from tasks.data.health.near_duplicates import Pairs, Side, find_twins
from tasks.data.health.twin_limits import TwinLimits, set_limits
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import TRAINING, read_manifest
from tasks.data.manifest.tables import write_text_table
from tasks.data.vectors.embeddings import read_embeddings
from tasks.machine.files import read_json, whole_folder, write_json
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import AuditParams
from tasks.targets.kinds import targets_of
from tasks.targets.target import Target

logger = logging.getLogger("graftline")


def run(
    *,
    manifests: Path,
    classes: Path,
    embeddings: Path,
    hashes: Path,
    batches: Path,
    out: Path,
    audit: AuditParams,
    modality: Modality,
) -> None:
    """Find what leaked between training and the held-out set, and what of the texts no encoder read."""
    names = read_batches(batches)
    manifest = read_manifest(manifests, names)
    vectors = read_embeddings(embeddings, names, num_samples=len(manifest))
    bits, probes = read_hashes(hashes, names, num_samples=len(manifest))
    is_heldout = (manifest["split"] == "heldout").to_numpy()
    is_used = manifest["split"].isin(TRAINING).to_numpy()  # the pool is on neither side
    used, judge = (Side(vectors=vectors[np.flatnonzero(side)], hashes=bits[side]) for side in (is_used, is_heldout))
    distance = room(modality, "copy_hash").DISTANCE
    limits = set_limits(probes, used.hashes, judge.hashes, distance=distance, options=audit)
    twins = find_twins(used, judge, distance=distance, min_cosine=limits.min_cosine, max_distance=limits.max_distance)
    leaks = table(manifest, twins.left, ours=np.flatnonzero(is_used), theirs=np.flatnonzero(is_heldout))
    leaked = table(manifest, twins.right.swapped(), ours=np.flatnonzero(is_heldout), theirs=np.flatnonzero(is_used))
    check_something_is_left(manifest, leaks, targets_of(read_json(classes)))
    marks = {batch: own for batch in names if (own := read_marks(hashes, batch)) is not None}
    warnings = list(warn_of_marks({batch: count_marks(own) for batch, own in marks.items()}, audit)) if marks else []
    described = describe(limits, num_probes=probes.cosines.size, num_used=len(used.vectors))
    summary = {
        "limits": described,
        "batches": {batch: count(leaks, leaked, batch) for batch in names},
        "num_leaks": len(leaks),
        "num_leaked": len(leaked),
        "marks": count_marks(np.concatenate(list(marks.values()))) if marks else None,
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


if __name__ == "__main__":
    main(run)
