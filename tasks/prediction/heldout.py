"""The probabilities that models give to held-out samples, in the class order of the candidate."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from tasks.data.samples.samples import Samples, minibatches, num_minibatches
from tasks.images.alterations import PERTURBATIONS
from tasks.machine.progress import progress
from tasks.models.classifier import Classifier
from tasks.targets.head import load_heads

Probabilities = dict[str, NDArray[np.float64]]  # by target: (n, num_classes), columns in the candidate's class order


def predict(
    model: Classifier,
    rows: pd.DataFrame,
    *,
    raw: Path,
    classes: dict[str, list[str]],
    minibatch_size: int,
    what: str,
    perturbation: str | None = None,
) -> Probabilities:
    """The probabilities that a model gives to `classes`, zero for a class that it does not know; of perturbed pictures where a
    perturbation is named."""
    transform = model.backbone.transform
    samples = Samples(rows, raw=raw, shorter_side=transform.shorter_side)
    perturb = PERTURBATIONS[perturbation] if perturbation else None
    pixels = minibatches(
        samples,
        pixels=lambda picture: transform.pixels(perturb(picture) if perturb else picture),
        size=minibatch_size,
    )
    total = num_minibatches(len(rows), minibatch_size)
    what = f"evaluate {what}" + (f", pictures {perturbation}" if perturbation else "")
    shown = progress(pixels, total=total, what=what, unit="minibatches")
    given = dict(zip(model.classes, model.probabilities(shown), strict=True))
    return {
        target: in_class_order(given[target].numpy(), model.classes[target], names)
        if target in given
        else np.full((len(rows), len(names)), 1 / len(names))
        for target, names in classes.items()
    }


def predict_from_embeddings(head: Path, vectors: NDArray[np.float32]) -> Probabilities:
    """The probabilities that the head alone gives: vectors (n, dim)."""
    heads, _ = load_heads(head)
    return {
        target: softmax(each.logits(vectors).astype(np.float64) / each.temperature, axis=1)
        for target, each in heads.items()
    }


def in_class_order(probabilities: NDArray[np.float64], given: list[str], wanted: list[str]) -> NDArray[np.float64]:
    """(n, len(given)) -> (n, len(wanted))."""
    ordered = np.zeros((len(probabilities), len(wanted)))
    for column, name in enumerate(given):
        if name in wanted:
            ordered[:, wanted.index(name)] = probabilities[:, column]
    return ordered


def prediction_table(
    rows: pd.DataFrame,
    target: str,
    labels: NDArray[np.int64],
    by_model: dict[str, NDArray[np.float64]],
    names: list[str],
) -> pd.DataFrame:
    """A row a sample: what it is, and what each model says it is, with the probability of that and of the truth."""
    table = rows[["sample_id", "batch", "path"]].assign(target=target, label=np.array(names)[labels])
    for name, probabilities in by_model.items():
        table[name] = np.array(names)[probabilities.argmax(axis=1)]
        table[f"{name}_confidence"] = probabilities.max(axis=1)
        table[f"{name}_label_probability"] = probabilities[np.arange(len(labels)), labels]
    return table
