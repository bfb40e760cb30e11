"""Report how each new batch differs from the data before it: its samples, its labels, and the classes that moved."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.health.batch_drift import MOST_SAMPLES, NUM_PERMUTATIONS, Drift, drawn, drift
from tasks.data.health.options import HealthOptions
from tasks.data.vectors.embeddings import Embeddings
from tasks.targets.classes import Classes
from tasks.targets.target import Target

NUM_BATCHES = 5  # the newest, that are compared: a run costs no more as batches grow many
MOST_CLASSES = 20  # the largest, each of which is compared by itself
SAMPLES_OF_CLASS = 300  # of each side, for the drift of a class


def drift_of_batches(
    manifest: pd.DataFrame,
    vectors: Embeddings,
    targets: Mapping[str, Target],
    names: Sequence[str],
    shifts: pd.DataFrame,
    options: HealthOptions,
    *,
    seed: int,
) -> dict[str, Any]:
    """Return the number of samples of each batch, and how the newest ones differ from the data before them.

    Args:
        targets: those that the manifest has a column of.
        names: the batches, in their order.
        shifts: the distances of each batch's labels from those before it, a result of `admission.drift.label_drift`.
    """
    place = manifest["batch"].map({name: number for number, name in enumerate(names)}).to_numpy()
    counts = np.bincount(place, minlength=len(names)).tolist()
    batches: dict[str, Any] = {
        name: {"num_samples": num, "drift": None} for name, num in zip(names, counts, strict=True)
    }
    for number, name in list(enumerate(names))[1:][-NUM_BATCHES:]:
        before, own = np.flatnonzero(place < number), np.flatnonzero(place == number)
        compared = compare(vectors, before, own, seed=seed)
        if compared is None:
            continue
        labels = {row["target"]: row for row in shifts[shifts["batch"] == name].to_dict("records")}
        moved = classes_that_moved(manifest, vectors, before, own, targets, seed=seed)
        is_different = compared.p_value <= options.significance and compared.effect >= options.min_drift
        is_shifted = any(row["significant_distance"] >= options.min_drift for row in labels.values())
        batches[name]["drift"] = {
            "auc": compared.auc, "effect": compared.effect, "p_value": compared.p_value,
            "labels": {
                target: {"distance": row["distance"], "p_value": row["p_value"]} for target, row in labels.items()
            },
            "classes": moved,
            "is_different": bool(is_different or is_shifted),
            "text": in_words(name, compared, len(before), labels, moved, options),
        }  # fmt: skip
    return batches


def compare(
    vectors: Embeddings, before: NDArray[np.intp], own: NDArray[np.intp], *, seed: int, most: int = MOST_SAMPLES,
    num_permutations: int = NUM_PERMUTATIONS,
) -> Drift | None:  # fmt: skip
    """Return the drift of the samples in some rows from those in rows before them; None where these are too few."""
    sides = (vectors[drawn(rows, seed=seed, most=most)] for rows in (before, own))
    return drift(*sides, seed=seed, num_permutations=num_permutations)


def classes_that_moved(
    manifest: pd.DataFrame,
    vectors: Embeddings,
    before: NDArray[np.intp],
    own: NDArray[np.intp],
    targets: Mapping[str, Target],
    *,
    seed: int,
) -> list[dict[str, Any]]:
    """Return how the samples of each class differ from earlier ones of the class, the largest effect first.

    Only the classes with the most samples in the batch are compared.
    """
    rows = []
    for name, target in targets.items():
        if not isinstance(target, Classes):
            continue
        labels = manifest[name].to_numpy(object)
        for label in pd.Series(labels[own]).value_counts().index[:MOST_CLASSES]:
            sides = (side[labels[side] == label] for side in (before, own))
            compared = compare(vectors, *sides, seed=seed, most=SAMPLES_OF_CLASS)
            if compared is not None:
                rows.append({"target": name, "class": label, "effect": compared.effect, "p_value": compared.p_value})
    return sorted(rows, key=lambda row: -row["effect"])


def in_words(
    batch: str, compared: Drift, num_before: int, labels: Mapping[str, Any], moved: Sequence[Mapping[str, Any]],
    options: HealthOptions,
) -> str:  # fmt: skip
    """Return a sentence for people about how a batch differs from the data before it."""
    if compared.p_value > options.significance:
        text = f"batch {batch} looks like the {num_before:,} samples before it (p {compared.p_value:.3f})"
    else:
        text = (
            f"batch {batch} differs from the {num_before:,} samples before it: effect size {compared.effect:.2f}, "
            f"which is {compared.in_words} (AUC {compared.auc:.2f}, p {compared.p_value:.3f})"
        )
        if moved and moved[0]["p_value"] <= options.significance:
            text += f"; most of all class {moved[0]['class']} ({moved[0]['effect']:.2f})"
    far = [
        f"{target} {row['distance']:.2f}" for target, row in labels.items() if row["p_value"] < options.significance
    ]  # fmt: skip
    return f"{text}; its labels are others: distance of {', '.join(far)}" if far else text
