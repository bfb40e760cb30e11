"""The fixtures of the gate's tests, such as `heldout`, `candidate`, `head`, `baseline`, `metrics`, `params` and `rule`.

A missing artifact is an error. A test of your own:

    def test_no_zebra_is_called_a_horse(heldout, candidate, rule):
        zebras = heldout["label"] == "zebra"
        rule("zebras called horses", (candidate["label"][zebras] == "horse").mean(), at_most=0.01)

The label of a kind other than `classes` is text, too: `["even","loop"]` of several labels, the step of a scale, `12.5`
of a number. Their errors are in the target's unit:

    def test_no_angle_is_far_off(heldout, candidate, rule):
        angles = heldout["target"] == "angle"
        rule("largest error in degrees", candidate["error"][angles].max(), at_most=90)

A candidate that is adapted to domains answers their samples by heads of their own. `general` has what its general head
would answer there, and `heldout` has the column `domain`:

    def test_cartoons_gain_from_their_own_head(heldout, candidate, general, rule):
        cartoons = heldout["domain"] == "cartoon"
        gain = candidate["is_right"][cartoons].mean() - general["is_right"][cartoons].mean()
        rule("gain of accuracy on cartoons", gain, at_least=0.1)
"""

import json
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from tasks.gate.anchor import Anchors, read_anchors
from tasks.gate.comparison import DOMAINS_SHARE
from tasks.gate.floor import FLOORS_SHARE
from tasks.gate.tables import groups_of, paired_with
from tasks.gate.tries import level_of_try
from tasks.metrics.outcomes import GENERAL, right_answers
from tasks.metrics.paired import Paired
from tasks.metrics.significance import Flips
from tasks.metrics.slices import ERROR_COLUMNS

Rule = Callable[..., None]
BROKEN = pytest.StashKey[list[str]]()
MODELS = ("candidate", "baseline", "head", "words_alone", GENERAL)
OF_CLASSES = ("confidence", "label_probability")  # what a model's answer has beside its text
OF_OTHERS = ("error", "value", "low", "high", "probabilities")


@dataclass(frozen=True)
class Evaluation:
    """The folder that `evaluate` wrote."""

    folder: Path

    def json(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name).read_text("utf-8"))
        return content


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--evaluation", type=Path, required=True, help="the folder that `evaluate` wrote")
    parser.addoption(
        "--tries", type=float, default=0.0, help="earlier candidates that the model in use was compared with"
    )
    parser.addoption("--undecided", type=int, default=0, help="undecided candidates in a row that are in use")
    parser.addoption("--anchor", type=Path, help="the errors of the best model that was in use")
    parser.addoption("--latency-milliseconds", type=float, help="the candidate's latency; only if params has a budget")
    parser.addoption("--limits", required=True, help="the section `regression` of params.yaml, as JSON")


@pytest.fixture(scope="session")
def evaluation(request: pytest.FixtureRequest) -> Evaluation:
    return Evaluation(request.config.getoption("--evaluation"))


@pytest.fixture(scope="session")
def predictions(evaluation: Evaluation) -> pd.DataFrame:
    return pd.read_parquet(evaluation.folder / "predictions.parquet")


