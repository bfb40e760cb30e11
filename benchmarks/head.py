"""Measure the cost of the logistic head, beside scikit-learn's LogisticRegression on the same objective and run.

The features are random and behave like embeddings: their variances fall as 1 / rank, and they are mixed, rectified and
in half precision. The classes overlap. Every seed draws other features. For every size and seed these run in turn:

- path: `fit_head` with the strengths of params.yaml, from float16 vectors in memory to the head chosen on val, all
  included;
- single: the same with only the strength that the path chose, as a user who knew it would run it;
- scikit-learn: LogisticRegression(C=1 / (l2 n)) at the chosen strength, with the default solver and tolerance and with
  those of PEERS. Its float32 features are standardised beforehand, which is not counted. It may use all cores, as
  fit_head does.

The claims and facts are:

- `ratio_sklearn`: scikit-learn's seconds by default over those of single, the median over seeds;
- `over_fastest`: the same with the fastest of scikit-learn's solvers that reaches the objective of single within
  REACHED;
- `objective_excess`: the largest difference of mean cross-entropy + l2 / 2 |weight|^2, fit_head's minus scikit-learn's
  by default, both computed in float64;
- `path_over_single`: the seconds of path over those of single, the median over seeds;
- `peak_bytes`: the peak memory of a process that trains on vectors on disk and keeps none of them in memory.

For the first seed, `raw` also has single for every strength, and the processor seconds of both on one thread each,
which load changes little. newton-cholesky is left out where its Hessian would have more than LARGEST_HESSIAN rows: it
would take minutes.

Measure on an idle machine. Under load, OpenBLAS's threads wait for each other, which costs scikit-learn more than
fit_head, whose cores share nothing.

--quick: one seed, a fifth of the rows.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from benchmarks.kit.machine import Claim, finish, parse_arguments, show
from tasks.stage.params import load_params
from tasks.training.heads.logistic import LinearHead, Solver, fit_head
from tasks.training.heads.options import HeadOptions
from tasks.training.heads.rows import TrainingRows

ROOT = Path(__file__).parent.parent
NUM_SEEDS = 3
NUM_VAL = 5000  # at most, and half as many as train
PEERS: dict[str, dict[str, Any]] = {
    "lbfgs": {}, "lbfgs 1e-5": {"tol": 1e-5}, "newton-cg": {"solver": "newton-cg"},
    "newton-cholesky": {"solver": "newton-cholesky"},
}  # fmt: skip
LARGEST_HESSIAN = 8000
REACHED = 1e-4  # nats

# trains on vectors on disk and keeps none in memory; prints the peak memory before and after
FROM_DISK = """
import sys
from pathlib import Path
import numpy as np
from benchmarks.kit.machine import peak_bytes
from tasks.data.vectors.embeddings import read_embeddings, write_embeddings
from tasks.training.heads.logistic import fit_head
from tasks.training.heads.options import HeadOptions
place, n, dim = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
generator = np.random.default_rng(0)
labels = generator.integers(0, 10, n)
pieces = (
    (generator.standard_normal((min(1000, n - start), dim)) + labels[start : start + 1000, None] * 0.01)
    .astype(np.float16)
    for start in range(0, n, 1000)
)
write_embeddings(place / "a.safetensors", pieces, shape=(n, dim), recipe="r")
vectors = read_embeddings(place, ["a"], num_samples=n)
cut = n - 1000
rows = np.arange(n)
before = peak_bytes()
options = HeadOptions(
    head="logistic", class_weights="none", hidden_features=1, l2_strengths=[0.01], max_iterations=500,
    words="never", sharing="never",
)
fit_head(
    (vectors.part(rows[:cut]), labels[:cut]), (vectors.part(rows[cut:]), labels[cut:]), options,
    classes=[str(number) for number in range(10)], in_memory_bytes=0,
)
print(before, peak_bytes())
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    n: int
    dim: int
    num_classes: int
    apart: float  # the spread of the class means over that of the classes
    over_fastest: float  # the target

    @property
    def name(self) -> str:
        return f"{self.n}x{self.dim}x{self.num_classes}"


