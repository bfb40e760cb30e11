"""The table of samples that a person may want to look at: a row a sample and kind. Nothing is removed by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.health.label_errors import LabelErrors
from tasks.data.health.weak_slices import WeakSlice
from tasks.data.manifest.manifest import TRAINING
from tasks.data.manifest.tables import read_text_table

SUSPECTS = "suspects.csv"
HEALTH = "health.json"
# score: 0 to 1 on the scale of its kind. label and suggested: of the target, where the row is about a label
COLUMNS = ["kind", "batch", "path", "sample_id", "target", "label", "suggested", "score", "detail"]
KINDS = {
    "label_error": "labels that are probably wrong",
    "outlier": "samples of train or val that are far from all others",
    "unlike": "samples of the pool or held out that are far from those that are trained on",
    "dark": "pictures that are nearly black",
    "bright": "pictures that are nearly white",
    "blurred": "pictures that are blurred",
    "odd_size": "samples of a size unlike that of the others",
    "weak_slice": "samples of groups that are answered worse than the others",
}

Rows = NDArray[np.intp]  # of the manifest


def wrong_labels(
    manifest: pd.DataFrame, rows: Rows, target: str, names: Sequence[str], found: LabelErrors
) -> pd.DataFrame:
    """Return the suspects whose label of a target is probably wrong.

    Args:
        rows: (k,) those that have a label.
        names: of the target's classes.
        found: the suspicion against the labels (k,).
    """
    chosen = np.flatnonzero(found.is_suspected)
    likeliest = found.likeliest[chosen]
    suggested = [names[place] for place in likeliest]
    labels = manifest[target].iloc[rows[chosen]]
    likely = np.exp(found.log_probabilities[chosen, likeliest])
    detail = [
        f"labelled {label}, looks like {other} (probability {probability:.2f})"
        for label, other, probability in zip(labels, suggested, likely, strict=True)
    ]
    return suspects_of(
        manifest, rows[chosen], kind="label_error", score=found.score[chosen], detail=detail, target=target,
        suggested=suggested,
    )  # fmt: skip


def far_samples(manifest: pd.DataFrame, distances: NDArray[np.float64], *, limit: float) -> pd.DataFrame:
    """Return the suspects whose distance (n,) from the samples that are trained on is above the limit."""
    is_used = manifest["split"].isin(TRAINING).to_numpy()
    is_far = distances > limit
    parts = {"outlier": np.flatnonzero(is_far & is_used), "unlike": np.flatnonzero(is_far & ~is_used)}
    return pd.concat([
        suspects_of(
            manifest, rows, kind=kind, score=distances[rows] / 2,
            detail=[f"{distance:.2f} away from the nearest others; nearly all are within {limit:.2f}"
                    for distance in distances[rows]],
        )
        for kind, rows in parts.items()
    ])  # fmt: skip


def weak_groups(
    manifest: pd.DataFrame, rows: Rows, target: str, slices: Sequence[WeakSlice], *, error: float
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return the suspects of weak slices of the rows (k,) with a label, and the facts of each slice.

    `error` is the share of wrong answers in all of the rows.
    """
    tables = [suspects_of(manifest, rows[:0], kind="weak_slice", score=np.empty(0), detail=[])]
    facts: list[dict[str, Any]] = []
    for part in slices:
        own = rows[part.rows]
        text = (
            f"of {part.num_samples:,} alike samples, those with wrong answers mostly labelled "
            f"{manifest[target].iloc[own].mode().iloc[0]}, {part.error:.0%} are answered wrongly ({error:.0%} of all)"
        )
        facts.append(
            {"num_samples": part.num_samples, "error": part.error, "p_value": part.p_value, "text": text}
        )  # fmt: skip
        score = np.full(len(own), part.error)
        tables.append(
            suspects_of(manifest, own, kind="weak_slice", score=score, detail=[text] * len(own), target=target)
        )
    return pd.concat(tables), facts


def suspects_of(
    manifest: pd.DataFrame,
    rows: Rows,
    *,
    kind: str,
    score: NDArray[np.floating],
    detail: Sequence[str],
    target: str = "",
    suggested: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return a table of COLUMNS of some rows (k,), each with a score and a detail (k), the surest first."""
    order = np.lexsort((manifest["sample_id"].to_numpy()[rows], -score))
    chosen = manifest.iloc[rows[order]].reset_index(drop=True)
    return chosen[["batch", "path", "sample_id"]].assign(
        kind=kind,
        target=target,
        label=chosen[target] if target else "",
        suggested=[suggested[place] for place in order] if suggested is not None else "",
        score=score[order].round(4),
        detail=[detail[place] for place in order],
    )[COLUMNS]


def read_suspects(folder: Path) -> pd.DataFrame:
    """Return the table of COLUMNS, `score` as numbers. Raises ValueError where it is missing."""
    try:
        table = read_text_table(folder / SUSPECTS)
    except FileNotFoundError:
        raise ValueError(f"{folder / SUSPECTS} is missing: run audit, or `dvc pull audit`") from None
    return table.assign(score=table["score"].astype(float))
