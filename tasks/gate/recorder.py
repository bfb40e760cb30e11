"""A pytest plugin that records the rules of the gate, and a function that removes the clocks from a JUnit file."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest


class Recorder:
    """A pytest plugin that keeps the findings of the rules, the outcomes of the tests, and their problems.

    A problem is the reason why a test did not judge the candidate. A doubt is the reason why the candidate is neither
    shown to be as good as another model, nor worse. Remarks are texts by the name of their list.
    """

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.doubts: list[dict[str, Any]] = []
        self.remarks: dict[str, list[str]] = {}
        self.outcomes: list[str] = []
        self.problems: list[str] = []

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Count a deselected test as a problem: every rule has to judge."""
        self.outcomes += ["deselected"] * len(items)
        self.problems += [f"{item.name}: it was left out" for item in items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        rules = [value for key, value in report.user_properties if key == "rule" and isinstance(value, dict)]
        self.rules += rules
        self.doubts += [value for key, value in report.user_properties if key == "doubt" and isinstance(value, dict)]
        for key, value in report.user_properties:
            if key == "remark" and isinstance(value, dict):
                self.remarks.setdefault(value["list"], []).append(value["text"])
        self.outcomes.append("error" if report.when != "call" else report.outcome)
        if report.outcome != "passed" and all(rule["passed"] for rule in rules):
            self.problems.append(f"{report.nodeid.split('::')[-1]}: {reason_of(report)}")


def reason_of(report: pytest.TestReport) -> str:
    """Return, in one line, why a test was skipped or did not finish."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext).strip().splitlines()
    return lines[0] if lines else report.outcome


def remove_clocks(junit: Path) -> None:
    """Remove what differs between equal runs: times, dates and the name of the machine."""
    tree = ElementTree.parse(junit)  # noqa: S314
    for element in tree.iter():
        for attribute in ("time", "timestamp", "hostname"):
            element.attrib.pop(attribute, None)
    tree.write(junit, encoding="utf-8", xml_declaration=True)
