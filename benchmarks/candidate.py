"""Measure how well val chooses between the head alone and the fine-tuned model, over the runs of `benchmarks.transfer`.

A run draws labels, trains the head and fine-tunes from it, as `transfer` does: digits, sign-digits and CIFAR-10 with 1,
5, 20 and 100 % of the labels, three seeds. The logits of val and of the held-out images are kept for the head alone,
for the weights at 1/4, 1/2 and 3/4 of the way, and for the fine-tuned model. So every rule is asked about the same
trainings, and the held-out images judge its choice.

- chosen: the rule that the project ships, see `tasks.training.finetuning.do_no_harm`.
- finetuned, middle: always the fine-tuned model, always half of the way.
- paired_test: the fine-tuned model where its val loss is lower by a paired t-test at 5 % and its accuracy no lower,
  else the head; this was the rule before.
- lowest_loss: the candidate with the lowest val loss.
- average: the head alone where `chosen` takes it, else the mean of the calibrated probabilities of the head and the
  fine-tuned model. Its weight is the posterior mean under a prior to the middle, Beta(3, 3), and the likelihood of the
  labels of val. It costs two passes through the trained blocks.
- best: the candidate with the highest held-out accuracy, which no rule can know.

`versus_chosen` has how many points the last two lie above `chosen`, by set and by the size of val, with 95 % intervals
over the runs.

Claims, in points of held-out accuracy over the head alone:

- share_of_tuned_gain: the mean gain, over that of always taking the fine-tuned model.
- worst_points: the gain of the worst run.
- few_val_gain_points: the mean gain over the runs with at most 20 samples of val.

The heads of the same runs are measured in two ways. Before: features of the last depth (of digits four depths), each
with a scale of its own, and val chooses the strength. Now: square roots of features of four depths, and val weighs a
head on all of them and one on the last alone. `head_gain_points.DATA` is the mean gain over fractions and seeds. The
rule was fixed on digits, sign-digits and PACS; CIFAR-10 confirms it.

--heads: measure the heads alone, which takes minutes.

--keep names a folder of finished runs to resume from, which `transfer` shares. --quick: one seed, 5 and 100 % of the
labels, short trainings.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.kit.labelled import HELDOUT, Labelled
from benchmarks.kit.machine import Claim, finish, parser, show
from benchmarks.kit.methods import Draw, Recipe, Task, embedding, parts_of, train_head
from benchmarks.kit.processes import in_processes
from benchmarks.kit.summary import mean_and_half_width
from benchmarks.kit.tuned_runs import Run, accuracy, candidates, chosen, file_of, keep_run, read_run
from benchmarks.transfer import FRACTIONS, NUM_SEEDS, ROOT, TARS, prepare, recipe
from tasks.machine.cores import one_thread_each
from tasks.metrics.significance import paired_t_test
from tasks.stage.params import load_params
from tasks.targets.classes import likeliest
from tasks.training.finetuning.do_no_harm import Candidates, Judged
from tasks.training.finetuning.path import FINETUNED, HEAD, MIDDLE, SHARES

FEW_VAL = 20  # samples
SMALL_VAL = 100
WEIGHTS = np.linspace(0.005, 0.995, 100)  # of the fine-tuned model in the average

Rule = Callable[[Candidates, float], float]  # results of the candidates on val, and the significance -> the share


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
    rules = {name: gains(rows, name) for name in (*RULES, "average", "best")} if rows else {}
    versus = {name: above_chosen(rows, name) for name in ("average", "best")} if rows else {}
    settings = {"quick": arguments.quick, "seeds": seeds, "sets": list(sets), "harm_significance": significance}
    finish(
        settings=settings | {"skipped": skipped},
        raw={"runs": rows, "rules": rules, "versus_chosen": versus, "heads": heads},
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
                row[name] = 100 * float(
                    (likeliest(head.log_probabilities(vectors(heldout))) == labelled.labels[heldout]).mean()
                )
                row |= {"num_train": len(draw.train), "num_val": len(draw.val)}
        return rows


def claims_of_heads(heads: list[dict[str, Any]]) -> list[Claim]:
    gained: dict[str, list[float]] = {}
    for row in heads:
        gained.setdefault(row["data"], []).append(row["now"] - row["before"])
    return [
        Claim(
            name=f"candidate.head_gain_points.{data}", value=float(np.mean(gains_of_data)), target=0.01, at_least=True
        )
        for data, gains_of_data in gained.items()
    ]


def run_all(sets: list[str], place: Path, kept: Path, *, seeds: int, is_quick: bool) -> list[Run]:
    """Return the runs, and train those that the folder `kept` does not have."""
    fractions = FRACTIONS[1::2] if is_quick else FRACTIONS
    plan = [(data, fraction, seed) for data in sets for fraction in fractions for seed in range(seeds)]
    recipes = {data: recipe(data, "finetune", is_quick=is_quick) for data in sets}
    files = [
        file_of(kept, data=data, fraction=fraction, seed=seed, recipe=recipes[data]) for data, fraction, seed in plan
    ]
    left = [(run, file) for run, file in zip(plan, files, strict=True) if not file.is_file()]
    calls = [
        {"folder": place / data, "fraction": fraction, "seed": seed, "recipe": recipes[data], "out": file}
        for (data, fraction, seed), file in left
    ]
    for ((data, fraction, seed), _), _ in zip(left, in_processes(keep_run, calls, at_once=1), strict=True):
        show(f"{data}, {fraction:.0%} of the labels, seed {seed}")
    return [
        {"data": data, "fraction": fraction, "seed": seed} | read_run(file)
        for (data, fraction, seed), file in zip(plan, files, strict=True)
    ]


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


def summarise(run: Run, *, significance: float) -> dict[str, Any]:
    """Return the results of each candidate on val, its held-out accuracy in per cent, and the choice of each rule.

    The choice is the share of the way, or `average`.
    """
    path = candidates(run)
    heldout = {f"{share:g}": 100 * accuracy(run, share if share in path else HEAD) for share in SHARES}
    taken = {name: f"{rule(path, significance) if len(path) > 1 else HEAD:g}" for name, rule in RULES.items()}
    average = {"weight": HEAD, "accuracy": heldout["0"]} if taken["chosen"] == "0" else averaged(run, path)
    middle_is_worse_p = paired_t_test(path[MIDDLE].losses - path[HEAD].losses) if len(path) > 1 else 1.0
    return {
        "data": run["data"], "fraction": run["fraction"], "seed": run["seed"], "num_val": len(run["val_labels"]),
        "num_train": int(run["num_train"]), "epoch_kept": int(run["epoch"]),
        "heldout_accuracy": heldout | {"average": average["accuracy"]},
        "val_loss": {f"{share:g}": float(judged.losses.mean()) for share, judged in path.items()},
        "weight_of_average": average["weight"], "middle_is_worse_p": middle_is_worse_p,
        "shares": taken | {"average": "average", "best": max(heldout, key=heldout.__getitem__)},
    }  # fmt: skip


def averaged(run: Run, path: Candidates) -> dict[str, float]:
    """Return the weight of the fine-tuned model in the average, and the average's held-out accuracy in per cent."""
    head, finetuned = (probabilities(run, path[share], share, "val") for share in (HEAD, FINETUNED))
    rows = np.arange(len(head)), run["val_labels"]
    mixed = np.log(np.outer(1 - WEIGHTS, head[rows]) + np.outer(WEIGHTS, finetuned[rows]))  # (weights, num_val)
    evidence = mixed.sum(axis=1) + 2 * np.log(WEIGHTS * (1 - WEIGHTS))
    posterior = np.exp(evidence - evidence.max())
    weight = float(posterior @ WEIGHTS / posterior.sum())
    head, finetuned = (probabilities(run, path[share], share, "held") for share in (HEAD, FINETUNED))
    answers = ((1 - weight) * head + weight * finetuned).argmax(axis=1)
    return {"weight": weight, "accuracy": 100 * float((answers == run["held_labels"]).mean())}


