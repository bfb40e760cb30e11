"""Who is told when a run needs a person: `python -m flows.notify` sets up, on the Prefect server, an automation that calls a webhook,
sends an e-mail or what a saved notification block sends, when a run fails, crashes or waits for approval. It may be run again, and
replaces what it set up before.

The addresses are secrets: they are read from GRAFTLINE_WEBHOOK and GRAFTLINE_EMAIL, and kept, encrypted, in Prefect blocks.
"""

import argparse
import os
import sys
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events import AutomationCore, EventTrigger, Posture
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState, SendNotification
from prefect.settings import get_current_settings
from prefect.types import SecretDict
from pydantic import SecretStr

from flows.server.alarms import AGAIN
from flows.server.reach import check_server

WEBHOOK = "GRAFTLINE_WEBHOOK"
EMAIL = "GRAFTLINE_EMAIL"
BLOCK = "graftline"  # that of an address
FLOWS = ["retrain", "ingest"]
ALARMS = {
    "Failed",
    "Crashed",
    "TimedOut",
    "Suspended",
}  # a rejected candidate fails its run; one to be approved suspends it
ENDS = {"Completed", "Failed", AGAIN, "Crashed", "TimedOut", "Cancelled", "Suspended"}
MISSED_HEARTBEATS = 3

SUBJECT = "Graftline: {{ flow.name }} is {{ flow_run.state.name|lower }}"
BODY = "{{ flow.name }} is {{ flow_run.state.name|lower }}: {{ flow_run.state.message or '' }}\n{{ flow_run|ui_url }}"
# `text` is what Slack, Mattermost and their like show
PAYLOAD = (
    '{"text": {{ (flow.name ~ " is " ~ flow_run.state.name|lower ~ ": " ~ (flow_run.state.message or "") ~ " " ~ flow_run|ui_url)|tojson }}, '
    '"flow": {{ flow.name|tojson }}, "run": {{ flow_run.name|tojson }}, "state": {{ flow_run.state.name|tojson }}, '
    '"message": {{ (flow_run.state.message or "")|tojson }}, "url": {{ flow_run|ui_url|tojson }}}'
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.notify", description="Set up who is told when a run fails.")
    parser.add_argument(
        "--block", metavar="TYPE/NAME", help=f"a saved notification block, not what {WEBHOOK} and {EMAIL} say"
    )
    name = parser.parse_args().block
    try:
        check_server()
        actions = [by_block(name)] if name else by_environment()
        for each in automations(actions, heartbeat_seconds=get_current_settings().flows.heartbeat_frequency):
            put(each)
    except (ValueError, ConnectionError) as error:
        sys.exit(f"error: {error}")


def by_environment() -> list[ActionTypes]:
    """One for each address that is set. Raises ValueError where none is."""
    ways = {WEBHOOK: by_webhook, EMAIL: by_email}
    found = [way(os.environ[variable]) for variable, way in ways.items() if os.environ.get(variable)]
    if not found:
        raise ValueError(f"neither {WEBHOOK} nor {EMAIL} is set: export the address, or name a --block")
    return found


def by_webhook(address: str) -> ActionTypes:
    """Keeps the address in a block. Raises ValueError, which does not tell it, where it is none."""
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # which would tell it
        is_address = False
    if not is_address:
        raise ValueError(f"{WEBHOOK} is no address of a webhook, expected https://… (what it is, is not shown)")
    block = Webhook(url=SecretStr(address), headers=SecretDict({"Content-Type": "application/json"}))
    return CallWebhook(block_document_id=_saved(block), payload=PAYLOAD)


def by_email(address: str) -> ActionTypes:
    """Keeps the address, which has the mail server and its password, in a block. Raises ValueError, which does not tell it, where it
    is none."""
    from apprise import Apprise

    is_address = address.startswith(("mailto://", "mailtos://"))
    mail = Apprise.instantiate(address) if is_address else None
    if not getattr(mail, "targets", None):  # one that would send to nobody is fine by Apprise
        raise ValueError(
            f"{EMAIL} is no address of a mail server, expected mailtos://user:password@smtp.example.org?from=…&to=… "
            "(what it is, is not shown)"
        )
    # of Prefect's own blocks this one hands an address that is not Slack's to Apprise as it is, which sends the mail
    return _notification(_saved(SlackWebhook(url=SecretStr(address))))


def by_block(name: str) -> ActionTypes:
    """Raises ValueError where there is no such block, or it cannot notify."""
    try:
        block = Block.load(name)
    except ValueError as error:
        raise ValueError(f"no block {name} is saved: `prefect block ls` lists those that are") from error
    if not isinstance(block, NotificationBlock):
        raise ValueError(
            f"{name} is no notification block, expected one such as sendgrid-email/alarm or slack-webhook/alarm"
        )
    identifier = block._block_document_id
    assert identifier is not None  # it was loaded
    return _notification(identifier)


def automations(actions: list[ActionTypes], *, heartbeat_seconds: int | None) -> list[AutomationCore]:
    """The one that tells; and where runs have a heartbeat, one that finds those that were killed and could not say so."""
    of_ours: dict[str, str | list[str]] = {"prefect.resource.role": "flow", "prefect.resource.name": FLOWS}
    runs: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
    told = AutomationCore(
        name="graftline: a run needs a person",
        trigger=EventTrigger(expect=events(ALARMS), match=runs, match_related=of_ours, within=timedelta(0)),
        actions=actions,
    )
    if heartbeat_seconds is None:
        return [told]
    silent = AutomationCore(
        name="graftline: a run fell silent",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat"} | events(ENDS),
            for_each={"prefect.resource.id"},
            match=runs,
            match_related=of_ours,
            within=timedelta(seconds=MISSED_HEARTBEATS * heartbeat_seconds),
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message="no sign of life: the process was killed, or its machine or the Prefect server was down",
            )
        ],
    )
    return [told, silent]


def events(states: set[str]) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in states}


def put(automation: AutomationCore) -> None:
    """In the place of those of its name."""
    with get_client(sync_client=True) as client:
        earlier = client.read_automations_by_name(automation.name)
        client.create_automation(automation)
        for each in earlier:
            client.delete_automation(each.id)


def _notification(block: UUID) -> ActionTypes:
    return SendNotification(block_document_id=block, subject=SUBJECT, body=BODY)


def _saved(block: Block) -> UUID:
    identifier = block.save(BLOCK, overwrite=True)
    assert isinstance(identifier, UUID)  # no coroutine
    return identifier


if __name__ == "__main__":
    main()
