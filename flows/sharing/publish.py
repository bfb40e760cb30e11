"""What a run made in; its commit, and all of it with others, out: first the data, then DVC's run cache, then git, so that no commit speaks
of data that nobody can get. What cannot be published is all here still, and the next run publishes it."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows.in_use.verdict import read_verdict
from flows.workspace import paths
from flows.workspace.dvc import DvcError, dvc, lines_of
from flows.workspace.git import RefusedError, check_pushable, differing, is_recorded, push_to_git, record_in_git
from flows.workspace.lockfile import LOCK_FILE

Publish = Literal["no", "branch", "main"]

OWED = Path(".dvc/tmp/graftline-unpublished")  # while a run has something that others lack
# what decides what a run makes, and is a person's to commit
GIVEN = [Path("params.yaml"), paths.PIPELINE, Path("tasks"), Path("tests/regression"), Path("backbones"), Path("requirements.lock"),
         Path(".dvc/config")]  # fmt: skip
RETRY_SECONDS = "10,60,300"


def check_publishable(to: Publish) -> None:
    """Raises ValueError where there is nowhere to publish to, or the commit would not say what the run was made with: before hours of
    work, not after them."""
    pauses()
    if to != "no":
        check_pushable(is_branch_needed=to == "main")
        check_dvc_remote()
        if found := differing(GIVEN):
            names = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            raise ValueError(
                f"{names}: not as the commit has it, so that what is published could not be made again: commit it, or "
                "`git restore` it, or give publish_to no"
            )


def check_dvc_remote() -> None:
    """Raises ValueError where DVC knows no remote."""
    try:
        named = list(lines_of("config", "core.remote"))
    except DvcError:
        named = []
    if not named:
        raise ValueError("DVC has no default remote: `dvc remote add --default NAME URL`, and commit .dvc/config")


def commit_run(*, log: Callable[[str], None]) -> None:
    """What makes the run reproducible: dvc.lock, the batches and their pointers, the list of decisions."""
    OWED.touch()
    verdict = read_verdict() if paths.verdict().is_file() else {}
    said = f"{verdict['candidate'][:12]} is {verdict['verdict']}" if verdict else "no candidate was judged"
    record_in_git(recorded(), message=f"retrain: {said}", log=log)


def publish(to: Publish) -> None:
    """Each step is tried again where it fails, and what is owed then is given by the next run.

    Raises:
        DvcError, ValueError: a step fails still; the steps before it are done.
    """
    if to == "no" or not (OWED.exists() or not is_recorded(recorded())):
        return
    log = get_run_logger().info
    commit_run(log=log)  # that of a run which was killed before it could
    branch = branch_of_candidate() if to == "branch" else None
    steps: dict[str, Callable[[], str | None]] = {
        "data": partial(dvc, "push", log=log),
        "run cache": partial(dvc, "push", "--run-cache", log=log),  # by which nobody else runs again what was run here
        "git": partial(push_to_git, branch),
    }
    waits = pauses()
    for what, work in steps.items():
        push.with_options(retries=len(waits), retry_delay_seconds=waits)(what, work)
    OWED.unlink()


@task(
    task_run_name="push {what}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=lambda *of: may_pass(*of),
)
def push(what: str, work: Callable[[], str | None]) -> None:
    get_run_logger().info(work() or f"pushed {what}")


def may_pass(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Whether time may help: a network comes back, a refusal stays."""
    return not isinstance(state.result(raise_on_failure=False), RefusedError)


def pauses() -> list[float]:
    """Seconds before each further attempt. Raises ValueError where GRAFTLINE_RETRY_SECONDS has none."""
    given = os.environ.get("GRAFTLINE_RETRY_SECONDS") or RETRY_SECONDS
    try:
        found = [float(each) for each in given.split(",")]
    except ValueError:
        found = [-1.0]
    if not all(0 <= each <= 86400 for each in found):
        raise ValueError(f"GRAFTLINE_RETRY_SECONDS is {given!r}, expected seconds such as {RETRY_SECONDS!r}")
    return found


def recorded() -> list[Path]:
    """The files that a run may change and git keeps."""
    raw = paths.raw()
    files = [LOCK_FILE, paths.batches(), paths.decisions(), raw / ".gitignore", *sorted(raw.glob("*.dvc"))]
    return [file for file in files if file.is_file()]


def branch_of_candidate() -> str:
    """A branch of its own, for a pull request."""
    return f"graftline/{read_verdict()['candidate'][:12]}"
