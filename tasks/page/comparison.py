"""What was measured of each model in; the rows of a comparison out: value, interval, and where they lie on a common scale."""

import math
from typing import Any

import pandas as pd

MODELS = {"candidate": "Candidate", "baseline": "Model in use", "head": "Head alone"}
MEASURES = {
    "accuracy": ("Accuracy", "higher"),
    "macro_f1": ("Macro F1", "higher"),
    "log_loss": ("Log-loss", "lower"),
    "brier": ("Brier score", "lower"),
    "calibration_error": ("Calibration error", "lower"),
}


def comparison(measured: dict[str, Any], sizes: dict[str, int]) -> list[list[dict[str, Any]]]:
    """The rows of a table, or of two where the model in use can know but a part of the samples: first both models on that part,
    then the others on all. The first table ends with the `sizes` of the bundles, in bytes."""
    on_all = {name: measured[name] for name in MODELS if name in measured}
    if "baseline" in on_all and ("shared" in measured or not measured["flips"]["num_samples"]):
        del on_all["baseline"]
    tables = [
        [_row(*MEASURES[key], _cells(key, models)) for key in MEASURES]
        for models in (measured.get("shared"), on_all)
        if models
    ]
    bundles = [_cell(name, sizes[name] / 1e6) for name in MODELS if name in sizes]
    tables[0].append(_row("Bundle on disk", "lower", bundles, digits=2, unit=" MB"))
    return tables


def _row(title: str, better: str, cells: list[dict[str, Any]], *, digits: int = 4, unit: str = "") -> dict[str, Any]:
    """With the change from the model in use to the candidate, as far as the page shows it; None where none is to be told."""
    row = {"title": title, "better": better, "cells": cells, "digits": digits, "unit": unit}
    values = {cell["model"]: cell["value"] for cell in cells}
    if not values.keys() >= {"candidate", "baseline"}:
        return row | {"change": None, "is_better": None}
    change = round(values["candidate"] - values["baseline"], digits) + 0.0  # no minus before a zero
    return row | {"change": change, "is_better": None if not change else (change > 0) == (better == "higher")}


def _cells(key: str, models: dict[str, Any]) -> list[dict[str, Any]]:
    """A cell a model. `at`, `low_at` and `high_at` are places on 0..100 that span all intervals. One without width is none: the
    bootstrap, drawing from samples without an error, cannot tell how many others would have."""
    found = {name: (models[name][key], *models[name]["intervals"][key]) for name in MODELS if name in models}
    bottom, top = min(low for _, low, _ in found.values()), max(high for _, _, high in found.values())

    def place(value: float) -> float:
        return 2 + 96 * (value - bottom) / (top - bottom) if top > bottom else 50.0

    cells = []
    for name, (value, low, high) in found.items():
        cell = _cell(name, value) | {"at": place(value)}
        if not math.isclose(low, high):
            cell |= {"low": low, "high": high, "low_at": place(low), "high_at": place(high)}
        cells.append(cell)
    return cells


def _cell(name: str, value: float) -> dict[str, Any]:
    """A value without an interval and a place."""
    return dict.fromkeys(("low", "high", "at", "low_at", "high_at")) | {
        "model": name, "title": MODELS[name], "value": value
    }  # fmt: skip


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
