"""A node as a process: open the host, wait for a signal or a failure, leave, drain, close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from actors import node
from actors.console.output import Stream
from actors.console.screen import FAILED, INTERRUPTED, OK, clean, count, err, out
from actors.console.stop import Stop
from actors.host import Host
from actors.settings import Settings
from bus.bus import Bus, BusClosed, BusUnavailable

log = logging.getLogger("turnout.console")

LOOK_FIRST_SECONDS = 5.0
"""While there is no backend at all, somebody probably waits for one."""
LOOK_BACK_SECONDS = 0.5
"""Until it is noticed that a backend is back, whose models must be asked for."""


def instance_name(settings: Settings) -> str:
    """This process's name on the bus."""
    return settings.instance or f"{socket.gethostname()}-{os.getpid()}"


def news_line(news: Any, told: Stream | None = None) -> None:
    """Show what discovery found; to machines, by `told`."""
    if told is not None and told.to.machine:
        told.put({"event": "backend", "kind": news.kind, "backend": news.backend, "text": news.text})
        return
    mark, style = {"found": ("+", "green"), "changed": ("~", "cyan"), "trouble": ("!", "yellow")}[news.kind]
    out.print(Text.assemble((f"  {mark} ", style), (news.backend, "bold"), f"  {clean(news.text)}"), soft_wrap=True)


async def keep_looking(discovery: node.Discovery, stop: Stop, told: Stream | None = None) -> None:
    """Look again for backends, for as long as the process lives."""
    while not stop.wanted.is_set():
        every = discovery.settings.health_interval_seconds
        pause = every if discovery.served else min(LOOK_FIRST_SECONDS, every)
        while pause > 0 and not discovery.back:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wanted.wait(), min(pause, LOOK_BACK_SECONDS))
                return
            pause -= LOOK_BACK_SECONDS
        try:
            for news in await discovery.look():
                news_line(news, told)
        except Exception:
            log.exception("looking for backends failed")


async def serve(
    bus: Bus,
    settings: Settings,
    names: Sequence[str],
    *,
    stop: Stop,
    discovery: node.Discovery,
    history: Path | str,
    ready: Callable[[], Awaitable[None]],
    told: Stream | None = None,
) -> int:
    """Run these rooms until the process is asked to stop or can't go on; the exit code. `ready` runs once they hear."""
    rooms = node.build(
        names, bus, settings, served=discovery.served, history=history, environment=os.environ, gpus=node.gpus_here(),
    )  # fmt: skip
    host = node.host(bus, rooms, settings, instance=instance_name(settings), boot=secrets.token_hex(6))
    await host.open()
    node.spare_collector()
    assert host.failed is not None
    host.failed.add_done_callback(lambda failed: None if failed.cancelled() else stop.fail(failed.result()))
    looking = asyncio.create_task(keep_looking(discovery, stop, told)) if "executor" in names else None
    try:
        await ready()
        await stop.wanted.wait()
        return await _drain(host, settings, stop)
    finally:
        if looking is not None:
            looking.cancel()
        await host.close()


async def _drain(host: Host, settings: Settings, stop: Stop) -> int:
    if stop.reason:
        err.print(f"stopping: {stop.reason}", style="bold red", soft_wrap=True)
        return FAILED
    at_once = asyncio.create_task(stop.at_once.wait())
    draining = asyncio.create_task(_leave(host, settings))
    if host.in_hand:
        text = f"finishing {count(host.in_hand, 'message')} in hand, at most {settings.drain_seconds:g} s"
        err.print(f"{text} (again to stop at once)", style="dim")
    await asyncio.wait({draining, at_once}, return_when=asyncio.FIRST_COMPLETED)
    at_once.cancel()
    if draining.done():
        draining.result()
    else:
        draining.cancel()
    if host.in_hand:
        err.print(f"{count(host.in_hand, 'message')} not finished; they are taken up again later", style="yellow")
    return OK if draining.done() else INTERRUPTED


async def _leave(host: Host, settings: Settings) -> None:
    with contextlib.suppress(BusUnavailable, BusClosed):
        await node.leave(host)
        await host.drain(settings.drain_seconds)
