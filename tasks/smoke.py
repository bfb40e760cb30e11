"""A bundle and evaluate's predictions in; whether a process without any code of training predicts the same, out.

It also prints the milliseconds of one sample.
"""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tasks.data.samples.samples import Samples
from tasks.models.bundle import load_bundle
from tasks.prediction.answers import Answerer
from tasks.prediction.latency import example, latency
from tasks.stage.modality import room
from tasks.stage.shell import run_verb
from tasks.targets.classes import Classes
from tasks.targets.head import NO_WORDS
from tasks.targets.number import Number
from tasks.targets.target import Target

logger = logging.getLogger("graftline")

NUM_SAMPLES = 32
TOLERANCE = 1e-3  # of a probability: evaluate computes in the same way, maybe on another processor


def run(*, bundle: Path, predictions: Path | None, raw: Path | None) -> None:
    """Load a bundle and predict: with --predictions and --raw some held-out samples, to compare, else a made-up one.

    Prints one JSON object. Exits with 1 where it cannot predict, or where the predictions differ.
    """
    model, lineage = load_bundle(bundle)
    answerer = Answerer(model, device="cpu")
    if (predictions is None) != (raw is None):
        raise ValueError("--predictions and --raw belong together: give both or neither")
    result: dict[str, float] = {"num_compared": 0}
    if predictions is None or raw is None:
        samples = [example(answerer.transform, lineage)] * 2
        if not all(np.isfinite(values).all() for values in answerer.answer(samples, [NO_WORDS] * 2).values()):
            raise ValueError(f"{bundle} gives probabilities that are not finite: its weights are damaged")
        message = f"{bundle} loads and predicts"
    else:
        worst, num_compared = compare(answerer, pd.read_parquet(predictions), raw=raw)
        if not worst <= TOLERANCE:
            raise ValueError(
                f"{bundle} gives probabilities that differ from {predictions} by {worst:.3g}, expected at most "
                f"{TOLERANCE}: run `dvc repro evaluate`"
            )
        message = f"{bundle} agrees with evaluate on {num_compared} predictions (to {worst:.1e})"
        result = {"num_compared": num_compared, "max_abs_difference": worst}
    took = latency(model, lineage)
    result["latency_milliseconds"] = round(took.milliseconds, 1)
    logger.info("%s, %s", message, took)
    sys.stdout.write(json.dumps(result, sort_keys=True) + "\n")


def compare(answerer: Answerer, table: pd.DataFrame, *, raw: Path) -> tuple[float, int]:
    """Return the largest difference of an answer, and how many there are. Raises ValueError where there are none.

    The heads of a domain answer its samples, as in evaluate. For classes the probability of the true class is compared,
    for several labels and for steps that of each. The difference of a number is divided by the deviation of train.
    """
    ids = sorted(set(table["sample_id"]))[:NUM_SAMPLES]  # a SHA-256 is a fair draw
    chosen = table[table["sample_id"].isin(ids)]
    if chosen.empty:
        raise ValueError("evaluate predicted no held-out sample: land more data")
    known = answerer.domains.targets_of if answerer.domains else {}
    named = chosen["domain"] if known and "domain" in chosen else pd.Series("", index=chosen.index)
    differences: list[NDArray[np.float64]] = []
    for domain, part in chosen.groupby(named.where(named.isin(list(known)), "")):
        with_heads = answerer.of_domain(str(domain)) if domain else answerer
        differences += differences_of(with_heads, part, raw=raw)
    if not differences:
        raise ValueError(
            f"evaluate predicted none of the targets {', '.join(answerer.classes)}: run `dvc repro evaluate`"
        )
    every = np.concatenate(differences)
    return float(every.max()), len(every)


def differences_of(answerer: Answerer, chosen: pd.DataFrame, *, raw: Path) -> list[NDArray[np.float64]]:
    """Return how far the answers lie from those in evaluate's rows, one array a target that has some."""
    rows = chosen.drop_duplicates("sample_id").reset_index(drop=True)
    transform = answerer.transform
    decode = room(transform.modality, "decode")
    samples = Samples(rows, raw=raw, decode=decode.decode_sample, read=decode.read)
    decoded = [samples.decoded(row, shorter_side=transform.shorter_side) for row in range(len(samples))]
    answers = answerer.answer(
        [transform.prepare(sample) for sample in decoded], [answerer.words(sample) for sample in decoded]
    )
    place = {identity: row for row, identity in enumerate(rows["sample_id"])}
    differences = []
    for name, target in answerer.targets.items():
        of_target = chosen[chosen["target"] == name]
        if of_target.empty:
            continue
        given = answers[name][of_target["sample_id"].map(place).to_numpy()]
        differences.append(difference(target, given, of_target, name=name))
    return differences


def difference(target: Target, given: NDArray[np.float64], table: pd.DataFrame, *, name: str) -> NDArray[np.float64]:
    """Return how far answers (n, …) lie from those in evaluate's rows (n). Raises ValueError for an unknown label."""
    if isinstance(target, Classes):
        if unknown := set(table["label"]) - set(target.names):
            raise ValueError(f"evaluate has the class {min(unknown)!r} of {name}, which the bundle lacks")
        of_label = given[np.arange(len(given)), table["label"].map(target.names.index).to_numpy()]
        return np.asarray(np.abs(of_label - table["candidate_label_probability"].to_numpy()))
    if isinstance(target, Number):
        expected = table[[f"candidate_{part}" for part in ("value", "low", "high")]].to_numpy() / target.scale
        given = given / target.scale
    else:
        expected = np.stack(table["candidate_probabilities"].to_list())
    if expected.shape != given.shape:
        raise ValueError(
            f"evaluate has {expected.shape[1]} probabilities of {name}, expected the {given.shape[1]} of the bundle: "
            "run `dvc repro evaluate`"
        )
    return np.asarray(np.abs(given - expected).max(axis=1))


if __name__ == "__main__":
    run_verb(run)
