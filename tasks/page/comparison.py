"""What was measured of each model in; the rows of a comparison out: value, interval, and where they lie on a common scale."""

from typing import Any

import pandas as pd

MODELS = {"candidate": "Candidate", "baseline": "Model in use", "head": "Head alone"}
MEASURES = {
    "accuracy": ("Accuracy", True),
    "macro_f1": ("Macro F1", True),
    "log_loss": ("Log-loss", False),
    "brier": ("Brier score", False),
    "calibration_error": ("Calibration error", False),
}


def comparison(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a measure, with a cell a model. `at`, `low_at` and `high_at` are places on 0..100 that span all its intervals."""
    return [_row(key, measured) for key in MEASURES]


def _row(key: str, measured: dict[str, Any]) -> dict[str, Any]:
    title, is_higher_better = MEASURES[key]
    found = {name: measured[name] for name in MODELS if name in measured}
    values = {name: (each[key], *each["intervals"][key]) for name, each in found.items()}
    bottom, top = min(low for _, low, _ in values.values()), max(high for _, _, high in values.values())

    def place(value: float) -> float:
        return 2 + 96 * (value - bottom) / (top - bottom) if top > bottom else 50.0

    cells = [
        {
            "model": name, "title": MODELS[name], "value": value, "low": low, "high": high,
            "at": place(value), "low_at": place(low), "high_at": place(high),
        }
        for name, (value, low, high) in values.items()
    ]  # fmt: skip
    change = values["candidate"][0] - values["baseline"][0] if "baseline" in values else None
    return {
        "title": title,
        "better": "higher" if is_higher_better else "lower",
        "cells": cells,
        "change": change,
        "is_better": None if not change else (change > 0) == is_higher_better,
    }


def outcomes(predictions: pd.DataFrame) -> dict[str, Any]:
    """How candidate and model in use fared on the same samples, of classes that the latter knows: the four outcomes with
    their share of these samples, in per cent, and the candidate's `gain` in accuracy (0..1)."""
    rows = predictions[predictions["is_shared"]]
    is_right, was_right = (rows[model] == rows["label"] for model in ("candidate", "baseline"))
    counts = {
        "both": ("right in both", is_right & was_right),
        "gained": ("gained: wrong in the model in use, right now", is_right & ~was_right),
        "lost": ("lost: right in the model in use, wrong now", ~is_right & was_right),
        "neither": ("wrong in both", ~is_right & ~was_right),
    }
    num = {kind: int(which.sum()) for kind, (_, which) in counts.items()}
    return {
        "num_shared": len(rows),
        "gain": (num["gained"] - num["lost"]) / max(len(rows), 1),
        "parts": [
            {"kind": kind, "title": title, "count": num[kind], "share": 100 * num[kind] / max(len(rows), 1)}
            for kind, (title, _) in counts.items()
        ],
        "num": num,
    }
