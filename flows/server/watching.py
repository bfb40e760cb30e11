"""The flow `watch`: compare the answers of the model in use with its training, and send an event about a drift."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import Event, Resource
from prefect.states import Completed, Failed

from flows.in_use.drift import Found, compare, event_id, mark_as_reported, news
from flows.server.events import deliver
from flows.server.plan import check_planned
from flows.workspace.redaction import in_a_line

EVENT = "answers.drifted"
MOST_NAMED = 20  # windows in an event


@flow(name="watch")
def watch(
    predictions: list[str],
    labels: list[str] = [],  # noqa: B006  nobody changes it
    reference: str | None = None,
    window: int = 500,
    every: str | None = None,
    false_alarms: float = 0.01,
) -> State[Any]:
    """Compare windows of answers with the reference. Windows that drifted are sent as one event, each once.

    Args:
        predictions: files of answers, and folders of a service's log.
        labels: tables of labels that came later.
        reference: a file of answers to trusted samples; None is the held-out samples.
        window: the answers of a window; `every` is a period such as 1h instead.
        false_alarms: the share of windows without a drift that may raise an alarm.
    """
    try:
        check_planned(watch)
        status = compare(
            predictions, labels=labels, reference=reference, window=window, every=every, false_alarms=false_alarms
        )
        if status != 0:
            raise ValueError("the answers could not be compared: the log above has the reason")
        found, drifted = news()
        if drifted:
            deliver(event_of(found, drifted))
        mark_as_reported(found, drifted)
    except (OSError, ValueError) as error:
        return Failed(message=in_a_line(error))
    for one in drifted:
        get_run_logger().warning("%s: %s", one["begin"] or one["key"], one["words"])
    judged = f"{found['num_drifted']:,} of {found['num_judged']:,} windows drifted"
    return Completed(message=f"{judged}, {len(drifted):,} of them news" if found["num_drifted"] else judged)


def event_of(found: Found, drifted: list[Found]) -> Event:
    """Return the event about windows that drifted."""
    full = [one for one in found["windows"] if one["is_judged"] and not one["is_open"]]
    resource = {
        "prefect.resource.id": f"graftline.model.{found['model_sha256'][:12]}",
        "prefect.resource.name": found["model_sha256"][:12],
        "graftline.project": Path.cwd().name,
        "graftline.newest": "drifted" if full[-1]["is_drifted"] else "as usual",  # a trigger may ask
    }
    windows = [{name: one[name] for name in ("begin", "end", "num_samples", "words")} for one in drifted[-MOST_NAMED:]]
    return Event(
        event=EVENT,
        resource=Resource(resource),
        payload={"num_drifted": len(drifted), "windows": windows},
        id=event_id(drifted),
    )
