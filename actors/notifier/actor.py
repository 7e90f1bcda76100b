"""Hears: Alert (a durable queue, so that none is lost over a restart). Says: Notified, once per webhook.
Never: logs a URL, follows a redirect, or calls into a private network unless that is configured.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import NamedTuple, Protocol

from actors.actor import Actor, Again, Heard, Says, every, hears
from actors.alert_settings import Webhook
from actors.journal import Journal
from actors.notifier.formats import body_of, summary_of, wire_of
from actors.notifier.pace import MOST_TRIES, Pace, wait_before
from actors.notifier.post import Outcome
from actors.notifier.signing import id_of, signed
from bus.bus import BusError
from messages import Alert, Notified
from messages.alerts import Notice

log = logging.getLogger("turnout.notifier")

LOOK_SECONDS = 1.0
"""What became of an alert could not be read: it is looked for again after this."""
STALE_SECONDS = 6 * 3600.0
"""Nobody is told of what happened longer ago: a notifier that starts after days must not flood a chat."""
MOST_WAITING = 1_000
"""So many alerts wait for another try at one webhook. Beyond it a failure is final: each of them is in flight in the queue
that all webhooks share."""
ELSEWHERE_SECONDS = 600.0
"""What has not come back so long after its time is in the hands of another notifier, or has been told."""


class Post(Protocol):
    """Posts once; see `post.post`."""

    def __call__(
        self, url: str, body: bytes, headers: Mapping[str, str], *, now: float, allow_private: bool
    ) -> Awaitable[Outcome]:
        """How it went."""
        ...


class Tried(NamedTuple):
    """How often one alert was posted to one webhook in vain, and when it is time again."""

    tries: int = 0
    not_before: float = 0.0


class Notifier(Actor):
    """Tells alerts to webhooks. What failed comes again; what a webhook has had is written down, and it is told once."""

    room = "notifier"
    summary_seconds = 60.0

    def __init__(
        self, *, webhooks: tuple[Webhook, ...], environment: Mapping[str, str], journal: Journal, post: Post
    ) -> None:
        self.webhooks = webhooks
        self.environment, self.journal, self.post = environment, journal, post
        self._tried: dict[str, dict[str, Tried]] = {webhook.name: {} for webhook in webhooks}
        """What waits for another try, by webhook and subject."""
        self._paces = {webhook.name: Pace(webhook.per_minute) for webhook in webhooks}

    @hears
    async def alert(self, alert: Alert, heard: Heard) -> Says[Notified]:
        wanted = [webhook for webhook in self.webhooks if takes(webhook, alert)]
        if not wanted or (heard.deliveries == 1 and heard.now - alert.at > STALE_SECONDS):
            return []
        told = await asyncio.gather(*(self._tell(webhook, alert, heard) for webhook in wanted), return_exceptions=True)
        for one in told:
            if isinstance(one, BaseException) and not isinstance(one, BusError):
                raise one
        # A look that failed comes again; the others are written down, or they would be told twice.
        waits = [
            one if isinstance(one, Again) else Again(LOOK_SECONDS) for one in told if isinstance(one, (Again, BusError))
        ]
        said = [one for one in told if isinstance(one, Notified)]
        return [*said, *([min(waits, key=lambda again: again.seconds)] if waits else [])]

    async def _tell(self, webhook: Webhook, alert: Alert, heard: Heard) -> Notified | Again | None:
        """One try at one webhook: what became of it, or when to try again; None when it has been told before."""
        waiting, urgent = self._tried[webhook.name], alert.severity == "alert" or alert.kind == "test"
        tried = waiting.get(alert.subject, Tried())
        if heard.now < tried.not_before:
            return Again(tried.not_before - heard.now)
        if heard.deliveries > 1:
            before = await self.journal.read(
                Notified, tenant=alert.tenant, kind=alert.kind, cause=alert.cause, webhook=webhook.name
            )
            if before is not None:
                waiting.pop(alert.subject, None)
                return None
        stale = heard.now - alert.at > STALE_SECONDS
        if tried.tries:
            wait = self._paces[webhook.name].lets_again(heard.now, urgent=urgent)
            if wait and stale:
                why = Outcome(problem="it waited too long for another try")
                return self._ended(webhook, alert, "gave_up", why, tried.tries, heard.now)
            if wait:  # Not all at once when the minute is over.
                wait = max(wait, wait_before(tried.tries, f"{webhook.name}/{alert.subject}"))
                waiting[alert.subject] = Tried(tried.tries, heard.now + wait)
                return Again(wait)
        elif not self._paces[webhook.name].lets(alert.kind, heard.now, urgent=urgent):
            return self._ended(webhook, alert, "left_out", Outcome(problem="too many in this minute"), 0, heard.now)
        outcome = await self._post(webhook, alert, heard.now)
        tries = tried.tries + 1
        if not outcome.problem:
            return self._ended(webhook, alert, "sent", outcome, tries, heard.now)
        full = alert.subject not in waiting and len(waiting) >= MOST_WAITING
        last = tries >= (1 if alert.kind == "test" else MOST_TRIES) or stale or full
        if outcome.again and not last:
            wait = wait_before(tries, f"{webhook.name}/{alert.subject}", outcome.retry_after)
            waiting[alert.subject] = Tried(tries, heard.now + wait)
            log.info("webhook %s: %s; again in %.0f s", webhook.name, outcome.problem, wait)
            return Again(wait)
        return self._ended(webhook, alert, "refused" if outcome.refused else "gave_up", outcome, tries, heard.now)

    def _ended(
        self, webhook: Webhook, alert: Alert, notice: Notice, outcome: Outcome, tries: int, now: float
    ) -> Notified:
        self._tried[webhook.name].pop(alert.subject, None)
        if notice == "sent":
            log.info("webhook %s was told of %s", webhook.name, alert.kind)
        elif notice != "left_out":
            why = outcome.problem
            log.error("webhook %s was not told of %s, after %d tries: %s", webhook.name, alert.kind, tries, why)
        return Notified(
            tenant=alert.tenant, kind=alert.kind, cause=alert.cause, webhook=webhook.name, notice=notice,
            status=outcome.status, tries=tries, reason=outcome.problem, at=now,
        )  # fmt: skip

    async def _post(self, webhook: Webhook, alert: Alert, now: float) -> Outcome:
        url = self._url(webhook)
        if not url:
            return Outcome(problem=f"the variable {webhook.url_env} holds no URL", refused=True)
        return await self._send(webhook, url, body_of(alert, wire_of(webhook.format, url)), alert.subject, now)

    async def _send(self, webhook: Webhook, url: str, body: bytes, about: str, now: float) -> Outcome:
        secret = self.environment.get(webhook.secret_env, "").strip() if webhook.secret_env else ""
        if webhook.secret_env and not secret:
            return Outcome(problem=f"the variable {webhook.secret_env} holds no secret to sign with", refused=True)
        try:
            headers = signed(body, message_id=id_of(about), at=int(now), secret=secret)
        except ValueError as error:
            return Outcome(problem=f"{webhook.secret_env}: {error}", refused=True)
        return await self.post(url, body, headers, now=now, allow_private=webhook.allow_private)

    def _url(self, webhook: Webhook) -> str:
        return webhook.url or self.environment.get(webhook.url_env, "").strip()

    @every("summary_seconds")
    async def summary(self, heard: Heard) -> None:
        """One line to each webhook about what it was not told."""
        for webhook in self.webhooks:
            waiting = self._tried[webhook.name]
            for subject in [one for one, tried in waiting.items() if heard.now - tried.not_before > ELSEWHERE_SECONDS]:
                del waiting[subject]
            pace = self._paces[webhook.name]
            counts, url = pace.left_out(), self._url(webhook)
            if not counts or not url:
                continue
            body = summary_of(counts, wire_of(webhook.format, url), heard.now)
            outcome = await self._send(webhook, url, body, f"left-out/{webhook.name}/{int(heard.now)}", heard.now)
            log.warning("webhook %s: %d alerts were left out in a minute", webhook.name, sum(counts.values()))
            if outcome.problem and outcome.again:
                pace.put_back(counts)


def takes(webhook: Webhook, alert: Alert) -> bool:
    """Whether a webhook wants to know of an alert. A test is for everybody."""
    if alert.kind == "test":
        return True
    loud_enough = alert.severity == "alert" or webhook.severity == "warning"
    return loud_enough and alert.kind in (webhook.kinds or (alert.kind,)) and webhook.tenant in ("", alert.tenant)
