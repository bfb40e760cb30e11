"""The results of all stages in; one self-contained HTML page for a person out."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tasks.data.health.leaks import LEAKS, read_leaks
from tasks.data.health.marks import describe_marks
from tasks.data.manifest.batches import read_batches
from tasks.data.manifest.manifest import SPLITS, read_manifest, used_of
from tasks.data.manifest.tables import read_text_table
from tasks.machine.files import read_json, whole_file
from tasks.page.curves import LINES, curves, numbers
from tasks.page.domains import bounded, describe_domains, read_domains
from tasks.page.examples import by_class, examples
from tasks.page.gallery import worst
from tasks.page.health import describe_health
from tasks.page.label_ledger import read_labels
from tasks.page.options import PageOptions
from tasks.page.outcomes import errors
from tasks.page.points import points, read_places
from tasks.page.previews import Previews
from tasks.page.render import render
from tasks.page.slices import read_slices
from tasks.page.start import start_in_words
from tasks.page.targets import BY_CLASS, describe_targets, packed
from tasks.page.wording import in_words, off
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.targets.kinds import targets_of
from tasks.targets.target import Target

logger = logging.getLogger("graftline")

RIGHT = "right"  # the kind of a sample that shows no error


def run(
    *,
    validated: Path,
    audit: Path,
    training: Path,
    evaluation: Path,
    regression: Path,
    head: Path,
    adaptation: Path,
    health: Path,
    batches: Path,
    raw: Path,
    out: Path,
    report: PageOptions,
    modality: Modality,
) -> None:
    """Draw the page."""
    names = read_batches(batches)
    ledger = read_text_table(validated / "quarantine.csv")
    manifest = read_manifest(validated / "manifest", names)
    newest = newest_first(ledger, names)
    labels = read_labels(validated / "labels.csv")
    predictions = pd.read_parquet(evaluation / "predictions.parquet")
    epochs = pd.read_csv(training / "curves.csv")
    finetuning = read_json(training / "finetuning.json")
    validation = read_json(validated / "validation.json")
    audited = read_json(audit / "audit.json")
    subject, of_head = read_json(evaluation / "subject.json"), read_json(head / "head.json")
    answered = set(predictions["target"])  # a target has no head where all its labels of train leaked
    targets = {
        name: target for name, target in targets_of(read_json(validated / "classes.json")).items() if name in answered
    }
    metrics = read_json(evaluation / "metrics.json")
    described = describe_targets(
        predictions,
        targets=targets,
        metrics=metrics,
        reliability=pd.read_csv(evaluation / "reliability.csv", dtype={"target": "str"}, keep_default_na=False),
        table=read_slices(evaluation / "slices.csv"),
        subject=subject,
        epochs=epochs,
    )
    named_kinds = [name for name, target in targets.items() if target.kind in BY_CLASS]
    by_name = predictions[predictions["target"].isin(named_kinds)]
    shown = pd.concat(
        [
            worst(predictions, limit=report.max_pictures),
            examples(by_name, names, limit=report.max_examples).assign(kind=RIGHT),
        ],
        ignore_index=True,
    )
    previews = Previews(raw=raw, decode=room(modality, "decode"), preview=room(modality, "preview"), options=report)
    preview_of = previews.of_samples(shown)
    domains, unlike = read_domains(adaptation)
    unlike = bounded(unlike, limit=report.max_pictures)
    heldout = np.flatnonzero(manifest["split"] == "heldout")
    drawn = drawn_rows(manifest["sample_id"], heldout, limit=report.max_points)
    places = read_places(evaluation / "places.safetensors", num_samples=len(heldout))
    samples = manifest.iloc[drawn].reset_index(drop=True)
    numbered = shown.loc[shown["sample_id"].isin(preview_of), "sample_id"].drop_duplicates()
    mapped = points(
        samples,
        places[np.searchsorted(heldout, drawn)],
        predictions,
        targets=targets,
        previews=dict(zip(numbered, numbered.index, strict=True)),
    )
    position = {identity: at for at, identity in enumerate(samples["sample_id"])}
    shown = shown.assign(
        preview=pd.Series(map(preview_of.get, shown["sample_id"]), index=shown.index, dtype=object),
        row=shown["sample_id"].map(position).fillna(-1).astype(int),
        number=shown.index,
    )
    gallery = in_words_of(shown[shown["kind"] != RIGHT], targets)
    named = gallery[gallery["target"].isin(by_name["target"])]
    content = {
        "title": report.title,
        "modality": modality,
        "are_shown": previews.are_shown,
        "verdict": read_json(regression / "verdict.json"),
        "subject": subject,
        "targets": described,
        "gallery": gallery.to_dict("records"),
        "classes": by_class(shown[shown["kind"] == RIGHT], by_name) if previews.are_shown else [],
        "domains": describe_domains(
            domains, unlike, metrics=metrics, previews=previews.of_samples(unlike) if domains else {}
        ),
        "num_classes": len(by_name[["target", "label"]].drop_duplicates()),
        "gallery_classes": sorted(set(named["label"]) | set(named["candidate"])),
        "num_wrong": int((errors(predictions) > 0).sum()),
        "num_heldout_rows": len(heldout),
        "num_used": len(used_of(manifest)),
        "batches": [
            count(name, manifest, validation["batches"][name], leaks=audited["batches"][name]) for name in names
        ],
        "validation": validation,
        "audit": audited,
        "marks": describe_marks(audited["marks"]) if audited["marks"] else "",
        "health": describe_health(health),
        "twins": previews.of_twins(read_leaks(audit / LEAKS), limit=report.max_twins),
        "num_quarantined": len(ledger),
        "quarantine": previews.of_ledger(newest.head(report.max_quarantined_rows)),
        "num_set_aside": len(labels),
        "set_aside": newest_first(labels, names).head(report.max_quarantined_rows).to_dict("records"),
        "sharing": of_head.get("sharing", {}),
        "shares_of_depths": of_head.get("share_of_all_depths", {}),
        "finetuning": finetuning,
        "start": start_in_words(finetuning.get("start"), metrics),
        # an accuracy over several targets means nothing: each has its own
        "curves": {measure: curves(epochs, measure) for measure in LINES if measure == "loss" or len(targets) == 1},
        "epochs": numbers(epochs),
        "packed": {"points": mapped, "confusions": packed(described)},
    }
    with whole_file(out) as path:
        path.write_text(render(content), "utf-8")
    logger.info("wrote %s (%.0f kB)", out, out.stat().st_size / 1000)
    logger.info("%s; the page is %s", next_step(content["verdict"]), out)


def next_step(verdict: dict[str, Any]) -> str:
    """Return the next step for a person about the candidate."""
    if verdict["candidate"] == verdict["baseline"]:
        return "the candidate is in use; next: new data"
    if verdict.get("promotes", verdict["verdict"] == "accepted"):
        return "next: `graftline promote` puts the candidate in use"
    if verdict["verdict"] == "undecided":
        return "next: land more data; or look at the page, and `graftline promote --force --why '…'`"
    return "next: mend the data or params.yaml, then run again; or `graftline promote --force --why '…'`"


def newest_first(ledger: pd.DataFrame, batches: list[str]) -> pd.DataFrame:
    return ledger.sort_values("batch", key=lambda column: column.map(batches[::-1].index), kind="stable")


def in_words_of(gallery: pd.DataFrame, targets: dict[str, Target]) -> pd.DataFrame:
    """Return the gallery with `truth` and `answer` in words, and `off`: how sure, or how far off, the answer is."""
    parts = [
        rows.assign(
            truth=in_words(rows["label"], target), answer=in_words(rows["candidate"], target), off=off(rows, target)
        )
        for name, target in targets.items()
        for rows in [gallery[gallery["target"] == name]]
    ]
    return pd.concat(parts).reindex(gallery.index)


def drawn_rows(identities: "pd.Series[str]", heldout: Any, *, limit: int) -> Any:
    """Return the rows of the manifest that the map shows: the held-out ones, at most `limit`.

    If there are more, it shows those with the smallest hashes: a random draw that stays the same.
    """
    if len(heldout) <= limit:
        return heldout
    return np.sort(heldout[np.argsort(identities.to_numpy()[heldout], kind="stable")[:limit]])


def count(name: str, manifest: pd.DataFrame, counts: dict[str, int], *, leaks: dict[str, int]) -> dict[str, Any]:
    """Count the samples of a batch by the side of the split, in the pool, as leaks, and by the reason in the ledger."""
    splits = manifest.loc[manifest["batch"] == name, "split"].value_counts()
    reasons = {
        key.removeprefix("quarantined."): number for key, number in counts.items() if key.startswith("quarantined.")
    }
    return {
        "name": name,
        "came": counts["in"],
        "used": counts["used"],
        "pool": counts["pool"],
        "quarantined": sum(reasons.values()),
        "leaks": leaks["train"] + leaks["val"],
        "reasons": {reason: number for reason, number in sorted(reasons.items()) if number},
    } | {split: int(splits.get(split, 0)) for split in SPLITS}


if __name__ == "__main__":
    main(run)
