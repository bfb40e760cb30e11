"""A raw batch in; a table of samples with their facts, and a table of defects with their reasons, out."""

import json
import logging
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import pandas as pd

from tasks.data.manifest.tables import write_table
from tasks.data.raw.entries import KEYS, Entry
from tasks.data.raw.inspection import Inspection, inspect_all
from tasks.data.raw.layouts import find_entries
from tasks.images.decode import ImageFacts, inspect_image
from tasks.machine.files import whole_folder
from tasks.machine.progress import progress
from tasks.stage.main import main
from tasks.stage.params import ScanParams

logger = logging.getLogger("graftline")

FACT_NAMES = [field.name for field in fields(ImageFacts)]


def run(*, raw: Path, out: Path, scan: ScanParams) -> None:
    """Inspect every sample of a batch once.

    Args:
        raw: the batch, a folder or a Parquet file
    """
    if not raw.exists():
        raise ValueError(f"there is no batch {raw}: put it there, `dvc pull` it, or take it out of data/batches.yaml")
    entries = find_entries(raw)
    samples, defects = inspect_entries(raw, entries, scan)
    assert len(samples) + len(defects) == len(entries)
    with whole_folder(out) as folder:
        write_table(folder / "samples.parquet", samples)
        write_table(folder / "defects.parquet", defects)
    logger.info("scanned %s: %s samples, %s defects", raw, f"{len(samples):,}", f"{len(defects):,}")


def inspect_entries(raw: Path, entries: Sequence[Entry], scan: ScanParams) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the samples and the defects, sorted by path.

    Samples have path, sample_id, ImageFacts, group, domain, split and a column a target; defects have path, sample_id,
    reason, detail and, in `said`, the labels of the entry as JSON.
    """
    to_inspect = [entry.path for entry in entries if not entry.reason]
    inspections = inspect_all(raw, to_inspect, partial(inspect_image, limits=scan), limits=scan)
    shown = progress(inspections, total=len(to_inspect), what=f"scan {raw}", unit="samples")
    samples: list[dict[str, object]] = []
    defects: list[dict[str, object]] = []
    for entry in entries:
        seen = Inspection(reason=entry.reason, detail=entry.detail) if entry.reason else next(shown)
        row: dict[str, object] = {"path": entry.path, "sample_id": seen.sample_id}
        if seen.facts is None:
            labels = json.dumps(dict(entry.said), sort_keys=True)
            defects.append(row | {"reason": seen.reason, "detail": seen.detail, "said": labels})
        else:
            samples.append(row | vars(seen.facts) | dict(entry.said))
    targets = dict.fromkeys(name for entry in entries for name in entry.said if name not in KEYS)
    return (
        _table(samples, ["path", "sample_id", *FACT_NAMES, *KEYS, *targets], numbers=("width", "height")),
        _table(defects, ["path", "sample_id", "reason", "detail", "said"]),
    )


def _table(rows: list[dict[str, object]], columns: list[str], *, numbers: Sequence[str] = ()) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=columns)
    types = {name: "int64" if name in numbers else "str" for name in columns}
    return table.astype(types).sort_values(columns, kind="stable", ignore_index=True)


if __name__ == "__main__":
    main(run)