def probabilities(run: Run, judged: Judged, share: float, side: str) -> NDArray[np.float64]:
    """Return the calibrated probabilities (n, num_classes)."""
    return np.clip(judged.target.answers(run[f"{side}_{share:g}"], temperature=judged.temperature), 1e-12, 1)


def gains(rows: list[dict[str, Any]], rule: str) -> dict[str, float]:
    """Return the gains of a rule over the head alone, in points: the mean, the worst, and the mean with few on val."""
    gained = [gain_of(row, rule) for row in rows]
    few = [gain for gain, row in zip(gained, rows, strict=True) if row["num_val"] <= FEW_VAL]
    return {"mean": float(np.mean(gained)), "worst": min(gained), "few_val": float(np.mean(few)) if few else 0.0}


def gain_of(row: dict[str, Any], rule: str) -> float:
    accuracies: dict[str, float] = row["heldout_accuracy"]
    return accuracies[row["shares"][rule]] - accuracies["0"]


def above_chosen(rows: list[dict[str, Any]], rule: str) -> dict[str, Any]:
    """Return the points by which a rule lies above `chosen`: mean and half width, of all runs and of parts of them."""
    parts = {"all": rows}
    for row in rows:
        parts.setdefault(row["data"], []).append(row)
    parts["val_below_100"] = [row for row in rows if row["num_val"] < SMALL_VAL]
    parts["val_from_100"] = [row for row in rows if row["num_val"] >= SMALL_VAL]
    differences = {}
    for name, part in sorted(parts.items()):
        if part:
            mean, half_width = mean_and_half_width([gain_of(row, rule) - gain_of(row, "chosen") for row in part])
            differences[name] = {"mean": mean, "half_width": half_width, "num_runs": len(part)}
    return differences


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
