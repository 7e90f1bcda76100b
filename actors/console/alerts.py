"""`turnout alerts`: what was told lately, to whom, and whether webhooks work."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import defaultdict
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.alert_settings import webhooks_of
from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, reach
from actors.console.rebalance import user
from actors.console.screen import FAILED, OK, Complaint, Wrong, clean, count, err, one_line, out, since
from bus import codec
from bus.bus import Bus, Signal
from messages import Alert, Notified
from messages.alerts import NOBODY

PATIENCE_SECONDS = 13.0
"""A post takes ten seconds at most."""
MARKS = {"sent": ("✔", "green"), "left_out": ("·", "dim"), "gave_up": ("✘", "red"), "refused": ("✘", "red")}


def alerts(
    *,
    test: Annotated[
        bool, Parameter(help="Send a test to every webhook, and show what became of it.", negative="")
    ] = False,
    tenant: Annotated[str, Parameter(help="Only this tenant's; `-`: only those of no tenant. [all]")] = "",
    limit: Annotated[int, Parameter(help="At most so many, the latest.")] = 20,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Show what was told lately about budgets, latency and breakers, and which webhooks know of it.

    Exit codes: 0 fine, 1 a test did not reach every webhook, 2 wrong usage, 3 no bus.
    """
    if limit < 1:
        raise Wrong(f"--limit is {limit}: use 1 or more")
    if test and tenant:
        raise Wrong("--test goes to every webhook: leave --tenant out")
    return play(_test(where, output) if test else _list(tenant, limit, where, output))


# ---------------------------------------------------------------------------------------------------- looking


async def _list(tenant: str, limit: int, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        told = await recent(bus, tenant, limit)
        notices = await notices_of(bus, tenant)
        now = bus.now()
    if output.machine:
        places = [(alert.tenant, alert.kind, alert.cause) for alert in told]
        rows = zip(told, places, strict=True)
        output.rows({**msgspec.to_builtins(alert), "notices": notices.get(place, [])} for alert, place in rows)
        return OK
    for alert in told:
        out.print(line(alert, now), soft_wrap=True)
        known = notices.get((alert.tenant, alert.kind, alert.cause), [])
        if known:
            out.print(Text.assemble(" " * 9, *map(notice, known)), soft_wrap=True)
    if not told:
        err.print("nothing was told in the last seven days")
    return OK


async def recent(bus: Bus, tenant: str, limit: int) -> list[Alert]:
    """The latest alerts that are kept, in order."""
    key = Alert.channel.key_of(tenant=tenant) if tenant else Alert.channel.pattern
    found = [codec.decode(Alert, record.data, record.headers) async for record in bus.read(Alert.channel.stream, key)]
    return found[-limit:]


async def notices_of(bus: Bus, tenant: str = "") -> dict[tuple[str, str, str], list[Notified]]:
    """What became of each alert at each webhook."""
    key = Notified.channel.key_of(tenant=tenant) if tenant else Notified.channel.pattern
    found: defaultdict[tuple[str, str, str], list[Notified]] = defaultdict(list)
    async for record in bus.read(Notified.channel.stream, key):
        one = codec.decode(Notified, record.data, record.headers)
        found[one.tenant, one.kind, one.cause].append(one)
    return found


def line(alert: Alert, now: float) -> Text:
    """One alert."""
    style = "red" if alert.severity == "alert" else "yellow"
    whose = f" ({clean(alert.tenant)})" if alert.tenant != NOBODY else ""
    return Text.assemble(
        (f"{since(alert.at, now)} ", "dim"), (f"{alert.kind:<16} ", style), one_line(alert.text, 400), (whose, "dim"),
        (f"  → {one_line(alert.advice)}" if alert.advice else "", "magenta"),
    )  # fmt: skip


def notice(notified: Notified) -> Text:
    """What became of it at one webhook."""
    mark, style = MARKS[notified.notice]
    return Text(
        f"{mark} {clean(notified.webhook)}{': ' + one_line(notified.reason) if notified.reason else ''}  ", style
    )


# ----------------------------------------------------------------------------------------------------- trying


async def _test(where: Where, output: Output) -> int:
    expected = {webhook.name for webhook in webhooks_of(where.settings().webhooks, os.environ)}
    async with reach(where) as bus:
        await check_there(bus)
        told = await try_webhooks(bus, expected, PATIENCE_SECONDS)
    if not told:
        raise Complaint(
            "no webhook was told: nobody runs the notifier on this bus, or it knows no webhook",
            hint="`turnout run notifier` with [[webhooks]] in its settings, or GUARDRAIL_ALERT_WEBHOOK in its environment",
        )
    if output.machine:
        output.rows(told)
    for one in told if not output.machine else ():
        mark, style = MARKS[one.notice]
        how = one.reason or f"answered {one.status}"
        out.print(
            Text.assemble((f"{mark} ", style), (clean(one.webhook), "bold"), f": {one_line(how)}"), soft_wrap=True
        )
    silent = expected - {one.webhook for one in told}
    if silent:
        err.print(
            f"{count(len(silent), 'webhook')} of these settings not known to the notifier: {clean(', '.join(sorted(silent)))}"
        )
    return OK if not silent and all(one.notice == "sent" for one in told) else FAILED


async def try_webhooks(bus: Bus, expected: set[str], patience_seconds: float) -> list[Notified]:
    """What became of a test alert, by webhook; waits for the expected ones and a moment for others.

    When none are expected nobody knows which ones there are, and the slowest may be the one that fails: then it waits as long
    as it may.
    """
    told: dict[str, Notified] = {}
    enough = asyncio.Event()
    now = bus.now()
    alert = Alert(
        kind="test", cause=f"test/{user()}/{now:.3f}", severity="warning", at=now,
        text=f"This is a test by {user()}: alerts of turnout arrive here.",
    )  # fmt: skip

    async def on_signal(signal: Signal) -> None:
        one = codec.decode(Notified, signal.data, signal.headers)
        told[one.webhook] = one
        if expected and expected <= set(told):
            enough.set()

    pattern = "job" + Notified.channel.key_of(kind="test", cause=alert.cause).removeprefix("ev")
    listening = await bus.subscribe(pattern, on_signal)
    await bus.publish(alert.subject, codec.encode(alert), msg_id=alert.subject, first_writer=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(enough.wait(), patience_seconds)
        await asyncio.sleep(0.3)
    await listening.stop()
    return [told[name] for name in sorted(told)]
