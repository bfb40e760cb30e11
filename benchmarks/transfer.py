"""Measure the worth of transfer: one network from scratch, its head alone, and fine-tuned, on few labels and all.

Every method runs in a process of its own on one core, two processes at a time. The benchmark measures held-out
accuracy, processor seconds and peak memory on:

- digits: scikit-learn's handwritten digits with the glyph backbone, as in the demo;
- sign-digits and cifar10 (12,000 images) with the ImageNet SqueezeNet, if the shared data is there.

A fifth of every set, by a hash of the file, is held out; CIFAR-10 has its own test side instead. Of the rest 1, 5, 20
and 100 % are labelled, at least two images per class, drawn by a seed. A fifth of the labels, at least one per class,
chooses (regularisation, epoch, head or fine-tuned); the others train. All methods get the same draws.

- head: logistic regression on the frozen features.
- finetune: fine-tuning from that head on. `accuracy` is that of the model that the pipeline would ship: the head, the
  fine-tuned model or weights between them, as val chooses. `raw_accuracy` is that of the fine-tuned model, whatever val
  chooses. `benchmarks.candidate` compares such rules on the same runs. Its claims `finetune_minus_head_points` and
  `tuned_minus_head_points` are about the first and the second.
- scratch: the same network at the same image size, from random weights; `RECIPES` has its training.

Intervals are 95 % over the seeds (t distribution). `heldout_half_width` is the further uncertainty that comes from the
number of held-out images.

`time_to_scratch_accuracy_fraction` takes every head and fine-tuning, at any fraction of the labels, whose mean accuracy
is at least that of scratch with all labels. It is the least of their mean processor seconds, over the mean seconds of
scratch with all labels.

--keep names a folder of finished runs to resume from, which `candidate` shares. --quick: one seed, 5 and 100 % of the
labels, short trainings. --data names the sets.
`python -m benchmarks.kit.transfer_page` puts the table and the plot of the kept results into docs/.
"""

import argparse
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.kit.kept_rows import keep_row, read_rows
from benchmarks.kit.labelled import (
    HELDOUT,
    POOL,
    missing,
    read_digits,
    read_tar,
    side_by_content,
    side_by_folder,
    squeezenet,
)
from benchmarks.kit.machine import Claim, finish, parser
from benchmarks.kit.methods import Method, Recipe, measure
from benchmarks.kit.processes import in_processes
from benchmarks.kit.summary import CONFIDENCE, mean_and_half_width
from benchmarks.kit.tuned_runs import file_of, keep_run, read_run, row_of
from tasks.stage.params import load_params

ROOT = Path(__file__).parent.parent
FRACTIONS = (0.01, 0.05, 0.2, 1.0)
NUM_SEEDS = 3
TARGET_TIME = 0.1  # as a fraction of the time of scratch
FEW = 0.2  # the largest fraction at which the head is expected to beat scratch
METHODS: tuple[Method, ...] = ("scratch", "head", "finetune")
TARS = {
    "sign-digits": ("sign-digits.tar", 96, side_by_content),
    "cifar10": ("cifar10-12k.tar", 64, side_by_folder),
}

