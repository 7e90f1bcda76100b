"""`turnout run` and `turnout setup`: chosen parts against a NATS server of one's own."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from actors import node
from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.process import instance_name, news_line, serve
from actors.console.reach import HERE, Where, address, reach_patiently, reach_url
from actors.console.screen import OK, Complaint, Wrong, log_to_screen, out, shown
from actors.console.stop import Stop
from actors.settings import Settings
from bus.private import private_directory

Rooms = Literal["together", "apart"]
Level = Literal["debug", "info", "warning", "error"]


def run(
    *parts: Annotated[str, Parameter(help=f"What to run here: {', '.join(node.PARTS)}.", required=True)],
    rooms: Annotated[Rooms | None, Parameter(help="Front in one process, or its rooms apart. [together]")] = None,
    instance: Annotated[str | None, Parameter(help="Name of this process on the bus. [host and process id]")] = None,
    discover: Annotated[bool, Parameter(help="Executor: look for local servers and keys.")] = True,
    wait: Annotated[float | None, Parameter(help="Seconds to wait for the NATS server at the start. [300]")] = None,
    log: Annotated[Level, Parameter(help="How much to log.")] = "info",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Run parts of turnout against a NATS server; start more of them for more throughput."""
    log_to_screen(logging.getLevelNamesMapping()[log.upper()])
    flags = {
        ("rooms",): rooms,
        ("instance",): instance,
        ("discover",): None if discover else False,
        ("nats", "wait_seconds"): wait,
    }
    settings = where.settings(flags)
    return play(_run(node.check_parts(parts, settings), settings, where, output))


async def _run(names: tuple[str, ...], settings: Settings, where: Where, output: Output) -> int:
    stop, told = Stop(), output.stream()
    url, source = address(settings, where)
    data = Path(settings.data_dir)
    try:
        private_directory(data)  # Once, at the start.
    except OSError as error:
        raise Complaint(f"data directory {data}: {error.strerror}", hint="--data-dir names another one") from None
    async with reach_patiently(
        url, source, lambda bus: node.set_up(bus, settings), name=f"turnout-{instance_name(settings)}",
        replicas=settings.nats.replicas, wait_seconds=settings.nats.wait_seconds, stopped=stop.wanted,
    ) as bus:  # fmt: skip
        discovery = node.discovery(settings, bus.now, environment=os.environ)
        if "executor" in names:
            for news in await discovery.look():
                news_line(news, told)
            if not discovery.served and not output.machine:
                out.print("no backend found yet; looking again every 5 s (`turnout doctor` tells more)", style="yellow")

        async def ready() -> None:
            told.put({"event": "ready", "instance": instance_name(settings), "parts": names, "nats": shown(url)})
            if output.machine:
                return
            out.print(
                f"{instance_name(settings)} runs {', '.join(names)} on {shown(url)}; Ctrl-C stops", soft_wrap=True
            )

        code = await serve(
            bus,
            settings,
            names,
            stop=stop,
            discovery=discovery,
            history=data / "history.sqlite",
            ready=ready,
            told=told,
        )
    told.put({"event": "stopped", "code": code})
    told.close()
    return code


def setup(
    *,
    rooms: Annotated[Rooms | None, Parameter(help="How the rooms are arranged from now on. [together]")] = None,
    replicas: Annotated[int | None, Parameter(help="Copies of each stream in a cluster: 1, 3 or 5.")] = None,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Create or update the streams and consumers. Changing --rooms is safe only while nothing runs."""
    settings = where.settings({("rooms",): rooms, ("nats", "replicas"): replicas})
    if settings.nats.replicas not in (0, 1, 3, 5):
        raise Wrong(f"--replicas is {settings.nats.replicas}", "use 1, 3 or 5")
    return play(_setup(settings, where, output))


async def _setup(settings: Settings, where: Where, output: Output) -> int:
    url, source = address(settings, where)
    async with reach_url(url, source, name="turnout-setup", replicas=settings.nats.replicas) as bus:
        await node.set_up(bus, settings, rearrange=True)
    if output.machine:
        output.one({"nats": shown(url), "rooms": settings.rooms, "replicas": settings.nats.replicas})
        return OK
    copies = f", {settings.nats.replicas} copies of each stream" if settings.nats.replicas else ""
    out.print(f"{shown(url)} is set up: rooms {settings.rooms}{copies}")
    return OK
