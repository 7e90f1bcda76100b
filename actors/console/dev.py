"""`turnout dev`: everything in one process, with a NATS server of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors import node
from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.process import news_line, serve
from actors.console.reach import HERE, URL_FILE, URL_VARIABLE, Where, reach_patiently
from actors.console.refusing import Refusing
from actors.console.screen import Complaint, err, log_to_screen, out, shown
from actors.console.stop import Stop
from actors.settings import Settings
from bus import codec
from bus.bus import Bus, Signal
from bus.private import private_directory, write_private
from bus.server import NatsServer, ServerError
from messages import ExecutorAlive

BEAT_SECONDS = 2.3
"""Every executor is heard within this time."""

TOKEN_FILE = "nats.token"  # noqa: S105  # Its name.
"""In the data directory: what the development server asks for."""


def dev(
    *,
    nats_port: Annotated[int | None, Parameter(help="Port of the NATS server; 0: any free one. [4222]")] = None,
    nats_token: Annotated[
        bool, Parameter(help="Ask who connects to the NATS server for the token in the data directory.")
    ] = True,
    sync: Annotated[bool, Parameter(help="Survive power loss too: sync every write to the disk.")] = False,
    discover: Annotated[bool, Parameter(help="Look for local servers and for keys in the environment.")] = True,
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"], help="Log what the parts do.")] = False,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Run everything in one process: NATS server, all rooms, and whatever backends are found here."""
    log_to_screen(logging.INFO if verbose else logging.WARNING)
    flags = {
        ("nats", "port"): nats_port,
        ("nats", "token"): None if nats_token else False,
        ("nats", "sync"): "always" if sync else None,
        ("discover",): None if discover else False,
    }
    settings = where.settings(flags)
    if not (settings.nats.url or settings.instance):
        # There is one per data directory, so its next start is known to be the same one, and what it ran is given up at once.
        settings = msgspec.structs.replace(settings, instance=f"{socket.gethostname()}-dev")
    return play(_dev(settings, where, output))


async def _dev(settings: Settings, where: Where, output: Output) -> int:
    stop, told = Stop(), output.stream()
    data = Path(settings.data_dir)
    async with _server(settings, stop) as (url, server), _bus(url, server, settings, stop) as bus:
        discovery = node.discovery(settings, bus.now, environment=os.environ)
        told.put({"event": "starting", "nats": shown(url)})
        await _say_others(bus, settings, where, embedded=server is not None)
        if not output.machine:
            out.print(Text.assemble(("turnout ", "bold"), "is starting; NATS at ", (shown(url), "bold cyan")))
            out.print("backends:", style="bold")
        for news in await discovery.look():
            news_line(news, told)
        if not output.machine:
            _say_keys(discovery)

        async def ready() -> None:
            told.put({"event": "ready", "nats": shown(url), "data": settings.data_dir})
            if not output.machine:
                _say_how(data, where, url)

        code = await serve(
            bus,
            settings,
            node.ALL_ROOMS,
            stop=stop,
            discovery=discovery,
            history=data / "history.sqlite",
            ready=ready,
            told=told,
        )
    told.put({"event": "stopped", "code": code})
    told.close()
    if not output.machine:
        out.print("stopped", style="dim")
    return code


async def _say_others(bus: Bus, settings: Settings, where: Where, *, embedded: bool) -> None:
    """Say that the server is not one of ours, and that others run here already: two nodes share the work of one bus."""
    if embedded:
        return
    source = (
        "--nats"
        if where.nats
        else URL_VARIABLE
        if os.environ.get(URL_VARIABLE)
        else str(where.config or "the settings")
    )
    way = f"unset {URL_VARIABLE}" if source == URL_VARIABLE else "leave it out"
    text = f"{source} names a NATS server, so none is started here; to have one of its own: {way}"
    err.print(text, style="yellow", soft_wrap=True)
    there = await others(bus, settings.instance)
    if there:
        text = f"turnout runs on that bus already ({', '.join(there)}): this process shares its work. To only use it, "
        err.print(
            text + "`turnout submit`, `watch` and all others do without `turnout dev`", style="yellow", soft_wrap=True
        )


