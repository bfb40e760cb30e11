"""Measure the gain of aligning two domains through the unfrozen layers, over fine-tuning on the source alone.

SqueezeNet, its last two blocks and the head trained from the trained head on, between the photographs and the cartoons
of the shared part of PACS. Each seed draws 80 % of the source domain, a fifth of it for val, and splits the target into
samples that are aligned to without labels and samples that judge alone. Trainings: `plain` (finetune.align never), and
coral, mmd and dann at two weights, such as `mmd_0.1`. `frozen` is the head on the backbone as it came.

Each is judged on the samples that judge, by the general head, and by the head that method infomax adapts to the target
on the features of the model. The model is that of the epoch that val of the source chooses, as in the pipeline; in
`last` it is that of the last epoch.

A claim is the mean over both directions and all seeds of a difference to `plain`, in points. Intervals are 95 % over
the seeds (t distribution). Seconds are processor seconds of a training.

--quick: one seed.
"""

import argparse
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.kit import domains as sets
from benchmarks.kit.kept_rows import keep_row, read_rows
from benchmarks.kit.labelled import missing, squeezenet
from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.summary import CONFIDENCE, mean_and_half_width
from tasks.data.samples.samples import Positions, Samples, sample_id
from tasks.images.augment import AugmentedViews
from tasks.images.decode import decode_sample
from tasks.machine.cores import one_thread_each
from tasks.models.classifier import Classifier
from tasks.stage.params import load_params
from tasks.training.alignment.adaptation import adapt
from tasks.training.alignment.domains import DomainHead, Domains, SourceDomain, TargetDomain
from tasks.training.alignment.options import AdaptOptions
from tasks.training.finetuning.options import FinetuneOptions
from tasks.training.finetuning.tuning import Data, Source, fine_tune, open_source
from tasks.training.finetuning.unfreezing import Trained, boundary_of
from tasks.training.heads.logistic import fit_head

ROOT = Path(__file__).parent.parent
NUM_SEEDS = 3
SOURCE_SHARE, VAL_SHARE, TARGET_SHARE = 0.8, 0.2, 0.5
ALIGNED: dict[str, tuple[Any, float]] = {
    f"{kind}_{weight:g}": (kind, weight) for weight in (0.1, 1.0) for kind in ("coral", "mmd", "dann")
}
CHANGES: dict[str, Any] = {"unfreeze": 2, "num_views": 1, "flip": True, "device": "cpu"}  # of the section finetune
TARGET = "label"
HEADS = ("general", "infomax")
INFOMAX = AdaptOptions(
    targets=[], method="infomax", align="coral", weights="classifier", min_unlabelled=20, statistics="shared",
    unlike=None,
)  # fmt: skip


def main() -> None:
    arguments = parse_arguments()
    asked = {"epochs": arguments.epochs, "image_size": arguments.size}
    if reason := missing("pacs-photo-cartoon.tar"):
        finish(settings=asked | {"skipped": reason}, raw={}, claims=[])
        return
    arguments.cache.mkdir(parents=True, exist_ok=True)
    options = replace(load_params(ROOT / "params.yaml").finetune, **CHANGES, epochs=arguments.epochs)
    rows = read_rows(arguments.keep)
    done = {(row["case"], row["seed"], row["training"]) for row in rows}
    seeds = 1 if arguments.quick else arguments.seeds
    with threadpool_limits(1), one_thread_each():
        pictures = Pictures.of(sets.pacs(arguments.cache), arguments.cache, options, image_size=arguments.size)
        for seed in range(seeds):
            for case in ("photo_cartoon", "cartoon_photo"):
                for training in ("frozen", "plain", *ALIGNED):
                    if (case, seed, training) not in done:
                        show(f"seed {seed}, {case}, {training}")
                        result = measure(pictures, Draw.of(pictures, case, seed), training, options, seed)
                        rows.append({"case": case, "seed": seed, "training": training} | result)
                        keep_row(rows[-1], arguments.keep)
    finish(
        settings=asked | {"quick": arguments.quick, "seeds": seeds, "confidence": CONFIDENCE} | CHANGES,
        raw={"runs": rows, "means": summarise(rows)},
        claims=make_claims(rows),
    )


