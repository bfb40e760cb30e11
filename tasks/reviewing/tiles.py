"""Gather the samples that a person may want to look at, a tile for each, with all reasons to look at it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.data.admission.quarantine import COPY, NOT_A_SAMPLE
from tasks.data.health.leaks import LEAKS, read_leaks
from tasks.data.manifest.manifest import POOL
from tasks.data.manifest.tables import read_text_table
from tasks.machine.files import read_json
from tasks.machine.names import on_one_line
from tasks.metrics.outcomes import right_answers
from tasks.page.previews import DECODED
from tasks.reviewing.label_table import LABELS, SAMPLE_ID, WHY, answer_of, read_filled

SUSPECTS = "suspects.csv"  # of audit: kind, sample_id, target, label, suggested, score, detail
KINDS = {  # the kinds of reasons to look at a sample, as the page lists them
    "label_error": "label errors?",
    "near_duplicate": "near-duplicates",
    "quarantined": "quarantined",
    "unlike": "unlike any other",
    "outlier": "outliers",
    "next_to_label": "label next",
    "error": "errors of the model",
}
COPIES = (COPY, NOT_A_SAMPLE, "exact_duplicate", "duplicate_path")  # these need no decision


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A reason to look at a sample: its kind, a sentence, and the label that is suggested, or "" for none."""

    kind: str
    detail: str
    target: str = ""
    suggested: str = ""


@dataclass(kw_only=True)
class Tile:
    """A sample: its place, its labels by target, the reasons to look at it, and its twin, if any, with its labels."""

    sample_id: str
    batch: str
    path: str
    split: str
    labels: dict[str, str]
    is_shown: bool  # whether it was decoded before, so that a preview of it is safe
    twin: str = ""
    twin_labels: dict[str, str] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return the facts that the page shows."""
        reasons = [
            {"kind": one.kind, "detail": on_one_line(one.detail), "target": one.target, "suggested": one.suggested}
            for one in self.reasons
        ]
        return {
            "id": self.sample_id, "place": on_one_line(f"{self.batch}/{self.path}"), "split": self.split,
            "labels": self.labels, "shown": self.is_shown, "twin": self.twin,
            "twin_labels": self.twin_labels, "reasons": reasons,
        }  # fmt: skip


def gather(
    manifest: pd.DataFrame,
    targets: Sequence[str],
    *,
    validated: Path,
    audit: Path,
    health: Path,
    evaluation: Path,
    chosen: Path,
    in_use: str | None,
) -> list[Tile]:
    """Return the tiles, those of each kind in the order of KINDS, the most suspicious first.

    A table that is not there gives no tile: the page may be opened after any stage from validate on.

    Args:
        manifest: of all batches.
        chosen: the folder that `tasks.label` wrote.
        in_use: the digest of the model in use; without it the errors are those of the candidate.
    """
    known = [name for name in targets if name in manifest]
    ledger = read_text_table(validated / "quarantine.csv")
    pool = set(manifest.loc[manifest["split"] == POOL, "sample_id"])
    reasons = [
        *_suspects(health),
        *_near_duplicates(audit),
        *_quarantined(ledger),
        *_chosen(chosen, list(targets), pool),
        *_errors(evaluation, in_use),
    ]
    about = {identity for sample_id, twin, _ in reasons for identity in (sample_id, twin)}
    rows = _rows(manifest, about)
    outside = _rows(ledger[~ledger["reason"].isin(COPIES)], about)
    tiles: dict[str, Tile] = {}
    for sample_id, twin, reason in reasons:
        tile = tiles.get(sample_id)
        if tile is None and (row := rows.get(sample_id)):
            tile = Tile(
                sample_id=sample_id, batch=row["batch"], path=row["path"], split=row["split"],
                labels=_labels(row, known), is_shown=True,
            )  # fmt: skip
        elif tile is None and (row := outside.get(sample_id)):
            is_shown = row["reason"] in DECODED
            tile = Tile(
                sample_id=sample_id, batch=row["batch"], path=row["path"], split="", labels={}, is_shown=is_shown
            )
        if tile is None:  # the table lists samples that are gone
            continue
        tiles[sample_id] = tile
        tile.reasons.append(reason)
        if twin in rows:
            tile.twin, tile.twin_labels = twin, _labels(rows[twin], known)
    place = {kind: number for number, kind in enumerate(KINDS)}
    return sorted(tiles.values(), key=lambda tile: min(place.get(one.kind, len(place)) for one in tile.reasons))


def _rows(table: pd.DataFrame, sample_ids: set[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of these samples by their sample_id, the first of each."""
    rows = table[table["sample_id"].isin(sample_ids)].drop_duplicates("sample_id")
    return {str(row["sample_id"]): {str(name): cell for name, cell in row.items()} for row in rows.to_dict("records")}


