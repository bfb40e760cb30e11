"""What a run made in; its commit, and all of it with others, out: first the data, then DVC's run cache, then git, so that no commit speaks
of data that nobody can get."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import VERDICT
from flows.history import push_to_git, record_in_git
from flows.repro import dvc

Publish = Literal["no", "branch", "main"]

OWED = Path(".dvc/tmp/graftline-unpublished")  # while a run has something that others lack
LOCK = Path("dvc.lock")
LISTED = [LOCK, Path("data/batches.yaml"), Path("data/decisions.json"), Path("data/raw/.gitignore")]
RETRY_SECONDS = [10.0, 60.0, 300.0]


def commit_run(*, log: Callable[[str], None]) -> None:
    """What makes the run reproducible: dvc.lock, the batches and their pointers, the list of decisions."""
    paths = [path for path in [*LISTED, *sorted(Path("data/raw").glob("*.dvc"))] if path.is_file()]
    verdict = json.loads(VERDICT.read_text("utf-8"))
    OWED.touch()
    record_in_git(paths, message=f"retrain: {verdict['candidate'][:12]} is {verdict['verdict']}", log=log)


def publish(to: Publish) -> None:
    """Each step is tried again where it fails, and what is owed then is given by the next run."""
    if to == "no" or not OWED.exists():
        return
    push_data()
    push_run_cache()
    push_commits(branch_of_candidate() if to == "branch" else None)
    OWED.unlink()


def branch_of_candidate() -> str:
    """A branch of its own, for a pull request."""
    return f"graftline/{json.loads(VERDICT.read_text('utf-8'))['candidate'][:12]}"


@task(
    task_run_name="push data", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=RETRY_SECONDS
)
def push_data() -> None:
    dvc("push", log=get_run_logger().info)


@task(
    task_run_name="push run cache",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=3,
    retry_delay_seconds=RETRY_SECONDS,
)
def push_run_cache() -> None:
    """By which nobody else runs again what was run here."""
    dvc("push", "--run-cache", log=get_run_logger().info)


@task(
    task_run_name="push git", cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=RETRY_SECONDS
)
def push_commits(branch: str | None) -> None:
    get_run_logger().info("pushed to the branch %s", push_to_git(branch))
