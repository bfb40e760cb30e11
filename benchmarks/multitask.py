"""Measure the gain and cost of sharing between targets, the coverage of intervals, and the solvers beside peers.

- `planted_gain_points`: three targets of eight classes depend on the same six of 96 directions, each in a way of its
  own. One has 31, 156 or 1,560 labels in train and a quarter as many in val; the others have 1,560. The points of
  held-out accuracy that it gains by sharing.
- `unrelated_points`: the same where each target depends on directions of its own, for 31 and 156 labels.
- `real_gain_points`: CIFAR-10's ten classes with 160 labels, where vehicle or animal is known for all pictures. `raw`
  has the same where one of five groups of two is known (on roads, in air or on water, pets, hoofed, small and wild),
  for digits shown by hands (below 5 or not; five pairs), for PACS (animal, person or thing; of class and domain in one
  either alone), and for targets of PACS that do not nest: the class with 160 labels and all domains, and the reverse.
- `cost_of_8_over_1`: the wall seconds of `python -m tasks.train_head` with eight targets over those with one, on the
  same vectors, all labelled: the larger ratio of 1,500 rows, where sharing is tried, and of 10,000, where it is not.
- `unlabelled_target_changes_bytes`: the bytes of the other heads that change when a target without labels is added.
- `interval_coverage_points`: pictures of hands are turned by a known angle. The distance of the share of held-out
  angles inside the interval of 90 % to 90 %, in points, in the mean over seeds.
- `over_sklearn`: scikit-learn's LogisticRegression and Ridge, and mord's LogisticAT, on the same objective in the same
  run: the ratio of the objectives and that of the seconds, with standardisation, ours over theirs, medians over seeds.

mord is not on the list of requirements (`pip install mord`); without it the ordinal claims are left out.

--quick: two seeds, fewer pictures, smaller problems.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.special import expit, logsumexp
from threadpoolctl import threadpool_limits

from benchmarks.kit.labelled import missing
from benchmarks.kit.machine import Claim, finish, parse_arguments, show
from benchmarks.kit.several_targets import (
    GROUPS,
    SORTS,
    VEHICLE_OR_ANIMAL,
    Trained,
    accuracy,
    draw,
    indices,
    pictures,
    planted,
    train,
)
from benchmarks.kit.summary import mean_and_half_width
from tasks.data.health.leaks import COLUMNS, LEAKS
from tasks.data.manifest.tables import write_table
from tasks.data.vectors.embeddings import write_embeddings
from tasks.machine.files import write_json
from tasks.stage.params import load_params
from tasks.targets.classes import Classes
from tasks.targets.number import Number
from tasks.targets.ordinal import Ordinal
from tasks.targets.target import Target
from tasks.training.heads.linear import labelled_rows, path_of
from tasks.training.heads.options import HeadOptions

ROOT = Path(__file__).parent.parent
NUM_SEEDS = 5
L2 = 0.01  # of the comparisons with other libraries
FEW, SOME, ALL = 31, 156, 1560
CLASSES = tuple(str(number) for number in range(8))


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    options = replace(load_params(ROOT / "params.yaml").train_head, head="logistic", class_weights="none")
    seeds = range(2 if is_quick else NUM_SEEDS)
    raw: dict[str, Any] = {}
    claims: list[Claim] = []
    for num, least in ((FEW, 17.0), (SOME, 20.0), (ALL, 1.0)):
        name = "all" if num == ALL else str(num)
        raw[f"planted.{name}"] = runs = [planted_gain(seed, num, options, related=True) for seed in seeds]
        claims.append(gain_claim(f"planted_gain_points.{name}", runs, least))
    raw["unrelated"] = [planted_gain(seed, num, options, related=False) for num in (FEW, SOME) for seed in seeds]
    claims.append(gain_claim("unrelated_points", raw["unrelated"], -0.5))
    skipped = {}
    if reason := missing("cifar10-12k.tar"):
        skipped["real"] = reason
    else:
        raw["real"] = real_gains(seeds, options, most=2000 if is_quick else 6000)
        claims.append(gain_claim("real_gain_points", raw["real"]["cifar10"], 1.0))
    raw["cost"] = costs(1 if is_quick else 3, options)
    ratio = max(cost["ratio"] for cost in raw["cost"])
    claims.append(Claim(name="multitask.cost_of_8_over_1", value=ratio, target=2.0, at_least=False))
    changed = float(unlabelled_target_changes())
    claims.append(Claim(name="multitask.unlabelled_target_changes_bytes", value=changed, target=0.0, at_least=False))
    if reason := missing("sign-digits.tar"):
        skipped["interval"] = reason
    else:
        raw["interval"] = intervals(seeds, options, most=800 if is_quick else 2062)
        off = 100 * abs(statistics.mean(run["coverage"] for run in raw["interval"]) - 0.9)
        claims.append(Claim(name="multitask.interval_coverage_points", value=off, target=2.0, at_least=False))
    for kind, measure in (("logistic", over_logistic), ("ridge", over_ridge), ("ordinal", over_ordinal)):
        if kind == "ordinal" and (reason := without_mord()):
            skipped["ordinal"] = reason
            continue
        show(f"{kind} beside its peer")
        raw[f"over_sklearn.{kind}"] = peers = [measure(seed, 4 if is_quick else 1) for seed in seeds]
        objectives = statistics.median(run["objective"] / run["their_objective"] for run in peers)
        seconds = statistics.median(run["seconds"] / run["their_seconds"] for run in peers)
        claims += [
            Claim(name=f"multitask.over_sklearn.{kind}.objective", value=objectives, target=1.000001, at_least=False),
            Claim(name=f"multitask.over_sklearn.{kind}.seconds", value=seconds, target=1.0, at_least=False),
        ]
    settings = {"quick": is_quick, "seeds": len(seeds), "skipped": skipped, "options": asdict(options)}
    finish(settings=settings, raw=raw, claims=claims)


def gain_claim(name: str, runs: list[dict[str, Any]], least: float) -> Claim:
    mean, half_width = mean_and_half_width([run["gain_points"] for run in runs])
    show(f"{name}: {mean:+.2f} ± {half_width:.2f}")
    return Claim(name=f"multitask.{name}", value=mean, target=least, at_least=True)


def gain(trained: Trained, name: str, vectors: NDArray[Any], labels: NDArray[np.int64], *, seed: int) -> dict[str, Any]:
    """Return the held-out accuracies of a target alone and as it ships, and their comparison."""
    alone, shipped = (100 * accuracy(heads[name], vectors, labels) for heads in (trained.alone, trained.shared))
    comparison = trained.comparisons.get(name)
    return {
        "seed": seed,
        "alone": alone,
        "gain_points": shipped - alone,
        "sharing": comparison and comparison.facts() | {"share": comparison.share, "l2": comparison.l2},
    }


def planted_gain(seed: int, num: int, options: HeadOptions, *, related: bool) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    vectors, labels = planted(generator, num_targets=3, related=related)
    half = len(vectors) // 2
    # the rest of the first half, after all labels of train are drawn, would be too small for val
    pool, heldout = np.arange(half + ALL // 4), np.arange(half + ALL // 4, len(vectors))
    targets: dict[str, Target] = {name: Classes(CLASSES) for name in ("few", "one", "two")}
    truths = dict(zip(targets, labels, strict=True))
    rows = {name: draw(generator, truths[name], pool, num if name == "few" else ALL) for name in targets}
    trained = train(vectors, targets, truths, rows, options)
    return gain(trained, "few", vectors[heldout], labels[0][heldout], seed=seed) | {"num_labels": num}


def real_gains(seeds: range, options: HeadOptions, *, most: int) -> dict[str, list[dict[str, Any]]]:
    show("CIFAR-10: embedding")
    vectors, paths, _ = pictures("cifar10-12k.tar", 96, most=most)
    names, fine = indices([path.parent.name for path in paths])
    group, two = (indices([coarser[names[label]] for label in fine]) for coarser in (GROUPS, VEHICLE_OR_ANIMAL))
    cases = {
        "cifar10": (vectors, {"fine": (names, fine), "coarse": two}),
        "cifar10.groups": (vectors, {"fine": (names, fine), "coarse": group}),
    }
    show("PACS: embedding")
    vectors, paths, _ = pictures("pacs-photo-cartoon.tar", 96, most=most)
    of_class, of_domain = (indices([path.parts[place] for path in paths]) for place in (-2, -3))
    cases["pacs.class"] = vectors, {"class": of_class, "domain": of_domain}
    cases["pacs.domain"] = vectors, {"domain": of_domain, "class": of_class}
    sort = indices([SORTS.get(path.parts[-2], "animal") for path in paths])
    both = indices([f"{path.parts[-2]} in a {path.parts[-3]}" for path in paths])
    cases["pacs.sorts"] = vectors, {"class": of_class, "sort": sort}
    cases["pacs.both.class"] = vectors, {"both": both, "class": of_class}
    cases["pacs.both.domain"] = vectors, {"both": both, "domain": of_domain}
    if not missing("sign-digits.tar"):
        show("hands: embedding")
        vectors, paths, _ = pictures("sign-digits.tar", 96, most=most)
        digits = [path.parts[-2] for path in paths]
        cases["hands.halves"] = vectors, {"digit": indices(digits), "half": indices([str(int(d) < 5) for d in digits])}
        cases["hands.pairs"] = vectors, {"digit": indices(digits), "pair": indices([str(int(d) // 2) for d in digits])}
    return {
        case: [real_gain(seed, *data, options) for seed in seeds] for case, data in cases.items()
    }  # the first target has few labels


def real_gain(
    seed: int, vectors: NDArray[Any], labels: dict[str, tuple[tuple[str, ...], NDArray[np.int64]]], options: HeadOptions
) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    targets: dict[str, Target] = {name: Classes(names) for name, (names, _) in labels.items()}
    truths = {name: own for name, (_, own) in labels.items()}
    order = generator.permutation(len(vectors))
    pool, heldout = order[: len(order) // 2], order[len(order) // 2 :]
    few = next(iter(targets))
    rows = {name: draw(generator, truths[name], pool, 160 if name == few else 4 * len(pool) // 5) for name in targets}
    trained = train(vectors, targets, truths, rows, options)
    return gain(trained, few, vectors[heldout], truths[few][heldout], seed=seed)


def costs(num_times: int, options: HeadOptions) -> list[dict[str, Any]]:
    """Return the seconds of the stage with one target and with eight, in turn, for each number of rows."""
    results = []
    for num in (1500, 10_000):
        show(f"train_head on {num:,} rows with one target and with eight")
        generator = np.random.default_rng(0)
        vectors = generator.normal(size=(num, 512)).astype(np.float16)
        scores = vectors.astype(np.float32) @ generator.normal(size=(512, 80)) / 8
        labels = (scores + generator.gumbel(size=scores.shape)).reshape(num, 8, 10).argmax(axis=2)
        columns = {f"t{number}": [f"c{label}" for label in labels[:, number]] for number in range(8)}
        with tempfile.TemporaryDirectory() as place:
            folders = {count: Path(place) / str(count) for count in (1, 8)}
            for count, folder in folders.items():
                put(folder, vectors, dict(list(columns.items())[:count]))
            for folder in folders.values():
                run_stage(folder)  # a warm-up
            seconds: dict[int, list[float]] = {count: [] for count in folders}
            for _ in range(num_times):
                for count, folder in folders.items():
                    seconds[count].append(run_stage(folder))
        one, eight = (statistics.median(seconds[count]) for count in (1, 8))
        results.append({"rows": num, "one_seconds": one, "eight_seconds": eight, "ratio": eight / one})
        show(json.dumps(results[-1]))
    return results


def put(folder: Path, vectors: NDArray[np.float16], columns: dict[str, list[Any]]) -> None:
    """Write the inputs of `train_head`: a fifth of the rows is val."""
    for name in ("manifest", "embeddings", "audit"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    num = len(vectors)
    split = np.where(np.arange(num) % 5, "train", "val")
    manifest = pd.DataFrame({"batch": "a", "sample_id": [f"{n:064x}" for n in range(num)], "split": split} | columns)
    write_table(folder / "manifest" / "a.parquet", manifest)
    known = {name: sorted({label for label in labels if label}) or ["x", "y"] for name, labels in columns.items()}
    write_json(folder / "classes.json", known)
    write_embeddings(folder / "embeddings" / "a.safetensors", [vectors], shape=vectors.shape, recipe="r")
    pd.DataFrame({name: [] for name in COLUMNS}).to_csv(folder / "audit" / LEAKS, index=False)
    (folder / "batches.yaml").write_text("batches: [a]\n", "utf-8")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text("utf-8"), "utf-8")


def run_stage(folder: Path) -> float:
    """Run `python -m tasks.train_head` on the files of `put`, and return its wall seconds."""
    command = [sys.executable, "-m", "tasks.train_head"]
    for option, place in {
        "manifests": "manifest", "classes": "classes.json", "embeddings": "embeddings", "audit": "audit",
        "batches": "batches.yaml", "raw": "raw", "out": "head",
    }.items():  # fmt: skip
        command += [f"--{option}", str(folder / place)]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def unlabelled_target_changes() -> int:
    """Return how many bytes of the heads of two targets change when one without labels is added."""
    vectors, labels = planted(np.random.default_rng(0), num_targets=2, related=True)
    columns: dict[str, list[Any]] = {
        f"t{n}": [f"c{label}" for label in labels_of_target] for n, labels_of_target in enumerate(labels)
    }
    heads = []
    with tempfile.TemporaryDirectory() as place:
        for name, more in (("without", {}), ("with", {"none": [None] * len(vectors)})):
            put(Path(place) / name, vectors.astype(np.float16)[:1500], {
                target: cells[:1500] for target, cells in (columns | more).items()
            })  # fmt: skip
            run_stage(Path(place) / name)
            heads.append(load_file(Path(place) / name / "head" / "head.safetensors"))
    without, with_more = heads
    return sum(
        int((np.frombuffer(with_more[name].tobytes(), np.uint8) != np.frombuffer(tensor.tobytes(), np.uint8)).sum())
        for name, tensor in without.items()
    )


def intervals(seeds: range, options: HeadOptions, *, most: int) -> list[dict[str, Any]]:
    """Return the held-out coverage of the interval of an angle, and its mean error, for each seed."""
    show("turned hands: embedding")
    vectors, _, angles = pictures("sign-digits.tar", 96, most=most, turned=True)
    runs = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(vectors))
        train_rows, val, heldout = np.split(order, [len(order) // 2, 3 * len(order) // 4])
        rows = {"angle": (np.sort(train_rows), np.sort(val))}
        trained = train(vectors, {"angle": Number(measure="degrees")}, {"angle": angles}, rows, options)
        head, target = trained.alone["angle"], Number(measure="degrees").standardised(angles[rows["angle"][0]])
        logits = vectors @ head.weight.T + head.bias
        target, _ = target.calibrate(logits[val], angles[val])
        answers = target.answers(logits[heldout], temperature=1.0)
        is_inside = (answers[:, 1] <= angles[heldout]) & (angles[heldout] <= answers[:, 2])
        runs.append({
            "seed": seed,
            "coverage": float(is_inside.mean()),
            "mean_error_degrees": float(target.errors(answers, angles[heldout]).mean()),
            "width_degrees": float((answers[:, 2] - answers[:, 1]).mean()),
        })  # fmt: skip
        show(json.dumps(runs[-1]))
    return runs


def problem(seed: int, n: int, dim: int, num_outputs: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return vectors (n, dim) of features of unequal scale, and noisy scores (n, num_outputs)."""
    generator = np.random.default_rng(seed)
    vectors = (generator.normal(size=(n, dim)) * generator.uniform(0.2, 2, dim) + 1).astype(np.float32)
    scores = (vectors - 1) @ generator.normal(size=(dim, num_outputs)) * (2 / np.sqrt(dim))
    return vectors, scores + generator.gumbel(size=scores.shape)