# the changes to the section finetune of params.yaml, and the fewest steps, for few labels; chosen on one draw, see
# docs/transfer.md
VIEWS = {"max_rotation_degrees": 10.0, "max_shift_fraction": 0.08, "max_scale_fraction": 0.1}
TUNING = VIEWS | {"unfreeze": "all", "backbone_learning_rate": 1e-3, "learning_rate_decay": 1.0, "epochs": 8}
RECIPES: dict[tuple[str, Method], tuple[dict[str, Any], int]] = {
    ("digits", "finetune"): (
        {"unfreeze": "all", "backbone_learning_rate": 2e-4, "head_learning_rate": 1e-4, "epochs": 6},
        150,
    ),
    ("digits", "scratch"): ({"backbone_learning_rate": 1e-2, "epochs": 6}, 300),
    ("sign-digits", "finetune"): (TUNING, 150),
    ("sign-digits", "scratch"): (VIEWS | {"backbone_learning_rate": 1e-3, "epochs": 16}, 400),
    ("cifar10", "finetune"): (TUNING | {"learning_rate_decay": 0.8, "epochs": 4, "flip": True}, 400),
    ("cifar10", "scratch"): (VIEWS | {"backbone_learning_rate": 5e-4, "epochs": 16, "flip": True}, 1200),
}
QUICK_EPOCHS = 2


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sets, skipped = prepare(arguments.data, place)
        seeds = 1 if arguments.quick else arguments.seeds
        kept = arguments.keep or place / "kept"
        kept.mkdir(exist_ok=True)
        runs = run_all(list(sets), place, seeds=seeds, is_quick=arguments.quick, kept=kept)
    rows = [summarise(group, num_heldout=sets[group[0]["data"]]["num_heldout"]) for group in grouped(runs)]
    finish(
        settings={"quick": arguments.quick, "seeds": seeds, "sets": sets, "skipped": skipped, "confidence": CONFIDENCE},
        raw=rows,
        claims=[claim for data in sets for claim in make_claims([row for row in rows if row["data"] == data])],
    )


def parse_arguments() -> argparse.Namespace:
    command = parser(__doc__)
    command.add_argument(
        "--data", nargs="+", choices=("digits", *TARS), default=["digits", *TARS], help="the sets to measure"
    )
    command.add_argument("--seeds", type=int, default=NUM_SEEDS, help="the number of seeds; --quick takes one")
    command.add_argument("--keep", type=Path, help="the folder of finished runs, to resume from")
    return command.parse_args()


def prepare(names: Sequence[str], place: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Put every set into a folder of `place`.

    Return the facts of these sets by name, and the reasons why others are skipped.
    """
    sets: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in names:
        if name == "digits":
            labelled = read_digits()
        elif reason := missing(TARS[name][0]):
            skipped[name] = reason
            continue
        else:
            tar, size, side_of = TARS[name]
            labelled = read_tar(tar, squeezenet(size), side_of)
        labelled.save(place / name)
        sets[name] = {
            "num_pool": int((labelled.sides == POOL).sum()),
            "num_heldout": int((labelled.sides == HELDOUT).sum()),
            "num_classes": len(labelled.classes),
            "image_size": labelled.network.image_size,
            "architecture": labelled.network.architecture,
        }
    return sets, skipped


def run_all(sets: Sequence[str], place: Path, *, seeds: int, is_quick: bool, kept: Path) -> list[dict[str, Any]]:
    """Return a row per run, seed after seed.

    A run that the folder `kept` has does not run again: fine-tunings have files of their own, from which the choice of
    today's rule follows, and `runs.jsonl` has a line for each of the others. New runs are added.
    """
    plan: list[dict[str, Any]] = []
    recipes: dict[str, Recipe] = {}
    for seed in range(seeds):
        for fraction in sorted(FRACTIONS[1::2] if is_quick else FRACTIONS, reverse=True):
            for data in sets:
                for method in (*METHODS, "pixels") if data == "digits" else METHODS:
                    chosen = recipe(data, method, is_quick=is_quick)
                    digest = chosen.digest()
                    recipes[digest] = chosen
                    plan.append({"data": data, "fraction": fraction, "method": method, "seed": seed, "recipe": digest})

    def file(run: dict[str, Any]) -> Path:
        named = {name: run[name] for name in ("data", "fraction", "seed")}
        return file_of(kept, **named, recipe=recipes[run["recipe"]])

    done = {identity(run): run for run in read_rows(kept / "runs.jsonl")}
    left = [run for run in plan if not (file(run).is_file() if run["method"] == "finetune" else identity(run) in done)]
    calls = [
        {"folder": place / run["data"], "method": run["method"], "fraction": run["fraction"], "seed": run["seed"]}
        | {"recipe": recipes[run["recipe"]], "out": file(run)}
        for run in left
    ]
    for run, result in zip(left, in_processes(train, calls, at_once=2), strict=True):
        line = f"{run['data']}, {run['fraction']:.0%} of the labels, {run['method']}"
        print(line, file=sys.stderr, flush=True)
        if result:
            done[identity(run)] = run | result
            keep_row(run | result, kept / "runs.jsonl")
    significance = load_params(ROOT / "params.yaml").finetune.harm_significance
    return [
        run | row_of(read_run(file(run)), significance=significance)
        if run["method"] == "finetune"
        else done[identity(run)]
        for run in plan
    ]


def train(*, method: Method, out: Path, **arguments: Any) -> dict[str, Any]:
    """Train and measure; a fine-tuning is kept in the file `out`, and nothing is returned."""
    if method != "finetune":
        return measure(method=method, judges={"accuracy": HELDOUT}, **arguments)
    keep_run(out=out, **arguments)
    return {}


def identity(run: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(run[name] for name in ("data", "fraction", "method", "seed", "recipe"))


def recipe(data: str, method: Method, *, is_quick: bool) -> Recipe:
    params = load_params(ROOT / "params.yaml")
    changes, min_steps = RECIPES.get((data, method), ({}, 0))
    if is_quick and data != "digits":  # digits are quick enough
        changes, min_steps = changes | {"epochs": QUICK_EPOCHS}, min_steps // 4
    return Recipe(head=params.train_head, training=replace(params.finetune, **changes), min_steps=min_steps)


def grouped(runs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the runs in groups that differ only in their seeds."""
    groups: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: run["fraction"]):
        groups.setdefault((run["data"], run["method"], run["fraction"]), []).append(run)
    return list(groups.values())


