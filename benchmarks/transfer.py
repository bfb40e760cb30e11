"""What transfer is worth on the embedded example: letters of many alphabets -> handwritten digits.

Held-out accuracy and seconds of: logistic regression on the raw pixels, a head on frozen features, that head fine-tuned,
and the same architecture trained from scratch with the same budget of steps; at several numbers of labels a class. A
fifth of the labels chooses (regularisation, epoch), the rest trains; the held-out digits judge. With --quick one seed
and two numbers of labels, else five seeds and four.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.machine import Claim, finish, parse_arguments
from tasks.data.images import sample_id
from tasks.data.splits import split_of
from tasks.finetune import augment, num_full
from tasks.models.classifier import Classifier
from tasks.models.weights import RANDOM, load_backbone
from tasks.params import FinetuneParams, Params, load_params
from tasks.training.logistic import LinearHead, fit_head
from tasks.training.loop import Minibatch, fit

LABELS_PER_CLASS = (5, 20, 100, None)  # None: all
NUM_SEEDS = 5
MIN_STEPS = 150  # a budget for few labels too, the same for both ways of training
SCRATCH_LEARNING_RATE = 1e-2  # the best of a few for training from scratch; the fine-tuning rate is far too low for it
MODELS = ("raw pixels, logistic regression", "head on frozen features", "fine-tuned", "from scratch")


def main() -> None:
    # one thread: pictures of 32 px are too small to share, and the demo measures beside its flow
    torch.set_num_threads(1)
    with threadpool_limits(1):
        compare(is_quick=parse_arguments(__doc__).quick)


def compare(*, is_quick: bool) -> None:
    params = load_params(Path("params.yaml"))
    seeds = range(1 if is_quick else NUM_SEEDS)
    counts = (5, None) if is_quick else LABELS_PER_CLASS
    digits = Digits(params)
    runs = [run for count in counts for seed in seeds for run in measure(digits, params, count, seed)]
    rows = [summarise(runs, model, digits.name(count)) for model in MODELS for count in counts]
    finish(
        settings={"quick": is_quick, "seeds": len(seeds), "num_heldout": len(digits.heldout)},
        raw=rows,
        claims=[claim for count in counts for claim in make_claims(rows, digits.name(count))],
    )


class Digits:
    """The digits as raw pixels (n, 64), as the backbone's input (n, 3, size, size) uint8, and as frozen features."""

    def __init__(self, params: Params) -> None:
        from sklearn.datasets import load_digits

        data = load_digits()
        scans = [Image.fromarray(np.round(scan * (255 / 16)).astype(np.uint8)).convert("RGB") for scan in data.images]
        self.params = params
        self.load = partial(
            load_backbone,
            params.backbone.architecture,
            features=params.backbone.features,
            image_size=params.backbone.image_size,
        )
        backbone = self.load(weights=params.backbone.weights)
        self.transform = backbone.transform
        self.raw = data.data.astype(np.float64)
        self.pixels = torch.stack([self.transform.pixels(scan) for scan in scans])
        self.labels = np.array(data.target)
        start = time.perf_counter()
        with torch.inference_mode():
            parts = [backbone(self.transform.normalize(each)) for each in torch.split(self.pixels, 64)]
        self.features = torch.cat(parts).double().numpy()  # (n, dim)
        self.seconds_per_embedding = (time.perf_counter() - start) / len(self.labels)
        side = np.array([self._is_heldout(scan) for scan in data.images])
        self.pool, self.heldout = np.flatnonzero(~side), np.flatnonzero(side)

    def choose(self, labels_per_class: int | None, seed: int) -> tuple[Any, Any]:
        """Rows to train on and rows to choose by (a fifth), drawn for each class by the seed."""
        order = np.random.default_rng(seed).permutation(self.pool)
        per_class = [order[self.labels[order] == label][:labels_per_class] for label in range(10)]
        cuts = [max(len(rows) // 5, 1) for rows in per_class]
        train = np.concatenate([rows[cut:] for rows, cut in zip(per_class, cuts, strict=True)])
        return train, np.concatenate([rows[:cut] for rows, cut in zip(per_class, cuts, strict=True)])

    def name(self, labels_per_class: int | None) -> int:
        """The mean number of labels a class."""
        return labels_per_class or len(self.pool) // 10

    def _is_heldout(self, scan: Any) -> bool:
        validate = self.params.validate_
        side = split_of(
            sample_id(scan.tobytes()),
            salt=validate.split_salt,
            val_fraction=validate.val_fraction,
            heldout_fraction=validate.heldout_fraction,
        )
        return side == "heldout"


def measure(digits: Digits, params: Params, labels_per_class: int | None, seed: int) -> Iterator[dict[str, Any]]:
    """One row a model: labels_per_class, seed, model, accuracy, seconds (to train, embedding included)."""
    train, val = digits.choose(labels_per_class, seed)
    labels, heldout = digits.labels, digits.heldout

    def row(model: str, accuracy: float, seconds: float) -> dict[str, Any]:
        found = {"model": model, "accuracy": accuracy, "seconds": seconds}
        return {"labels_per_class": digits.name(labels_per_class), "seed": seed} | found

    def head_on(vectors: Any) -> tuple[LinearHead, float]:
        head = fit_head(
            (vectors[train], labels[train]),
            (vectors[val], labels[val]),
            num_classes=10,
            l2_strengths=params.train_head.l2_strengths,
            max_iterations=params.train_head.max_iterations,
        )
        predicted = head.log_probabilities(vectors[heldout]).argmax(axis=1)
        return head, float((predicted == labels[heldout]).mean())

    (_, accuracy), seconds = timed(lambda: head_on(digits.raw))
    yield row(MODELS[0], accuracy, seconds)
    (head, accuracy), seconds = timed(lambda: head_on(digits.features))
    embedding = digits.seconds_per_embedding * (len(train) + len(val))
    head_seconds = seconds + embedding
    yield row(MODELS[1], accuracy, head_seconds)

    torch.manual_seed(seed)
    tuned = Classifier(digits.load(weights=params.backbone.weights), {"label": [str(digit) for digit in range(10)]})
    tuned.graft({"label": (torch.from_numpy(head.weight), torch.from_numpy(head.bias))})
    rates = (params.finetune.head_learning_rate, params.finetune.backbone_learning_rate)
    gentle = params.finetune.update_statistics
    _, seconds = timed(
        lambda: fine_tune(tuned, digits, train, val, params.finetune, rates, seed, update_statistics=gentle)
    )
    yield row(MODELS[2], score(tuned, digits), head_seconds + seconds)

    torch.manual_seed(seed)
    scratch = Classifier(digits.load(weights=RANDOM), {"label": [str(digit) for digit in range(10)]})
    rates = (SCRATCH_LEARNING_RATE, SCRATCH_LEARNING_RATE)
    _, seconds = timed(
        lambda: fine_tune(scratch, digits, train, val, params.finetune, rates, seed, update_statistics=True)
    )
    yield row(MODELS[3], score(scratch, digits), seconds)


def fine_tune(
    model: Classifier,
    digits: Digits,
    train: Any,
    val: Any,
    params: FinetuneParams,
    rates: tuple[float, float],
    seed: int,
    *,
    update_statistics: bool,
) -> None:
    """Train the whole of the model; `rates` are those of the head and of the backbone."""
    size = min(params.minibatch_size, max(len(train) // 4, 16))
    total = num_full(len(train), size)
    epochs = max(params.epochs, math.ceil(MIN_STEPS / total))

    def minibatches(rows: Any, generator: torch.Generator | None) -> Iterator[Minibatch]:
        order = torch.from_numpy(rows)
        if generator is not None:
            order = order[torch.randperm(len(order), generator=generator)[: total * size]]
        for part in torch.split(order, size):
            images = model.backbone.transform.normalize(digits.pixels[part])
            labels = torch.from_numpy(digits.labels)[part, None]
            yield (images if generator is None else augment(images, generator, params)), labels

    fit(
        model,
        minibatches=lambda epoch: minibatches(train, torch.Generator().manual_seed(seed * 100_003 + epoch)),
        num_minibatches=total,
        val_minibatches=lambda: minibatches(val, None),
        parameter_groups=[
            {"params": list(model.heads.parameters()), "lr": rates[0]},
            {"params": list(model.backbone.parameters()), "lr": rates[1]},
        ],
        epochs=epochs,
        warmup_fraction=params.warmup_fraction,
        weight_decay=params.weight_decay,
        patience_epochs=epochs,
        update_statistics=update_statistics,
    )


def score(model: Classifier, digits: Digits) -> float:
    pixels: tuple[Tensor, ...] = torch.split(digits.pixels[torch.from_numpy(digits.heldout)], 64)
    predicted = model.probabilities(pixels)[0].argmax(dim=1).numpy()
    return float((predicted == digits.labels[digits.heldout]).mean())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def summarise(runs: list[dict[str, Any]], model: str, labels_per_class: int) -> dict[str, Any]:
    """The mean over the seeds, with the half width of its 95 % interval (normal; 0 for one seed)."""
    chosen = [run for run in runs if run["model"] == model and run["labels_per_class"] == labels_per_class]
    accuracies = [run["accuracy"] for run in chosen]
    spread = statistics.stdev(accuracies) if len(chosen) > 1 else 0.0
    return {
        "model": model,
        "labels_per_class": labels_per_class,
        "accuracy": statistics.mean(accuracies),
        "accuracy_half_width": 1.96 * spread / math.sqrt(len(chosen)),
        "seconds": statistics.median(run["seconds"] for run in chosen),
        "accuracies": accuracies,
    }


def make_claims(rows: list[dict[str, Any]], labels_per_class: int) -> list[Claim]:
    found = {row["model"]: row["accuracy"] for row in rows if row["labels_per_class"] == labels_per_class}
    pixels, head, tuned, scratch = (100 * found[model] for model in MODELS)
    differences = {
        "head_minus_pixels": head - pixels,
        "head_minus_scratch": head - scratch,
        "finetune_minus_head": tuned - head,
    }
    return [
        Claim(name=f"transfer.{name}_points.digits.{labels_per_class}", value=value, target=0.0, at_least=True)
        for name, value in differences.items()
    ]


if __name__ == "__main__":
    main()
