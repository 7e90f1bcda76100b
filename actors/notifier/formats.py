"""What is posted: Slack blocks, a Teams adaptive card, or plain JSON. Pure."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from actors.alert_settings import Format
from messages import Alert

Wire = Literal["slack", "teams", "json"]
SLACK = ("hooks.slack.com", "hooks.slack-gov.com")
TEAMS = (".logic.azure.com", ".api.powerplatform.com", ".webhook.office.com")
"""Hosts of Teams' workflow webhooks. The last is that of the old connectors, which take cards no longer but are still found."""
TITLES = {
    "budget_soft": "Budget nearly used", "budget_hard": "Budget used up", "burn_rate": "Budget is used too fast",
    "projection": "Budget will not last", "billing": "Provider's threshold reached", "latency_warning": "Call was slow",
    "latency_alert": "Calls are slow", "breaker_open": "Backend is left alone", "job_held": "A job is held", "test": "Test",
}  # fmt: skip
MOST = 2_900
"""Characters of a text: Slack takes 3,000 in a section."""


def wire_of(wanted: Format, url: str) -> Wire:
    """The format to use; `auto` looks at the URL's host."""
    if wanted != "auto":
        return wanted
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # Who posts says what is wrong with it.
        host = ""
    if host in SLACK:
        return "slack"
    return "teams" if host.endswith(TEAMS) else "json"


def body_of(alert: Alert, wire: Wire) -> bytes:
    """The alert as it is posted."""
    if wire == "slack":
        return msgspec.json.encode(slack(alert))
    return msgspec.json.encode(teams(alert) if wire == "teams" else plain(alert))


def summary_of(counts: dict[str, int], wire: Wire, at: float) -> bytes:
    """A line about alerts that were too many to be posted."""
    total = sum(counts.values())
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    text = f"{total:,} more alert{'s were' if total != 1 else ' was'} left out in the last minute: {listed}."
    if wire == "slack":
        return msgspec.json.encode({"text": text})
    if wire == "teams":
        return msgspec.json.encode(_card([{"type": "TextBlock", "text": text, "wrap": True}], text))
    return msgspec.json.encode({"type": "turnout.left_out", "text": text, "left_out": counts, "at": at})


def facts(alert: Alert) -> list[tuple[str, str]]:
    """The figures that the sentence need not hold, each with its name."""
    found: list[tuple[str, str]] = []
    if alert.tenant != "-":
        found.append(("tenant", alert.tenant))
    found += [
        (name, value) for name in ("backend", "model", "workflow", "step", "job") if (value := getattr(alert, name))
    ]
    if alert.hours_left is not None:
        found.append(("time to breach", f"{alert.hours_left:.1f} h"))
    if alert.jobs_left is not None:
        found.append(("estimated prompts remaining", f"{alert.jobs_left:,}"))
    if alert.in_row > 1:
        found.append(("in a row", str(alert.in_row)))
    if alert.left_out:
        found.append(("more not told", f"{alert.left_out:,}"))
    return found


def title(alert: Alert) -> str:
    """A few words, with how urgent it is."""
    return f"{'🔴' if alert.severity == 'alert' else '🟡'} {TITLES[alert.kind]}"


def _escaped(text: str) -> str:
    """Slack's own three characters, or a name could mention everybody or pose as a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")[:MOST]


def slack(alert: Alert) -> dict[str, Any]:
    """Block Kit: a header, the sentence, the figures."""
    said = _escaped(alert.text) + (f"\n_{_escaped(alert.advice)}_" if alert.advice else "")
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": title(alert), "emoji": True}},
        {"type": "section", "text": {"type": "mrkdwn", "text": said[:MOST]}},
    ]
    shown = facts(alert)
    if shown:
        elements = [{"type": "mrkdwn", "text": f"{name}: *{_escaped(value)[:200]}*"} for name, value in shown]
        blocks.append({"type": "context", "elements": elements[:10]})
    return {"text": f"{title(alert)}: {_escaped(alert.text)}"[:MOST], "blocks": blocks}


def teams(alert: Alert) -> dict[str, Any]:
    """An adaptive card in the envelope that the workflow "when a Teams webhook request is received" takes."""
    colour = "Attention" if alert.severity == "alert" else "Warning"
    body: list[dict[str, Any]] = [
        {
            "type": "TextBlock",
            "size": "Medium",
            "weight": "Bolder",
            "color": colour,
            "text": title(alert),
            "wrap": True,
        },
        {"type": "TextBlock", "text": _plain(alert.text), "wrap": True},
    ]
    if alert.advice:
        body.append({"type": "TextBlock", "text": _plain(alert.advice), "wrap": True, "isSubtle": True})
    shown = facts(alert)
    if shown:
        body.append({"type": "FactSet", "facts": [{"title": name, "value": _plain(value)} for name, value in shown]})
    return _card(body, alert.text)


def _plain(text: str) -> str:
    """Without the marks that cards read as links and emphasis."""
    for mark in "\\[]()*_":
        text = text.replace(mark, f"\\{mark}")
    return text[:MOST]


def _card(body: list[dict[str, Any]], fallback: str) -> dict[str, Any]:
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "fallbackText": fallback[:MOST], "body": body,
    }  # fmt: skip
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def plain(alert: Alert) -> dict[str, Any]:
    """All fields of the alert, as on the bus."""
    return msgspec.to_builtins(alert)
