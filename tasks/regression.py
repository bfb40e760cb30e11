"""Predictions and metrics in; the verdict of the regression tests (JSON and JUnit) out.

It also adds a line to the list of decisions, and exits with 1 when it rejects the candidate.
"""

import csv
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tasks.gate.decisions import Decision, number_of, read_decisions, write_down
from tasks.gate.options import GateOptions
from tasks.gate.recorder import Recorder, remove_clocks
from tasks.machine.files import read_json, whole_folder, write_json
from tasks.stage.main import main

logger = logging.getLogger("graftline")


ARTIFACTS = ("subject.json", "metrics.json", "predictions.parquet", "slices.csv")  # that evaluate writes


def run(*, evaluation: Path, candidate: Path, tests: Path, decisions: Path, out: Path, regression: GateOptions) -> None:
    """Run the regression tests on what evaluate measured."""
    for name in ARTIFACTS:
        if not (evaluation / name).is_file():
            raise ValueError(f"{evaluation / name} is missing: run `dvc repro evaluate`, or `dvc pull`")
    subject = read_json(evaluation / "subject.json")
    number = number_of(read_decisions(decisions), candidate=subject["candidate"], heldout=subject["heldout"])
    recorder = Recorder()
    with whole_folder(out) as folder:
        junit = folder / "junit.xml"
        # the settings and the conftest.py of the gate alone, which DVC watches
        arguments = [
            f"--config-file={os.devnull}",
            f"--rootdir={tests}",
            f"--confcutdir={tests}",
            "--override-ini=junit_family=xunit1",
            "--quiet",
            "--no-header",
            "--disable-plugin-autoload",
            "--tb=line",
            "-p",
            "no:cacheprovider",
        ]
        arguments += [
            f"--evaluation={evaluation}",
            f"--limits={json.dumps(asdict(regression))}",
            f"--junit-xml={junit}",
        ]
        arguments += [f"--num-decisions={number}"]
        if regression.max_latency_milliseconds is not None:
            arguments += [f"--latency-milliseconds={measure_latency(candidate)}"]
        for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
            os.environ.pop(name, None)  # settings of the caller: the verdict is the same everywhere
        status = pytest.main([*arguments, str(tests)], plugins=[recorder])
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not recorder.outcomes:
            raise ValueError(f"the regression tests in {tests} did not run ({status!s}): see the lines above")
        remove_clocks(junit)
        verdict = judge(recorder, subject) | {
            "num_decisions": number,
            "untested_slices": untested(evaluation / "slices.csv", regression.min_slice_samples),
            "classes_without_samples": named(subject["classes_without_samples"]),
            "is_worn": number > regression.max_decisions,
        }
        # only where candidate or model in use is adapted to a domain
        verdict |= {
            name: named(subject[name]) for name in ("domains_without_samples", "lost_domains") if name in subject
        }
        write_json(folder / "verdict.json", verdict)
    decided = {name: verdict[name] for name in ("candidate", "heldout", "verdict")}
    write_down(decisions, Decision.model_validate(decided))
    for rule in sorted(verdict["rules"], key=lambda rule: not rule["passed"]):
        logger.info("%s %s", "pass" if rule["passed"] else "FAIL", rule["text"])
    if few := verdict["untested_slices"]:
        logger.info("not compared by themselves, for want of samples: %d slices, such as %s", len(few), few[0])
    if missing := verdict["classes_without_samples"]:
        logger.warning("not judged, for want of any held-out sample: %s", ", ".join(missing))
    if unjudged := verdict.get("domains_without_samples"):
        logger.warning("adapted domains not judged, for want of any held-out label: %s", ", ".join(unjudged))
    if lost := verdict.get("lost_domains"):
        logger.warning(
            "the model in use is adapted to domains that the candidate is not adapted to; its general head answers: %s",
            ", ".join(lost),
        )
    for problem in verdict["problems"]:
        logger.error("%s", problem)
    if verdict["is_worn"]:
        logger.warning(
            "this is decision %d on the same held-out set, more than regression.max_decisions (%d): rotate it, by "
            "another validate.split_salt",
            number,
            regression.max_decisions,
        )
    logger.info("the candidate is %s", verdict["verdict"])
    if verdict["verdict"] != "accepted":
        advise(verdict)
        sys.exit(1)


def advise(verdict: dict[str, Any]) -> None:
    """Log what a person can do about a rejected candidate. The model in use stays, and the page shows the errors."""
    broken = [rule for rule in verdict["rules"] if not rule["passed"]]
    for parameter in dict.fromkeys(rule["parameter"] for rule in broken if rule["parameter"]):
        names = "; ".join(rule["name"] for rule in broken if rule["parameter"] == parameter)
        logger.info("regression.%s in params.yaml has the limit of: %s", parameter, names)
    for rule in broken:
        if "advice" in rule:
            logger.info("%s: %s", rule["name"], rule["advice"])
    logger.info("see the errors: `dvc repro --ignore-errors report` writes the page, as `python -m flows.retrain` does")
    logger.info("use it all the same: `python -m flows.promote --force --why '…'`")


def untested(slices: Path, min_samples: int) -> list[str]:
    """Return the slices with too few samples of classes that both models know to compare the models on."""
    with slices.open(encoding="utf-8", newline="") as file:
        return [
            f"{row['target']} {row['column']} {row['value']}"
            for row in csv.DictReader(file)
            if row["num_shared"] and float(row["num_shared"]) < min_samples
        ]


def named(by_target: dict[str, list[str]]) -> list[str]:
    """Return the names as texts of one line that begin with their target."""
    texts = [f"{target} {name}" for target, names in by_target.items() for name in names]
    return [text if text.isprintable() else ascii(text) for text in texts]


def measure_latency(candidate: Path) -> float:
    """Return the latency in milliseconds, and log it."""
    from tasks.models.bundle import load_bundle
    from tasks.prediction.latency import latency

    took = latency(*load_bundle(candidate))
    logger.info("the candidate takes %s", took)
    return took.milliseconds


def judge(recorder: Recorder, subject: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict: accepted if every test passed. A test that was skipped or could not run did not pass."""
    is_accepted = all(outcome == "passed" for outcome in recorder.outcomes)
    return {
        "verdict": "accepted" if is_accepted else "rejected",
        "candidate": subject["candidate"],
        "baseline": subject["baseline"],
        "heldout": subject["heldout"],
        "num_heldout": subject["num_heldout"],
        "num_tests": len(recorder.outcomes),
        "num_failed": sum(outcome != "passed" for outcome in recorder.outcomes),
        "problems": recorder.problems,
        "rules": sorted(recorder.rules, key=lambda rule: str(rule["name"])),
    }


if __name__ == "__main__":
    main(run)
