"""What a regression test can ask for: `predictions`, `metrics`, `limits` and `rule`. A missing artifact is an error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Rule = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--evaluation", type=Path, required=True, help="the folder that evaluate wrote")
    parser.addoption("--limits", required=True, help="the section `regression` of params.yaml, as JSON")


@pytest.fixture(scope="session")
def predictions(request: pytest.FixtureRequest) -> pd.DataFrame:
    """A row a held-out sample and target: sample_id, batch, path, target, label, candidate, baseline (if any), …"""
    return pd.read_parquet(request.config.getoption("--evaluation") / "predictions.parquet")


@pytest.fixture(scope="session")
def metrics(request: pytest.FixtureRequest) -> dict[str, Any]:
    """By target: the numbers of `candidate`, `head` and, where a model is in use, `baseline` and `flips`."""
    measured: dict[str, Any] = json.loads(
        (request.config.getoption("--evaluation") / "metrics.json").read_text("utf-8")
    )
    return measured


@pytest.fixture(scope="session")
def limits(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The section `regression` of params.yaml."""
    given: dict[str, Any] = json.loads(request.config.getoption("--limits"))
    return given


@pytest.fixture
def rule(record_property: Callable[[str, Any], None]) -> Rule:
    """Record a number beside its limit, and fail where it is on the wrong side."""

    def check(name: str, value: float, *, at_least: float | None = None, at_most: float | None = None) -> None:
        passed = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        bound = f"at least {at_least:g}" if at_least is not None else f"at most {at_most:g}"
        limit = at_least if at_least is not None else at_most
        text = f"{name}: {value:.4g}, {bound}"
        found = {"name": name, "value": value, "limit": limit, "bound": bound, "passed": passed, "text": text}
        record_property("rule", found)
        assert passed, text

    return check
