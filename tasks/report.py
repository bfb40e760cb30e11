"""All that the stages found in; one self-contained HTML page for a person out."""

import logging
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from tasks import stage
from tasks.data.manifest import read_text_table
from tasks.files import read_json, whole_file
from tasks.params import ReportParams

logger = logging.getLogger("graftline")

MODEL_NAMES = {"candidate": "candidate", "head": "head alone, backbone frozen", "baseline": "model in use"}


def run(
    *, validated: Path, audit: Path, training: Path, evaluation: Path, regression: Path, out: Path, report: ReportParams
) -> None:
    """Draw the page."""
    quarantine = read_text_table(validated / "quarantine.csv")
    predictions = pd.read_parquet(evaluation / "predictions.parquet")
    epochs = pd.read_csv(training / "curves.csv")
    content = {
        "title": report.title,
        "verdict": read_json(regression / "verdict.json"),
        "subject": read_json(evaluation / "subject.json"),
        "validation": read_json(validated / "validation.json"),
        "audit": read_json(audit / "audit.json"),
        "metrics": read_json(evaluation / "metrics.json"),
        "confusions": {target: confusion(rows) for target, rows in predictions.groupby("target")},
        "curves": {measure: curves(epochs, measure) for measure in ("loss", "accuracy")},
        "finetuning": read_json(training / "finetuning.json"),
        "num_quarantined": len(quarantine),
        "quarantine": quarantine.head(report.max_quarantined_rows).to_dict("records"),
        "model_names": MODEL_NAMES,
    }
    with whole_file(out) as path:
        path.write_text(render(content), "utf-8")
    logger.info("wrote %s (%.0f kB)", out, out.stat().st_size / 1000)


def render(content: dict[str, Any]) -> str:
    """The page; every name and label from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(content)


def confusion(predictions: pd.DataFrame) -> dict[str, Any]:
    """Counts, rows actual and columns predicted, with each cell's share of its row."""
    names = sorted(set(predictions["label"]) | set(predictions["candidate"]))
    counts = pd.crosstab(predictions["label"], predictions["candidate"]).reindex(
        index=names, columns=names, fill_value=0
    )
    rows = [
        {"name": name, "cells": [{"count": int(count), "share": count / max(sum(row), 1)} for count in row]}
        for name, row in zip(names, counts.to_numpy().tolist(), strict=True)
    ]
    return {"names": names, "rows": rows}


def curves(table: pd.DataFrame, measure: str, *, width: int = 520, height: int = 200) -> dict[str, Any]:
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


if __name__ == "__main__":
    stage.main(run)
