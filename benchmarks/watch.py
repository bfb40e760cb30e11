"""Measure how often `watch` raises a false alarm, and how often it detects a shift that costs 5 points of accuracy.

CIFAR-10 through the ImageNet SqueezeNet, pooled features at 112 px, with a logistic head on 4,000 pictures of eight
classes, calibrated on 800 more. Each draw takes a reference of 1,500 pictures that the head did not learn from, and a
window of 200 others; the decision is that of `watch` with its own settings, embeddings included. Shifts:

- blur, noise, contrast: every picture of the window, at the strength of a grid that costs at least 5 points. Where it
  costs more, so many pictures are changed that the window loses 5.
- shares: classes that the head confuses come more often, so that the accuracy falls by 5 points.
- new_classes_near, new_classes_far: a share of the window are samples of classes that the head does not know, so many
  that the accuracy falls by 5 points. Near ones are the two other classes of CIFAR-10, far ones are signed digits.

No setting of `watch` was chosen by these shifts. `watch.power` is the least over the kinds of shift.

`taught` of a row about new classes is the power of a test that no watch can have: a logistic regression has learned
from labelled samples of these very classes, and the test of most power for their share (Neyman and Pearson 1933) reads
its odds, at the same share of false alarms. It is the limit of what these vectors show.

--quick: fewer draws.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.kit.domains import (
    Change,
    Embedded,
    as_it_is,
    blurred,
    changed,
    embedded,
    noisy,
    tar_pictures,
    with_contrast,
)  # fmt: skip
from benchmarks.kit.labelled import missing
from benchmarks.kit.machine import Claim, finish, parse_arguments, show
from tasks.stage.params import load_params
from tasks.targets.classes import Classes, probabilities
from tasks.targets.temperature import fit_temperature
from tasks.training.heads.logistic import fit_head
from tasks.watch import FALSE_ALARMS
from tasks.watching.answered import COLUMNS
from tasks.watching.decision import Decision, decide
from tasks.watching.reference import Reference
from tasks.watching.windows import Window

ROOT = Path(__file__).parent.parent
IMAGE_SIZE = 112  # px
NEAR = ("frog", "truck")  # the last animal and the last vehicle of the alphabet, unknown to the head
NUM_TRAIN, NUM_VAL, NUM_CHANGED = 4000, 800, 1500
NUM_REFERENCE, NUM_WINDOW = 1500, 200
COST = 0.05  # of accuracy
NULL_DRAWS, SHIFT_DRAWS = 1000, 100
QUICK_NULL, QUICK_SHIFT = 200, 40
CHANGES: dict[str, dict[float, Change]] = {
    "blur": {radius: blurred(radius) for radius in (0.4, 0.6, 0.8, 1.2)},  # px of 32
    "noise": {deviation: noisy(deviation) for deviation in (0.02, 0.04, 0.08)},
    "contrast": {factor: with_contrast(factor) for factor in (0.7, 0.5, 0.35, 0.2)},
}
FALSE_ALARM_TARGET, POWER_TARGET = 0.02, 0.8


@dataclass(frozen=True, kw_only=True)
class Samples:
    """A set of n samples: vectors (n, dim) float16, calibrated answers (n, num_classes), and which are right (n,)."""

    vectors: NDArray[np.float16]
    answers: NDArray[np.float64]
    labels: NDArray[np.int64]  # (n,), -1 for a class that the head does not know

    @property
    def is_right(self) -> NDArray[np.bool_]:
        return np.asarray(self.answers.argmax(axis=1) == self.labels)

    def of(self, rows: NDArray[np.intp]) -> "Samples":
        return Samples(vectors=self.vectors[rows], answers=self.answers[rows], labels=self.labels[rows])

    def with_others(self, others: "Samples", places: NDArray[np.intp]) -> "Samples":
        """Return the samples with those at these places replaced by others (k)."""
        replaced = {}
        for name in ("vectors", "answers", "labels"):
            values = getattr(self, name).copy()
            values[places] = getattr(others, name)
            replaced[name] = values
        return Samples(**replaced)


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A shift of a window: the way to draw a reference and a shifted window, and the facts about it."""

    draw: Callable[[np.random.Generator], tuple[Samples, Samples]]  # a reference and a shifted window
    about: dict[str, Any]


