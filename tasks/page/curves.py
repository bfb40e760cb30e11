"""The learning curves of fine-tuning, as points of a drawing and as numbers."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from tasks.machine.names import plotted

# columns by the name of their line; the calibrated loss is drawn last, over the others
LINES = {
    "loss": {"train": "train_loss", "raw": "val_loss", "val": "val_calibrated_loss"},
    "accuracy": {"train": "train_accuracy", "val": "val_accuracy"},
}


def curves(table: pd.DataFrame, measure: str, *, width: int = 270, height: int = 140) -> dict[str, Any]:
    """Return the loss or the accuracy of each epoch as points of an SVG of width x height, and the kept epoch's place.

    The axis of losses begins at 0. The axis of accuracies begins at the lowest one and ends at 1.
    """
    drawn = _drawn(table, LINES[measure], is_share=measure == "accuracy", width=width, height=height)
    kept = float(table.loc[table["is_kept"] == 1, "epoch"].iloc[0])
    return drawn | {"kept": kept / drawn["epochs"] * width}


def target_curves(table: pd.DataFrame, target: str) -> dict[str, Any] | None:
    """Return the curves of one of several targets: its `measure` is the accuracy or the mean error.

    None where it was not trained, or is the only target.
    """
    for measure in ("accuracy", "error"):
        lines = {side: plotted(f"{side}_{measure}.{target}") for side in ("train", "val")}
        if lines["val"] in table and table[lines["val"]].notna().any():
            return _drawn(table, lines, is_share=measure == "accuracy") | {"measure": measure}
    return None


def _drawn(
    table: pd.DataFrame,
    columns: dict[str, str],
    *,
    is_share: bool,
    width: int = 270,
    height: int = 140,
) -> dict[str, Any]:
    """Return lines by their columns; the axis of shares ends at 1, and any other begins at 0."""
    epochs = max(int(table["epoch"].max()), 1)
    values = table[list(columns.values())]
    top = 1.0 if is_share else float(values.max().max()) or 1.0
    bottom = min(float(values.min().min()), 0.99) if is_share else 0.0

    def x(epoch: float) -> float:
        return epoch / epochs * width

    lines = {
        line: " ".join(
            f"{x(epoch):.1f},{height - (value - bottom) / (top - bottom) * height:.1f}"
            for epoch, value in table[["epoch", column]].dropna().to_numpy().tolist()
        )
        for line, column in columns.items()
    }
    return {
        "width": width,
        "height": height,
        "top": top,
        "bottom": bottom,
        "epochs": epochs,
        "kept": None,
        "lines": lines,
    }


def numbers(table: pd.DataFrame) -> list[dict[Hashable, Any]]:
    """Return the rows of the table, one per epoch, with None for values that were not measured."""
    rows = table.astype(object)
    return rows.where(rows.notna(), None).to_dict("records")
