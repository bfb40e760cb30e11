"""Labelled samples and a list of backbones in; a score of each on the samples, and its cost, out.

Nothing is trained. The vectors go through the embedding store, so that those of the backbone that is chosen are kept.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from tasks.choosing.cost import measure
from tasks.choosing.options import ChooseOptions
from tasks.choosing.page import WORDS, page
from tasks.choosing.ranking import SCORES, Candidate, Recommendation, name_of, ranked, recommend
from tasks.choosing.sample import draw
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import read_manifest
from tasks.data.samples.samples import Samples
from tasks.embedding.embedder import Embeds
from tasks.embedding.engine import StoredView, open_store
from tasks.embedding.engine import embed as look_at
from tasks.embedding.ready import make_ready
from tasks.machine.files import read_json, whole_folder, write_json
from tasks.metrics.transferability import Transferability, transferability
from tasks.models.backbone import Backbone
from tasks.models.encoder import Encoder
from tasks.models.options import BackboneOptions
from tasks.models.weights import load_pretrained
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import EmbedParams, checked
from tasks.targets.kinds import targets_of
from tasks.targets.target import Target

logger = logging.getLogger("graftline")

ACCEPT = "graftline choose --accept"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A candidate whose weights are here."""

    number: int
    name: str
    options: BackboneOptions
    backbone: Backbone | Encoder
    fingerprint: str


def run(
    *,
    manifests: Path,
    classes: Path,
    batches: Path,
    raw: Path,
    store: Path,
    out: Path,
    choose: ChooseOptions,
    backbone: BackboneOptions,
    embed: EmbedParams,
    modality: Modality,
    seed: int,
) -> None:
    """Rank the section backbone of params.yaml and the changes to it that choose.candidates lists.

    A candidate whose weights are missing is left out, and the others are ranked without it.

    Args:
        out: the folder of choice.json and choice.html.
    """
    wanted = [backbone, *(changed(backbone, changes, number) for number, changes in enumerate(choose.candidates, 1))]
    targets = targets_of(read_json(classes))
    rows = draw(read_manifest(manifests, read_batches(batches)), targets, max_samples=choose.max_samples, seed=seed)
    decode = room(modality, "decode")
    samples = Samples[Any](rows, raw=raw, decode=decode.decode_sample, read=decode.read)
    truths = labels_of(targets, samples)
    if embed.precision == "int8":  # its file is of one backbone
        embed = replace(embed, precision="auto", execution="auto", quantised=None)
    loaded, left_out = load_all(wanted, modality)
    candidates = []
    first_with: dict[bytes, Loaded] = {}  # by a digest of the vectors
    for one in loaded:
        logger.info("%s: embedding %s samples", one.name, f"{len(rows):,}")
        embedder = make_ready(one.backbone, embed, store=store)
        vectors = embedded(one, embedder, samples, store=store, modality=modality)
        same = first_with.setdefault(hashlib.sha256(vectors.tobytes()).digest(), one)
        if same is not one:
            leave_out(left_out, one.name, same_vectors(same))
            continue
        scores = scored(vectors, targets, truths)
        cost = measure(
            one.backbone, embedder, targets, read=samples.content, decode=decode.decode_sample, names=samples.paths
        )
        candidates.append(Candidate(number=one.number, name=one.name, options=one.options, scores=scores, cost=cost))
    check_some_are_left(candidates, left_out)
    advice = recommend(candidates)
    with whole_folder(out) as folder:
        facts = {
            "candidates": [one.facts() for one in ranked(candidates)],
            "recommended": {"number": advice.candidate.number, "why": advice.why},
            "left_out": left_out,
            "num_samples": len(rows),
        }
        write_json(folder / "choice.json", facts)
        text = page(candidates, advice, left_out=left_out, num_samples=len(rows), accept=ACCEPT)
        (folder / "choice.html").write_text(text, "utf-8")
    for line in table(candidates, advice):
        logger.info("%s", line)


def changed(backbone: BackboneOptions, changes: Mapping[str, Any], number: int) -> BackboneOptions:
    """Return the section `backbone` with changes. Raises ValueError, with the candidate's number, for a wrong one."""
    known = [field.name for field in fields(BackboneOptions)]
    if unknown := [key for key in changes if key not in known]:
        raise ValueError(
            f"choose.candidates: number {number} has {str(unknown[0])[:60]!r}, expected keys of the section backbone: "
            f"{', '.join(known)}"
        )
    try:
        return checked(BackboneOptions, asdict(backbone) | dict(changes))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ValueError(
            f"choose.candidates: number {number}: {wrong['loc'][0]} is {str(changes.get(str(wrong['loc'][0])))[:60]}, "
            f"{wrong['msg'].replace('Input should be', 'expected')}"
        ) from None