Answer = Callable[[Embedded], Samples]


def main() -> None:
    is_quick = parse_arguments(__doc__).quick
    num_null, num_shift = (QUICK_NULL, QUICK_SHIFT) if is_quick else (NULL_DRAWS, SHIFT_DRAWS)
    settings = {
        "quick": is_quick, "window": NUM_WINDOW, "reference": NUM_REFERENCE, "false_alarms": FALSE_ALARMS,
        "draws": {"without a shift": num_null, "of each shift": num_shift}, "unknown_classes": list(NEAR),
    }  # fmt: skip
    if reason := missing("cifar10-12k.tar") or missing("sign-digits.tar"):
        finish(settings=settings | {"skipped": reason}, raw=[], claims=[])
        return
    with tempfile.TemporaryDirectory() as cache:
        usual, shifts, target = prepare(Path(cache))
    rows = [measure("none", Shift(draw=partial(two_parts, usual), about={}), target, num_null)]
    rows += [measure(name, shift, target, num_shift) for name, shift in shifts.items()]
    finish(settings=settings, raw=rows, claims=make_claims(rows))


def make_claims(rows: list[dict[str, Any]]) -> list[Claim]:
    """Return the claims on false alarms, on the power over all kinds of shift, and on each kind."""
    alarms = {row["shift"]: row["alarms"] for row in rows}
    false_alarms = alarms.pop("none")
    powers = {"watch.power": min(alarms.values())} | {f"watch.power.{name}": share for name, share in alarms.items()}
    return [
        Claim(name="watch.false_alarms", value=false_alarms, target=FALSE_ALARM_TARGET, at_least=False),
        *(Claim(name=name, value=share, target=POWER_TARGET, at_least=True) for name, share in powers.items()),
    ]


def prepare(cache: Path) -> tuple[Samples, dict[str, Shift], Classes]:
    """Return the samples that nobody learned from, the shifts by name, and the target."""
    pictures = list(tar_pictures("cifar10-12k.tar"))
    order = np.random.default_rng(0).permutation(len(pictures))
    names = sorted({PurePath(path).parent.name for path, _ in pictures})
    known = [name for name in names if name not in NEAR]

    def look(name: str, chosen: list[tuple[str, bytes]], change: Change, classes: list[str]) -> Embedded:
        read = partial(changed, chosen, change, image_size=IMAGE_SIZE)
        return embedded(name, cache, read, classes, image_size=IMAGE_SIZE)

    of_known = [pictures[place] for place in order if PurePath(pictures[place][0]).parent.name in known]
    near = [pictures[place] for place in order if PurePath(pictures[place][0]).parent.name in NEAR]
    vectors = look("known", of_known, as_it_is, known)
    answer = learn(vectors, known)
    start = NUM_TRAIN + NUM_VAL
    usual = answer(part(vectors, slice(start, None)))
    shifts = {}
    for name, grid in CHANGES.items():
        chosen = of_known[start : start + NUM_CHANGED]
        by_strength = {
            strength: answer(look(f"{name}-{strength}", chosen, change, known)) for strength, change in grid.items()
        }
        shifts[name] = shift_of_change(usual, by_strength)
    shifts["shares"] = shift_of_shares(usual, len(known))
    new = {
        "near": (near[:NUM_CHANGED], list(NEAR)),
        "far": (list(tar_pictures("sign-digits.tar"))[:NUM_CHANGED], [str(digit) for digit in range(10)]),
    }
    for name, (chosen, classes) in new.items():
        looks = answer(look(name, chosen, as_it_is, classes))
        strangers = Samples(vectors=looks.vectors, answers=looks.answers, labels=np.full(len(chosen), -1))
        shift = shift_of_strangers(usual, strangers)
        taught = power_when_taught(vectors.vectors[:start], usual, strangers, share=shift.about["share_of_strangers"])
        shifts[f"new_classes_{name}"] = replace(shift, about=shift.about | {"taught": taught})
    return usual, shifts, Classes(tuple(known))


