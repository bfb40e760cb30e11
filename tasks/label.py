"""The pool and the model in use in; the samples whose labels would teach most, for people to label, out.

They go into a folder: the samples, a table to fill in, and the same as tasks for Label Studio.
"""

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.admission.corrections import Correction, read_corrections, standing
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import POOL, read_manifest
from tasks.data.manifest.tables import write_text_table
from tasks.data.samples.samples import Samples
from tasks.data.vectors.embeddings import read_embeddings
from tasks.machine.files import read_json, sha256, whole_folder, write_json
from tasks.machine.names import printable
from tasks.machine.progress import progress
from tasks.models.bundle import WEIGHTS, load_bundle
from tasks.prediction.answers import Answerer
from tasks.prediction.heldout import Parts, ask
from tasks.reviewing.label_studio import CONFIG, SAMPLE, SERVED, TASKS, config_of, tasks_of
from tasks.reviewing.label_table import FILE, LABELS, TEXT, blank_table, labels_in
from tasks.reviewing.next_labels import choose, least_margins
from tasks.reviewing.options import LabelOptions
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.targets.kinds import targets_of
from tasks.targets.target import Target

logger = logging.getLogger("graftline")

WHY = {False: "the model is in doubt", True: "no labelled sample is near"}
FILES = "samples"  # the folder of them
NAMED = 16  # digits of a sample_id in the name of a file


def run(
    *,
    manifests: Path,
    classes: Path,
    batches: Path,
    embeddings: Path,
    raw: Path,
    store: Path,
    corrections: Path,
    model: Path | None,
    out: Path,
    label: LabelOptions,
    modality: Modality,
    seed: int,
) -> None:
    """Choose samples of the pool by the doubt of a model, and by their distance from labelled samples.

    Args:
        model: the bundle of the model in use; without one all are chosen for coverage.
    """
    names = read_batches(batches)
    manifest = read_manifest(manifests, names)
    decisions = read_corrections(corrections)
    targets = targets_of(read_json(classes))
    check_nothing_is_lost(out, decisions, targets)
    decided = manifest["sample_id"].isin(list(standing(decisions))).to_numpy()
    is_pool = (manifest["split"] == POOL).to_numpy() & ~decided
    if not is_pool.any():
        raise ValueError(
            "the pool is empty: every sample has a label, or is decided in the corrections; land samples without "
            "labels, then run again"
        )
    pool = manifest[is_pool].reset_index(drop=True)
    vectors = read_embeddings(embeddings, names, num_samples=len(manifest))
    known = manifest["split"].isin(["train", "val"]).to_numpy() | (decided & (manifest["split"] == POOL).to_numpy())
    decode = room(modality, "decode")
    answers: Mapping[str, NDArray[np.float64]] = {}
    version = ""
    if model:
        answers = answers_of(model, pool, raw=raw, store=store, modality=modality)
        version = sha256(model / WEIGHTS)[:12]
        targets |= {name: target for name, target in load_bundle(model)[0].targets.items() if name in targets}
    else:
        logger.warning(
            "warning: no model is in use: all samples are chosen for coverage, and none by the model's doubt"
        )
    answers = {name: of_target for name, of_target in answers.items() if name in targets}
    choice = choose(
        vectors[np.flatnonzero(is_pool)], vectors[np.flatnonzero(known)], least_margins(answers, targets),
        count=label.count, coverage=label.coverage, seed=seed,
    )  # fmt: skip
    rows = pool.iloc[choice.positions].reset_index(drop=True)
    rows = rows.assign(why=[WHY[bool(is_coverage)] for is_coverage in choice.is_coverage])
    shown = answered(rows, answers, targets, choice.positions)
    samples = Samples[Any](rows, raw=raw, decode=decode.decode_sample, read=decode.read)
    with whole_folder(out) as folder:
        if modality == "images":
            (folder / FILES).mkdir()
            files = [copied(samples, row, folder / FILES, endings=decode.ENDINGS) for row in range(len(rows))]
            content = {FILE: [f"{FILES}/{name}" for name in files]}
            addresses = [f"{SERVED}{out.resolve().name}/{FILES}/{name}" for name in files]
        else:
            addresses = [samples.decoded(row) for row in range(len(rows))]
            content = {TEXT: addresses}
        places = zip(addresses, samples.ids, samples.batches, samples.paths, strict=True)
        data = [
            {SAMPLE: address, "sample_id": sample_id, "batch": batch, "path": path}
            for address, sample_id, batch, path in places
        ]
        write_text_table(folder / LABELS, blank_table(rows, content, shown, list(targets)))
        write_json(folder / TASKS, tasks_of(data, shown, targets, model=version))
        (folder / CONFIG).write_text(config_of(targets, modality=modality), "utf-8")
    num_far = int(choice.is_coverage.sum())
    logger.info(
        "chose %d of %s samples without a label: %d in doubt, %d far from what is labelled; %s",
        len(rows), f"{len(pool):,}", len(rows) - num_far, num_far, out,
    )  # fmt: skip