SIZES = (
    Size(n=50_000, dim=512, num_classes=100, apart=0.21, over_fastest=3.0),
    Size(n=10_000, dim=2048, num_classes=10, apart=0.08, over_fastest=2.0),
    Size(n=2_000, dim=512, num_classes=7, apart=0.1, over_fastest=1.0),
)


@dataclass(frozen=True, kw_only=True)
class Data:
    train: tuple[NDArray[np.float16], NDArray[np.int64]]
    val: tuple[NDArray[np.float16], NDArray[np.int64]]
    classes: list[str]


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    options = replace(load_params(ROOT / "params.yaml").train_head, class_weights="none")
    sizes = [Size(**{**vars(size), "n": size.n // 5 if is_quick else size.n}) for size in SIZES]
    seeds = range(1 if is_quick else NUM_SEEDS)
    runs = [measure(make(size, seed), size, options, seed=seed, is_quick=is_quick) for size in sizes for seed in seeds]
    runs.append(measure(digits(), None, options, seed=0, is_quick=True))
    memory = {str(n): peak_from_disk(n, 512) for n in ((20_000, 40_000) if is_quick else (50_000, 200_000))}
    claims = []
    for number, (name, size) in enumerate(zip([size.name for size in SIZES], sizes, strict=True)):
        these = [run for run in runs if run["size"] == size.name]
        ending = f".{name}" if number else ""
        values = summarise(these)
        fastest = values["over_fastest"]
        claims.append(Claim(name=f"head.over_fastest{ending}", value=fastest, target=size.over_fastest, at_least=True))
        if number == len(SIZES) - 1:  # with so few rows, the path and the default solver are too fast to compare
            continue
        claims += [
            Claim(name=f"head.ratio_sklearn{ending}", value=values["ratio_sklearn"], target=5.0, at_least=True),
            Claim(name=f"head.objective_excess{ending}", value=values["objective_excess"], target=1e-4, at_least=False),
            Claim(name=f"head.path_over_single{ending}", value=values["path_over_single"], target=2.5, at_least=False),
        ]
    finish(
        settings={
            "quick": is_quick,
            "peers": PEERS,
            "seeds": len(seeds),
            "l2_strengths": options.l2_strengths,
            "num_val": NUM_VAL,
        },
        raw={"runs": runs, "peak_bytes": memory},
        claims=claims,
    )


def make(size: Size, seed: int) -> Data:
    generator = np.random.default_rng(seed)
    deviations = (np.arange(1, size.dim + 1) ** -0.5).astype(np.float32)
    mix = np.linalg.qr(generator.standard_normal((size.dim, size.dim)))[0].astype(np.float32)
    centres = generator.standard_normal((size.num_classes, size.dim), dtype=np.float32) * deviations * size.apart
    labels = generator.integers(0, size.num_classes, size.n + min(NUM_VAL, size.n // 2))
    vectors = centres[labels] + generator.standard_normal((len(labels), size.dim), dtype=np.float32) * deviations
    vectors = 10 * vectors @ mix
    vectors = np.maximum(vectors + 0.3 * vectors.std(axis=0), 0).astype(np.float16)
    return Data(
        train=(vectors[: size.n], labels[: size.n]),
        val=(vectors[size.n :], labels[size.n :]),
        classes=[str(number) for number in range(size.num_classes)],
    )


def digits() -> Data:
    """Return a little real data: scans of handwritten digits, with their pixels as features."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    vectors, labels = scans.data.astype(np.float16), scans.target.astype(np.int64)
    return Data(train=(vectors[:1200], labels[:1200]), val=(vectors[1200:], labels[1200:]), classes=list("0123456789"))


def measure(data: Data, size: Size | None, options: HeadOptions, *, seed: int, is_quick: bool) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    def ours(l2_strengths: list[float]) -> tuple[LinearHead, float]:
        chosen = replace(options, l2_strengths=l2_strengths)
        return timed(lambda: fit_head(data.train, data.val, chosen, classes=data.classes))

    name = size.name if size else "digits"
    show(f"{name}, seed {seed}")
    train = tuple(part[:2000] for part in data.train)
    few = Data(train=train, val=data.val, classes=data.classes)  # type: ignore[arg-type]
    warm_up = replace(options, l2_strengths=[1.0], max_iterations=5)
    fit_head(few.train, few.val, warm_up, classes=few.classes) if size else None
    rows = TrainingRows(*data.train, data.classes, in_memory_bytes=0)
    standardised = rows.standardise(data.train[0])
    labels = data.train[1]
    head, path_seconds = ours(options.l2_strengths)
    single, single_seconds = ours([head.l2])

    def peer(**settings: Any) -> dict[str, Any]:
        model = LogisticRegression(C=1 / (head.l2 * len(labels)), max_iter=10_000, **settings)
        _, seconds = timed(lambda: model.fit(standardised, labels))
        value = objective(standardised, labels, model.coef_, model.intercept_, head.l2)
        return {"seconds": seconds, "objective": value, "iterations": int(model.n_iter_[0])}

    is_small = len(data.classes) * standardised.shape[1] <= LARGEST_HESSIAN
    peers = {name: peer(**settings) for name, settings in PEERS.items() if is_small or name != "newton-cholesky"}
    weight = single.weight * rows.scale
    bias = single.bias + single.weight @ rows.mean
    of_path = head.weight * rows.scale, head.bias + head.weight @ rows.mean
    result = {
        "size": name,
        "seed": seed,
        "l2": head.l2,
        "val_accuracy": float((head.log_probabilities(data.val[0]).argmax(axis=1) == data.val[1]).mean()),
        "path_seconds": path_seconds,
        "single_seconds": single_seconds,
        "objective": objective(standardised, labels, weight, bias, head.l2),
        "objective_of_path": objective(standardised, labels, *of_path, head.l2),
        "scikit_learn": peers,
    }
    if seed == 0:
        result["single_seconds_by_l2"] = {str(l2): ours([l2])[1] for l2 in options.l2_strengths}
        with threadpool_limits(1):
            result["one_thread"] = {
                "single": processor_seconds(lambda: one_thread(data, head.l2, options.max_iterations)),
                "scikit_learn": processor_seconds(peer),
            }
    show(json.dumps(result))
    return result


def one_thread(data: Data, l2: float, max_iterations: int) -> None:
    Solver(TrainingRows(*data.train, data.classes, num_threads=1), max_iterations=max_iterations).solve(l2)


def processor_seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def summarise(runs: list[dict[str, Any]]) -> dict[str, float]:
    default = [run["scikit_learn"]["lbfgs"] for run in runs]
    excesses = [
        max(run["objective"], run["objective_of_path"]) - peer["objective"]
        for run, peer in zip(runs, default, strict=True)
    ]
    ratios = [peer["seconds"] / run["single_seconds"] for run, peer in zip(runs, default, strict=True)]
    return {
        "ratio_sklearn": statistics.median(ratios),
        "over_fastest": statistics.median(fastest(run) / run["single_seconds"] for run in runs),
        "objective_excess": max(excesses),
        "path_over_single": statistics.median(run["path_seconds"] / run["single_seconds"] for run in runs),
    }


def fastest(run: dict[str, Any]) -> float:
    """Return the seconds of the fastest of scikit-learn's solvers that reaches our objective."""
    peers = run["scikit_learn"].values()
    return min(float(peer["seconds"]) for peer in peers if peer["objective"] <= run["objective"] + REACHED)


def objective(
    vectors: NDArray[Any], labels: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], l2: float
) -> float:
    """Return the objective in float64, from a thousand rows at a time."""
    total = 0.0
    for start in range(0, len(labels), 1000):
        here = labels[start : start + 1000]
        logits = vectors[start : start + 1000].astype(np.float64) @ weight.T.astype(np.float64) + bias
        total += float((logsumexp(logits, axis=1) - logits[np.arange(len(here)), here]).sum())
    return total / len(labels) + l2 / 2 * float((weight.astype(np.float64) ** 2).sum())


def peak_from_disk(n: int, dim: int) -> dict[str, int]:
    """Return the peak bytes of a process before and after it trained on n vectors on disk."""
    show(f"memory of {n:,} vectors")
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-c", FROM_DISK, place, str(n), str(dim)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    before, after = map(int, done.stdout.split())
    return {"before": before, "after": after, "vectors_float16": 2 * n * dim}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


if __name__ == "__main__":
    main()
