"""The chain of dvc.yaml, narrated: a task run a stage, then an artifact with the metrics and the verdict.

`python -m flows.retrain` runs it once; a rejected candidate fails the run, after its artifacts are posted.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.in_use import settle_unfinished
from flows.repro import DvcError, dvc, only_writer, stages

METRICS = Path("data/evaluation/metrics.json")
VERDICT = Path("data/regression/verdict.json")
REPORT = Path("data/report/index.html")
BATCHES = Path("data/batches.yaml")
REJECTED = "the candidate is rejected"  # what the stage regression says
UP_TO_DATE = "Data and pipelines are up to date."


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def reproduce(stage: str, *, options: tuple[str, ...] = ()) -> State[Any]:
    """Bring one stage, and what it depends on, up to date."""
    logger = get_run_logger()
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        logger.info(line)

    try:
        dvc("repro", *options, stage, log=log)
    except DvcError as error:
        return Failed(message=REJECTED if REJECTED in lines else str(error))
    return Completed(message=UP_TO_DATE if UP_TO_DATE in lines else "done")


@flow(name="retrain")
def retrain() -> State[Any]:
    """Bring every stage of dvc.yaml up to date, in its order, and say what came of it."""
    logger = get_run_logger()
    try:
        check_parameters()
        with only_writer():
            settle_unfinished(logger.info)
            changed, problem = reproduce_all()
    except (OSError, ValueError) as error:
        return Failed(message=str(error))
    if problem:
        return Failed(message=problem)
    if not changed:
        logger.info("nothing to do: data, code and params are those of the last run")
        return Completed(message="nothing to do")
    verdict = read(VERDICT)
    create_markdown_artifact(key="retrain", markdown=summary(read(METRICS), verdict), description="metrics and verdict")
    if verdict["verdict"] != "accepted":
        failed = "; ".join([rule["text"] for rule in verdict["rules"] if not rule["passed"]] + verdict["problems"])
        return Failed(message=f"the candidate is rejected: {failed}; see {REPORT}")
    return Completed(message="the candidate is accepted")


def reproduce_all() -> tuple[bool, str]:
    """Whether anything was done, and what stopped it where something did; a rejection stops nothing."""
    changed = False
    for stage in stages():
        state = reproduce(stage, return_state=True)
        changed |= state.message != UP_TO_DATE
        if state.message == REJECTED:
            # the page tells why, so it is drawn for a rejected candidate too
            reproduce("report", options=("--ignore-errors",), return_state=True)
            break
        if not state.is_completed():
            return changed, f"{stage}: {state.message}"
    return changed, ""


def check_parameters() -> None:
    """Raises ValueError where params.yaml or the list of batches is wrong, though nothing may be stale."""
    command = [sys.executable, "-m", "tasks.check", "--batches", str(BATCHES)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip().removeprefix("error: "))


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def summary(metrics: dict[str, Any], verdict: dict[str, Any]) -> str:
    """What the Prefect page shows of a run."""
    lines = [f"# The candidate is {verdict['verdict']}", "", "| rule | found | limit | |", "|---|---|---|---|"]
    lines += [
        f"| {rule['name']} | {rule['value']:.4g} | {rule['bound']} | {'pass' if rule['passed'] else '**fail**'} |"
        for rule in verdict["rules"]
    ]
    lines += ["", "| target | model | accuracy | interval | log-loss |", "|---|---|---|---|---|"]
    lines += [
        f"| {target} | {name} | {found['accuracy']:.4f} | {found['accuracy_low']:.3f} to {found['accuracy_high']:.3f} "
        f"| {found['log_loss']:.4f} |"
        for target, measured in metrics.items()
        for name, found in measured.items()
        if "accuracy" in found
    ]
    return "\n".join(lines)


def main() -> None:
    state = retrain(return_state=True)
    sys.exit(0 if state.is_completed() else 1)


if __name__ == "__main__":
    main()
