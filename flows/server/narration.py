"""Turns the output of `dvc repro` into a Prefect task run for each stage, with its log, its progress and its end."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import groupby
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.in_use.verdict import GATE, refusal_of_gate
from flows.workspace.dvc import DvcError, Lines
from flows.workspace.paths import stages

BEGINNING = re.compile(r"(?:Running stage|Stage) '(?P<stage>[^'@]+)(?:@[^']*)?'")
PROGRESS = re.compile(r"(?P<work>.+): (?P<done>[\d,]+) of (?P<total>[\d,]+) \w+(?:, about .+ left)?$")


def narrate(lines: Lines, *, log: Callable[[str], None]) -> tuple[list[str], State[Any] | None]:
    """Run a task for each stage. Return the stages that ran, and the state of the one that failed, if one did.

    Lines that belong to no stage go to `log`.

    Raises:
        DvcError: DVC failed before any stage.
    """
    ran: list[str] = []
    order = stages()
    with closing(lines):
        for stage, chapter in chapters(lines):
            if not stage:
                for line in chapter:
                    log(line)
                continue
            ran.append(stage)
            log(f"stage {order.index(stage) + 1} of {len(order)}: {stage}" if stage in order else f"stage {stage}")
            state: State[Any] = narrate_stage(stage, chapter, return_state=True)
            if not state.is_completed():
                return ran, state
    return ran, None


def name_run(name: str) -> None:
    """Give this flow run a name that describes it; Prefect's own are random words."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_name(UUID(flow_run.id), name)


def chapters(lines: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """Group the lines by stage, "" for those before the first; the parts of a matrix count as one stage."""
    stage = ""

    def stage_of(line: str) -> str:
        nonlocal stage
        if beginning := BEGINNING.match(line):
            stage = beginning["stage"]
        return stage

    return groupby(lines, stage_of)


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def narrate_stage(stage: str, lines: Iterator[str]) -> State[Any]:
    """Log the lines of a stage as they come, and show its progress."""
    logger = get_run_logger()
    progress: UUID | None = None
    try:
        for line in lines:
            logger.info(line)
            if count := PROGRESS.match(line):
                percent = 100.0 * _number(count["done"]) / max(_number(count["total"]), 1)
                if progress is None:
                    progress = _create_progress(percent, key=stage.replace("_", "-"), description=count["work"])
                else:
                    update_progress_artifact(progress, percent, description=count["work"])
    except DvcError as error:
        is_told = error.is_of_a_verb or stage != GATE
        return Failed(message=str(error) if is_told else refusal_of_gate() or str(error))
    if progress is not None:
        update_progress_artifact(progress, 100.0)
    return Completed(message="done")


def _create_progress(percent: float, *, key: str, description: str) -> UUID:
    created = create_progress_artifact(percent, key=key, description=description)
    assert isinstance(created, UUID)  # it would be a coroutine in an asynchronous flow
    return created


def _number(text: str) -> int:
    return int(text.replace(",", ""))