def summarise(runs: list[dict[str, Any]], *, num_heldout: int) -> dict[str, Any]:
    """Return the means over the seeds, seconds, bytes and the runs.

    A mean of accuracy has the half width of its interval beside it, None for one seed.
    """
    first = runs[0]
    row: dict[str, Any] = {name: first[name] for name in ("data", "method", "fraction", "num_train", "num_val")}
    for name in ("accuracy", "raw_accuracy"):
        if name in first:
            row[name], row[f"{name}_half_width"] = mean_and_half_width([run[name] for run in runs])
    mean = row["accuracy"]
    return row | {
        "heldout_half_width": 1.96 * math.sqrt(mean * (1 - mean) / num_heldout),
        "processor_seconds": statistics.mean(run["processor_seconds"] for run in runs),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "own_bytes": max(run["own_bytes"] for run in runs),
        "runs": runs,
    }


def make_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims about one set."""
    by_training = {(row["method"], row["fraction"]): row for row in rows}
    data = rows[0]["data"]
    claims = []
    for fraction in sorted({row["fraction"] for row in rows}):
        scratch, head, tuned = (100 * by_training[method, fraction]["accuracy"] for method in METHODS)
        itself = 100 * by_training["finetune", fraction]["raw_accuracy"]
        differences = {"finetune_minus_head": tuned - head, "tuned_minus_head": itself - head}
        if fraction <= FEW:
            differences["head_minus_scratch"] = head - scratch
        if ("pixels", fraction) in by_training:
            differences["head_minus_pixels"] = head - 100 * by_training["pixels", fraction]["accuracy"]
        claims += [
            Claim(name=f"transfer.{name}_points.{data}.{fraction:g}", value=value, target=0.0, at_least=True)
            for name, value in differences.items()
        ]
    name = f"transfer.time_to_scratch_accuracy_fraction.{data}"
    return [*claims, Claim(name=name, value=time_fraction(rows), target=TARGET_TIME, at_least=False)]


def time_fraction(rows: list[dict[str, Any]]) -> float:
    """Return `time_to_scratch_accuracy_fraction`, see the module.

    It is infinite if no head or fine-tuning reaches the accuracy of scratch with all labels.
    """
    full = max((row for row in rows if row["method"] == "scratch"), key=lambda row: row["fraction"])
    reached = [
        row["processor_seconds"]
        for row in rows
        if row["method"] in ("head", "finetune") and row["accuracy"] >= full["accuracy"]
    ]
    return min(reached, default=math.inf) / float(full["processor_seconds"])


if __name__ == "__main__":
    main()
