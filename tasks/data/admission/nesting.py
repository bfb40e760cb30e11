"""Find batches whose class folders lie one folder too deep: then the folders around them become the classes."""

import posixpath
from collections.abc import Collection
from typing import Any

import pandas as pd

from tasks.data.admission.spellings import plain
from tasks.data.raw.entries import text
from tasks.data.raw.usual_names import split_called


def wrapped(samples: pd.DataFrame, *, target: str) -> dict[str, dict[str, Any]]:
    """Return, by batch, the `folder` that is the only class of the batch, and the `folders` in it that hold the files.

    Folders that hold files of their own, or only one folder each, are left out: they need not be too deep.

    Args:
        samples: columns batch, path and the target.
    """
    labelled = samples.dropna(subset=[target])
    num_classes = labelled.groupby("batch", sort=False)[target].nunique()
    wrappers = {}
    for batch in num_classes.index[num_classes == 1]:
        rows = labelled[labelled["batch"] == batch]
        parents = sorted({path.rpartition("/")[0] for path in _files(rows)})
        around = posixpath.commonpath(parents) if parents[0] else ""
        inside = sorted({parent[len(around) + 1 :].partition("/")[0] for parent in parents})
        if text(around.partition("/")[0]) == rows[target].iloc[0] and len(inside) > 1 and all(inside):
            wrappers[str(batch)] = {"folder": around, "folders": inside}
    return wrappers


def alike_inside(samples: pd.DataFrame, *, target: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return, by batch, its classes and the folders in them, if each of several classes holds the same of several.

    Args:
        samples: columns batch, path, split and the target.
    """
    labelled = samples.dropna(subset=[target])
    alike = {}
    for batch, rows in labelled.groupby("batch", sort=False):
        files = _files(rows)
        if files.iloc[0].count("/") < 2:  # most batches: a file lies in its class folder itself
            continue
        parts = files.str.partition("/")
        tops, inner = parts[0], parts[2]
        inside = inner.map(lambda path: path.rpartition("/")[0].partition("/")[0]).groupby(tops.map(text)).agg(set)
        folders = inside.iloc[0]
        is_same = len(inside) > 1 and len(folders) > 1 and all(folders) and (inside == folders).all()
        if is_same and set(inside.index) == set(rows[target]) and not all(map(split_called, folders)):
            alike[str(batch)] = (sorted(inside.index), sorted(folders))
    return alike


def _files(rows: pd.DataFrame) -> "pd.Series[str]":
    """Return the paths of the files, without the encoding that stands behind the path of a text."""
    return rows["path"].str.replace(r"/;[^/.]*$", "", regex=True)


def named_like_classes(found: dict[str, Any], classes: Collection[str]) -> bool:
    """Return whether one of the folders is called like a class."""
    return bool({*map(plain, found["folders"])} & {*map(plain, classes)})
