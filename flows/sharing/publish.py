"""Commits the results of a run, and publishes them: first the data, then DVC's run cache, then git.

So no commit names data that nobody can get. The next run publishes anything that could not be published now.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows.in_use.verdict import read_verdict
from flows.sharing.mounted import check_mounted
from flows.workspace import paths
from flows.workspace.batches import listed
from flows.workspace.dvc import DvcError, answer_of, dvc
from flows.workspace.git import RefusedError, check_pushable, differing, is_recorded, push_to_git, record_in_git
from flows.workspace.run_files import run_files
from tasks.machine.files import write_whole

Publish = Literal["no", "branch", "main"]

OWED = Path(".dvc/tmp/graftline-unpublished")  # exists while results are not published
# the results of a run depend on these; a person commits them; git expands the star
GIVEN = [Path("params.yaml"), paths.PIPELINE, Path("tasks"), Path("tests/regression"), Path("backbones"),
         Path("requirements*.lock"), Path(".dvc/config")]  # fmt: skip
RETRY_SECONDS = "10,60,300"


def check_publishable(to: Publish) -> None:
    """Check before hours of work that the run can be published, and that its commit will record its inputs.

    Raises:
        ValueError: a remote or a branch is missing, or files that the results depend on are not committed.
    """
    pauses()
    if to != "no":
        check_pushable(is_branch_needed=to == "main")
        check_dvc_remote()
        if uncommitted := differing([*GIVEN, paths.corrections()]):
            more = f" and {len(uncommitted) - 3} more" if len(uncommitted) > 3 else ""
            raise ValueError(
                f"{', '.join(uncommitted[:3])}{more}: not as committed, so nobody could reproduce the published run: "
                "commit it, or `git restore` it, or set publish_to to no"
            )


def check_dvc_remote() -> None:
    """Raise ValueError if DVC has no default remote, or if that is a folder whose disk does not seem to be mounted."""
    try:
        remotes = answer_of("config", "core.remote")
    except DvcError:
        remotes = []
    if not remotes:
        raise ValueError("DVC has no default remote: `dvc remote add --default NAME URL`, and commit .dvc/config")
    check_mounted(remotes[-1])


def commit_run(*, log: Callable[[str], None], seconds: float | None = None) -> None:
    """Commit the files that make the run reproducible: dvc.lock, the batches and their DVC files, the decisions.

    The commit has the run's date, and its message the data and the duration: artifacts hold no clock.
    """
    write_whole(OWED, b"")
    verdict = read_verdict() if paths.verdict().is_file() else {}
    result = f"{verdict['candidate'][:12]} is {verdict['verdict']}" if verdict else "no candidate was judged"
    record_in_git(run_files(), message=f"retrain: {result}\n\n{about_run(seconds)}", log=log)


def about_run(seconds: float | None) -> str:
    """Return the data of a run and, if it is known, its duration."""
    batches = listed()
    newest = f", the newest is {batches[-1]}" if batches else ""
    data = f"Data: {len(batches)} {'batch' if len(batches) == 1 else 'batches'}{newest}."
    if seconds is None:
        return data
    minutes, rest = divmod(round(seconds), 60)
    return f"{data} Duration: {minutes} min {rest} s."


def publish(to: Publish) -> None:
    """Push data, run cache and git. A step that fails is repeated; if it still fails, the next run publishes the rest.

    Raises:
        DvcError, ValueError: a step still fails; the steps before it are done.
    """
    if to == "no" or not (OWED.exists() or not is_recorded(run_files())):
        return
    log = get_run_logger().info
    commit_run(log=log)  # completes a run that was killed before its commit
    branch = branch_of_candidate() if to == "branch" else None
    steps: dict[str, Callable[[], str | None]] = {
        "data": partial(push_data, log),
        "run cache": partial(dvc, "push", "--run-cache", log=log),  # so that nobody runs these stages again
        "git": partial(push_to_git, branch),
    }
    waits = pauses()
    for name, step in steps.items():
        push.with_options(retries=len(waits), retry_delay_seconds=waits)(name, step)
    OWED.unlink()


def push_data(log: Callable[[str], None]) -> None:
    """Push the data, unless the disk of the remote is gone since the run began."""
    check_dvc_remote()
    dvc("push", log=log)


@task(
    task_run_name="push {name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_condition_fn=lambda *of: may_pass(*of),
)
def push(name: str, step: Callable[[], str | None]) -> None:
    """Do one step, and log its message."""
    get_run_logger().info(step() or f"pushed {name}")


def may_pass(task: Any, run: TaskRun, state: State[Any]) -> bool:
    """Return whether another attempt may succeed: a network comes back, a refusal stays."""
    return not isinstance(state.result(raise_on_failure=False), RefusedError)


def pauses() -> list[float]:
    """Return the seconds before each further attempt.

    Raises:
        ValueError: GRAFTLINE_RETRY_SECONDS is not such a list.
    """
    setting = os.environ.get("GRAFTLINE_RETRY_SECONDS") or RETRY_SECONDS
    try:
        seconds = [float(part) for part in setting.split(",")]
    except ValueError:
        seconds = [-1.0]
    if not all(0 <= pause <= 86400 for pause in seconds):
        raise ValueError(f"GRAFTLINE_RETRY_SECONDS is {setting!r}, expected seconds such as {RETRY_SECONDS!r}")
    return seconds


def branch_of_candidate() -> str:
    """Return the name of the candidate's own branch, for a pull request."""
    return f"graftline/{read_verdict()['candidate'][:12]}"
