"""Measure whether the samples that `graftline label` chooses teach more than as many random ones.

Four sets: scikit-learn's digits with the glyph backbone; sign-digits, CIFAR-10 (6,000 images) and the cartoons of PACS
with ImageNet's SqueezeNet at 64 px. A fifth of each set, by a hash of the file, is held out. Of the rest a few samples
have a label (at least two of each class), the others wait in the pool. A head is trained on the vectors as the pipeline
trains it, `budget` samples of the pool get their true labels, and the head is trained anew on all of them. A fifth of
all labelled samples is val. That is repeated for three sizes and five draws of the first labels.

`audit.active_minus_random_points`: held-out accuracy after the samples were chosen by the shipped parameters, less that
after as many were drawn at random, in points: the mean over sets, sizes and draws. `raw` has both halves of the mix
alone, too: `doubt` (least margin) and `coverage` (k-centre).

--quick: digits and sign-digits.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.choose import TARS, read
from benchmarks.kit.labelled import HELDOUT, POOL, Labelled, missing, read_digits, squeezenet
from benchmarks.kit.machine import Claim, finish, parse_arguments, show
from benchmarks.kit.methods import Draw, Recipe, Task, embedding, train_head
from tasks.machine.cores import one_thread_each
from tasks.reviewing.next_labels import choose, margins_of
from tasks.stage.params import Params, load_params
from tasks.targets.classes import Classes
from tasks.training.heads.logistic import LinearHead

ROOT = Path(__file__).parent.parent
SETS = ("digits", "sign-digits", "cifar10", "cartoons")
SIZES = (50, 100, 200)  # samples that have a label at first, and as many that get one
NUM_SEEDS = 5
LEAST_EACH = 2  # of a class, at first
VAL_FRACTION = 0.2

Vectors = NDArray[np.float64]
Positions = NDArray[np.int64]


def main() -> None:
    arguments = parse_arguments(__doc__)
    params = load_params(ROOT / "params.yaml")
    skipped = {name: reason for name, (tar, _) in TARS.items() if name in SETS and (reason := missing(tar))}
    rows: list[dict[str, Any]] = []
    with one_thread_each():
        for name in SETS[:2] if arguments.quick else SETS:
            if name not in skipped:
                rows += measure(name, params)
    settings = {
        "quick": arguments.quick, "sizes": SIZES, "num_seeds": NUM_SEEDS, "coverage": params.label.coverage,
        "skipped": skipped,
    }  # fmt: skip
    gains = [row["chosen"] - row["random"] for row in rows]
    claim = Claim(
        name="audit.active_minus_random_points", value=100 * float(np.mean(gains)), target=0.0, at_least=True
    )  # fmt: skip
    finish(settings=settings, raw=rows, claims=[claim])


def measure(name: str, params: Params) -> list[dict[str, Any]]:
    """Return a row for each size and draw of a set, with the held-out accuracy of each way to choose."""
    labelled = set_of(name)
    vectors = embedding(labelled, labelled.network.load())(np.arange(len(labelled.labels)))
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        for seed in range(NUM_SEEDS):
            measured = accuracies(labelled, vectors, size, seed, params)
            rows.append({"data": name, "size": size, "seed": seed, **measured})
        gain = np.mean([row["chosen"] - row["random"] for row in rows[-NUM_SEEDS:]])
        show(f"{name}, {size} + {size} labels: {100 * gain:+.2f} points over random")
    return rows


def set_of(name: str) -> Labelled:
    if name == "digits":
        return read_digits()
    network = squeezenet(64)
    return read(name).labelled(network, network.load().transform)


def accuracies(labelled: Labelled, vectors: Vectors, size: int, seed: int, params: Params) -> dict[str, float]:
    """Return the held-out accuracy before, and after `size` more labels, by the way they were chosen."""
    first, rest = drawn(labelled, size, seed)
    heldout = np.flatnonzero(labelled.sides == HELDOUT)

    def accuracy(head: LinearHead) -> float:
        return float((head.log_probabilities(vectors[heldout]).argmax(axis=1) == labelled.labels[heldout]).mean())

    before = trained(labelled, vectors, first, seed, params)
    margins = margins_of(np.exp(before.log_probabilities(vectors[rest])), Classes(tuple(labelled.classes)))

    def chosen(coverage: float) -> Positions:
        return rest[choose(vectors[rest], vectors[first], margins, count=size, coverage=coverage, seed=seed).positions]

    ways: dict[str, Callable[[], Positions]] = {
        "random": lambda: np.random.default_rng((seed, size)).permutation(rest)[:size],
        "chosen": lambda: chosen(params.label.coverage),
        "doubt": lambda: chosen(0.0),
        "coverage": lambda: chosen(1.0),
    }
    after = {
        way: accuracy(trained(labelled, vectors, np.concatenate([first, rows()]), seed, params))
        for way, rows in ways.items()
    }
    return {"before": accuracy(before)} | after


def drawn(labelled: Labelled, size: int, seed: int) -> tuple[Positions, Positions]:
    """Return `size` rows of the pool at random, with LEAST_EACH of each class, and the other rows."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(labelled.sides == POOL))
    of_classes = [order[labelled.labels[order] == label][:LEAST_EACH] for label in range(len(labelled.classes))]
    first = np.concatenate(of_classes)
    others = order[~np.isin(order, first)]
    num_more = size - len(first)
    return np.concatenate([first, others[:num_more]]), others[num_more:]


def trained(labelled: Labelled, vectors: Vectors, rows: Positions, seed: int, params: Params) -> LinearHead:
    """Train a head on labelled rows as the pipeline does. A fifth of them is val, at least one of each class."""
    order = np.random.default_rng(seed).permutation(rows)
    train, val = [], []
    for label in range(len(labelled.classes)):
        of_class = order[labelled.labels[order] == label]
        cut = max(round(VAL_FRACTION * len(of_class)), 1)
        val.append(of_class[:cut])
        train.append(of_class[cut:])
    draw = Draw(train=np.concatenate(train), val=np.concatenate(val))
    recipe = Recipe(head=params.train_head, training=params.finetune, min_steps=0)
    task = Task(labelled=labelled, draw=draw, recipe=recipe, seed=seed)
    return train_head(task, lambda rows: vectors[rows])


if __name__ == "__main__":
    main()