def part(samples: Embedded, rows: slice) -> Embedded:
    return Embedded(vectors=samples.vectors[rows], labels=samples.labels[rows], classes=samples.classes)


def learn(samples: Embedded, classes: list[str]) -> Answer:
    """Return an answerer with a head of the first samples that is calibrated on those behind them."""
    options = load_params(ROOT / "params.yaml").train_head
    train, val = part(samples, slice(NUM_TRAIN)), part(samples, slice(NUM_TRAIN, NUM_TRAIN + NUM_VAL))
    head = fit_head((train.vectors, train.labels), (val.vectors, val.labels), options, classes=classes)

    def logits(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(vectors @ head.weight.T + head.bias, np.float64)

    temperature = fit_temperature(logits(val.vectors), val.labels)
    return lambda own: Samples(
        vectors=own.vectors.astype(np.float16), answers=probabilities(logits(own.vectors), temperature=temperature),
        labels=own.labels,
    )  # fmt: skip


def two_parts(usual: Samples, generator: np.random.Generator) -> tuple[Samples, Samples]:
    """Return a reference and a window of other samples."""
    rows = generator.permutation(len(usual.labels))
    return usual.of(rows[:NUM_REFERENCE]), usual.of(rows[NUM_REFERENCE : NUM_REFERENCE + NUM_WINDOW])


def shift_of_change(usual: Samples, by_strength: Mapping[float, Samples]) -> Shift:
    """Return the weakest of the changes that costs enough; the first NUM_CHANGED samples were changed."""
    before = usual.of(np.arange(NUM_CHANGED)).is_right.mean()
    costs = {strength: float(before - samples.is_right.mean()) for strength, samples in by_strength.items()}
    strength = next((each for each, cost in costs.items() if cost >= COST), list(costs)[-1])
    share = min(COST / max(costs[strength], 1e-9), 1.0)
    others = by_strength[strength]

    def draw(generator: np.random.Generator) -> tuple[Samples, Samples]:
        rows = generator.permutation(len(usual.labels))
        window = rows[rows < NUM_CHANGED][:NUM_WINDOW]
        reference = rows[~np.isin(rows, window)][:NUM_REFERENCE]
        places = np.flatnonzero(generator.random(NUM_WINDOW) < share)
        return usual.of(reference), usual.of(window).with_others(others.of(window[places]), places)

    return Shift(draw=draw, about={"strength": strength, "costs": costs, "share_changed": share})


def shift_of_shares(usual: Samples, num_classes: int) -> Shift:
    """Return a shift to classes that are hard, by weights exp(tilt * share of wrong answers)."""
    wrong = np.array([1 - usual.is_right[usual.labels == number].mean() for number in range(num_classes)])
    low, high = 0.0, 100.0
    for _ in range(60):
        tilt = (low + high) / 2
        weights = np.exp(tilt * wrong)[usual.labels]
        cost = usual.is_right.mean() - np.average(usual.is_right, weights=weights)
        low, high = (tilt, high) if cost < COST else (low, tilt)
    weights = np.exp(tilt * wrong)[usual.labels]

    def draw(generator: np.random.Generator) -> tuple[Samples, Samples]:
        window = generator.choice(len(usual.labels), NUM_WINDOW, replace=False, p=weights / weights.sum())
        others = generator.permutation(np.setdiff1d(np.arange(len(usual.labels)), window))
        return usual.of(others[:NUM_REFERENCE]), usual.of(window)

    shares = np.bincount(usual.labels, weights=weights / weights.sum(), minlength=num_classes)
    return Shift(draw=draw, about={"shares": shares.round(3).tolist()})


def shift_of_strangers(usual: Samples, strangers: Samples) -> Shift:
    """Return a shift in which some samples are strangers, all answered wrongly."""
    share = COST / float(usual.is_right.mean())

    def draw(generator: np.random.Generator) -> tuple[Samples, Samples]:
        reference, window = two_parts(usual, generator)
        places = np.flatnonzero(generator.random(NUM_WINDOW) < share)
        return reference, window.with_others(strangers.of(generator.choice(len(strangers.labels), len(places))), places)

    return Shift(draw=draw, about={"share_of_strangers": share})


def power_when_taught(known: NDArray[np.floating], usual: Samples, strangers: Samples, *, share: float) -> float:
    """Return how often windows with a share of strangers are detected by a classifier that learned half of them.

    Args:
        known: (n, dim) vectors of known classes, which it learns from, too.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(2)
    order = generator.permutation(len(strangers.labels))
    learned, others = np.array_split(order, 2)
    vectors = np.concatenate([known, strangers.vectors[learned]]).astype(np.float32)
    is_stranger = np.arange(len(vectors)) >= len(known)
    taught = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
    taught.fit(vectors, is_stranger)

    def evidence(samples: Samples, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        odds = np.exp(taught.decision_function(samples.vectors[rows].astype(np.float32)))
        return np.asarray(np.log1p(share * (odds - 1)))

    of_known = evidence(usual, np.arange(len(usual.labels)))
    of_strangers = evidence(strangers, others)

    def windows(num_draws: int, share: float) -> NDArray[np.float64]:
        drawn = generator.choice(of_known, (num_draws, NUM_WINDOW))
        is_replaced = generator.random(drawn.shape) < share
        drawn[is_replaced] = generator.choice(of_strangers, int(is_replaced.sum()))
        return np.asarray(drawn.sum(axis=1))

    limit = np.quantile(windows(20_000, 0.0), 1 - FALSE_ALARMS)
    return float((windows(2_000, share) > limit).mean())


def measure(name: str, shift: Shift, target: Classes, num_draws: int) -> dict[str, Any]:
    """Return how many of the draws raise an alarm, and by which tests."""
    generator = np.random.default_rng(1)
    decisions, losses = [], []
    for number in range(num_draws):
        reference, window = shift.draw(generator)
        decisions.append(decided(window, reference, target, seed=number))
        losses.append(float(reference.is_right.mean() - window.is_right.mean()))
    tests = sorted({finding.test for decision in decisions for finding in decision.findings})
    row = shift.about | {
        "shift": name, "draws": num_draws, "alarms": float(np.mean([one.is_drifted for one in decisions])),
        "points_lost": 100 * float(np.mean(losses)),
        "by_test": {
            test: float(np.mean([any(reason.test == test for reason in one.reasons) for one in decisions]))
            for test in tests
        },
    }  # fmt: skip
    show(json.dumps(row))
    return row


def decided(window: Samples, reference: Samples, target: Classes, *, seed: int) -> Decision:
    usual = Reference(answers=table(reference, target), accuracy={}, vectors=reference.vectors, what="held-out samples")
    answers = Window(begin=None, end=None, answers=table(window, target), num_repeated=0, reasons={})
    return decide(
        answers, usual, {"label": target}, false_alarms=FALSE_ALARMS, vectors=lambda: window.vectors, seed=seed
    )  # fmt: skip


def table(samples: Samples, target: Classes) -> pd.DataFrame:
    """Return the answers in the form of `read_files`."""
    n = len(samples.labels)
    answers = pd.DataFrame({
        "sample_id": [f"{number}" for number in range(n)], "target": "label",
        "label": np.array(target.names)[samples.answers.argmax(axis=1)], "probability": samples.answers.max(axis=1),
    }).reindex(columns=list(COLUMNS))  # fmt: skip
    return answers.astype({"value": float, "unlike": float})


if __name__ == "__main__":
    main()