def _labels(row: Mapping[str, Any], targets: Sequence[str]) -> dict[str, str]:
    return {name: str(row[name]) for name in targets if pd.notna(row[name])}


Found = Iterator[tuple[str, str, Reason]]  # sample_id, the sample_id of its twin or "", and the reason


def _suspects(health: Path) -> Found:
    if not (health / SUSPECTS).is_file():
        return
    for row in read_text_table(health / SUSPECTS).to_dict("records"):
        cells = {str(name): str(cell) for name, cell in row.items()}
        yield (
            cells["sample_id"], "",
            Reason(kind=cells["kind"], detail=cells.get("detail", ""), target=cells.get("target", ""),
                   suggested=cells.get("suggested", "")),
        )  # fmt: skip


def _near_duplicates(audit: Path) -> Found:
    if not (audit / LEAKS).is_file():
        return
    for row in read_leaks(audit / LEAKS).to_dict("records"):
        detail = f"left {row['split']}: it is nearly the held-out {row['twin_batch']}/{row['twin_path']}"
        yield row["sample_id"], row["twin_sample_id"], Reason(kind="near_duplicate", detail=detail)


def _quarantined(ledger: pd.DataFrame) -> Found:
    rows = ledger[~ledger["reason"].isin(COPIES) & (ledger["sample_id"] != "")]
    for row in rows.drop_duplicates("sample_id").to_dict("records"):
        yield row["sample_id"], "", Reason(kind="quarantined", detail=f"{row['reason']}: {row['detail']}")


def _chosen(folder: Path, targets: list[str], pool: set[str]) -> Found:
    """Yield the samples that `tasks.label` chose and that have no label yet."""
    if not (folder / LABELS).is_file():
        return
    for row in read_filled(folder / LABELS).to_dict("records"):
        if row[SAMPLE_ID] in pool:
            answers = {name: str(row.get(answer_of(name, targets), "")) for name in targets}
            target = next((name for name in targets if answers[name]), "")
            suggested = answers.get(target, "")
            why = str(row.get(WHY, ""))
            yield row[SAMPLE_ID], "", Reason(kind="next_to_label", detail=why, target=target, suggested=suggested)


def _errors(evaluation: Path, in_use: str | None) -> Found:
    """Yield the held-out samples that the model in use answers wrongly, the surest errors first."""
    if not (evaluation / "predictions.parquet").is_file():
        return
    subject: Mapping[str, Any] = read_json(evaluation / "subject.json")
    model = "baseline" if in_use and subject["baseline"] == in_use and subject["candidate"] != in_use else "candidate"
    table = pd.read_parquet(evaluation / "predictions.parquet")
    if model not in table:
        return
    wrong = table[~right_answers(table, model=model) & table[model].notna().to_numpy()]
    order = [name for name in (f"{model}_label_probability", "sample_id") if name in wrong]
    model_name = (
        "the model in use" if in_use in (subject["baseline"], subject["candidate"]) and in_use else "the candidate"
    )
    for row in wrong.sort_values(order).to_dict("records"):
        detail = f"held out: {model_name} answers {row[model]!r}"
        yield row["sample_id"], "", Reason(
            kind="error", detail=detail, target=str(row["target"]), suggested=str(row[model])
        )  # fmt: skip
