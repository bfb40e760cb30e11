"""What `dvc repro` prints in; a task run a stage, with its log, its progress and how it ended, out."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import groupby
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.workspace.dvc import DvcError, Lines

BEGINNING = re.compile(r"(?:Running stage|Stage) '(?P<stage>[^'@]+)(?:@[^']*)?'")
REJECTED = "the candidate is rejected"  # what the stage regression says
PROGRESS = re.compile(r"(?P<what>.+): (?P<done>[\d,]+) of (?P<total>[\d,]+) \w+$")


def narrate(lines: Lines, *, log: Callable[[str], None]) -> tuple[list[str], State[Any] | None]:
    """The stages that did something, and the state of the one that failed, if one did; lines of none go to `log`. Raises
    DvcError where DVC fails before any stage."""
    told = []
    with closing(lines):
        for stage, chapter in chapters(lines):
            if not stage:
                for line in chapter:
                    log(line)
                continue
            told.append(stage)
            state: State[Any] = tell(stage, chapter, return_state=True)
            if not state.is_completed():
                return told, state
    return told, None


def chapters(lines: Iterable[str]) -> Iterator[tuple[str, Iterator[str]]]:
    """The lines by the stage that they are of, "" for those before the first; the parts of a matrix are one stage."""
    stage = ""

    def stage_of(line: str) -> str:
        nonlocal stage
        if begun := BEGINNING.match(line):
            stage = begun["stage"]
        return stage

    return groupby(lines, stage_of)


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def tell(stage: str, lines: Iterator[str]) -> State[Any]:
    """The log of a stage as it is made, and how far it has come."""
    logger = get_run_logger()
    progress: UUID | None = None
    is_rejected = False
    try:
        for line in lines:
            logger.info(line)
            is_rejected |= line == REJECTED
            if found := PROGRESS.match(line):
                share = 100.0 * _number(found["done"]) / max(_number(found["total"]), 1)
                if progress is None:
                    progress = _begin(share, key=stage.replace("_", "-"), description=found["what"])
                else:
                    update_progress_artifact(progress, share, description=found["what"])
    except DvcError as error:
        return Failed(message=REJECTED if is_rejected else str(error))
    if progress is not None:
        update_progress_artifact(progress, 100.0)
    return Completed(message="done")


def _begin(share: float, *, key: str, description: str) -> UUID:
    created = create_progress_artifact(share, key=key, description=description)
    assert isinstance(created, UUID)  # no coroutine, as in a flow that is asynchronous
    return created


def _number(text: str) -> int:
    return int(text.replace(",", ""))
