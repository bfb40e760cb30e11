"""The comparison of the models on the page: rows of tables with values, intervals and their places on a scale."""

import math
from typing import Any

from tasks.page.wording import figure, unit_of
from tasks.targets.number import Number
from tasks.targets.target import Target

MODELS = {
    "candidate": "Candidate",
    "general": "General head",  # of the candidate, where it has others for a domain
    "baseline": "Model in use",
    "head": "Head alone",
    "words_alone": "Words alone",
}
# by kind; the top of the page shows the first one
MEASURES = {
    "classes": {
        "accuracy": ("Accuracy", "higher"),
        "macro_f1": ("Macro F1", "higher"),
        "log_loss": ("Log-loss", "lower"),
        "brier": ("Brier score", "lower"),
        "calibration_error": ("Calibration error", "lower"),
    },
    "several": {
        "mean_average_precision": ("Mean average precision", "higher"),
        "macro_f1": ("Macro F1", "higher"),
        "micro_f1": ("Micro F1", "higher"),
        "all_right": ("Share with every label right", "higher"),
        "hamming": ("Share of wrong labels", "lower"),
        "calibration_error": ("Calibration error", "lower"),
    },
    "ordinal": {
        "mean_distance": ("Mean distance", "lower"),
        "quadratic_kappa": ("Quadratic kappa", "higher"),
        "accuracy": ("Accuracy", "higher"),
        "log_loss": ("Log-loss", "lower"),
    },
    "number": {
        "mean_absolute_error": ("Mean absolute error", "lower"),
        "root_mean_squared_error": ("Root mean squared error", "lower"),
        "r2": ("R²", "higher"),
        "within_tolerance": ("Share within the tolerance", "higher"),
        "coverage": ("Coverage of the interval", "level"),
        "width": ("Width of the interval", "lower"),
    },
}
SMALL = 1e-3  # smaller numbers with a unit have an exponent
IN_UNITS = ("mean_distance", "mean_absolute_error", "root_mean_squared_error", "width")


def comparison(measured: dict[str, Any], sizes: dict[str, int], *, target: Target) -> list[list[dict[str, Any]]]:
    """Return the rows of one table, or of two.

    There are two tables if the candidate and the model in use are compared on a part of the samples only: the first
    has both models on that part, the second has all models but the one in use on all samples. The first table ends with
    the `sizes` of the bundles (given in bytes, shown in MB).
    """
    on_all = {name: measured[name] for name in MODELS if name in measured}
    if "baseline" in on_all and ("shared" in measured or not measured["flips"]["num_samples"]):
        del on_all["baseline"]
    tables = [_table(models, target) for models in (measured.get("shared"), on_all) if models]
    bundles = [_cell(name, sizes[name] / 1e6) for name in MODELS if name in sizes]
    if bundles:
        tables[0].append(_row("Bundle on disk", "lower", bundles, digits=2, unit=" MB"))
    return tables


def headline(candidate: dict[str, Any], target: Target) -> dict[str, str]:
    """Return the first measure of the target's kind with its interval, as texts."""
    key, (title, _) = next(iter(MEASURES[target.kind].items()))

    def text(value: float) -> str:
        return f"{100 * value:.1f} %" if target.kind == "classes" else figure(value, digits=3)

    value, ends = candidate[key], candidate["intervals"].get(key)
    return {
        "title": title[0].lower() + title[1:],
        "value": "–" if value is None else text(value) + (unit_of(target) if key in IN_UNITS else ""),
        "ends": " to ".join(map(text, ends)) if ends else "",
    }


def _table(models: dict[str, Any], target: Target) -> list[dict[str, Any]]:
    rows = []
    for key, (title, better) in MEASURES[target.kind].items():
        cells = cells_of(key, models)
        if not cells:
            continue
        unit = unit_of(target) if key in IN_UNITS else ""
        level = target.level if better == "level" and isinstance(target, Number) else None
        in_unit = f"{title},{unit}" if unit else title
        rows.append(_row(in_unit, better, cells, digits=_digits(cells) if key in IN_UNITS else 4, level=level))
    return rows


def _digits(cells: list[dict[str, Any]]) -> int | None:
    """Return how many decimals show four significant digits of the largest value; None for an exponent instead."""
    largest = max(abs(cell["value"]) for cell in cells)
    if not largest:
        return 4
    return max(3 - math.floor(math.log10(largest)), 0) if largest >= SMALL else None


def _row(
    title: str,
    better: str,
    cells: list[dict[str, Any]],
    *,
    digits: int | None = 4,
    unit: str = "",
    level: float | None = None,
) -> dict[str, Any]:
    """Return a row with the change from the model in use to the candidate, rounded as on the page.

    The change is None if one of the two models is missing. With a `level`, the value nearer to it is better. `digits`
    are decimals; None for four significant digits.
    """
    wanted = better if level is None else f"nearer to {level:g}"
    row = {"title": title, "better": wanted, "cells": cells, "digits": digits, "unit": unit}
    values = {cell["model"]: cell["value"] for cell in cells}
    if not values.keys() >= {"candidate", "baseline"}:
        return row | {"change": None, "is_better": None}
    change = values["candidate"] - values["baseline"]
    if digits is not None:
        change = round(change, digits) + 0.0  # turns -0.0 into 0.0
    gain = change if level is None else abs(values["baseline"] - level) - abs(values["candidate"] - level)
    return row | {"change": change, "is_better": None if not change else (gain > 0) == (better != "lower")}


def cells_of(key: str, models: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one cell for each model that has the measure.

    `at`, `low_at` and `high_at` are places on a scale 0..100 that spans all intervals. An interval without width is
    left out: it only means that the bootstrap had too few errors to draw from. A value without an interval has no
    place.
    """
    values = {name: models[name][key] for name in MODELS if name in models and models[name].get(key) is not None}
    ends = {name: models[name]["intervals"][key] for name in values if models[name]["intervals"].get(key)}
    if key == "width":  # all intervals of a model are equally wide, so that chance has no part in it
        ends = {}
    bottom, top = min((low for low, _ in ends.values()), default=0), max((high for _, high in ends.values()), default=0)

    def place(value: float) -> float:
        return 2 + 96 * (value - bottom) / (top - bottom) if top > bottom else 50.0

    cells = []
    for name, value in values.items():
        cell = _cell(name, value)
        if name in ends:
            low, high = ends[name]
            cell |= {"at": place(value)}
            if not math.isclose(low, high):
                cell |= {"low": low, "high": high, "low_at": place(low), "high_at": place(high)}
        cells.append(cell)
    return cells


def _cell(name: str, value: float) -> dict[str, Any]:
    """Return a cell with a value, but without an interval and a place."""
    return dict.fromkeys(("low", "high", "at", "low_at", "high_at")) | {
        "model": name, "title": MODELS[name], "value": value
    }  # fmt: skip
