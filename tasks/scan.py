"""A raw batch in; a table of samples with their facts, and a table of defects with their reasons, out."""

import json
import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from tasks.data.manifest.tables import write_table
from tasks.data.raw.entries import HIDDEN, KEYS, NOT_A_SAMPLE, Entry, targets_among
from tasks.data.raw.inspection import Inspection, inspect_all
from tasks.data.raw.layouts import find_entries
from tasks.data.raw.usual_names import APPLE_DOUBLE, companion, has_ending
from tasks.machine.files import whole_folder
from tasks.machine.progress import progress
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import ScanParams

logger = logging.getLogger("graftline")

BESIDE = "it is neither called like a sample nor begins like one"


def run(*, raw: Path, out: Path, scan: ScanParams, modality: Modality) -> None:
    """Inspect every sample of a batch once.

    Args:
        raw: the batch, a folder or a Parquet file
    """
    if not raw.exists():
        raise ValueError(f"there is no batch {raw}: put it there, `dvc pull` it, or take it out of data/batches.yaml")
    decode = room(modality, "decode")
    entries = find_entries(raw, endings=decode.ENDINGS)
    samples, defects = inspect_entries(raw, entries, scan, decode=decode)
    assert len(samples) + len(defects) == len(entries)
    with whole_folder(out) as folder:
        write_table(folder / "samples.parquet", samples)
        write_table(folder / "defects.parquet", defects)
    targets = samples.columns.difference(["path", "sample_id", *names_of_facts(decode), *KEYS])
    is_loss = defects["reason"] != NOT_A_SAMPLE
    counts = {
        "samples": len(samples),
        "of them without a label": int(samples[targets].isna().all(axis=1).sum()),
        "defects": int(is_loss.sum()),
        "others that are no samples": int((~is_loss).sum()),
    }
    said = [f"{count:,} {what}" for what, count in counts.items() if count or what in ("samples", "defects")]
    logger.info("scanned %s: %s", raw, ", ".join(said))


def inspect_entries(
    raw: Path, entries: Sequence[Entry], scan: ScanParams, *, decode: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the samples and the defects, sorted by path.

    Samples have path, sample_id, the modality's facts, group, domain, split and a column a target; defects have path,
    sample_id, reason, detail and, in `said`, the labels of the entry as JSON. `decode` is that part of the room.
    """
    is_read = [entry.reason in ("", HIDDEN) for entry in entries]
    to_inspect = [entry.path for entry, read in zip(entries, is_read, strict=True) if read]
    inspect = partial(decode.inspect_content, limits=scan)
    inspections = inspect_all(raw, to_inspect, inspect, read=decode.read, limits=scan)
    shown = progress(inspections, total=len(to_inspect), what=f"scan {raw}", unit="samples")
    samples: list[dict[str, object]] = []
    defects: list[dict[str, object]] = []
    for entry, read in zip(entries, is_read, strict=True):
        seen = (
            judge(entry, next(shown), decode=decode) if read else Inspection(reason=entry.reason, detail=entry.detail)
        )
        row: dict[str, object] = {"path": entry.path, "sample_id": seen.sample_id}
        if seen.facts is None:
            labels = json.dumps(dict(entry.said), sort_keys=True)
            defects.append(row | {"reason": seen.reason, "detail": seen.detail, "said": labels})
        else:
            samples.append(row | vars(seen.facts) | dict(entry.said))
    targets = dict.fromkeys(name for entry in entries for name in targets_among(entry.said))
    return (
        _table(samples, ["path", "sample_id", *names_of_facts(decode), *KEYS, *targets], numbers=decode.NUMBERS),
        _table(defects, ["path", "sample_id", "reason", "detail", "said"]),
    )


def judge(entry: Entry, seen: Inspection, *, decode: Any) -> Inspection:
    """Return the inspection of a file, with the reason why it is no sample where it has one.

    A file that is neither called like a sample nor begins like one is none that somebody lost. The name of a hidden
    file does not count: programs call their own files after the samples beside them.
    """
    if not entry.is_named:
        what = companion(entry.path)
        is_called = has_ending(entry.path, decode.ENDINGS) and entry.reason != HIDDEN
        if not what and not is_called and seen.reason in decode.NOT_ONE:
            is_apple_double = PurePosixPath(entry.path).name.startswith(APPLE_DOUBLE)
            what = "what macOS keeps of the file beside it" if is_apple_double else f"{BESIDE}: {seen.detail}"
        if what:
            return replace(seen, facts=None, reason=NOT_A_SAMPLE, detail=what)
    if entry.reason == HIDDEN:
        return replace(seen, facts=None, reason=HIDDEN, detail=entry.detail)
    return seen


def names_of_facts(decode: Any) -> list[str]:
    return [field.name for field in fields(decode.Facts)]


def _table(rows: list[dict[str, object]], columns: list[str], *, numbers: Sequence[str] = ()) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns)
    types = {name: "int64" if name in numbers else "str" for name in columns}
    return table.astype(types).sort_values(columns, kind="stable", ignore_index=True)


if __name__ == "__main__":
    main(run)
