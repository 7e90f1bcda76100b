"""Settings of what is watched and whom it is told: latency targets, webhooks, and thresholds from the environment."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from messages import Value
from messages.alerts import AlertKind, Of, Severity

WEBHOOK_VARIABLE = "GUARDRAIL_ALERT_WEBHOOK"
"""Holds the URL of a webhook that is told everything, beside those of the settings."""
THRESHOLD_SUFFIX = "_BILLING_ALERT_THRESHOLD"
"""`OPENAI_BILLING_ALERT_THRESHOLD=100`: tell when a calendar month at that provider has cost so many dollars."""
BILLING = "billing-"
"""How the names of the budgets begin that count for such thresholds."""
BILLING_LIMIT = 10**15
"""Their limit in micro-dollars, a billion dollars: they count, and never stop anything."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")

Format = Literal["auto", "slack", "teams", "json"]


class LatencyTarget(Value, forbid_unknown_fields=True):
    """How long calls may take. It is a wish: a breach is told, and nothing is stopped for it."""

    name: str = ""
    """Its name; empty: made from the rest, `model:llama3.1/whole`."""
    tenant: str = ""
    """Only calls of this tenant; empty: of all."""
    workflow: str = ""
    """Only calls of this workflow; empty: of all."""
    step: str = ""
    """Only calls of this step of the workflow; empty: of all."""
    backend: str = ""
    """Only calls on this backend; empty: on each."""
    model: str = ""
    """Only calls of this model, as its backend calls it; empty: of each."""
    of: Of = "whole"
    """`whole` call, or time to the `first_token`."""
    target_seconds: float
    """A call that takes longer misses the target."""
    alert_after: int = 3
    """More breaches in a row than this are an alert: by default the fourth is."""

    def __post_init__(self) -> None:
        """Give it a name when it has none."""
        if not self.name:
            fields = ("tenant", "workflow", "step", "backend", "model")
            named = [f"{field}:{value}" for field in fields if (value := getattr(self, field))]
            msgspec.structs.force_setattr(self, "name", "/".join([*(named or ["all"]), self.of]))


class Webhook(Value, forbid_unknown_fields=True):
    """Somebody who is told of alerts by HTTP."""

    name: str
    """Its name, as it is logged."""
    url_env: str = ""
    """Name of the environment variable that holds the URL: who knows the URL of a chat's webhook can write there."""
    url: str = ""
    """The URL itself, where it is no secret: a plain endpoint of one's own."""
    format: Format = "auto"
    """`slack`, `teams` or `json`; `auto`: as the URL's host tells."""
    kinds: tuple[AlertKind, ...] = ()
    """Only these kinds; empty: all."""
    severity: Severity = "warning"
    """The least severity that is told."""
    tenant: str = ""
    """Only alerts of this tenant; empty: all."""
    secret_env: str = ""
    """Name of the environment variable that holds the secret for signing; empty: nothing is signed."""
    allow_private: bool = False
    """Whether it may lie in a private network or on this host."""
    per_minute: Annotated[int, msgspec.Meta(ge=1)] = 20
    """At most so many are posted per minute; the rest is counted and told in one line."""


def webhooks_of(webhooks: tuple[Webhook, ...], environment: Mapping[str, str]) -> tuple[Webhook, ...]:
    """The webhooks of the settings, and that of the environment."""
    if not environment.get(WEBHOOK_VARIABLE) or any(one.url_env == WEBHOOK_VARIABLE for one in webhooks):
        return webhooks
    return (*webhooks, Webhook(name=WEBHOOK_VARIABLE, url_env=WEBHOOK_VARIABLE))


def thresholds(environment: Mapping[str, str]) -> dict[str, int]:
    """Thresholds in micro-dollars by provider in small letters. Raises ValueError for what is no amount."""
    found: dict[str, int] = {}
    for name, text in sorted(environment.items()):
        provider = name.removesuffix(THRESHOLD_SUFFIX).lower()
        if not name.endswith(THRESHOLD_SUFFIX) or not provider or not text.strip():
            continue
        try:
            amount = Decimal(text.strip().removeprefix("$")) * 1_000_000
        except InvalidOperation:
            amount = Decimal(0)
        if not amount.is_finite() or not 1 <= amount <= BILLING_LIMIT:
            raise ValueError(f"{name} is {text!r}: give dollars per month, more than 0, for example 100")
        found[provider] = int(amount)
    return found


def of_targets(targets: tuple[LatencyTarget, ...]) -> Iterator[str]:
    """What can't be meant in latency targets, each as `latency_targets[n].field is value: what would be right`."""
    for number, target in enumerate(targets):
        at = f"latency_targets[{number}]"
        if not 0 < target.target_seconds < math.inf:
            yield f"{at}.target_seconds is {target.target_seconds:g}: use more than 0"
        if target.alert_after < 0:
            yield f"{at}.alert_after is {target.alert_after}: use 0 (each breach is an alert) or more"
        if target.step and not target.workflow:
            yield f"{at}.step is {target.step!r}: name its workflow too"
        if not target.name.isprintable() or len(target.name) > 128:
            yield f"{at}.name is {target.name!r}: use at most 128 printable characters"
        if target.name in [other.name for other in targets[:number]]:
            yield f"{at}.name is {target.name!r}: another target has it; give every target a name of its own"


def of_webhooks(webhooks: tuple[Webhook, ...]) -> Iterator[str]:
    """What can't be meant in webhooks. The texts never hold a URL."""
    for number, webhook in enumerate(webhooks):
        at = f"webhooks[{number}]"
        if not 0 < len(webhook.name) <= 64 or not webhook.name.isprintable():
            yield f"{at}.name is {webhook.name!r}: use 1 to 64 printable characters"
        if webhook.name in [other.name for other in webhooks[:number]]:
            yield f"{at}.name is {webhook.name!r}: another webhook has it; give every webhook a name of its own"
        if bool(webhook.url) == bool(webhook.url_env):
            yield f"{at}: give url_env (the name of the variable that holds the URL), or url where it is no secret"
        for field in ("url_env", "secret_env"):
            # Not repeated, since it may be the secret itself; nor is it logged as the name of a variable later.
            if getattr(webhook, field) and not _VARIABLE.fullmatch(getattr(webhook, field)):
                yield f"{at}.{field} is no name of an environment variable: put the secret there, and its name here"
        if webhook.url and not _is_plain(webhook):
            yield f"{at}.url: whoever knows it can write there, so put it in the environment and name the variable in url_env"


def _is_plain(webhook: Webhook) -> bool:
    """Whether the URL may be written down: a plain endpoint that carries no secret, or one on this host."""
    try:
        parts = urlsplit(webhook.url)
        host = parts.hostname or ""
    except ValueError:
        return True  # Wrong, but no secret: the sender says what is wrong with it.
    if host in LOOPBACK:
        return True
    return webhook.format == "json" and not parts.query and "@" not in parts.netloc
