"""Read from the tables of predictions what the gate compares: losses by sample, groups and slices."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.metrics.outcomes import right_answers
from tasks.metrics.paired import Paired, paired_classes, paired_errors
from tasks.metrics.slices import CLASS, groups

CLUSTER = "cluster"  # a column with the group of each sample, where samples come in groups


def groups_of(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return (n,) the number of the group of each row, from 0."""
    if CLUSTER not in rows:
        return np.arange(len(rows))
    return pd.factorize(rows[CLUSTER])[0].astype(np.int64)


def paired_with(rows: pd.DataFrame, candidate: pd.DataFrame, other: pd.DataFrame) -> Paired:
    """Pair the answers of two models to the rows (n) of one target; those of classes have no `error`."""
    errors, other_errors = errors_of(candidate), errors_of(other)
    if is_of_classes(candidate):
        return paired_classes(candidate=errors == 0, other=other_errors == 0, groups=groups_of(rows))
    return paired_errors(candidate=errors, other=other_errors, groups=groups_of(rows))


def is_of_classes(answers: pd.DataFrame) -> bool:
    """Return whether a target's answers are classes, which are right or wrong."""
    return "error" not in answers or bool(answers["error"].isna().all())


def errors_of(answers: pd.DataFrame) -> NDArray[np.float64]:
    """Return the error (n,) of each answer to one target: of classes 1 for a wrong one, else in the target's unit."""
    if is_of_classes(answers):
        return 1.0 - answers["is_right"].to_numpy(float)
    return answers["error"].to_numpy(float)


def slices_of(rows: pd.DataFrame, columns: Sequence[str]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Return the samples (n,) of each slice of the rows of one target, by its column and value."""
    places = pd.RangeIndex(len(rows))
    rows = rows.set_axis(places)
    members_of = {}
    for column in columns:
        parts = None
        if column == CLASS and "parts" in rows and rows["parts"].notna().all():
            names = dict.fromkeys(name for parts_of_row in rows["parts"] for name in parts_of_row)
            parts = [(name, np.array([name in parts_of_row for parts_of_row in rows["parts"]], bool)) for name in names]
        for value, members in groups(rows, column, parts=parts):
            members_of[column, value] = places.isin(members.index)
    return members_of


def rows_in_use(predictions: pd.DataFrame, targets: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return, by target, what `anchor.raised` asks for: a row a sample that the model in use can be judged on."""
    rows_of = {}
    for target in targets:
        rows = predictions[(predictions["target"] == target) & predictions["is_shared"].astype(bool)]
        answers = pd.DataFrame({"is_right": right_answers(rows, model="baseline")}, index=rows.index)
        if "baseline_error" in rows:
            answers["error"] = rows["baseline_error"]
        if len(rows):
            rows_of[target] = rows[["sample_id", "label"]].assign(baseline=errors_of(answers), group=groups_of(rows))
    return rows_of
