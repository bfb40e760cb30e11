"""Labels that come after the answers: they are joined by sample_id, and show how often the answers were right."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.data.samples.parquet_cells import BROKEN
from tasks.machine.names import of_a_cell, printable
from tasks.metrics.accuracy import wilson
from tasks.targets.number import Number
from tasks.targets.target import Target

ID = "sample_id"
CONFIDENCE = 0.95  # of the intervals


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The accuracy of the answers to n labelled samples, with the ends of its interval (Wilson 1927)."""

    accuracy: float
    low: float
    high: float
    num_labelled: int

    @classmethod
    def of(cls, is_right: NDArray[np.bool_]) -> "Accuracy":
        hits, n = int(is_right.sum()), len(is_right)
        low, high = wilson(hits, n, confidence=CONFIDENCE)
        return cls(accuracy=hits / n, low=low, high=high, num_labelled=n)


def read_labels(files: Sequence[Path], targets: Mapping[str, Target]) -> dict[str, pd.Series]:
    """Return the labels by target and sample_id, in the form of `Target.read`, of CSV or Parquet files.

    A file has the column sample_id and one for each target that it labels; an empty cell is no label. A class that the
    model does not know is a label, too: the answer to it is wrong.

    Raises:
        ValueError: a file is damaged or has none of these columns, a label is invalid, or a sample has two labels.
    """
    labels: dict[str, pd.Series] = {}
    for file in files:
        table = read_table(file, targets)
        for name in targets:
            if name in table:
                given = table[[ID, name]].dropna()
                values = [_read(targets[name], cell, file) for cell in given[name]]
                series = pd.Series(values, index=given[ID].to_numpy(object), dtype=object)
                labels[name] = pd.concat([labels[name], series]) if name in labels else series
    for name, series in labels.items():
        pairs = pd.DataFrame({"id": series.index, "label": series.to_numpy()}).drop_duplicates()
        if len(twice := pairs[pairs["id"].duplicated()]):
            sample = str(twice["id"].iloc[0])
            both = " and ".join(printable(str(label)) for label in pairs.loc[pairs["id"] == sample, "label"][:2])
            raise ValueError(f"the sample {printable(sample)[:16]} has two labels for {name}, {both}: keep one of them")
        labels[name] = series[~series.index.duplicated()]
    return labels


def read_table(file: Path, targets: Mapping[str, Target]) -> pd.DataFrame:
    """Return the columns sample_id and targets of a file as texts. Raises ValueError where it has none of them."""
    wanted = [ID, *targets]
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise ValueError(f"{file} ends in {file.suffix or 'nothing'}, expected labels in .csv or .parquet")
    try:
        if file.suffix.lower() == ".parquet":
            there = [name for name in pq.read_schema(file).names if name in wanted]
            columns: dict[str, list[Any]] = pq.read_table(file, columns=there).to_pydict()
        else:
            columns = _read_csv(file, wanted)
    except FileNotFoundError:
        raise ValueError(f"there is no {file}: name a table of labels, .csv or .parquet") from None
    except (*BROKEN, csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read ({printable(' '.join(str(error).split()))}): write it again") from None
    if ID not in columns or len(columns) < 2:
        expected = f"{ID} and one of the targets {', '.join(map(printable, targets))}"
        raise ValueError(f"{file} has the columns {', '.join(columns) or 'of none'}, expected {expected}")
    return pd.DataFrame(
        {
            name: [None if cell is None or cell == "" else str(cell) for cell in cells]
            for name, cells in columns.items()
        },
        dtype=object,
    )  # fmt: skip


def _read_csv(file: Path, wanted: Sequence[str]) -> dict[str, list[Any]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        columns: dict[str, list[Any]] = {name: [] for name in reader.fieldnames or () if name in wanted}
        for row in reader:
            for name, cells in columns.items():
                cells.append(of_a_cell(row[name] or ""))
    return columns


def _read(target: Target, cell: str, file: Path) -> str:
    try:
        return target.read(cell)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def are_right(answers: pd.DataFrame, target: Target, labels: pd.Series) -> NDArray[np.bool_]:
    """Return (m,): whether the answer to each of the m labelled samples of a window is right.

    Args:
        answers: rows of one target, with sample_id, label and value.
    """
    labelled = answers[answers["sample_id"].isin(labels.index)]
    truths = labels.loc[labelled["sample_id"]]
    if isinstance(target, Number):
        apart = np.abs(labelled["value"].to_numpy(float) - truths.to_numpy(float))
        return np.asarray(apart <= target.allowed_error)
    return np.asarray(labelled["label"].to_numpy(object) == truths.to_numpy(object), dtype=bool)
