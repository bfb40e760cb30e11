"""The epochs of fine-tuning in; its learning curves as points of a drawing out."""

from collections.abc import Hashable
from typing import Any

import pandas as pd


def curves(table: pd.DataFrame, measure: str, *, width: int = 330, height: int = 150) -> dict[str, Any]:
    """The loss or the accuracy of each epoch as points of an SVG of width x height, and where the epoch kept stands. Losses
    begin at 0, accuracies at the lowest and end at 1."""
    epochs = max(int(table["epoch"].max()), 1)
    columns = {split: f"{split}_{measure}" for split in ("train", "val")}
    values = table[list(columns.values())]
    top = 1.0 if measure == "accuracy" else float(values.max().max()) or 1.0
    bottom = min(float(values.min().min()), 0.99) if measure == "accuracy" else 0.0

    def x(epoch: float) -> float:
        return epoch / epochs * width

    lines = {
        split: " ".join(
            f"{x(epoch):.1f},{height - (value - bottom) / (top - bottom) * height:.1f}"
            for epoch, value in table[["epoch", column]].dropna().to_numpy().tolist()
        )
        for split, column in columns.items()
    }
    kept = x(float(table.loc[table["is_kept"] == 1, "epoch"].iloc[0]))
    return {
        "width": width,
        "height": height,
        "top": top,
        "bottom": bottom,
        "epochs": epochs,
        "kept": kept,
        "lines": lines,
    }


def numbers(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """A row an epoch, as it is in the table; None where nothing was measured."""
    known = table.astype(object)
    return known.where(known.notna(), None).to_dict("records")
