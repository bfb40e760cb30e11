"""Predictions and metrics in; the verdict of the regression tests (JSON and JUnit) out.

It also adds a line to the list of decisions, and keeps the anchor. It exits with 1 when it rejects the candidate, and
with 3 when the candidate is undecided and waits for a person. DVC stops at every status but 0, so that an undecided
candidate that needs no person ends with 0.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.gate.anchor import raised, read_anchors, write_anchors
from tasks.gate.decisions import Decision, read_decisions, sample_of, tries, undecided_in_a_row, worn, write_down
from tasks.gate.options import GateOptions
from tasks.gate.recorder import Recorder, remove_clocks
from tasks.gate.tables import rows_in_use
from tasks.machine.files import read_json, whole_folder, write_json
from tasks.machine.names import on_one_line
from tasks.stage.main import main

logger = logging.getLogger("graftline")

WAITS = 3  # the exit status where the candidate is undecided and waits for a person
ARTIFACTS = ("subject.json", "metrics.json", "predictions.parquet", "slices.csv")  # that evaluate writes


def run(
    *,
    evaluation: Path,
    candidate: Path,
    tests: Path,
    decisions: Path,
    anchor: Path,
    out: Path,
    regression: GateOptions,
) -> None:
    """Run the regression tests on what evaluate measured."""
    for name in ARTIFACTS:
        if not (evaluation / name).is_file():
            raise ValueError(f"{evaluation / name} is missing: run `dvc repro evaluate`, or `dvc pull`")
    subject = read_json(evaluation / "subject.json")
    predictions = pd.read_parquet(evaluation / "predictions.parquet")
    decision = Decision(
        candidate=subject["candidate"], heldout=subject["heldout"], baseline=subject["baseline"], verdict="",
        sample=sample_of(predictions["sample_id"]),
    )  # fmt: skip
    log = read_decisions(decisions)
    number = 1 + round(worn(log, decision))
    keep_anchor(anchor, predictions, subject, evaluation=evaluation)
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
            "--tb=no",  # its lines would have names of the data as they are; the rules and problems are logged below
            "--no-summary",
            "-p",
            "no:cacheprovider",
        ]
        arguments += [
            f"--evaluation={evaluation}",
            f"--limits={json.dumps(asdict(regression))}",
            f"--junit-xml={junit}",
        ]
        arguments += [f"--tries={tries(log, decision)}", f"--anchor={anchor}"]
        arguments += [f"--undecided={undecided_in_a_row(log, subject['baseline'])}"]
        if regression.max_latency_milliseconds is not None:
            arguments += [f"--latency-milliseconds={measure_latency(candidate)}"]
        for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
            os.environ.pop(name, None)  # settings of the caller: the verdict is the same everywhere
        status = pytest.main([*arguments, str(tests)], plugins=[recorder])
        if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not recorder.outcomes:
            raise ValueError(f"the regression tests in {tests} did not run ({status!s}): see the lines above")
        remove_clocks(junit)
        verdict = judge(recorder, subject, promotes=regression.promotes) | {
            "num_decisions": number,
            "classes_without_samples": named(subject["classes_without_samples"]),
            "is_worn": number > regression.max_decisions,
        }
        # only where candidate or model in use is adapted to a domain
        verdict |= {
            name: named(subject[name]) for name in ("domains_without_samples", "lost_domains") if name in subject
        }
        write_json(folder / "verdict.json", verdict)
    waits = verdict["verdict"] == "undecided" and not verdict["promotes"]
    if subject["candidate"] != subject["baseline"]:  # a model in use was decided about before
        write_down(decisions, decision.model_copy(update={"verdict": verdict["verdict"], "waits": waits}))
    for rule in sorted(verdict["rules"], key=lambda rule: not rule["passed"]):
        logger.info("%s %s", "pass" if rule["passed"] else "FAIL", rule["text"])
    if unseen := verdict.get("unseen"):
        logger.info(
            "a loss of more than regression.slice_margin is not ruled out on %d slices: %s", len(unseen), unseen[0]
        )
    if small := verdict.get("classes_too_small"):
        logger.info("too few held-out samples for regression.min_class_recall: %s", ", ".join(small))
    if missing := verdict["classes_without_samples"]:
        logger.warning("not judged, because no held-out sample has it: %s", ", ".join(missing))
    if unjudged := verdict.get("domains_without_samples"):
        logger.warning(
            "adapted domains not judged, because no held-out sample of them has a label: %s", ", ".join(unjudged)
        )
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
    for doubt in verdict.get("doubts", []):
        logger.warning("undecided: %s", doubt)
    logger.info("the candidate is %s%s", verdict["verdict"], " and waits for a person" if waits else "")
    if verdict["verdict"] == "rejected" or waits:
        advise(verdict)
        sys.exit(WAITS if waits else 1)


def advise(verdict: dict[str, Any]) -> None:
    """Log what a person can do about a candidate that is not put in use. The page shows the errors."""
    broken = [rule for rule in verdict["rules"] if not rule["passed"]]
    for parameter in dict.fromkeys(rule["parameter"] for rule in broken if rule["parameter"]):
        names = "; ".join(rule["name"] for rule in broken if rule["parameter"] == parameter)
        logger.info("regression.%s in params.yaml has the limit of: %s", parameter, names)
    for rule in broken:
        if "advice" in rule:
            logger.info("%s: %s", rule["name"], rule["advice"])
    logger.info("see the errors: `dvc repro --ignore-errors report` writes the page, as `python -m flows.retrain` does")
    logger.info("use it all the same: `python -m flows.promote --force --why '…'`")


def keep_anchor(path: Path, predictions: pd.DataFrame, subject: dict[str, Any], *, evaluation: Path) -> None:
    """Make the model in use the anchor of the targets on which it is shown to be better, or which have none."""
    if subject["baseline"] is None:
        return
    measured = read_json(evaluation / "metrics.json")
    targets = [target for target in subject["lost_classes"] if "flips" in measured.get(target, {})]
    before = read_anchors(path)
    rows = rows_in_use(predictions, targets)
    after = raised(before, rows, model=subject["baseline"])
    if after != before:
        write_anchors(path, after)


def named(by_target: dict[str, list[str]]) -> list[str]:
    """Return the names as texts of one line that begin with their target."""
    texts = [f"{target} {name}" for target, names in by_target.items() for name in names]
    return list(map(on_one_line, texts))


def measure_latency(candidate: Path) -> float:
    """Return the latency in milliseconds, and log it."""
    from tasks.models.bundle import load_bundle
    from tasks.prediction.latency import latency

    took = latency(*load_bundle(candidate))
    logger.info("the candidate takes %s", took)
    return took.milliseconds


def judge(recorder: Recorder, subject: dict[str, Any], *, promotes: Sequence[str]) -> dict[str, Any]:
    """Return the verdict: accepted if every test passed and none has a doubt, undecided if one has.

    A test that was skipped or could not run did not pass. `promotes` of the verdict is whether the candidate may be put
    in use without a person.

    Args:
        promotes: the verdicts on which that may be.
    """
    is_passed = all(outcome == "passed" for outcome in recorder.outcomes)
    verdict = "rejected" if not is_passed else "undecided" if recorder.doubts else "accepted"
    about = {"doubts": [doubt["text"] for doubt in recorder.doubts]} if recorder.doubts else {}
    return {
        "verdict": verdict,
        "promotes": verdict in promotes and not any(doubt["waits"] for doubt in recorder.doubts),
        "candidate": subject["candidate"],
        "baseline": subject["baseline"],
        "heldout": subject["heldout"],
        "num_heldout": subject["num_heldout"],
        "num_tests": len(recorder.outcomes),
        "num_failed": sum(outcome != "passed" for outcome in recorder.outcomes),
        "problems": recorder.problems,
        "rules": sorted(recorder.rules, key=lambda rule: str(rule["name"])),
        **about,
        **{name: sorted(texts) for name, texts in recorder.remarks.items()},
    }


if __name__ == "__main__":
    main(run)
