"""Asks a person whether the candidate shall be put in use. Meanwhile the run is suspended: no process waits."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run

from flows.server.artifacts import in_words


class AskedError(Exception):
    """The error of a run that asks a person while another run already does."""


class Approval(RunInput):
    """The form that a person fills in to resume the run."""

    approve: bool = False
    approved_by: str = ""
    why: str = ""


def check_approvable() -> None:
    """Raise ValueError if this run cannot ask a person."""
    if deployment.id is None:
        raise ValueError(
            "promote is approved, and Prefect cannot suspend a run without a deployment: run it through "
            "`python -m flows.serve`, or set promote to never, look at the report, and run `python -m flows.promote`"
        )


def is_resumed() -> bool:
    """Return whether this run was suspended before and starts again now."""
    if deployment.id is None:
        return False
    with get_client(sync_client=True) as client:
        return any(state.is_paused() for state in client.read_flow_run_states(UUID(flow_run.id)))


def ask(verdict: dict[str, Any], *, hours: float) -> Approval:
    """Return a person's answer on this very candidate.

    The first call does not return: the run is suspended, and starts again from the beginning when a person resumes it.
    After `hours` without an answer Prefect fails the run.

    Raises:
        AskedError: another run asks the same question.
    """
    key = f"promote-{verdict['candidate'][:12]}"
    if name := _other_that_asks(key):
        raise AskedError(f"another run asks a person about it: {name}")
    question = Approval.with_initial_data(description=in_words(verdict))
    return suspend_flow_run(wait_for_input=question, timeout=round(3600 * hours), key=key)


def _other_that_asks(key: str) -> str:
    """Return the name of another run of this flow that asks this question and has not ended; empty if there is none."""
    started = FlowRunFilter(
        id=FlowRunFilterId(not_any_=[UUID(flow_run.id)]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=list(TERMINAL_STATES))),
        start_time=FlowRunFilterStartTime(is_null_=False),  # not the scheduled runs
    )
    flow = FlowFilter(name=FlowFilterName(any_=[flow_run.flow_name]))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_filter=flow, flow_run_filter=started)
    return next((run.name for run in runs if key in (run.empirical_policy.pause_keys or ())), "")
