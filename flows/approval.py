"""A verdict in; whether a person wants the candidate in use out. The run is suspended meanwhile: no process waits."""

from typing import Any

from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment

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


def ask(verdict: dict[str, Any], *, hours: float) -> Approval:
    """What a person said of this very candidate; the first time this is asked it does not return, the run ends suspended and begins
    again when it is resumed. After `hours` without an answer Prefect fails it."""
    question = Approval.with_initial_data(description=in_words(verdict))
    return suspend_flow_run(
        wait_for_input=question, timeout=round(3600 * hours), key=f"promote-{verdict['candidate'][:12]}"
    )