@pytest.fixture(scope="session")
def heldout(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return one row per held-out sample and target.

    The columns are sample_id, batch, path, target, label, is_leaked, is_shared and other columns of the manifest. A
    target of another kind than `classes` has `constant_error`, the error of the best constant answer to train, and a
    number has `label_value`. Where the candidate or the model in use is adapted to domains, every row has its `domain`.
    Where samples come in groups, every row has its `cluster`. A target of another kind than `classes` has `parts`, the
    slices of `class` that each row is in.
    """
    parts = ["", *(f"_{name}" for name in (*OF_CLASSES, *OF_OTHERS, "is_right"))]
    answers = [f"{model}{part}" for model in MODELS for part in parts]
    return predictions.drop(columns=[column for column in answers if column in predictions])


@pytest.fixture(scope="session")
def candidate(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the candidate's answer to each row of `heldout`.

    The columns are label (the answer), is_right, and for classes confidence (the probability of the answer) and
    label_probability (the probability of the true label). For other kinds they are error (in the target's unit), for
    several labels and for steps probabilities (a list in the order of the names), and for a number value, low and high
    (the answer, and its interval).

    A sample of a domain that the candidate is adapted to is answered by its head of that domain, whose confidence is
    not calibrated.
    """
    return answers_of("candidate", predictions)


@pytest.fixture(scope="session")
def general(predictions: pd.DataFrame) -> pd.DataFrame | None:
    """Return what the candidate's general head answers to each row of `heldout`, with the columns of `candidate`.

    It differs from `candidate` in samples of the domains that the candidate is adapted to. None where none of these
    has a held-out label.
    """
    if GENERAL not in predictions:
        return None
    answers, own = answers_of("candidate", predictions), answers_of(GENERAL, predictions.dropna(subset=[GENERAL]))
    answers.loc[own.index, own.columns] = own
    return answers


@pytest.fixture(scope="session")
def baseline(predictions: pd.DataFrame, metrics: dict[str, Any]) -> pd.DataFrame | None:
    """Return the answers of the model in use, with the columns of `candidate`; None on the first run.

    They are missing for a target that it does not have.
    """
    return answers_of("baseline", predictions) if any("baseline" in own for own in metrics.values()) else None


@pytest.fixture(scope="session")
def head(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the answers of the head alone, with the columns of `candidate`."""
    return answers_of("head", predictions)


def answers_of(model: str, predictions: pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame({"label": predictions[model], "is_right": right_answers(predictions, model=model)})
    parts = [name for name in (*OF_CLASSES, *OF_OTHERS) if f"{model}_{name}" in predictions]
    return table.assign(**{name: predictions[f"{model}_{name}"] for name in parts})


@pytest.fixture(scope="session")
def slices(evaluation: Evaluation) -> pd.DataFrame:
    """Return one row per target and slice, with the columns in tasks/metrics/slices.py."""
    numbers = ("num_shared", "negative_flips", "positive_flips", *ERROR_COLUMNS)
    return pd.read_csv(
        evaluation.folder / "slices.csv",
        keep_default_na=False,
        na_values=dict.fromkeys(numbers, ""),
        dtype={"value": str},
    )


@pytest.fixture(scope="session")
def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Return, by target, the numbers of `candidate` and `head`, and the `majority_class` of train.

    If a model is in use, there are also `baseline` and `flips`. If the two models are compared on a part of the samples
    only, `shared` has the numbers of both on that part.

    A target of another kind than `classes` has its `kind` and `unit`, `constant` (the best constant answer to train)
    instead of `majority_class`, and the `change` of its errors beside `flips`. The models have `error`, the mean error
    in that unit, and the measures in the kind's module of tasks/metrics.

    A target that is adapted to domains with held-out labels has `domains`: by name `num_samples`, the numbers of
    `candidate` and of its `general` head there, those of `baseline` if it can be compared on all of them, and the
    `flips` from the general head to the domain's. The calibration error of all models then leaves these samples out;
    `num_calibrated` is the number of the others. There is no calibration error if there are none.
    """
    return evaluation.json("metrics.json")


@pytest.fixture(scope="session")
def subject(evaluation: Evaluation) -> dict[str, Any]:
    """Return what was measured: digests and bundle sizes (bytes) of candidate and baseline, lost classes, lineage.

    It has `domains_without_samples` if the candidate is adapted to domains: by target, those without a held-out label.
    `lost_domains` are there if the model in use is adapted to domains that the candidate is not adapted to.
    """
    return evaluation.json("subject.json")


@pytest.fixture(scope="session")
def flips(metrics: dict[str, Any], subject: dict[str, Any]) -> dict[str, Flips]:
    """Return, by target, where the two models differ on samples whose classes both know.

    The targets are those of the model in use; there are none on the first run.
    """
    by_target = {target: Flips(**metrics[target]["flips"]) for target in subject["lost_classes"] if target in metrics}
    if empty := [target for target, flips in by_target.items() if not flips.num_samples]:
        raise LookupError(
            f"no held-out sample of {', '.join(empty)} can compare the candidate with the model in use, because none "
            "is new to both and of a class that both know: land more data, or promote the candidate with --force --why"
        )
    return by_target


@pytest.fixture(scope="session")
def groups(heldout: pd.DataFrame) -> NDArray[np.int64]:
    """Return (n,) the number of the group of each row of `heldout`. Most samples are groups of their own."""
    return groups_of(heldout)


@pytest.fixture(scope="session")
def paired(
    heldout: pd.DataFrame, candidate: pd.DataFrame, baseline: pd.DataFrame | None, flips: dict[str, Flips]
) -> dict[str, tuple[pd.DataFrame, Paired]]:
    """Return, by target, the rows of `heldout` that can compare candidate and model in use, and both on these rows."""
    if baseline is None:
        return {}
    shared = {target: ((heldout["target"] == target) & heldout["is_shared"]).to_numpy(bool) for target in flips}
    return {
        target: (heldout[rows], paired_with(heldout[rows], candidate[rows], baseline[rows]))
        for target, rows in shared.items()
    }


@pytest.fixture(scope="session")
def anchors(request: pytest.FixtureRequest) -> Anchors:
    """Return, by target, the errors of the best model that was in use."""
    path = request.config.getoption("--anchor")
    return read_anchors(path) if path else {}


@pytest.fixture(scope="session")
def tries(request: pytest.FixtureRequest) -> float:
    """Return how many earlier candidates were compared with the same model in use on this held-out set.

    One that was compared on a held-out set of which a half is new counts as a half.
    """
    earlier: float = request.config.getoption("--tries")
    return earlier


@pytest.fixture(scope="session")
def undecided_before(request: pytest.FixtureRequest) -> int:
    """Return how many undecided candidates in a row were put in use without a person; the model in use is the last."""
    number: int = request.config.getoption("--undecided")
    return number


@pytest.fixture(scope="session")
def level(params: dict[str, Any], tries: float) -> float:
    """Return the chance that a candidate that lost the margin counts as shown to be as good; tries divide it."""
    return level_of_try(params["significance"], earlier=tries)


@pytest.fixture(scope="session")
def false_blocks(params: dict[str, Any], metrics: dict[str, Any]) -> dict[str, float]:
    """Return the chance of a false alarm of the `comparison` with other models, of the `floors`, and of the `domains`.

    Together they have `significance`.
    """
    floors = ("min_accuracy", "min_class_recall", "min_interval_coverage", "min_unchanged")
    has_floors = any(params[name] is not None for name in floors) or bool(params["max_error"])
    has_domains = any(measured.get("domains") for measured in metrics.values())
    shares = {"floors": FLOORS_SHARE * has_floors, "domains": DOMAINS_SHARE * has_domains}
    shares |= {"comparison": 1 - sum(shares.values())}
    return {name: params["significance"] * share for name, share in shares.items()}


@pytest.fixture(scope="session")
def params(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the section `regression` of params.yaml."""
    section: dict[str, Any] = json.loads(request.config.getoption("--limits"))
    return section


@pytest.fixture(scope="session")
def latency(request: pytest.FixtureRequest) -> float | None:
    """Return the milliseconds that the candidate takes for one sample; None if params has no budget for it."""
    milliseconds: float | None = request.config.getoption("--latency-milliseconds")
    return milliseconds


@pytest.fixture
def rule(request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]) -> Rule:
    """Return a function that records a number and its limit.

    The test fails at its end if a number is on the wrong side of its limit, so that all numbers are reported.
    `smallest_detectable` is the smallest effect that the rule could have detected, if it is known. `parameter` is the
    key of the section `regression` that has the limit, if one has it. `unit` is that of the value or of the effect,
    where it is neither a share nor a probability. `advice` says what a person can do if the rule is broken.
    """
    broken = request.node.stash.setdefault(BROKEN, [])

    def check(
        name: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        smallest_detectable: float | None = None,
        parameter: str | None = None,
        unit: str | None = None,
        advice: str | None = None,
    ) -> None:
        if (at_least is None) == (at_most is None):
            raise ValueError(f"the rule {name!r} must have one limit, at_least or at_most")
        limit, value = float(at_most if at_least is None else at_least), float(value)
        if not math.isfinite(value) or not math.isfinite(limit):
            raise ValueError(
                f"the rule {name!r} has the value {value} and the limit {limit}, expected finite numbers: "
                "is any of its samples held out?"
            )
        passed = value <= limit if at_least is None else value >= limit
        bound = f"at {'most' if at_least is None else 'least'} {limit:.4g}"
        text = f"{name}: {value:.4g}, {bound}"
        recorded = {"name": name, "value": value, "limit": limit, "bound": bound, "passed": passed}
        about = {"text": text, "smallest_detectable": smallest_detectable, "parameter": parameter}
        optional = {"unit": unit, "advice": advice}
        record_property("rule", recorded | about | {key: text for key, text in optional.items() if text})
        if not passed:
            broken.append(text)

    return check


@pytest.fixture
def doubt(record_property: Callable[[str, Any], None]) -> Callable[..., None]:
    """Return a function that records why the candidate is undecided: it is neither shown to be as good, nor worse.

    A candidate that `waits` is put in use by a person alone.
    """

    def record(text: str, *, waits: bool) -> None:
        record_property("doubt", {"text": text, "waits": waits})

    return record


@pytest.fixture
def remark(record_property: Callable[[str, Any], None]) -> Callable[[str, str], None]:
    """Return a function that adds a text to one of the verdict's lists, such as `unseen`."""

    def record(name: str, text: str) -> None:
        record_property("remark", {"list": name, "text": text})

    return record


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    if broken := item.stash.get(BROKEN, []):
        pytest.fail("; ".join(broken), pytrace=False)
    return result
