"""The labels of a target of the kind `several`: curves of precision and recall, and a table, the worst label first."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.targets.several import Several

SIDE = 120  # px of a curve
MAX_CURVES = 12
MAX_ROWS = 40  # of the table; metrics.json has all labels
MAX_POINTS = 60  # of a curve


def labels(rows: pd.DataFrame, target: Several, measured: dict[str, Any]) -> dict[str, Any]:
    """Return the labels with the lowest average precision first; those without a held-out sample come last.

    Args:
        rows: label and candidate_probabilities.
        measured: of each label average_precision, f1, threshold, num, as `evaluate` writes them.

    Returns:
        rows: at most MAX_ROWS of the table
        curves: at most MAX_CURVES, each with `name`, `average_precision`, the `points` of a line in an SVG of
            SIDE x SIDE, `base` (y of the share of samples that have the label) and `chosen` (x, y) at the threshold
        num_labels: of all
        num_curves: of all labels that have a curve
    """
    names = sorted((name for name in target.names if name in measured), key=lambda name: _rank(measured[name]))
    table = [{"name": name} | measured[name] for name in names[:MAX_ROWS]]
    drawn = [name for name in names if _is_drawn(measured[name], len(rows))]
    column = {name: place for place, name in enumerate(target.names)}
    truths = target.encode(rows["label"]) > 0.5 if drawn else np.empty((0, 0), bool)
    probabilities = np.stack(rows["candidate_probabilities"].tolist()) if drawn else np.empty((0, 0))
    curves = [
        {"name": name, "average_precision": measured[name].get("average_precision")}
        | curve(truths[:, column[name]], probabilities[:, column[name]], threshold=measured[name]["threshold"])
        for name in drawn[:MAX_CURVES]
    ]
    return {"rows": table, "curves": curves, "num_labels": len(names), "num_curves": len(drawn), "side": SIDE}


def _rank(label: dict[str, Any]) -> float:
    value = label.get("average_precision")
    return math.inf if value is None else float(value)


def _is_drawn(label: dict[str, Any], num_samples: int) -> bool:
    return bool(0 < label["num"] <= num_samples)


def curve(is_true: NDArray[np.bool_], probabilities: NDArray[np.float64], *, threshold: float) -> dict[str, Any]:
    """Return precision (upward) against recall of one label, from the surest answer on.

    Args:
        is_true: (n,), with at least one that is.
        probabilities: (n,).
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked, hits = probabilities[order], is_true[order].cumsum()
    is_end = np.append(ranked[1:] < ranked[:-1], True)  # equal probabilities count together
    recall = hits[is_end] / hits[-1]
    precision = hits[is_end] / (np.flatnonzero(is_end) + 1)
    few = np.unique(np.linspace(0, len(recall) - 1, min(len(recall), MAX_POINTS)).round().astype(int))
    points = [(0.0, float(precision[0])), *zip(recall[few].tolist(), precision[few].tolist(), strict=True)]
    is_said = probabilities >= threshold
    chosen = None
    if is_said.any():
        both = int((is_said & is_true).sum())
        chosen = {"x": SIDE * both / int(hits[-1]), "y": SIDE - SIDE * both / int(is_said.sum())}
    return {
        "points": " ".join(f"{SIDE * x:.1f},{SIDE - SIDE * y:.1f}" for x, y in points),
        "base": SIDE - SIDE * float(is_true.mean()),
        "chosen": chosen,
    }
