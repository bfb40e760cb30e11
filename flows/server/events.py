"""The seam to Prefect's events. It waits until the server, a running or a temporary one, has the event."""

from prefect.events import Event, RelatedResource
from prefect.events.clients import get_events_client
from prefect.runtime import flow_run
from prefect.utilities.asyncutils import run_coro_as_sync

from flows.workspace.redaction import in_a_line


def deliver(event: Event) -> None:
    """Send the event as one of this flow run. `prefect.events.emit_event` would not report whether it arrived.

    Raises:
        ConnectionError: the server cannot be reached, or refuses the event.
    """
    resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"}
    event.related.append(RelatedResource(resource))
    try:
        run_coro_as_sync(_send(event))
    except Exception as error:  # Prefect's client and its web socket raise errors of many classes
        raise ConnectionError(f"Prefect did not take the event {event.event}: {in_a_line(error)}") from error


async def _send(event: Event) -> None:
    async with get_events_client(checkpoint_every=1) as client:  # a checkpoint waits for the server's answer
        await client.emit(event)