def parse_arguments() -> argparse.Namespace:
    command = parser(__doc__)
    command.add_argument("--cache", type=Path, default=Path("data/scratch/domains"), help="where activations are kept")
    command.add_argument("--keep", type=Path, help="the file of finished runs, to resume from")
    command.add_argument("--seeds", type=int, default=NUM_SEEDS, help="the number of seeds; --quick takes one")
    command.add_argument("--epochs", type=int, default=6, help="of each training")
    command.add_argument("--size", type=int, default=112, help="of the pictures, px")
    return command.parse_args()


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures of both domains, and their activations at the freeze boundary, which no training changes."""

    rows: pd.DataFrame  # domain, path, sample_id, label
    classes: list[str]
    labels: NDArray[np.int64]  # (n,), indices into `classes`
    image_size: int
    source: Source

    @classmethod
    def of(cls, folder: Path, cache: Path, options: FinetuneOptions, *, image_size: int) -> "Pictures":
        paths = sorted(path for path in folder.glob("*/*/*") if path.is_file())
        rows = pd.DataFrame(
            {
                "batch": ".", "path": [str(path.relative_to(folder)) for path in paths],
                "sample_id": [sample_id(path.read_bytes()) for path in paths],
                "domain": [path.parent.parent.name for path in paths], TARGET: [path.parent.name for path in paths],
            }
        )  # fmt: skip
        classes = sorted(set(rows[TARGET]))
        labels = np.array([classes.index(name) for name in rows[TARGET]])
        model = new_model(classes, image_size)
        everything = np.arange(len(rows))  # unchanged, for val and the features, and in one view, for the trainings
        source = open_source(
            Samples(rows, raw=folder, decode=decode_sample), model,
            Data(labels=column(labels), train=everything, val=everything),
            views=AugmentedViews(augmentation=options, seed=0), scratch=cache,
            backbone=model.backbone.fingerprint(), options=options,
        )  # fmt: skip
        return cls(rows=rows, classes=classes, labels=labels, image_size=image_size, source=source)


def new_model(classes: list[str], image_size: int) -> Classifier:
    return Classifier(squeezenet(image_size).load(), {TARGET: classes}).eval()


def column(labels: NDArray[np.int64]) -> torch.Tensor:
    return torch.from_numpy(labels)[:, None].float()


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The samples of a seed: those of the source, and those of the target that are aligned to, or judge."""

    train: Positions
    val: Positions
    unlabelled: Positions
    judges: Positions

    @classmethod
    def of(cls, pictures: Pictures, case: str, seed: int) -> "Draw":
        generator = np.random.default_rng(seed)
        ours, theirs = (
            generator.permutation(np.flatnonzero(pictures.rows["domain"] == name)) for name in case.split("_")
        )
        ours = ours[: round(SOURCE_SHARE * len(ours))]
        cut, half = round(VAL_SHARE * len(ours)), round(TARGET_SHARE * len(theirs))
        return cls(train=ours[cut:], val=ours[:cut], unlabelled=theirs[:half], judges=theirs[half:])


