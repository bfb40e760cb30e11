"""A target of each kind, calibrated, and classifiers that answer all of them."""

from typing import Any

import torch

from tasks.models.classifier import Classifier
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.several import Several
from tasks.targets.target import Target


def four_targets(**others: Target) -> dict[str, Target]:
    """Return calibrated targets, one of each kind, and `others`, in the order of their names, as a bundle has them."""
    targets: dict[str, Target] = {
        "label": Classes(tuple("0123456789")),
        "value": Number(measure="points", centre=4.5, scale=2.87, interval=(-1.25, 2.5)),
        "traits": Several(("even", "loop"), slopes=(1.2, 0.8), shifts=(0.1, -0.2), thresholds=(0.4, 0.6)),
        "size": Ordinal(("thin", "medium", "bold")),
    }
    return dict(sorted((targets | others).items()))


def untrained(backbone: Any, targets: dict[str, Target], *, spread: float = 1.0) -> Classifier:
    """Return a classifier of these targets with random heads, `spread` times as wide as torch makes them."""
    torch.manual_seed(0)
    model = Classifier(backbone, targets, temperatures=dict.fromkeys(targets, 0.5)).eval()
    with torch.no_grad():
        for head in model.heads:
            head.weight.mul_(spread)
    return model
