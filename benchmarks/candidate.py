"""Measure how well val chooses between the head alone and the fine-tuned model, over the runs of `benchmarks.transfer`.

A run draws labels, trains the head and fine-tunes from it, as `transfer` does: digits, sign-digits and CIFAR-10 with 1,
5, 20 and 100 % of the labels, three seeds. The logits of val and of the held-out images are kept for the head alone,
for the weights at 1/4, 1/2 and 3/4 of the way, and for the fine-tuned model. So every rule is asked about the same
trainings, and the held-out images judge what it chose.

- chosen: what the project ships, see `tasks.training.finetuning.do_no_harm`.
- finetuned, middle: always the fine-tuned model, always half of the way.
- paired_test: the fine-tuned model where its val loss is lower by a paired t-test at 5 % and its accuracy no lower,
  else the head; this was the rule before.
- lowest_loss: the candidate with the lowest val loss.

Claims, in points of held-out accuracy over the head alone:

- share_of_tuned_gain: the mean gain, over that of always taking the fine-tuned model.
- worst_points: the gain of the worst run.
- few_val_gain_points: the mean gain over the runs with at most 20 samples of val.

The heads of the same runs are measured in two ways. Before: features of the last depth (of digits four depths), each
with a scale of its own, and val chooses the strength. Now: square roots of features of four depths, and val weighs a
head on all of them and one on the last alone. `head_gain_points.DATA` is the mean gain over fractions and seeds. The
rule was fixed on digits, sign-digits and PACS; CIFAR-10 confirms it.

--heads: measure the heads alone, which takes minutes.

--keep names a folder of finished runs to resume from. Remove it when the recipes of `transfer` change. --quick: one
seed, 5 and 100 % of the labels, short trainings.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.kit.labelled import HELDOUT, Labelled
from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.methods import TARGET, Draw, Recipe, Task, embedding, finetuned_path, parts_of, train_head
from benchmarks.kit.processes import in_processes
from benchmarks.transfer import FRACTIONS, NUM_SEEDS, ROOT, TARS, prepare, recipe
from tasks.machine.cores import one_thread_each
from tasks.machine.files import whole_file
from tasks.metrics.significance import paired_t_test
from tasks.stage.params import load_params
from tasks.targets.classes import Classes, likeliest
from tasks.training.finetuning.do_no_harm import Candidates, Judged, judge
from tasks.training.finetuning.path import FINETUNED, HEAD, MIDDLE, SHARES
from tasks.training.loop.fit import Epoch, History
from tasks.training.loop.scores import Scores, Total

FEW_VAL = 20  # samples
NOTHING = Scores(loss=0.0, accuracy=0.0)

Rule = Callable[[Candidates, float], float]  # what val says of the candidates, and the significance -> the share chosen


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        kept = arguments.keep or Path(folder) / "runs"
        kept.mkdir(exist_ok=True)
        sets, skipped = prepare(arguments.data, Path(folder))
        seeds = 1 if arguments.quick else arguments.seeds
        heads = compare_heads(list(sets), Path(folder), seeds=seeds, is_quick=arguments.quick)
        plan = [] if arguments.heads else list(sets)
        runs = run_all(plan, Path(folder), kept, seeds=seeds, is_quick=arguments.quick)
    significance = load_params(ROOT / "params.yaml").finetune.harm_significance
    rows = [summarise(run, significance=significance) for run in runs]
    rules = {name: gains(rows, name) for name in RULES} if rows else {}
    settings = {"quick": arguments.quick, "seeds": seeds, "sets": list(sets), "harm_significance": significance}
    finish(
        settings=settings | {"skipped": skipped},
        raw={"runs": rows, "rules": rules, "heads": heads},
        claims=[*claims_of_heads(heads), *(claims_of(rules) if rules else [])],
    )


def parse_arguments() -> argparse.Namespace:
    command = parser(__doc__)
    names = ("digits", *TARS)
    command.add_argument("--data", nargs="+", choices=names, default=list(names), help="the sets to measure")
    command.add_argument("--seeds", type=int, default=NUM_SEEDS, help="the number of seeds; --quick takes one")
    command.add_argument("--keep", type=Path, help="the folder of finished runs, to resume from")
    command.add_argument("--heads", action="store_true", help="measure the heads alone")
    return command.parse_args()


def compare_heads(sets: list[str], place: Path, *, seeds: int, is_quick: bool) -> list[dict[str, Any]]:
    """Return the held-out accuracy of the head before and now, in per cent, of every run."""
    fractions = FRACTIONS[1::2] if is_quick else FRACTIONS
    plan = [(data, fraction) for data in sets for fraction in fractions]
    calls = [
        {"folder": place / data, "fraction": fraction, "seeds": seeds, "recipe": recipe(data, "head", is_quick=False)}
        for data, fraction in plan
    ]
    rows = []
    for (data, fraction), measured in zip(plan, in_processes(train_heads, calls, at_once=1), strict=True):
        rows += [{"data": data, "fraction": fraction} | row for row in measured]
        gain = np.mean([row["now"] - row["before"] for row in measured])
        show(f"{data}, {fraction:.0%} of the labels: the head gains {gain:+.1f} points")
    return rows


def train_heads(folder: Path, *, fraction: float, seeds: int, recipe: Recipe) -> list[dict[str, Any]]:
    """Train the heads of all seeds on one core, for both kinds of features."""
    with one_thread_each(), threadpool_limits(1):
        labelled = Labelled.open(folder)
        heldout = np.flatnonzero(labelled.sides == HELDOUT)
        rows: list[dict[str, Any]] = [{"seed": seed} for seed in range(seeds)]
        for name, network in {"before": labelled.network, "now": labelled.network.at_depths()}.items():
            backbone = network.load()
            vectors = embedding(labelled, backbone)
            for row in rows:
                draw = Draw.of(labelled, fraction, row["seed"])
                task = Task(labelled=labelled, draw=draw, recipe=recipe, seed=row["seed"])
                head = train_head(task, vectors, part_dims=parts_of(backbone))
                row[name] = 100 * accuracy(head.log_probabilities(vectors(heldout)), labelled.labels[heldout])
                row |= {"num_train": len(draw.train), "num_val": len(draw.val)}
        return rows


def claims_of_heads(heads: list[dict[str, Any]]) -> list[Claim]:
    gained: dict[str, list[float]] = {}
    for row in heads:
        gained.setdefault(row["data"], []).append(row["now"] - row["before"])
    return [
        Claim(name=f"candidate.head_gain_points.{data}", value=float(np.mean(own)), target=0.01, at_least=True)
        for data, own in gained.items()
    ]


def run_all(sets: list[str], place: Path, kept: Path, *, seeds: int, is_quick: bool) -> list[dict[str, Any]]:
    """Return the runs, and train those that the folder `kept` does not have."""
    fractions = FRACTIONS[1::2] if is_quick else FRACTIONS
    plan = [(data, fraction, seed) for data in sets for fraction in fractions for seed in range(seeds)]
    paths = [kept / f"{data}-{fraction:g}-{seed}.npz" for data, fraction, seed in plan]
    left = [(run, path) for run, path in zip(plan, paths, strict=True) if not path.is_file()]
    calls = [
        {"folder": place / data, "fraction": fraction, "seed": seed, "out": path}
        | {"recipe": recipe(data, "finetune", is_quick=is_quick)}
        for (data, fraction, seed), path in left
    ]
    for ((data, fraction, seed), _), seconds in zip(left, in_processes(train, calls, at_once=1), strict=True):
        show(f"{data}, {fraction:.0%} of the labels, seed {seed}: {seconds:.0f} s")
    runs = []
    for (data, fraction, seed), path in zip(plan, paths, strict=True):
        with np.load(path) as arrays:
            runs.append({"data": data, "fraction": fraction, "seed": seed} | dict(arrays))
    return runs


def train(folder: Path, *, fraction: float, seed: int, recipe: Recipe, out: Path) -> float:
    """Fine-tune on one core, and write the logits (n, num_classes) of all candidates on val and on held-out.

    Return the seconds of the training.
    """
    with one_thread_each(), threadpool_limits(1):
        torch.manual_seed(seed)
        labelled = Labelled.open(folder)
        task = Task(labelled=labelled, draw=Draw.of(labelled, fraction, seed), recipe=recipe, seed=seed)
        path = finetuned_path(task)
        sides = {"val": task.draw.val, "held": np.flatnonzero(labelled.sides == HELDOUT)}
        arrays: dict[str, Any] = {f"{side}_labels": labelled.labels[rows] for side, rows in sides.items()}
        for share in SHARES:
            arrays |= {f"{side}_{share:g}": path.logits(share, rows) for side, rows in sides.items()}
    facts: dict[str, Any] = {
        "num_train": len(task.draw.train),
        "kept": path.tuned.history.kept,
        "seconds": path.seconds,
    }
    with whole_file(out) as file, file.open("wb") as opened:
        np.savez(opened, **arrays | facts)
    return path.seconds


def chosen(path: Candidates, significance: float) -> float:
    history = History(epochs=[Epoch(epoch=each, train=None, val=NOTHING, val_calibrated_loss=0.0) for each in (0, 1)])
    history.kept = len(path) - 1
    return judge({TARGET: path}, history=history, significance=significance)[TARGET].share


def paired_test(path: Candidates, significance: float) -> float:
    head, finetuned = path[HEAD], path[max(path)]
    is_better = paired_t_test(head.losses - finetuned.losses) < 0.05 and finetuned.errors.mean() <= head.errors.mean()
    return FINETUNED if is_better else HEAD


RULES: dict[str, Rule] = {
    "chosen": chosen,
    "finetuned": lambda path, _: FINETUNED,
    "lowest_loss": lambda path, _: min(path, key=lambda share: path[share].losses.mean()),
    "middle": lambda path, _: MIDDLE,
    "paired_test": paired_test,
}


def summarise(run: dict[str, Any], *, significance: float) -> dict[str, Any]:
    """Return what val says of each candidate, its held-out accuracy in per cent, and the share that each rule takes."""
    target = Classes(tuple(map(str, range(run["val_0"].shape[1]))))
    path = {share: judged(run[f"val_{share:g}"], run["val_labels"], target) for share in SHARES}
    heldout = {share: 100 * accuracy(run[f"held_{share:g}"], run["held_labels"]) for share in SHARES}
    known = path if run["kept"] else {HEAD: path[HEAD]}
    return {
        "data": run["data"], "fraction": run["fraction"], "seed": run["seed"], "num_val": len(run["val_labels"]),
        "num_train": int(run["num_train"]), "epoch_kept": int(run["kept"]),
        "heldout_accuracy": {f"{share:g}": value for share, value in heldout.items()},
        "val_loss": {f"{share:g}": float(own.losses.mean()) for share, own in path.items()},
        "middle_is_worse_p": paired_t_test(path[MIDDLE].losses - path[HEAD].losses),
        "shares": {name: rule(known, significance) for name, rule in RULES.items()},
    }  # fmt: skip


def judged(logits: NDArray[np.float32], labels: NDArray[np.int64], target: Classes) -> Judged:
    total = Total([target])
    total.add([torch.from_numpy(logits)], torch.from_numpy(labels).float()[:, None])
    return Judged.of(total, {TARGET: target})[TARGET]


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    return float((likeliest(logits) == labels).mean())


def gains(rows: list[dict[str, Any]], rule: str) -> dict[str, float]:
    """Return the gains of a rule over the head alone, in points: the mean, the worst, and the mean with few on val."""
    gained = [row["heldout_accuracy"][f"{row['shares'][rule]:g}"] - row["heldout_accuracy"]["0"] for row in rows]
    few = [gain for gain, row in zip(gained, rows, strict=True) if row["num_val"] <= FEW_VAL]
    return {"mean": float(np.mean(gained)), "worst": min(gained), "few_val": float(np.mean(few)) if few else 0.0}


def claims_of(rules: dict[str, dict[str, float]]) -> list[Claim]:
    own, tuned = rules["chosen"], rules["finetuned"]["mean"]
    values = {
        "share_of_tuned_gain": (own["mean"] / tuned if tuned else 0.0, 0.95),
        "worst_points": (own["worst"], -0.5),
        "few_val_gain_points": (own["few_val"], 6.5),
    }
    return [
        Claim(name=f"candidate.{name}", value=value, target=target, at_least=True)
        for name, (value, target) in values.items()
    ]


if __name__ == "__main__":
    main()
