"""Describe each target for the page: its question, its measures, the comparison of models, and the drawings."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tasks.machine.names import plotted
from tasks.page.comparison import comparison, headline
from tasks.page.confusion import confusion
from tasks.page.curves import target_curves
from tasks.page.forms import describe_forms
from tasks.page.labels import labels
from tasks.page.outcomes import outcomes
from tasks.page.reliability import dots
from tasks.page.scatter import scatter
from tasks.page.slices import slices
from tasks.page.wording import described, figure, unit_of
from tasks.targets.number import Number
from tasks.targets.several import Several
from tasks.targets.target import Target

BY_CLASS = ("classes", "ordinal")  # the kinds whose answers are names


def describe_targets(
    predictions: pd.DataFrame,
    *,
    targets: Mapping[str, Target],
    metrics: dict[str, Any],
    reliability: pd.DataFrame,
    table: pd.DataFrame,
    subject: dict[str, Any],
    epochs: pd.DataFrame,
) -> list[dict[str, Any]]:
    """Return the facts of every target for the page. The first one has the sizes of the bundles, from `subject`."""
    sizes = {model: subject[f"{model}_bytes"] for model in ("candidate", "baseline") if f"{model}_bytes" in subject}
    return [
        {
            "name": name,
            "index": index,
            "kind": targets[name].kind,
            "described": described(targets[name]),
            "unit": unit_of(targets[name]),
            "candidate": measured["candidate"],
            "headline": headline(measured["candidate"], targets[name]),
            "comparison": comparison(measured, sizes if not index else {}, target=targets[name]),
            "outcomes": outcomes(rows) if "baseline" in measured else None,
            "change": change_of(measured, targets[name]),
            "forms": describe_forms(measured, subject, target=targets[name]),
            "num_heldout": len(rows),
            "reliability": dots(reliability[reliability["target"] == plotted(name)]),
            "curves": target_curves(epochs, name),
            "slices": slices(table[table["target"] == name]),
        }
        | drawing(rows, measured["candidate"], targets[name])
        for index, (name, measured) in enumerate(metrics.items())
        for rows in [predictions[predictions["target"] == name]]
    ]


def change_of(measured: dict[str, Any], target: Target) -> dict[str, Any] | None:
    """Return how much the error changes from the model in use to the candidate, in words, and the gate's p-value.

    None for classes, whose errors are the outcomes, and where nothing is compared.
    """
    change = measured.get("change")
    if not change or not change["num_samples"]:
        return None
    words = ("+" if change["mean"] > 0 else "") + figure(change["mean"], digits=3) + unit_of(target)
    return {"words": words, "mean": change["mean"], "p_value": change["p_value"]}


def drawing(rows: pd.DataFrame, measured: dict[str, Any], target: Target) -> dict[str, Any]:
    """Return the drawing of the target's kind, by its name."""
    if isinstance(target, Number):
        return {"scatter": scatter(rows, target)}
    if isinstance(target, Several):
        return {"labels": labels(rows, target, measured["labels"])}
    return {"confusion": confusion(rows, scale=target.names if target.kind == "ordinal" else ())}


def packed(targets: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """Return the data of each confusion matrix that the page draws instead of a table; None for any other target."""
    matrices = [target.get("confusion") for target in targets]
    return [
        {"names": matrix["names"], "cells": matrix["cells"]} if matrix and not matrix["rows"] else None
        for matrix in matrices
    ]