def compare(
    target: Target, vectors: NDArray[np.float32], truths: NDArray[Any], peer: Callable[[Any], Any],
    objective: Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], float], layer_of: Callable[[Any], Any],
) -> dict[str, float]:  # fmt: skip
    """Return the objectives and the seconds of our head and of a peer behind a StandardScaler, both from vectors on."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    options = replace(load_params(ROOT / "params.yaml").train_head, head="logistic", class_weights="none")
    rows = labelled_rows(target, vectors, truths)
    standard = rows.standardise(vectors).astype(np.float64)

    def ours() -> tuple[NDArray[Any], NDArray[Any]]:
        with threadpool_limits(1):  # as `fit_linear` does
            [(_, layer)] = path_of(target, labelled_rows(target, vectors, truths), truths, options, [L2])
        return layer

    def theirs() -> Any:
        return make_pipeline(StandardScaler(), peer(len(vectors))).fit(vectors, truths)[-1]

    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(4):  # the first is a warm-up
        for name, work in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            result = work()
            seconds[name].append(time.perf_counter() - start)
            if name == "ours":
                layer = result
    weight, bias = layer[0] * rows.scale, layer[1] + layer[0] @ rows.mean
    return {
        "objective": objective(standard, weight, bias),
        "their_objective": objective(standard, *layer_of(result)),
        "seconds": statistics.median(seconds["ours"][1:]),
        "their_seconds": statistics.median(seconds["theirs"][1:]),
    }


def over_logistic(seed: int, smaller: int) -> dict[str, float]:
    from sklearn.linear_model import LogisticRegression

    vectors, scores = problem(seed, 20_000 // smaller, 512 // smaller, 10)
    labels = scores.argmax(axis=1)

    def objective(standard: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> float:
        logits = standard @ weight.T + bias
        loss = logsumexp(logits, axis=1) - logits[np.arange(len(labels)), labels]
        return float(loss.mean() + L2 / 2 * (weight**2).sum())

    return compare(
        Classes(tuple(map(str, range(10)))), vectors, labels,
        lambda n: LogisticRegression(C=1 / (L2 * n), max_iter=10_000), objective,
        lambda model: (model.coef_, model.intercept_),
    )  # fmt: skip


def over_ridge(seed: int, smaller: int) -> dict[str, float]:
    from sklearn.linear_model import Ridge

    vectors, scores = problem(seed, 20_000 // smaller, 512 // smaller, 1)
    numbers = (scores[:, 0] - scores[:, 0].mean()) / scores[:, 0].std()

    def objective(standard: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> float:
        apart = standard @ weight.ravel() + bias - numbers
        return float((apart**2).mean() / 2 + L2 / 2 * (weight**2).sum())

    return compare(
        Number(), vectors, numbers, lambda n: Ridge(alpha=L2 * n), objective,
        lambda model: (model.coef_, model.intercept_),
    )  # fmt: skip


def over_ordinal(seed: int, smaller: int) -> dict[str, float]:
    from mord import LogisticAT

    vectors, scores = problem(seed, 4000 // smaller, 128 // smaller, 1)
    steps = np.digitize(scores[:, 0], np.quantile(scores[:, 0], (0.2, 0.4, 0.6, 0.8))).astype(np.int64)

    def objective(standard: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]) -> float:
        """Return the objective of weights (k, dim) whose rows are equal, and of thresholds -bias."""
        below = expit(-bias - (standard @ weight[0])[:, None])
        ends = np.hstack([np.zeros((len(below), 1)), below, np.ones((len(below), 1))])
        likelihood = np.diff(ends, axis=1)[np.arange(len(steps)), steps]
        return float(-np.log(likelihood).mean() + L2 / 2 * (weight[0] ** 2).sum())

    return compare(
        Ordinal(("a", "b", "c", "d", "e")), vectors, steps, lambda n: LogisticAT(alpha=L2 * n), objective,
        lambda model: (model.coef_[None], -model.theta_),
    )  # fmt: skip


def without_mord() -> str | None:
    """Return why mord cannot be measured; None if it can."""
    try:
        import mord  # noqa: F401
    except ImportError as error:
        return f"mord cannot be imported ({error}): pip install mord"
    return None


if __name__ == "__main__":
    main()
