"""The comparison of the models on the page: rows of tables with values, intervals and their places on a scale."""

import math
from typing import Any

import pandas as pd

MODELS = {"candidate": "Candidate", "baseline": "Model in use", "head": "Head alone", "words_alone": "Words alone"}
MEASURES = {
    "accuracy": ("Accuracy", "higher"),
    "macro_f1": ("Macro F1", "higher"),
    "log_loss": ("Log-loss", "lower"),
    "brier": ("Brier score", "lower"),
    "calibration_error": ("Calibration error", "lower"),
}


def comparison(measured: dict[str, Any], sizes: dict[str, int]) -> list[list[dict[str, Any]]]:
    """Return the rows of one table, or of two.

    There are two tables if the candidate and the model in use are compared on a part of the samples only: the first
    has both models on that part, the second has all models but the one in use on all samples. The first table ends with
    the `sizes` of the bundles (given in bytes, shown in MB).
    """
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
    """Return a row with the change from the model in use to the candidate, rounded as on the page.

    The change is None if one of the two models is missing.
    """
    row = {"title": title, "better": better, "cells": cells, "digits": digits, "unit": unit}
    values = {cell["model"]: cell["value"] for cell in cells}
    if not values.keys() >= {"candidate", "baseline"}:
        return row | {"change": None, "is_better": None}
    change = round(values["candidate"] - values["baseline"], digits) + 0.0  # turns -0.0 into 0.0
    return row | {"change": change, "is_better": None if not change else (change > 0) == (better == "higher")}


def _cells(key: str, models: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one cell per model.

    `at`, `low_at` and `high_at` are places on a scale 0..100 that spans all intervals. An interval without width is
    left out: it only means that the bootstrap had too few errors to draw from.
    """
    values = {name: (models[name][key], *models[name]["intervals"][key]) for name in MODELS if name in models}
    bottom, top = min(low for _, low, _ in values.values()), max(high for _, _, high in values.values())

    def place(value: float) -> float:
        return 2 + 96 * (value - bottom) / (top - bottom) if top > bottom else 50.0

    cells = []
    for name, (value, low, high) in values.items():
        cell = _cell(name, value) | {"at": place(value)}
        if not math.isclose(low, high):
            cell |= {"low": low, "high": high, "low_at": place(low), "high_at": place(high)}
        cells.append(cell)
    return cells


def _cell(name: str, value: float) -> dict[str, Any]:
    """Return a cell with a value, but without an interval and a place."""
    return dict.fromkeys(("low", "high", "at", "low_at", "high_at")) | {
        "model": name, "title": MODELS[name], "value": value
    }  # fmt: skip


def outcomes(predictions: pd.DataFrame) -> dict[str, Any]:
    """Count how the candidate and the model in use answer the samples on which they are compared.

    Return the four outcomes with their share of these samples, in percent, and the candidate's `gain` in accuracy
    (-1..1).
    """
    rows = predictions[predictions["is_shared"]]
    is_right, was_right = (rows[model] == rows["label"] for model in ("candidate", "baseline"))
    counts = {
        "both": ("right in both", is_right & was_right),
        "gained": ("gained: only the candidate is right", is_right & ~was_right),
        "lost": ("lost: only the model in use is right", ~is_right & was_right),
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
