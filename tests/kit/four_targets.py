"""A target of each kind for handwritten digits: what a small project has in its table, and classifiers that answer."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tasks.models.classifier import Classifier
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several, write
from tasks.targets.target import Target

STEPS = ("thin", "medium", "bold")
BOUNDS = (0.288, 0.321)  # of the mean brightness, 0..1: a third of the digits each
# of the section `validate` in params.yaml
DECLARED: dict[str, Any] = {
    "label": "classes",
    "value": {"kind": "number", "unit": "points"},
    "traits": {"kind": "several"},
    "size": {"kind": "ordinal", "steps": list(STEPS)},
}


def put_table(digits: Path, batch: Path, *, first: int = 0, count: int = 24) -> None:
    """Make a batch of `count` scans of each digit, with a table of four targets: one cell in ten is empty."""
    rows = []
    batch.mkdir(parents=True)
    for folder in sorted(digits.iterdir()):
        for scan in sorted(folder.iterdir())[first : first + count]:
            (batch / scan.name).write_bytes(scan.read_bytes())
            mass = float(np.asarray(Image.open(scan)).mean())
            rows.append({"path": scan.name} | labels_of(int(folder.name), mass=mass))
    for number, row in enumerate(rows):
        if not number % 10:
            row[list(DECLARED)[number // 10 % len(DECLARED)]] = ""
    with (batch / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["path", *DECLARED])
        table.writeheader()
        table.writerows(rows)


def labels_of(digit: int, *, mass: float) -> dict[str, str]:
    """Return the label of each target: of a digit, and of the mean of its pixels, 0..255."""
    traits = [name for name, has in {"even": digit % 2 == 0, "loop": digit in (0, 6, 8, 9)}.items() if has]
    size = STEPS[int(np.searchsorted(BOUNDS, mass / 255))]
    return {"label": str(digit), "value": str(digit), "traits": write(traits), "size": size}


def four_targets(**others: Target) -> dict[str, Target]:
    """Return calibrated targets, one of each kind; `others` replace them or come behind them."""
    return {
        "label": Classes(tuple("0123456789")),
        "value": Number(measure="points", centre=4.5, scale=2.87, interval=(-1.25, 2.5)),
        "traits": Several(("even", "loop"), slopes=(1.2, 0.8), shifts=(0.1, -0.2), thresholds=(0.4, 0.6)),
        "size": Ordinal(STEPS),
    } | others


def untrained(backbone: Any, targets: dict[str, Target], *, spread: float = 1.0) -> Classifier:
    """Return a classifier of these targets with random heads, `spread` times as wide as torch makes them."""
    torch.manual_seed(0)
    model = Classifier(backbone, targets, temperatures=dict.fromkeys(targets, 0.5)).eval()
    with torch.no_grad():
        for head in model.heads:
            head.weight.mul_(spread)
    return model
