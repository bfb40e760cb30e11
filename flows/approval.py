"""A verdict in; whether a person wants the candidate in use out. The run is suspended meanwhile: no process waits."""

from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment, flow_run

from flows.artifacts import in_words


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
    again when it is resumed. After `hours` without an answer Prefect fails it."""
    question = Approval.with_initial_data(description=in_words(verdict))
    return suspend_flow_run(
        wait_for_input=question, timeout=round(3600 * hours), key=f"promote-{verdict['candidate'][:12]}"
    )
