"""Measure fine-tuning inside and outside of its domain.

The methods train on photographs (PACS), and are tested on photographs and on cartoons. The network is the ImageNet
SqueezeNet; there are seven classes. A fifth of the photographs is held out. No cartoon takes part in training or in any
choice. Methods:

- head: logistic regression on the frozen features (linear probing, LP).
- finetune: the whole network, trained from a random head on (FT).
- lp_ft: the whole network, trained from that trained head on (LP-FT), with the same rates and epochs. The accuracies
  are those of the fine-tuned model, whatever val chooses.
- shipped: the model that the project ships from the same trainings: the head, the fine-tuned model, or weights between
  them (WiSE-FT, Wortsman et al. 2022). `share` of a run is the distance of the weights from the head.

Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", found LP-FT the
best on both, and FT below LP out of the domain. Three seeds draw the val fifth, the minibatches and the random head;
95 % intervals over them (t distribution).

--quick: one seed, two epochs.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from benchmarks.kit.labelled import HELDOUT, POOL, SHIFTED, missing, read_tar, side_by_content, squeezenet
from benchmarks.kit.machine import Claim, finish, parse_arguments
from benchmarks.kit.methods import Method, Recipe, measure
from benchmarks.kit.processes import in_processes
from benchmarks.kit.summary import mean_and_half_width
from benchmarks.transfer import VIEWS
from tasks.stage.params import load_params

ROOT = Path(__file__).parent.parent
PACS = "pacs-photo-cartoon.tar"
IMAGE_SIZE = 96
NUM_SEEDS = 3
JUDGES = {"photo": HELDOUT, "cartoon": SHIFTED}
METHODS: dict[str, tuple[Method, str]] = {  # a training, and the prefix of the model to judge
    "head": ("head", ""),
    "finetune": ("finetune_from_random_head", ""),
    "lp_ft": ("finetune", "raw_"),
    "shipped": ("finetune", ""),
}
TRAININGS: tuple[Method, ...] = ("finetune", "finetune_from_random_head", "head")
RATES = {"head_learning_rate": 3e-4, "backbone_learning_rate": 3e-4, "learning_rate_decay": 1.0}
TRAINING: dict[str, Any] = VIEWS | RATES | {"flip": True, "unfreeze": "all", "epochs": 6}
QUICK_EPOCHS = 2


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    settings: dict[str, Any] = {"quick": is_quick}
    if reason := missing(PACS):
        finish(settings=settings | {"skipped": reason}, raw=[], claims=[])
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "pacs"
        labelled = read_tar(PACS, squeezenet(IMAGE_SIZE), side_of)
        labelled.save(place)
        counts = {name: int((labelled.sides == side).sum()) for name, side in (JUDGES | {"pool": POOL}).items()}
        runs = run_all(place, is_quick=is_quick)
    rows = [summarise(name, runs[training]) for name, (training, _) in METHODS.items()]
    finish(settings=settings | {"counts": counts, "image_size": IMAGE_SIZE}, raw=rows, claims=make_claims(rows))


def side_of(path: PurePath, content: bytes) -> int:
    return SHIFTED if "cartoon" in path.parts else side_by_content(path, content)


def run_all(place: Path, *, is_quick: bool) -> dict[Method, list[dict[str, Any]]]:
    """Return the runs by training, one per seed."""
    params = load_params(ROOT / "params.yaml")
    tuning = replace(params.finetune, **TRAINING | ({"epochs": QUICK_EPOCHS} if is_quick else {}))
    recipe = Recipe(head=params.train_head, training=tuning, min_steps=0)
    plan = [(training, seed) for training in TRAININGS for seed in range(1 if is_quick else NUM_SEEDS)]
    calls = [
        {"folder": place, "method": training, "fraction": 1.0, "seed": seed, "recipe": recipe, "judges": JUDGES}
        for training, seed in plan
    ]
    runs: dict[Method, list[dict[str, Any]]] = {training: [] for training in TRAININGS}
    for (training, seed), result in zip(plan, in_processes(measure, calls, at_once=2), strict=True):
        runs[training].append(result | {"seed": seed})
        print(json.dumps({"method": training, "seed": seed} | result), file=sys.stderr, flush=True)
    return runs


def summarise(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"method": name, "runs": runs}
    for judge in JUDGES:
        row[judge], row[f"{judge}_half_width"] = mean_and_half_width([run[METHODS[name][1] + judge] for run in runs])
    row["processor_seconds"], _ = mean_and_half_width([run["processor_seconds"] for run in runs])
    row |= {name: max(run[name] for run in runs) for name in ("peak_bytes", "own_bytes")}
    return row


def make_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims that LP-FT is the best on both."""
    by_method = {row["method"]: row for row in rows}
    return [
        Claim(
            name=f"ood.lp_ft_minus_{other}_points.{judge}",
            value=100 * (by_method["lp_ft"][judge] - by_method[other][judge]),
            target=0.0,
            at_least=True,
        )
        for judge in JUDGES
        for other in ("head", "finetune")
    ]


if __name__ == "__main__":
    main()
