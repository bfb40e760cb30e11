"""The dots of the reliability diagram."""

from typing import Any

import pandas as pd


def dots(bins: pd.DataFrame, *, side: int = 260) -> list[dict[str, Any]]:
    """Return one dot per bin: confidence, accuracy (0..1), count, and its place in a square of `side` px, y downward.

    The area of a dot grows with the bin's share of the samples.
    """
    total = max(int(bins["count"].sum()), 1)
    return [
        {
            "confidence": confidence,
            "accuracy": accuracy,
            "count": int(count),
            "x": confidence * side,
            "y": side - accuracy * side,
            "y_ideal": side - confidence * side,
            "radius": 2.5 + 6.5 * (count / total) ** 0.5,
        }
        for confidence, accuracy, count in bins[["confidence", "accuracy", "count"]].to_numpy().tolist()
    ]
