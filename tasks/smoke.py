"""A bundle in, and what evaluate predicted with it: whether a fresh process that knows nothing of training predicts the same."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tasks import stage
from tasks.data.samples import Samples, minibatches
from tasks.models.bundle import load_bundle
from tasks.models.classifier import Classifier
from tasks.models.latency import latency

logger = logging.getLogger("graftline")

NUM_SAMPLES = 32
MINIBATCH_SIZE = 16
TOLERANCE = 0.02  # of a probability: evaluate may have computed in another precision


def run(*, bundle: Path, predictions: Path | None, raw: Path | None) -> None:
    """Load a bundle; with --predictions and --raw predict some held-out samples anew and compare, without them grey
    pictures. Exits with 1 where it cannot, or where they differ."""
    model, _ = load_bundle(bundle)
    if not model.classes:
        raise ValueError(f"{bundle} knows no classes: expected the bundle of a classifier")
    if (predictions is None) != (raw is None):
        raise ValueError("--predictions and --raw belong together: give both or neither")
    if predictions is None or raw is None:
        size = model.backbone.transform.crop_size
        grey = torch.full((2, 3, size, size), 128, dtype=torch.uint8)
        if not all(bool(each.isfinite().all()) for each in model.probabilities([grey])):
            raise ValueError(
                f"{bundle} gives probabilities of a grey picture that are not finite: its weights are damaged"
            )
        logger.info("%s loads and predicts, %.1f ms for one sample", bundle, latency(model))
        return
    table = pd.read_parquet(predictions)
    worst, num_compared = compare(model, table, raw=raw)
    if not worst <= TOLERANCE:
        raise ValueError(
            f"{bundle} gives probabilities that differ from {predictions} by {worst:.3g}, expected at most {TOLERANCE}: "
            "run `dvc repro evaluate`"
        )
    logger.info(
        "%s agrees with evaluate on %d predictions (to %.1e), %.1f ms for one sample",
        bundle, num_compared, worst, latency(model),
    )  # fmt: skip


def compare(model: Classifier, table: pd.DataFrame, *, raw: Path) -> tuple[float, int]:
    """The largest difference of a true class's probability, and of how many. Raises ValueError where there are none."""
    ids = sorted(set(table["sample_id"]))[:NUM_SAMPLES]  # a SHA-256 is a fair draw
    chosen = table[table["sample_id"].isin(ids)]
    rows = chosen.drop_duplicates("sample_id").reset_index(drop=True)
    if rows.empty:
        raise ValueError("evaluate predicted no held-out sample: land more data")
    transform = model.backbone.transform
    samples = Samples(rows, raw=raw, shorter_side=transform.shorter_side)
    given = model.probabilities(minibatches(samples, pixels=transform.pixels, size=MINIBATCH_SIZE))
    place = {identity: row for row, identity in enumerate(rows["sample_id"])}
    differences = []
    for (target, names), probabilities in zip(model.classes.items(), given, strict=True):
        of_target = chosen[chosen["target"] == target]
        if of_target.empty:
            continue
        if unknown := set(of_target["label"]) - set(names):
            raise ValueError(f"evaluate has the class {min(unknown)!r} of {target}, which the bundle lacks")
        at = of_target["sample_id"].map(place).to_numpy(), of_target["label"].map(names.index).to_numpy()
        expected = of_target["candidate_label_probability"].to_numpy()
        differences.append(np.abs(probabilities.numpy()[at] - expected))
    if not differences:
        raise ValueError(f"evaluate predicted none of the targets {', '.join(model.classes)}: run `dvc repro evaluate`")
    every = np.concatenate(differences)
    return float(every.max()), len(every)


if __name__ == "__main__":
    stage.main(run)
