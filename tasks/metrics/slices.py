"""Measure the candidate and the baseline on slices of the held-out samples."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.metrics.accuracy import design_effect, wilson
from tasks.metrics.outcomes import right_answers
from tasks.metrics.significance import compare, compare_errors, part_of

CLASS, SIZE = "class", "size"  # slices that are not columns of the manifest
COLUMNS = (
    "target", "column", "value", "num_samples", "candidate_accuracy", "candidate_low", "candidate_high",
    "num_shared", "baseline_accuracy", "negative_flips", "positive_flips",
)  # fmt: skip
# where a target is of another kind than classes: mean errors, and the fields of `significance.ErrorChange`
ERROR_COLUMNS = ("candidate_error", "baseline_error", "mean", "deviation", "num_different", "p_value")

Part = tuple[str, NDArray[np.bool_]]


def check_slices(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise ValueError, with its name, for a column that the held-out rows lack, or in which no row has a value."""
    for column in columns:
        if column in (CLASS, SIZE):
            continue
        if column not in rows:
            raise ValueError(
                f"evaluate.slices names {column!r}, expected {CLASS}, {SIZE} or a column of the manifest: "
                f"{', '.join(map(str, rows.columns))}"
            )
        if rows[column].isna().all():
            raise ValueError(
                f"evaluate.slices names {column!r}, a slice without samples: no held-out sample has a value there; "
                "remove it from the list, or fill in the values"
            )


def slice_table(
    rows: pd.DataFrame,
    *,
    columns: Sequence[str],
    target: str,
    confidence: float,
    parts: Iterable[Part] | None = None,
) -> pd.DataFrame:
    """Return a table with one row per slice of `rows`, and the columns COLUMNS.

    Where the rows have `candidate_error`, it has ERROR_COLUMNS, too, and an accuracy is the share of right answers.

    Args:
        rows: the columns of the manifest, label, candidate, is_shared and, if there is a baseline, baseline; `cluster`
            where samples come in groups. The candidate is compared with the baseline on the rows where is_shared: the
            baseline knows their class.
        columns: `class` for the labels, `size` for an image's shorter side in px or a text's words, or a column of
            the manifest.
        parts: the slices of `class`, by name, as masks of the rows; None for one slice a label.
    """
    by_truth = None if parts is None else list(parts)
    slices = []
    for column in columns:
        for value, members in groups(rows, column, parts=by_truth):
            slices.append({"target": target, "column": column, "value": value} | measure(members, confidence))
    has_errors = "candidate_error" in rows
    return pd.DataFrame(slices, columns=[*COLUMNS, *(ERROR_COLUMNS if has_errors else ())])


def groups(
    rows: pd.DataFrame, column: str, *, parts: Sequence[Part] | None = None
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the slices of a column with their values. A sample without a value is in no slice."""
    if column == CLASS and parts is not None:
        for name, of_part in parts:
            yield name, rows[of_part]
        return
    if column == SIZE:
        sizes, unit = (rows[["width", "height"]].min(axis=1), "px") if "width" in rows else (rows["words"], "words")
        lows = powers_of_two(sizes.to_numpy())
        for low in np.unique(lows).tolist():
            yield f"{low} to {2 * low - 1} {unit}" if low > 1 else f"1 {unit.removesuffix('s')}", rows[lows == low]
        return
    for value, members in rows.groupby(rows["label"] if column == CLASS else rows[column], sort=True):
        yield str(value), members


def powers_of_two(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each size (n,) the largest power of two that is not above it: 64 for 100."""
    return 2 ** np.floor(np.log2(np.maximum(sizes, 1))).astype(np.int64)


def measure(members: pd.DataFrame, confidence: float) -> dict[str, float | int | None]:
    is_right = right_answers(members, model="candidate")
    groups = pd.factorize(members["cluster"])[0] if "cluster" in members else None
    effect = design_effect(is_right, groups)
    low, high = wilson(int(is_right.sum()), len(members), confidence=confidence, design_effect=effect)
    measured: dict[str, float | int | None] = {
        "num_samples": len(members),
        "candidate_accuracy": float(is_right.mean()),
        "candidate_low": low,
        "candidate_high": high,
    }
    if "candidate_error" in members:
        measured["candidate_error"] = float(members["candidate_error"].mean())
    is_shared = members["is_shared"].to_numpy()
    if "baseline" not in members or not is_shared.any():
        return measured
    was_right = right_answers(members, model="baseline")[is_shared]
    shared_groups = part_of(groups, is_shared)
    flips = compare(candidate=is_right[is_shared], baseline=was_right, groups=shared_groups)
    measured |= {
        "num_shared": int(is_shared.sum()),
        "baseline_accuracy": float(was_right.mean()),
        "negative_flips": flips.negative,
        "positive_flips": flips.positive,
    }
    if "candidate_error" in members:
        shared = members[is_shared]
        errors = {model: shared[f"{model}_error"].to_numpy() for model in ("candidate", "baseline")}
        change = asdict(compare_errors(**errors, groups=shared_groups))
        measured |= {"baseline_error": float(errors["baseline"].mean())}
        measured |= {name: value for name, value in change.items() if name in ERROR_COLUMNS}
    return measured
