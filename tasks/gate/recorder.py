"""A pytest plugin that records the rules of the gate, and a JUnit file without clocks."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest


class Recorder:
    """A pytest plugin that keeps what each rule found, each test's outcome, and what kept one from being a judgement."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.outcomes: list[str] = []
        self.problems: list[str] = []

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Whatever left them out."""
        self.outcomes += ["deselected"] * len(items)
        self.problems += [f"{item.name}: it was left out" for item in items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        rules = [value for key, value in report.user_properties if key == "rule" and isinstance(value, dict)]
        self.rules += rules
        self.outcomes.append("error" if report.when != "call" else report.outcome)
        if report.outcome != "passed" and all(rule["passed"] for rule in rules):
            self.problems.append(f"{report.nodeid.split('::')[-1]}: {reason_of(report)}")


def reason_of(report: pytest.TestReport) -> str:
    """In one line, why a test was skipped or could not run to its end."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    said = (crash.message if crash else report.longreprtext).strip().splitlines()
    return said[0] if said else report.outcome


def remove_clocks(junit: Path) -> None:
    """Take out what differs between equal runs: times, dates and the name of the machine."""
    tree = ElementTree.parse(junit)  # noqa: S314
    for element in tree.iter():
        for attribute in ("time", "timestamp", "hostname"):
            element.attrib.pop(attribute, None)
    tree.write(junit, encoding="utf-8", xml_declaration=True)