def labels_of(targets: Mapping[str, Target], samples: Samples[Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return the truths (n, …) of the samples for every target that the manifest has."""
    known = {name: target for name, target in targets.items() if name in samples.rows}
    return {name: target.encode(samples.rows[name]) for name, target in known.items()}


def load_all(wanted: Sequence[BackboneOptions], modality: Modality) -> tuple[list[Loaded], list[dict[str, str]]]:
    """Return the candidates whose weights are here, each once, and why others are left out.

    Raises:
        ValueError: fewer than two are left.
    """
    loaded: list[Loaded] = []
    left_out: list[dict[str, str]] = []
    for number, options in enumerate(wanted):
        name = name_of(options, modality=modality)
        try:
            backbone = load_pretrained(options, modality=modality)
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
        else:
            fingerprint = backbone.fingerprint()
            same = next((one for one in loaded if one.fingerprint == fingerprint), None)
            if same is None:
                loaded.append(
                    Loaded(number=number, name=name, options=options, backbone=backbone, fingerprint=fingerprint)
                )
                continue
            reason = same_vectors(same)
        leave_out(left_out, name, reason)
    check_some_are_left(loaded, left_out)
    return loaded, left_out


def same_vectors(other: Loaded) -> str:
    return f"it gives the same vectors as {other.name if other.number else 'the section backbone itself'}"


def leave_out(left_out: list[dict[str, str]], name: str, reason: str) -> None:
    left_out.append({"name": name, "reason": reason})
    logger.warning("%s is left out: %s", name, reason)


def check_some_are_left(left: Sequence[object], left_out: Sequence[Mapping[str, str]]) -> None:
    """Raise ValueError where fewer than two backbones are left to choose from."""
    if len(left) < 2:
        reasons = "; ".join(f"{one['name']}: {one['reason']}" for one in left_out)
        raise ValueError(
            f"{len(left)} backbone{'s' * (len(left) != 1)} to choose from, expected at least two: add some to "
            f"choose.candidates in params.yaml{f' (left out: {reasons})' if reasons else ''}"
        )


def embedded(
    one: Loaded, embedder: Embeds, samples: Samples[Any], *, store: Path, modality: Modality
) -> NDArray[np.float16]:
    """Return the vectors (n, dim) of the samples by one backbone, from the store or computed and kept there."""
    decode, copy_hash = room(modality, "decode"), room(modality, "copy_hash")
    kept = open_store(
        store, embedder, backbone=one.fingerprint, decode=decode.decode_sample, hash_of=copy_hash.copy_hashes,
        hashes_shape=copy_hash.HASHES_SHAPE,
    )  # fmt: skip
    look_at(samples.content, [StoredView(embedder=embedder, store=kept, keys=samples.ids)], names=samples.paths)
    return kept.all_looks(samples.ids).vectors


def scored(
    vectors: NDArray[np.float16], targets: Mapping[str, Target], truths: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, Transferability]:
    """Return the scores by target. Raises ValueError where a target has too few labels."""
    scores = {}
    for name, known in truths.items():
        has_label = targets[name].has_label(known)
        try:
            scores[name] = transferability(
                vectors[has_label],
                known[has_label],
                num_classes=len(targets[name].names) if known.dtype == np.int64 else 0,
            )
        except ValueError as error:
            raise ValueError(f"target {name}: {error}") from error
    return scores


def table(candidates: Sequence[Candidate], advice: Recommendation) -> list[str]:
    """Return the ranking as lines for people, and the recommendation."""
    names = [name for name in SCORES if any(one.mean(name) is not None for one in candidates)]
    heads = [
        "rank",
        *(WORDS[name].lower() for name in names),
        "samples/s",
        "ms",
        "parameters",
        "vector",
        "MB",
        "backbone",
    ]
    rows = [
        [
            str(rank),
            *(f"{value:.3f}" if (value := one.mean(name)) is not None else "–" for name in names),
            f"{one.cost.samples_per_second:,.0f}",
            f"{one.cost.latency_ms:.2f}",
            f"{one.cost.num_parameters:,}",
            f"{one.cost.dim:,}",
            f"{one.cost.bundle_bytes / 1e6:.2f}",
            one.name,
        ]
        for rank, one in enumerate(ranked(candidates), start=1)
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]])
        for row in (heads, *rows)
    ]
    chosen = advice.candidate
    taken = "it is the one in params.yaml" if chosen.number == 0 else f"`{ACCEPT}` writes it into params.yaml"
    return [*lines, f"recommended: {chosen.name}: {advice.why}; {taken}"]


if __name__ == "__main__":
    main(run)
