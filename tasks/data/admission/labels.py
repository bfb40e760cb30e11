"""Read the labels of each target in the one form of its kind. A bad label is set aside; its sample keeps the others."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from tasks.targets.several import write
from tasks.targets.target import Target

LABEL_COLUMNS = ["batch", "path", "sample_id", "target", "label", "reason", "detail"]
BAD = {"number": "no_number", "ordinal": "unknown_step", "several": "no_labels"}  # the reason, by kind
LONGEST_LABEL = 200  # characters of a label in the list
YES, NO = ("1", "true", "yes"), ("0", "false", "no")


def read_labels(
    samples: pd.DataFrame,
    targets: Mapping[str, Target],
    *,
    joined: Mapping[str, Sequence[str]],
    merge: Mapping[str, Mapping[str, str]],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the samples with their labels in the form of `Target.read`, and the labels that are set aside.

    A label that is set aside is missing in the samples. Classes stay as they are.

    Args:
        samples: columns batch, path, sample_id, and those of the targets.
        joined: by target, the columns that each stand for one of its labels.
        merge: by target, a label and the label that it counts as; it applies to each of several labels.
    """
    changed, bad = {}, [labels_set_aside(samples[:0], "", samples["path"][:0], reason="", details={})]
    for name, target in targets.items():
        if target.kind == "classes":
            continue
        columns = joined.get(name)
        cells = _of_columns(samples.reindex(columns=list(columns))) if columns else samples[name]
        read = _join if columns else target.read
        forms: dict[str, str] = {}
        details: dict[str, str] = {}
        for cell in cells.dropna().unique():
            try:
                forms[cell] = read(cell)
            except ValueError as error:
                details[cell] = str(error)
        if target.kind == "several" and name in merge:
            forms = {cell: _merged(form, merge[name]) for cell, form in forms.items()}
        changed[name] = cells.map(forms).astype("str")
        wrong = cells[cells.isin(list(details))]
        bad.append(labels_set_aside(samples, name, wrong, reason=BAD[target.kind], details=details))
    return samples.assign(**changed), pd.concat(bad)


def labels_set_aside(
    samples: pd.DataFrame, target: str, labels: "pd.Series[str]", *, reason: str, details: Mapping[str, str]
) -> pd.DataFrame:
    """Return a row (LABEL_COLUMNS) for each of the labels, which have the index of their samples."""
    rows = samples.loc[labels.index, ["batch", "path", "sample_id"]].assign(
        target=target, label=labels.str.slice(stop=LONGEST_LABEL), reason=reason, detail=labels.map(dict(details))
    )
    return rows.astype(dict.fromkeys(LABEL_COLUMNS, "str"))


def without_labels(
    labels: "pd.Series[str]", target: Target, *, allowed: Collection[str]
) -> tuple["pd.Series[str]", "pd.Series[str]"]:
    """Return labels (n,) without those that are not allowed, and the single ones that are left out, by sample.

    A sample of several labels keeps the others. Where none at all is allowed, all are missing.
    """
    allowed = set(allowed)
    names = names_of(labels, target)
    out = names[~names.isin(list(allowed))]
    if target.kind != "several":
        return labels.where(labels.isin(list(allowed))), out
    if not allowed:
        return labels.where(labels.isna()), out
    changed = labels[out.index.unique()].map(lambda cell: write([name for name in json.loads(cell) if name in allowed]))
    kept = labels.copy()
    kept[changed.index] = changed
    return kept, out


def names_of(labels: "pd.Series[Any]", target: Target) -> "pd.Series[str]":
    """Return the single classes, labels or steps of labels (n,), with the index of their samples; none of a number."""
    given = labels.dropna()
    if target.kind == "several":
        return given.map(json.loads).explode().dropna().astype("str")
    return given[:0] if target.kind == "number" else given


def num_labels(labels: "pd.Series[Any]", target: Target) -> int:
    """Return the number of labels (n,): each of several counts, and a missing one does not."""
    return len(names_of(labels, target)) if target.kind == "several" else int(labels.count())


def _of_columns(columns: pd.DataFrame) -> "pd.Series[str]":
    """Return the cells of the columns of each sample as JSON; missing where a sample has none."""
    given = columns[columns.notna().any(axis=1)].astype(object)
    rows = given.where(given.notna(), None).to_dict("records")
    cells = [json.dumps(row, ensure_ascii=False) for row in rows]
    return pd.Series(cells, index=given.index, dtype="str").reindex(columns.index)


def _join(cell: str) -> str:
    row = json.loads(cell)
    for name, value in row.items():
        if value is None or value.casefold() not in (*YES, *NO):
            problem = "is blank, and others of the sample are not" if value is None else f"is {value[:60]!r}"
            raise ValueError(f"{name} {problem}, expected 0 or 1, no or yes, false or true")
    return write([name for name, value in row.items() if value.casefold() in YES])


def _merged(form: str, merge: Mapping[str, str]) -> str:
    return write(sorted({merge.get(name, name) for name in json.loads(form)}))