def measure(pictures: Pictures, draw: Draw, training: str, options: FinetuneOptions, seed: int) -> dict[str, Any]:
    """Return accuracies in per cent, and the facts of a training."""
    model = new_model(pictures.classes, pictures.image_size)
    trained = Trained(model, boundary_of(model, options.unfreeze))
    heads = replace(load_params(ROOT / "params.yaml").train_head, class_weights="none")
    head = fit_head(
        labelled(trained, pictures, draw.train), labelled(trained, pictures, draw.val), heads, classes=pictures.classes
    )
    model.graft({TARGET: [(torch.from_numpy(head.weight), torch.from_numpy(head.bias))]})
    if training == "frozen":
        return accuracies(trained, pictures, draw, seed)
    kind, weight = ALIGNED.get(training, ("never", 1.0))
    options = replace(options, align=kind, align_weight=weight)
    data = Data(labels=column(pictures.labels), train=draw.train, val=draw.val, unlabelled=draw.unlabelled)
    last = Last()
    start = time.process_time()
    tuned = fine_tune(model, pictures.source, data, options=options, seed=seed, keeper=last)
    facts = {
        "seconds": time.process_time() - start,
        "epoch_kept": tuned.history.kept,
        "is_finetuned": tuned.verdict.is_finetuned,
        "val_accuracy": 100 * tuned.history.epochs[tuned.history.kept].val.accuracy,
        "last_val_accuracy": 100 * tuned.history.epochs[-1].val.accuracy,
    } | accuracies(trained, pictures, draw, seed)
    trained.load_state_dict(last.weights, strict=False)  # the frozen part is the same
    return facts | {f"last_{name}": value for name, value in accuracies(trained, pictures, draw, seed).items()}


class Last:
    """Remembers the weights of the last epoch."""

    def __init__(self) -> None:
        self.weights: dict[str, torch.Tensor] = {}

    def save(self, tensors: dict[str, torch.Tensor], *, facts: dict[str, Any]) -> None:
        held = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        self.weights = {name: tensor.clone() for name, tensor in held.items()}

    def load(self) -> None:
        return None


@torch.no_grad()
def labelled(trained: Trained, pictures: Pictures, rows: Positions) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return features, as the model gives them now, and labels."""
    parts = [trained(part, with_features=True)[0] for part in pictures.source.minibatches(rows, None, size=64)]
    return torch.cat(parts).double().numpy(), pictures.labels[rows]


def accuracies(trained: Trained, pictures: Pictures, draw: Draw, seed: int) -> dict[str, float]:
    train, val, judges = (labelled(trained, pictures, rows) for rows in (draw.train, draw.val, draw.judges))
    target = TargetDomain.unlabelled("target", labelled(trained, pictures, draw.unlabelled)[0])
    domains = Domains(
        sources=[SourceDomain(name="source", train=train, val=val)], target=target, classes=pictures.classes
    )
    weight, bias = (part.detach().double().numpy() for part in trained.heads[0].parameters())
    heads = {
        "general": DomainHead(weight=weight, bias=bias, method="source"),
        "infomax": adapt(domains, INFOMAX, seed=seed).head,
    }
    return {
        name: 100 * float((head.logits(judges[0]).argmax(axis=1) == judges[1]).mean()) for name, head in heads.items()
    }


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each case and training: the means over the seeds."""
    summary = []
    for case, training in dict.fromkeys((row["case"], row["training"]) for row in rows):
        runs = [row for row in rows if (row["case"], row["training"]) == (case, training)]
        entry: dict[str, Any] = {"case": case, "training": training, "num_runs": len(runs)}
        for head in (name for name in runs[0] if name.endswith(HEADS)):
            entry[head], entry[f"{head}_half_width"] = mean_and_half_width([run[head] for run in runs])
        if training != "frozen":
            entry["seconds"] = statistics.median(run["seconds"] for run in runs)
            entry["num_finetuned"] = sum(run["is_finetuned"] for run in runs)
            entry["epochs_kept"] = [run["epoch_kept"] for run in runs]
        summary.append(entry)
    return summary


def make_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the gain of each alignment over plain fine-tuning, by the general head and by the adapted one."""
    row_of = {(row["case"], row["seed"], row["training"]): row for row in rows}

    def gain(training: str, head: str) -> float:
        runs = [key for key in row_of if key[2] == training]
        return statistics.mean(float(row_of[key][head] - row_of[*key[:2], "plain"][head]) for key in runs)

    return [
        Claim(
            name=f"alignment.{head}_over_plain_points.{training}", value=gain(training, head), target=0.0, at_least=True
        )
        for head in HEADS
        for training in ALIGNED
    ]


if __name__ == "__main__":
    main()