def check_nothing_is_lost(out: Path, decisions: Collection[Correction], targets: Mapping[str, Target]) -> None:
    """Raise ValueError where the folder, which is written anew, has unread labels or other files."""
    written = {FILES, LABELS, TASKS, CONFIG}
    others = sorted(entry.name for entry in out.iterdir() if entry.name not in written) if out.is_dir() else []
    if others:
        raise ValueError(
            f"{out} has {printable(others[0])}, which would be lost: move it away, or choose another folder"
        )
    if not (out / LABELS).is_file():
        return
    known = {(row.sample_id, row.target, row.label) for row in decisions}

    def is_read(sample_id: str, name: str, label: str) -> bool:
        with suppress(ValueError):
            return (sample_id, name, targets[name].read(label)) in known
        return False

    try:
        unread = [cell for *cell, _ in labels_in(out / LABELS, targets) if not is_read(*cell)]
    except ValueError as error:
        raise ValueError(f"{error}; or move {out} away, or choose another folder") from None
    if unread:
        sample_id, name, _ = unread[0]
        raise ValueError(
            f"{out / LABELS} has labels that were not read, such as {name} of sample {printable(sample_id)[:12]}: "
            f"`graftline label --read {out / LABELS}` first, or choose another folder"
        )


def answers_of(
    model: Path, rows: pd.DataFrame, *, raw: Path, store: Path, modality: Modality
) -> Mapping[str, NDArray[np.float64]]:
    """Return the answers of a bundle to samples, by target."""
    decode, copy_hash = room(modality, "decode"), room(modality, "copy_hash")
    parts = Parts(
        read=decode.read, decode=decode.decode_sample, hash_of=copy_hash.copy_hashes,
        hashes_shape=copy_hash.HASHES_SHAPE, alterations={},
    )  # fmt: skip
    show = partial(progress, what="label", unit="minibatches")
    answerer = Answerer(load_bundle(model)[0])
    asked = ask({"candidate": answerer}, rows, raw=raw, store=store, parts=parts, alterations=(), show=show)
    return asked.models["candidate"]


def answered(
    rows: pd.DataFrame,
    answers: Mapping[str, NDArray[np.float64]],
    targets: Mapping[str, Target],
    positions: NDArray[np.intp],
) -> list[dict[str, str]]:
    """Return by sample, of those at these positions of the pool, the label that the model answers for each target."""
    columns = {name: targets[name].shown(of_target[positions]) for name, of_target in answers.items()}
    return [{name: column[row] for name, column in columns.items()} for row in range(len(rows))]


def copied(samples: Samples[Any], row: int, folder: Path, *, endings: Any) -> str:
    """Copy the verified bytes of a sample into a folder, and return the name of the file."""
    ending = Path(samples.paths[row]).suffix.lower()
    name = samples.ids[row][:NAMED] + (ending if ending in endings else "")
    (folder / name).write_bytes(samples.content(row))
    return name


if __name__ == "__main__":
    main(run)
