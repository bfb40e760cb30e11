"""A verdict in; whether a person wants the candidate in use out. The run is suspended meanwhile: no process waits."""

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
    """A person is asked already, by another run."""


class Approval(RunInput):
    """What the person is asked when the run is resumed."""

    approve: bool = False
    approved_by: str = ""
    why: str = ""


def check_approvable() -> None:
    """Raises ValueError where nobody could be asked."""
    if deployment.id is None:
        raise ValueError(
            "promote is approved, and a run that no deployment began cannot be suspended: run it through `python -m flows.serve`, "
            "or give never, look at the report, and run `python -m flows.promote`"
        )


def is_resumed() -> bool:
    """Whether this run began before, was suspended, and begins again."""
    if deployment.id is None:
        return False
    with get_client(sync_client=True) as client:
        return any(state.is_paused() for state in client.read_flow_run_states(UUID(flow_run.id)))


def ask(verdict: dict[str, Any], *, hours: float) -> Approval:
    """What a person said of this very candidate; the first time this is asked it does not return, the run ends suspended and begins
    again when it is resumed. After `hours` without an answer Prefect fails it.

    Raises:
        AskedError: another run asks the same.
    """
    key = f"promote-{verdict['candidate'][:12]}"
    if name := _other_that_asks(key):
        raise AskedError(f"a person is asked of it by the run {name}")
    question = Approval.with_initial_data(description=in_words(verdict))
    return suspend_flow_run(wait_for_input=question, timeout=round(3600 * hours), key=key)


def _other_that_asks(key: str) -> str:
    """The name of another run of this flow that waits for the answer, or has it and has not ended; or empty."""
    asked = FlowRunFilter(
        id=FlowRunFilterId(not_any_=[UUID(flow_run.id)]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=list(TERMINAL_STATES))),
        start_time=FlowRunFilterStartTime(is_null_=False),  # no run of a night to come
    )
    flow = FlowFilter(name=FlowFilterName(any_=[flow_run.flow_name]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_filter=flow, flow_run_filter=asked)
    return next((each.name for each in found if key in (each.empirical_policy.pause_keys or ())), "")
