"""What a regression test can ask for: `heldout`, `candidate`, `baseline`, `metrics`, `params` and `rule`. A missing artifact is an error.

A test of one's own:

    def test_no_zebra_is_called_a_horse(heldout, candidate, rule):
        zebras = heldout["label"] == "zebra"
        rule("zebras called horses", (candidate["label"][zebras] == "horse").mean(), at_most=0.01)
"""

import json
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.gate.wear import Wear
from tasks.metrics.significance import Flips

Rule = Callable[..., None]
BROKEN = pytest.StashKey[list[str]]()
MODELS = ("candidate", "baseline", "head")


@dataclass(frozen=True)
class Evaluation:
    """The folder that evaluate wrote."""

    folder: Path

    def json(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name).read_text("utf-8"))
        return found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--evaluation", type=Path, required=True, help="the folder that evaluate wrote")
    parser.addoption("--num-decisions", type=int, required=True, help="on this held-out set, with that at hand")
    parser.addoption("--latency-milliseconds", type=float, help="of one sample, where it has a budget")
    parser.addoption("--limits", required=True, help="the section `regression` of params.yaml, as JSON")


@pytest.fixture(scope="session")
def evaluation(request: pytest.FixtureRequest) -> Evaluation:
    return Evaluation(request.config.getoption("--evaluation"))


@pytest.fixture(scope="session")
def predictions(evaluation: Evaluation) -> pd.DataFrame:
    return pd.read_parquet(evaluation.folder / "predictions.parquet")


@pytest.fixture(scope="session")
def heldout(predictions: pd.DataFrame) -> pd.DataFrame:
    """A row a held-out sample and target: sample_id, batch, path, target, label, is_leaked, is_shared, other columns of the manifest."""
    said = [f"{model}{what}" for model in MODELS for what in ("", "_confidence", "_label_probability")]
    return predictions.drop(columns=[each for each in said if each in predictions])


@pytest.fixture(scope="session")
def candidate(predictions: pd.DataFrame) -> pd.DataFrame:
    """What it says of each row of `heldout`: label, confidence (of that), label_probability (of the truth), is_right."""
    return said_by("candidate", predictions)


@pytest.fixture(scope="session")
def baseline(predictions: pd.DataFrame, metrics: dict[str, Any]) -> pd.DataFrame | None:
    """As `candidate`, of the model in use; None on the first run, when there is none."""
    return said_by("baseline", predictions) if "baseline" in next(iter(metrics.values())) else None


def said_by(model: str, predictions: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": predictions[model],
            "confidence": predictions[f"{model}_confidence"],
            "label_probability": predictions[f"{model}_label_probability"],
            "is_right": predictions[model] == predictions["label"],
        }
    )


@pytest.fixture(scope="session")
def slices(evaluation: Evaluation) -> pd.DataFrame:
    """A row a target and slice: see tasks/metrics/slices.py."""
    counts = ("num_shared", "negative_flips", "positive_flips")
    return pd.read_csv(
        evaluation.folder / "slices.csv",
        keep_default_na=False,
        na_values=dict.fromkeys(counts, ""),
        dtype={"value": str},
    )


@pytest.fixture(scope="session")
def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """By target: the numbers of `candidate`, `head` and, where a model is in use, `baseline`, `flips` and, where not all samples can
    compare the two, `shared`: both on those that can."""
    return evaluation.json("metrics.json")


@pytest.fixture(scope="session")
def subject(evaluation: Evaluation) -> dict[str, Any]:
    """What was measured: the digests of candidate and baseline, the bytes of their bundles, the classes lost, the lineage."""
    return evaluation.json("subject.json")


@pytest.fixture(scope="session")
def flips(metrics: dict[str, Any], subject: dict[str, Any]) -> dict[str, Flips]:
    """By target that the model in use has, none on the first run: where the two models differ, on samples of classes that both know."""
    found = {target: Flips(**metrics[target]["flips"]) for target in subject["lost_classes"] if target in metrics}
    if empty := [target for target, each in found.items() if not each.num_samples]:
        raise LookupError(
            f"no held-out sample of {', '.join(empty)} can compare the candidate with the model in use: none is of a class that both "
            "know and new to both; land more data, or promote it with --force --why"
        )
    return found


@pytest.fixture(scope="session")
def params(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The section `regression` of params.yaml."""
    given: dict[str, Any] = json.loads(request.config.getoption("--limits"))
    return given


@pytest.fixture(scope="session")
def wear(request: pytest.FixtureRequest, subject: dict[str, Any]) -> Wear:
    """How often this held-out set was decided on, and the margin that follows."""
    return Wear(num_decisions=request.config.getoption("--num-decisions"), confidence=subject["confidence"])


@pytest.fixture(scope="session")
def latency(request: pytest.FixtureRequest) -> float | None:
    """Milliseconds that the candidate takes for one sample; None where params give it no budget."""
    found: float | None = request.config.getoption("--latency-milliseconds")
    return found


@pytest.fixture
def rule(request: pytest.FixtureRequest, record_property: Callable[[str, Any], None]) -> Rule:
    """Record a number beside its limit; the test fails at its end where one is on the wrong side, so that all are told.
    `smallest_detectable` is the smallest effect that the rule could have shown, where it has one."""
    broken = request.node.stash.setdefault(BROKEN, [])

    def check(
        name: str,
        value: float,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        smallest_detectable: float | None = None,
    ) -> None:
        if (at_least is None) == (at_most is None):
            raise ValueError(f"the rule {name!r} has to have one limit, at_least or at_most")
        limit, value = float(at_most if at_least is None else at_least), float(value)
        if not math.isfinite(value) or not math.isfinite(limit):
            raise ValueError(
                f"the rule {name!r} found {value} with the limit {limit}, expected numbers: is any sample of it held out?"
            )
        passed = value <= limit if at_least is None else value >= limit
        bound = f"at {'most' if at_least is None else 'least'} {limit:.4g}"
        text = f"{name}: {value:.4g}, {bound}"
        found = {"name": name, "value": value, "limit": limit, "bound": bound, "passed": passed}
        record_property("rule", found | {"text": text, "smallest_detectable": smallest_detectable})
        if not passed:
            broken.append(text)

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    if broken := item.stash.get(BROKEN, []):
        pytest.fail("; ".join(broken), pytrace=False)
    return result
