"""Train one method on one draw of labelled images, and measure held-out accuracy, processor seconds and peak memory.

All methods see the same labels, and choose by the same fifth of them (regularisation, epoch, head or fine-tuned). The
held-out images judge, and choose nothing.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.kit.labelled import POOL, Labelled
from benchmarks.kit.machine import peak_bytes
from tasks.embedding.embedder import AUTO, Embedder, plan
from tasks.images.augment import AugmentedViews
from tasks.machine.cores import one_thread_each
from tasks.models.backbone import Backbone
from tasks.models.classifier import Classifier
from tasks.prediction.answers import Answerer
from tasks.targets.classes import Classes, likeliest
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.path import FINETUNED, Weights, put, weights_at
from tasks.training.finetuning.tuning import Data, Tuned, fine_tune, num_full
from tasks.training.heads.logistic import LinearHead, all_val_logits, fit_head
from tasks.training.heads.mixture import calibrated, fit_depths
from tasks.training.heads.options import HeadOptions
from tasks.training.loop.fit import PLAIN, Group, History, fit
from tasks.training.loop.scores import Minibatch

Method = Literal["pixels", "head", "finetune", "finetune_from_random_head", "scratch"]
Positions = NDArray[np.int64]  # row numbers of a `Labelled`
Predict = Callable[[Positions], NDArray[np.int64]]  # rows -> labels

VAL_FRACTION = 0.2
TARGET = "label"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The way a method trains the network. `min_steps` is for few labels, whose epochs have few minibatches."""

    head: HeadOptions
    training: FinetuneOptions
    min_steps: int

    def digest(self) -> str:
        """Return a short digest, which differs for every recipe."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The labelled rows of the pool, at least two per class. A fifth of them, at least one per class, is `val`."""

    train: Positions
    val: Positions

    @classmethod
    def of(cls, labelled: Labelled, fraction: float, seed: int) -> "Draw":
        order = np.random.default_rng(seed).permutation(np.flatnonzero(labelled.sides == POOL))
        train, val = [], []
        for label in range(len(labelled.classes)):
            rows = order[labelled.labels[order] == label]
            rows = rows[: max(round(fraction * len(rows)), 2)]
            cut = max(round(VAL_FRACTION * len(rows)), 1)
            val.append(rows[:cut])
            train.append(rows[cut:])
        return cls(train=np.concatenate(train), val=np.concatenate(val))


def measure(
    folder: Path, *, method: Method, fraction: float, seed: int, recipe: Recipe, judges: dict[str, int]
) -> dict[str, Any]:
    """Train on one core, in a process that does nothing else.

    Args:
        folder: the folder of a `Labelled`.
        judges: the sides to measure the accuracy on, by name.

    Returns:
        num_train and num_val.
        processor_seconds and peak_bytes of everything but the judging; own_bytes, which is peak_bytes less the memory
        of the imports.
        The accuracy, 0..1, by the name of the judge; `raw_<judge>` is that of the fine-tuned model, shipped or not.
        The facts that the method adds.
    """
    with one_thread_each(), threadpool_limits(1):
        start, imported = time.process_time(), peak_bytes()
        torch.manual_seed(seed)
        labelled = Labelled.open(folder)
        draw = Draw.of(labelled, fraction, seed)
        prediction, result = METHODS[method](Task(labelled=labelled, draw=draw, recipe=recipe, seed=seed))
        result |= {"num_train": len(draw.train), "num_val": len(draw.val)}
        peak = peak_bytes()
        result |= {"processor_seconds": time.process_time() - start, "peak_bytes": peak, "own_bytes": peak - imported}
        for name, side in judges.items():
            rows = np.flatnonzero(labelled.sides == side)
            for prefix, predict in prediction.items():
                result[f"{prefix}{name}"] = float((predict(rows) == labelled.labels[rows]).mean())
    return result


