"""The texts of alarms, as the Prefect server makes them."""

import json
from types import SimpleNamespace

import pytest
from prefect.server.utilities.user_templates import render_user_template_sync

from flows.server.automations import BODY, PAYLOAD

EVIL = "class <!channel> <a href=http://evil>x</a> & [x](http://evil) @all `y` is lost"


@pytest.fixture
def run(monkeypatch):
    """Fill a template as an automation does for a failed run."""
    state = SimpleNamespace(name="Failed", message=EVIL)
    context = {"flow": SimpleNamespace(name="retrain"), "flow_run": SimpleNamespace(name="r", state=state)}
    plain = {"flow_run|ui_url": '"http://here"'}

    def fill(template):
        for name, value in plain.items():
            template = template.replace(name, value)
        return render_user_template_sync(template, context)

    return fill


def test_mail_holds_the_message_as_a_quotation_without_markup(run):
    said = run(BODY)
    assert said.startswith("retrain is failed: `class ‹!channel› ‹a href=http://evil›x‹/a› + [x]")
    assert said.count("`") == 2
    assert said.endswith("http://here")


def test_json_of_a_webhook_holds_no_markup_and_quotes_the_message(run):
    payload = json.loads(run(PAYLOAD))
    assert not set("<>&") & set("".join(payload.values()))
    assert payload["text"].count("`") == 2
    assert payload["message"].endswith("'y' is lost")