async def others(bus: Bus, instance: str) -> list[str]:
    """Who runs parts of turnout on this bus, as heartbeats tell."""
    heard: set[str] = set()

    async def on_signal(signal: Signal) -> None:
        with contextlib.suppress(codec.Undecodable):
            heard.add(codec.decode(ExecutorAlive, signal.data, signal.headers).instance)

    listening = await bus.subscribe(ExecutorAlive.channel.pattern, on_signal)
    await asyncio.sleep(BEAT_SECONDS)
    await listening.stop()
    return sorted(heard - {instance})


@asynccontextmanager
async def _bus(url: str, server: NatsServer | None, settings: Settings, stop: Stop) -> AsyncGenerator[Bus]:
    """A connection to it; where the server is our own, whoever publishes a job it can't store is told so."""
    async with reach_patiently(
        url, "turnout dev", lambda bus: node.set_up(bus, settings), name="turnout-dev", stopped=stop.wanted,
        wait_seconds=0.0 if server is not None else settings.nats.wait_seconds,
    ) as bus:  # fmt: skip
        refusing = Refusing(bus, server.guard) if server is not None else None
        try:
            yield bus
        finally:
            if refusing is not None:
                await refusing.close()


@asynccontextmanager
async def _server(settings: Settings, stop: Stop) -> AsyncGenerator[tuple[str, NatsServer | None]]:
    """The URL of a server: our own, with that, or the one that the settings name."""
    data = Path(settings.data_dir)
    try:
        private_directory(data)
        token = _token(data) if settings.nats.token and not settings.nats.url else ""
    except OSError as error:
        raise Complaint(f"data directory {data}: {error.strerror}", hint="--data-dir names another one") from None
    if settings.nats.url:
        yield settings.nats.url, None
        return
    server = NatsServer(
        data / "nats", port=settings.nats.port, sync=settings.nats.sync, token=token, on_failure=stop.fail
    )
    try:
        await server.start()
    except ServerError as error:
        raise Complaint(str(error), hint=_way_out(str(error), data)) from None
    file = data / URL_FILE
    try:
        write_private(file, server.url + "\n")
        yield server.url, server
    finally:
        with contextlib.suppress(OSError):
            file.unlink()
        await server.stop()


def _token(data: Path) -> str:
    """What whoever connects to our server must know: made once, so that it is the same after every start. Raises OSError."""
    file = data / TOKEN_FILE
    with contextlib.suppress(FileNotFoundError):
        if known := file.read_text(encoding="utf-8").strip():
            return known
    token = secrets.token_urlsafe(24)
    write_private(file, token + "\n")
    return token


def _way_out(error: str, data: Path) -> str:
    if "is taken" in error:
        return "`turnout dev --nats-port 0` takes any free port; or use the server there: `turnout dev --nats URL`"
    if "in use" in error:
        return f"a `turnout dev` runs with {data} already: use it, or start a second one with --data-dir OTHER"
    return "`turnout doctor` looks what is missing"


def _say_keys(discovery: node.Discovery) -> None:
    for key in discovery.keys_here():
        if not key.usable:
            text = f"  - {key.variable} found; {key.provider} needs an address too: write it into the settings as a backend"
            out.print(text, style="dim", soft_wrap=True)
    if not discovery.served:
        out.print(
            "  none yet. Looking again every 5 s: start Ollama, vLLM, llama.cpp, LM Studio or ComfyUI,",
            style="yellow",
            soft_wrap=True,
        )
        out.print(
            "  set OPENAI_API_KEY and start again, or try a simulated one in a second terminal:",
            style="yellow",
            soft_wrap=True,
        )
        out.print("    turnout sim-backend --port 8000", style="bold")


def _say_how(data: Path, where: Where, url: str) -> None:
    more = f" --data-dir {where.data_dir}" if where.data_dir and not where.nats else ""
    out.print("ready. In another terminal:", style="bold green")
    out.print(f"  turnout submit 'write a haiku about trains'{more}", style="bold")
    out.print(f"  turnout watch{more}        every decision as it is made")
    out.print(f"  turnout backends{more}     what is there and how it does")
    out.print('any NATS client can publish a job on job.submit.default, such as {"prompt": "hello"}', soft_wrap=True)
    out.print(f'  eval "$(turnout env{more})"     its address for them: {url}', soft_wrap=True, highlight=False)
    out.print(f"data in {data.resolve()}; Ctrl-C stops", style="dim", soft_wrap=True)
