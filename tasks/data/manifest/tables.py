"""Read and write tables, as Parquet and CSV, so that equal tables give equal bytes."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset  # noqa: F401  which reading Parquet needs: imported here, no fork of a verb waits for it

from tasks.machine.names import in_a_cell, of_a_cell, plotted


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, without anything that varies between equal tables."""
    table.to_parquet(path, index=False, compression="zstd")


def write_text_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV for people: every cell in quotes, and texts as `in_a_cell` returns them."""
    table.map(_in_a_cell).to_csv(path, index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")


def read_text_table(path: Path) -> pd.DataFrame:
    """Return a table that `write_text_table` wrote. Every cell is text; none is taken for a missing value."""
    with path.open(encoding="utf-8", newline="") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False).map(of_a_cell)


def write_plotted(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV for the plots of dvc.yaml, with names, those of columns too, as `plotted` returns them."""
    table.map(_plotted).rename(columns=plotted).to_csv(path, index=False)


def _in_a_cell(cell: Any) -> Any:
    return in_a_cell(cell) if isinstance(cell, str) else cell


def _plotted(cell: Any) -> Any:
    return plotted(cell) if isinstance(cell, str) else cell


def read_table(path: Path, *, batch: str) -> pd.DataFrame:
    """Return a table of one batch. Raises ValueError where it is missing, with the command that fetches it."""
    if not path.is_file():
        raise ValueError(
            f"{path} is missing, though batch {batch} is listed: run `dvc pull digest scan validate embed`, then again"
        )
    return pd.read_parquet(path)