@dataclass(frozen=True, kw_only=True)
class Task:
    labelled: Labelled
    draw: Draw
    recipe: Recipe
    seed: int

    @property
    def options(self) -> FinetuneOptions:
        """Return the options of the recipe for a number of labels: few get smaller minibatches and more epochs."""
        num_train, options = len(self.draw.train), self.recipe.training
        size = min(options.minibatch_size, max(num_train // 4, 8))
        epochs = max(options.epochs or 0, math.ceil(self.recipe.min_steps / num_full(num_train, size)))
        return replace(options, minibatch_size=size, epochs=epochs)

    @property
    def data(self) -> Data:
        labels = torch.from_numpy(self.labelled.labels)[:, None]
        return Data(labels=labels, train=self.draw.train, val=self.draw.val)


# predictions by prefix, where "" is the model that would be shipped; facts of the training
Outcome = tuple[dict[str, Predict], dict[str, Any]]


def pixels(task: Task) -> Outcome:
    """Train logistic regression on 8 x 8 grey levels."""

    def vectors(rows: Positions) -> NDArray[np.float64]:
        grey = torch.from_numpy(task.labelled.pixels[rows]).float().mean(dim=1)  # (n, image_size, image_size)
        return F.adaptive_avg_pool2d(grey, 8).flatten(1).double().numpy()

    head = train_head(task, vectors)
    return {"": lambda rows: head.log_probabilities(vectors(rows)).argmax(axis=1)}, {}


def head(task: Task) -> Outcome:
    """Train a linear head on the features of the frozen backbone."""
    backbone = task.labelled.network.load()
    vectors = embedding(task.labelled, backbone)
    head = train_head(task, vectors, part_dims=parts_of(backbone))
    return {"": lambda rows: head.log_probabilities(vectors(rows)).argmax(axis=1)}, {"l2": head.l2}


@dataclass(frozen=True, kw_only=True)
class FinetunedPath:
    """A fine-tuning, and the weights on the way to it. `seconds` of processor time it took."""

    model: Classifier
    labelled: Labelled
    start: Weights
    end: Weights
    tuned: Tuned
    seconds: float

    def logits(self, share: float, rows: Positions) -> NDArray[np.float32]:
        """Return the logits (n, num_classes) of the weights at a share of the way."""
        put(self.model, weights_at(share, self.start, self.end))
        normalize = self.model.backbone.transform.normalize
        with torch.inference_mode():
            parts = [
                self.model(normalize(torch.from_numpy(self.labelled.pixels[part])))[0]
                for part in np.split(rows, range(64, len(rows), 64))
            ]
        return torch.cat(parts).numpy()

    def predict(self, share: float) -> Predict:
        def predict(rows: Positions) -> NDArray[np.int64]:
            put(self.model, weights_at(share, self.start, self.end))
            return prediction_of(self.model, self.labelled)(rows)

        return predict


def finetuned_path(task: Task) -> FinetunedPath:
    """Fine-tune from the trained head on (LP-FT, Kumar et al. 2022)."""
    began = time.process_time()
    backbone = task.labelled.network.load()
    vectors = embedding(task.labelled, backbone)
    head = train_head(task, vectors, part_dims=parts_of(backbone))
    model = Classifier(backbone, {TARGET: task.labelled.classes})
    layer, val = (head.weight, head.bias), task.draw.val
    logits = all_val_logits(*layer, vectors(val))
    weight, bias = calibrated(model.targets[TARGET], layer, logits, task.labelled.labels[val])
    model.graft({TARGET: [(torch.from_numpy(weight), torch.from_numpy(bias))]})
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuned = fine_tune(model, Views(model, task), task.data, options=task.options, seed=task.seed)
    return FinetunedPath(
        model=model, labelled=task.labelled, start=start,
        end={name: tensor.clone() for name, tensor in model.state_dict().items()},
        tuned=tuned, seconds=time.process_time() - began,
    )  # fmt: skip


def finetune(task: Task) -> Outcome:
    """Fine-tune from the trained head on. The model that val chooses on the way is shipped."""
    path = finetuned_path(task)
    verdict = path.tuned.verdict
    facts = {"p_value": verdict.p_value, "is_tuned": verdict.is_finetuned, "share": verdict.share}
    return {"": path.predict(verdict.share), "raw_": path.predict(FINETUNED)}, facts_of(path.tuned.history) | facts


def finetune_from_random_head(task: Task) -> Outcome:
    """Train the whole network at once with a new head, for comparison with LP-FT."""
    model = Classifier(task.labelled.network.load(), {TARGET: task.labelled.classes})
    tuned = fine_tune(model, Views(model, task), task.data, options=task.options, seed=task.seed)
    return {"": prediction_of(model, task.labelled)}, facts_of(tuned.history)


def scratch(task: Task) -> Outcome:
    """Train the same network from torchvision's random weights (Kaiming's if it has no normalisation)."""
    model = Classifier(task.labelled.network.load(is_pretrained=False), {TARGET: task.labelled.classes})
    options, data, views = task.options, task.data, Views(model, task)
    size = options.minibatch_size

    def minibatches(rows: Positions, view: int | None) -> Iterator[Minibatch]:
        yield from zip(views.minibatches(rows, view, size=size), torch.split(data.labels[rows], size), strict=True)

    def train(epoch: int) -> Iterator[Minibatch]:
        order = np.random.default_rng((task.seed, epoch)).permutation(data.train)
        return minibatches(order[: num_full(len(order), size) * size], epoch)

    history = fit(
        model,
        replace(
            PLAIN,
            epochs=options.epochs or 0,
            warmup_fraction=options.warmup_fraction,
            update_statistics=True,
            label_smoothing=options.label_smoothing,
        ),
        targets=list(model.targets.values()),
        seed=task.seed,
        groups=[
            Group(
                parameters=list(model.parameters()),
                learning_rate=options.backbone_learning_rate,
                weight_decay=options.weight_decay,
            )
        ],
        minibatches=train,
        num_minibatches=num_full(len(data.train), size),
        val_minibatches=lambda: minibatches(data.val, None),
    )
    return {"": prediction_of(model, task.labelled)}, facts_of(history)


METHODS: dict[Method, Callable[[Task], Outcome]] = {
    "pixels": pixels,
    "head": head,
    "finetune": finetune,
    "finetune_from_random_head": finetune_from_random_head,
    "scratch": scratch,
}


def embedding(labelled: Labelled, backbone: Backbone) -> Callable[[Positions], NDArray[np.float64]]:
    """Return a function from positions to the engine's features (n, dim). It embeds every row once."""
    embedder = Embedder(backbone, plan(replace(AUTO, device="cpu")))
    known: dict[int, NDArray[np.float64]] = {}

    def vectors(rows: Positions) -> NDArray[np.float64]:
        new = np.array([row for row in rows.tolist() if row not in known], dtype=np.int64)
        for part in torch.split(torch.from_numpy(new), embedder.plan.minibatch_size):
            features = embedder(torch.from_numpy(labelled.pixels[part.numpy()])).double().numpy()
            known.update(zip(part.tolist(), features, strict=True))
        return np.stack([known[row] for row in rows.tolist()])

    return vectors


def parts_of(backbone: Backbone) -> tuple[int, ...]:
    """Return the dimensions of the parts, where the features are powers, as `tasks.embed` writes them."""
    return backbone.part_dims if backbone.power != 1 else ()


def train_head(
    task: Task, vectors: Callable[[Positions], NDArray[np.float64]], *, part_dims: Sequence[int] = ()
) -> LinearHead:
    labels, options = task.labelled.labels, replace(task.recipe.head, class_weights="none")
    train, val = ((vectors(rows), labels[rows]) for rows in (task.draw.train, task.draw.val))
    if not part_dims:
        return fit_head(train, val, options, classes=task.labelled.classes)
    head, _ = fit_depths(Classes(tuple(task.labelled.classes)), train, val, options, part_dims=part_dims)
    return head


class Views:
    """The source of training images, see `tasks.training.finetuning.tuning.Source`.

    Nothing is frozen, so a view is an image.
    """

    num_views = None  # no limit

    def __init__(self, model: Classifier, task: Task) -> None:
        self.pixels = task.labelled.pixels
        self.normalize = model.backbone.transform.normalize
        self.views = AugmentedViews(augmentation=task.options, seed=task.seed)

    def minibatches(self, rows: Positions, view: int | None, *, size: int) -> Iterator[Tensor]:
        """Yield (size, 3, image_size, image_size) float32, the last one shorter, in the order of `rows`."""
        for part in np.split(rows, range(size, len(rows), size)):
            pixels = torch.from_numpy(self.pixels[part])
            yield self.normalize(pixels if view is None else self.views(pixels, [str(row) for row in part], view))


def facts_of(history: History) -> dict[str, Any]:
    return {"epochs": len(history.epochs) - 1, "epoch": history.kept}


def prediction_of(model: Classifier, labelled: Labelled) -> Predict:
    def predict(rows: Positions) -> NDArray[np.int64]:
        parts = (torch.from_numpy(labelled.pixels[part]) for part in np.split(rows, range(64, len(rows), 64)))
        answerer = Answerer(model, device="cpu")
        target = next(iter(model.targets))
        return likeliest(answerer.answer(torch.cat(list(parts)))[target])

    return predict
