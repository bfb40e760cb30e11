"""A raw batch in; a table of samples with their facts, and a table of defects with their reasons, out."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import pandas as pd

from tasks.data.manifest.tables import write_table
from tasks.data.raw.entries import HIDDEN, KEYS, NOT_A_SAMPLE, Entry, targets_among
from tasks.data.raw.inspection import Inspection, inspect_all
from tasks.data.raw.layouts import find_entries
from tasks.data.raw.usual_names import APPLE_DOUBLE, companion, has_ending
from tasks.machine.cluster import LOCAL
from tasks.machine.files import whole_folder
from tasks.machine.options import ScaleOptions
from tasks.machine.progress import progress
from tasks.stage.main import main
from tasks.stage.modality import Modality, room
from tasks.stage.params import ScanParams

logger = logging.getLogger("graftline")

BESIDE = "it is neither called like a sample nor begins like one"


def run(*, raw: Path, out: Path, scan: ScanParams, modality: Modality, scale: ScaleOptions = LOCAL) -> None:
    """Inspect every sample of a batch once.

    Args:
        raw: the batch, a folder or a table of samples
    """
    if not raw.exists():
        raise ValueError(f"there is no batch {raw}: put it there, `dvc pull` it, or take it out of data/batches.yaml")
    decode = room(modality, "decode")
    facts = types_of_facts(room(modality, "facts").Facts)
    entries = find_entries(raw, endings=decode.ENDINGS, texts=scan if modality == "text" else None)
    samples, defects = inspect_entries(raw, entries, scan, decode=decode, facts=facts, scale=scale)
    assert len(samples) + len(defects) == len(entries)
    with whole_folder(out) as folder:
        write_table(folder / "samples.parquet", samples)
        write_table(folder / "defects.parquet", defects)
    targets = samples.columns.difference(["path", "sample_id", *facts, *KEYS])
    is_loss = defects["reason"] != NOT_A_SAMPLE
    counts = {
        "samples": len(samples),
        "of them without a label": int(samples[targets].isna().all(axis=1).sum()),
        "of them with remains of HTML": int(samples["has_markup"].sum()) if "has_markup" in samples else 0,
        "defects": int(is_loss.sum()),
        "others that are no samples": int((~is_loss).sum()),
    }
    said = [f"{count:,} {what}" for what, count in counts.items() if count or what in ("samples", "defects")]
    logger.info("scanned %s: %s", raw, ", ".join(said))


def inspect_entries(
    raw: Path,
    entries: Sequence[Entry],
    scan: ScanParams,
    *,
    decode: Any,
    facts: Mapping[str, str],
    scale: ScaleOptions = LOCAL,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the samples and the defects, sorted by path.

    Samples have path, sample_id, the modality's facts, group, domain, split and a column a target; defects have path,
    sample_id, reason, detail and, in `said`, the labels of the entry as JSON. A column of a table that is called
    like a fact is left out: the facts are taken from the bytes.

    Args:
        decode: that part of the room of the modality.
        facts: the names of the facts, with the types of their columns.
    """
    said_of = [{name: cell for name, cell in entry.said.items() if name not in facts} for entry in entries]
    is_read = [entry.reason in ("", HIDDEN) for entry in entries]
    to_inspect = [entry.path for entry, read in zip(entries, is_read, strict=True) if read]
    inspect = partial(decode.inspect_content, limits=scan)
    inspections = inspect_all(raw, to_inspect, inspect, read=decode.read, limits=scan, scale=scale)
    shown = progress(inspections, total=len(to_inspect), what=f"scan {raw}", unit="samples")
    samples: list[dict[str, object]] = []
    defects: list[dict[str, object]] = []
    for entry, read, said in zip(entries, is_read, said_of, strict=True):
        seen = (
            judge(entry, next(shown), decode=decode) if read else Inspection(reason=entry.reason, detail=entry.detail)
        )
        row: dict[str, object] = {"path": entry.path, "sample_id": seen.sample_id}
        if seen.facts is None:
            labels = json.dumps(said, sort_keys=True)
            defects.append(row | {"reason": seen.reason, "detail": seen.detail, "said": labels})
        else:
            samples.append(row | vars(seen.facts) | said)
    targets = dict.fromkeys(name for said in said_of for name in targets_among(said))
    return (
        _table(samples, ["path", "sample_id", *facts, *KEYS, *targets], types=facts),
        _table(defects, ["path", "sample_id", "reason", "detail", "said"]),
    )


def judge(entry: Entry, seen: Inspection, *, decode: Any) -> Inspection:
    """Return the inspection of a file, with the reason why it is no sample where it has one.

    A file counts as a sample if its name or its first bytes are those of one. Any file may begin like a text, so that
    there the name alone counts. The name of a hidden file does not count: programs name their own files after the
    samples beside them.
    """
    if not entry.is_named:
        what = companion(entry.path)
        is_called = has_ending(entry.path, decode.ENDINGS) and entry.reason != HIDDEN
        if not what and not is_called and decode.NOT_ONE is None:
            what = f"its name does not end in {' or '.join(decode.ENDINGS)}"
        if not what and not is_called and seen.reason in decode.NOT_ONE:
            is_apple_double = PurePosixPath(entry.path).name.startswith(APPLE_DOUBLE)
            what = "what macOS keeps of the file beside it" if is_apple_double else f"{BESIDE}: {seen.detail}"
        if what:
            return replace(seen, facts=None, reason=NOT_A_SAMPLE, detail=what)
    if entry.reason == HIDDEN:
        return replace(seen, facts=None, reason=HIDDEN, detail=entry.detail)
    return seen


def types_of_facts(of_sample: Any) -> dict[str, str]:
    """Return the names of the fields of Facts, with the types of their columns."""
    types: dict[Any, str] = {int: "int64", bool: "bool", str: "str"}
    return {field.name: types[field.type] for field in fields(of_sample)}


def _table(
    rows: list[dict[str, object]], columns: list[str], *, types: Mapping[str, str] = MappingProxyType({})
) -> pd.DataFrame:
    # a column at a time: from rows it takes twice as long
    table = pd.DataFrame({
        name: pd.Series([row.get(name) for row in rows], dtype=types.get(name, "str")) for name in columns
    })  # fmt: skip
    return table.sort_values("path" if table["path"].is_unique else columns, kind="stable", ignore_index=True)


if __name__ == "__main__":
    main(run)
