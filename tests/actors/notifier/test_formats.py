from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.notifier.formats import TITLES, body_of, facts, summary_of, title, wire_of
from messages import Alert
from messages.alerts import AlertKind
from tests.messages.samples import EXAMPLES

ALERT = next(one for one in EXAMPLES if isinstance(one, Alert))
WORDS = st.text(max_size=4000)


def read(body: bytes) -> Any:
    return msgspec.json.decode(body)


@pytest.mark.parametrize(
    ("url", "wire"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://prod-7.westeurope.logic.azure.com:443/workflows/1/triggers?sig=x", "teams"),
        ("https://default1.2.environment.api.powerplatform.com:443/powerautomate/x", "teams"),
        ("https://acme.webhook.office.com/webhookb2/x", "teams"), ("https://alerts.example.com/in", "json"),
        ("https://hooks.slack.com.example.com/", "json"), ("https://example.com/hooks.slack.com", "json"),
        ("http://[::1", "json"), ("https://\u24db.example.com/", "json"), ("https://a\u2100b/", "json"),
    ],
)  # fmt: skip
def test_the_host_tells_the_format(url: str, wire: str) -> None:
    assert wire_of("auto", url) == wire
    assert wire_of("json", url) == "json"


def test_slack_gets_blocks_and_a_text_for_notifications() -> None:
    said = read(body_of(ALERT, "slack"))
    assert [block["type"] for block in said["blocks"]] == ["header", "section", "context"]
    assert "15 times too fast" in said["text"]
    assert "raise it" in said["blocks"][1]["text"]["text"]
    figures = [element["text"] for element in said["blocks"][2]["elements"]]
    assert "estimated prompts remaining: *120*" in figures
    assert "time to breach: *2.5 h*" in figures
    assert len(figures) <= 10


@given(WORDS, WORDS, st.text(max_size=300))
def test_slack_gets_no_more_than_it_takes_and_nothing_that_mentions(text: str, advice: str, name: str) -> None:
    alert = msgspec.structs.replace(ALERT, text=text, advice=advice, backend=name)
    said = read(body_of(alert, "slack"))
    assert "<" not in str(said)
    assert len(said["blocks"][1]["text"]["text"]) <= 3000
    assert len(said["blocks"][0]["text"]["text"]) <= 150


def test_teams_gets_an_adaptive_card_in_its_envelope() -> None:
    said = read(body_of(ALERT, "teams"))
    assert said["type"] == "message"
    (attachment,) = said["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert card["type"] == "AdaptiveCard"
    assert [part["type"] for part in card["body"]] == ["TextBlock", "TextBlock", "TextBlock", "FactSet"]
    assert {"title": "in a row", "value": "4"} in card["body"][3]["facts"]
    assert card["body"][0]["color"] == "Attention"


def test_a_name_is_no_link_in_a_card() -> None:
    alert = msgspec.structs.replace(ALERT, text="see [here](https://evil.example)")
    assert "\\[here\\]\\(" in read(body_of(alert, "teams"))["attachments"][0]["content"]["body"][1]["text"]


def test_plain_json_is_the_event() -> None:
    assert msgspec.json.decode(body_of(ALERT, "json"), type=Alert) == ALERT
    assert read(body_of(ALERT, "json"))["kind"] == "burn_rate"


def test_what_is_not_known_is_not_shown() -> None:
    bare = Alert(kind="test", cause="1", severity="warning", text="A test.", at=1.0)
    assert facts(bare) == []
    assert [block["type"] for block in read(body_of(bare, "slack"))["blocks"]] == ["header", "section"]
    assert [part["type"] for part in read(body_of(bare, "teams"))["attachments"][0]["content"]["body"]] == [
        "TextBlock", "TextBlock",
    ]  # fmt: skip
    assert title(bare).endswith("Test")


def test_every_kind_has_a_title() -> None:
    assert set(TITLES) == set(get_args(AlertKind))


def test_what_was_left_out_is_one_line() -> None:
    counts = {"latency_warning": 11, "budget_soft": 1}
    line = "12 more alerts were left out in the last minute: 1 budget_soft, 11 latency_warning."
    assert read(summary_of(counts, "slack", 5.0)) == {"text": line}
    assert read(summary_of(counts, "teams", 5.0))["attachments"][0]["content"]["body"][0]["text"] == line
    assert read(summary_of(counts, "json", 5.0)) == {
        "type": "turnout.left_out", "text": line, "left_out": counts, "at": 5.0,
    }  # fmt: skip
    assert "1 more alert was left out" in read(summary_of({"test": 1}, "json", 5.0))["text"]
