"""Predictions and metrics in; the verdict of the regression tests (JSON and JUnit) out, and a line in the list of decisions. Judges
only; exits 1 when it rejects."""

import logging
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree  # reads only what pytest wrote a moment ago

import pytest

from tasks import stage
from tasks.data.decisions import Decision, number_of, read_decisions, write_down
from tasks.files import read_json, whole_folder, write_json
from tasks.params import RegressionParams

logger = logging.getLogger("graftline")


class Recorder:
    """A pytest plugin that keeps what each rule found, and each test's outcome."""

    def __init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        self.outcomes: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes.append("error" if report.when != "call" else report.outcome)
            for key, value in report.user_properties:
                if key == "rule" and isinstance(value, dict):
                    self.rules.append(value)


def run(*, evaluation: Path, tests: Path, decisions: Path, out: Path, regression: RegressionParams) -> None:
    """Run the regression tests on what evaluate measured."""
    subject = read_json(evaluation / "subject.json")
    number = number_of(read_decisions(decisions), candidate=subject["candidate"], heldout=subject["heldout"])
    recorder = Recorder()
    with whole_folder(out) as folder:
        junit = folder / "junit.xml"
        arguments = [
            "--override-ini=addopts=",
            "--override-ini=junit_family=xunit1",
            "--quiet",
            "--no-header",
            "--tb=line",
            "-p",
            "no:cacheprovider",
        ]
        arguments += [f"--evaluation={evaluation}", f"--limits={regression.model_dump_json()}", f"--junit-xml={junit}"]
        arguments += [f"--num-decisions={number}"]
        status = pytest.main([*arguments, str(tests)], plugins=[recorder])
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not recorder.outcomes:
            raise ValueError(f"the regression tests in {tests} did not run ({status!s}): see the lines above")
        remove_clocks(junit)
        verdict = judge(recorder, subject) | {
            "num_decisions": number,
            "is_worn": number > regression.max_decisions,
        }
        write_json(folder / "verdict.json", verdict)
    decided = {name: verdict[name] for name in ("candidate", "heldout", "verdict")}
    write_down(decisions, Decision.model_validate(decided))
    for rule in verdict["rules"]:
        logger.info("%s %s", "pass" if rule["passed"] else "FAIL", rule["text"])
    if verdict["is_worn"]:
        logger.warning(
            "this is decision %d on the same held-out set, more than regression.max_decisions (%d): rotate it, by another validate.split_salt",
            number,
            regression.max_decisions,
        )
    logger.info("the candidate is %s", verdict["verdict"])
    if verdict["verdict"] != "accepted":
        sys.exit(1)


def judge(recorder: Recorder, subject: dict[str, Any]) -> dict[str, Any]:
    """Accepted where every test passed; a test that was skipped or could not run is no pass."""
    is_accepted = all(outcome == "passed" for outcome in recorder.outcomes)
    return {
        "verdict": "accepted" if is_accepted else "rejected",
        "candidate": subject["candidate"],
        "baseline": subject["baseline"],
        "heldout": subject["heldout"],
        "num_heldout": subject["num_heldout"],
        "num_tests": len(recorder.outcomes),
        "num_failed": sum(outcome != "passed" for outcome in recorder.outcomes),
        "rules": sorted(recorder.rules, key=lambda rule: str(rule["name"])),
    }


def remove_clocks(junit: Path) -> None:
    """Take out what differs between equal runs: times, dates and the name of the machine."""
    tree = ElementTree.parse(junit)  # noqa: S314
    for element in tree.iter():
        for attribute in ("time", "timestamp", "hostname"):
            element.attrib.pop(attribute, None)
    tree.write(junit, encoding="utf-8", xml_declaration=True)


if __name__ == "__main__":
    stage.main(run)
