"""The automations on the Prefect server that raise an alarm when a run fails, crashes or waits for approval.

An automation calls a webhook, sends an e-mail, or uses a saved notification block. The addresses are secrets: Prefect
blocks keep them, encrypted.
"""

import os
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
from prefect.types import SecretDict
from pydantic import SecretStr

from flows.server.alarms import AGAIN

WEBHOOK = "GRAFTLINE_WEBHOOK"
EMAIL = "GRAFTLINE_EMAIL"
BLOCK = "graftline"  # the name of the block that keeps an address
FLOWS = ["retrain", "ingest", "watch"]
# a rejected candidate fails its run; a candidate that waits for approval suspends it
ALARMS = {"Failed", "Crashed", "TimedOut", "Suspended"}
ENDS = {"Completed", "Failed", AGAIN, "Crashed", "TimedOut", "Cancelled", "Suspended"}
MISSED_HEARTBEATS = 3

# the message may have names of a stranger: no reader must take it for HTML, Markdown, a link or a call of everybody
MESSAGE = '(flow_run.state.message or "")|replace("&", "+")|replace("<", "‹")|replace(">", "›")|replace("`", "\'")'
QUOTED = f'("`" ~ {MESSAGE} ~ "`")'  # as code, in which Markdown renders nothing
SUBJECT = "Graftline: {{ flow.name }} is {{ flow_run.state.name|lower }}"
BODY = f"{{{{ flow.name }}}} is {{{{ flow_run.state.name|lower }}}}: {{{{ {QUOTED} }}}}\n{{{{ flow_run|ui_url }}}}"
# Slack, Mattermost and similar programs show `text`
PAYLOAD = (
    '{"text": {{ (flow.name ~ " is " ~ flow_run.state.name|lower ~ ": " ~ ' + QUOTED + " "
    '~ " " ~ flow_run|ui_url)|tojson }}, '
    '"flow": {{ flow.name|tojson }}, "run": {{ flow_run.name|tojson }}, "state": {{ flow_run.state.name|tojson }}, '
    '"message": {{ (' + MESSAGE + ')|tojson }}, "url": {{ flow_run|ui_url|tojson }}}'
)


def by_environment() -> list[ActionTypes]:
    """Return an action for each address that is set. Raises ValueError where none is."""
    ways = {WEBHOOK: by_webhook, EMAIL: by_email}
    actions = [way(os.environ[variable]) for variable, way in ways.items() if os.environ.get(variable)]
    if not actions:
        raise ValueError(f"neither {WEBHOOK} nor {EMAIL} is set: export the address, or name a --block")
    return actions


def by_webhook(address: str) -> ActionTypes:
    """Save the address in a block, and return the action that calls it.

    Raises:
        ValueError: it is not the address of a webhook; the message does not show it.
    """
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # its message would show the address
        is_address = False
    if not is_address:
        raise ValueError(f"{WEBHOOK} is not the address of a webhook, expected https://… (the value is not shown)")
    block = Webhook(url=SecretStr(address), headers=SecretDict({"Content-Type": "application/json"}))
    return CallWebhook(block_document_id=_saved(block), payload=PAYLOAD)


def by_email(address: str) -> ActionTypes:
    """Save the address, which has the mail server and its password, in a block, and return the action that mails.

    Raises:
        ValueError: it is not the address of a mail server; the message does not show it.
    """
    from apprise import Apprise

    is_address = address.startswith(("mailto://", "mailtos://"))
    mail = Apprise.instantiate(address) if is_address else None
    if not getattr(mail, "targets", None):  # Apprise accepts an address without a receiver
        raise ValueError(
            f"{EMAIL} is not the address of a mail server, expected "
            "mailtos://user:password@smtp.example.org?from=…&to=… (the value is not shown)"
        )
    # this block of Prefect's passes an address that is not Slack's to Apprise as it is, and Apprise sends the mail
    return _notification(_saved(SlackWebhook(url=SecretStr(address))))


def by_block(name: str) -> ActionTypes:
    """Return the action that uses a saved block. Raises ValueError where there is none, or it cannot notify."""
    try:
        block = Block.load(name)
    except ValueError as error:
        raise ValueError(f"no block {name} is saved: `prefect block ls` lists the saved blocks") from error
    if not isinstance(block, NotificationBlock):
        raise ValueError(
            f"{name} is not a notification block, expected one such as sendgrid-email/alarm or slack-webhook/alarm"
        )
    identifier = block._block_document_id
    assert identifier is not None  # it was loaded
    return _notification(identifier)


def automations(actions: list[ActionTypes], *, heartbeat_seconds: int | None) -> list[AutomationCore]:
    """Return the automation that raises alarms and, if runs have a heartbeat, one that detects killed runs."""
    our_flows: dict[str, str | list[str]] = {"prefect.resource.role": "flow", "prefect.resource.name": FLOWS}
    runs: dict[str, str | list[str]] = {"prefect.resource.id": "prefect.flow-run.*"}
    alarm = AutomationCore(
        name="graftline: a run needs a person",
        trigger=EventTrigger(expect=events(ALARMS), match=runs, match_related=our_flows, within=timedelta(0)),
        actions=actions,
    )
    if heartbeat_seconds is None:
        return [alarm]
    silence = AutomationCore(
        name="graftline: a run fell silent",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat"} | events(ENDS),
            for_each={"prefect.resource.id"},
            match=runs,
            match_related=our_flows,
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
    return [alarm, silence]


def events(states: set[str]) -> set[str]:
    """Return the names of the events that report these states."""
    return {f"prefect.flow-run.{name}" for name in states}


def put(automation: AutomationCore) -> None:
    """Create the automation, and delete earlier ones of its name."""
    with get_client(sync_client=True) as client:
        earlier = client.read_automations_by_name(automation.name)
        client.create_automation(automation)
        for replaced in earlier:
            client.delete_automation(replaced.id)


def _notification(block: UUID) -> ActionTypes:
    return SendNotification(block_document_id=block, subject=SUBJECT, body=BODY)


def _saved(block: Block) -> UUID:
    identifier = block.save(BLOCK, overwrite=True)
    assert isinstance(identifier, UUID)  # it would be a coroutine in an asynchronous flow
    return identifier
