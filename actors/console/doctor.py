"""`turnout doctor`: what is here, what is missing, what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.text import Text

from actors import node
from actors.console.app import play
from actors.console.budget_table import CEILING
from actors.console.budget_table import shown as money
from actors.console.output import TEXT, Output
from actors.console.publish import is_there
from actors.console.reach import HERE, Where, address, ask, knock, reach_url
from actors.console.screen import FAILED, OK, Complaint, clean, out, shown
from actors.settings import Settings
from bus import codec
from bus.bus import Bus, BusError
from bus.link import Refused
from bus.server import ServerError, find_binary
from bus.server_disk import ROOM_BYTES, Disk
from bus.timekeeper import apart
from bus.topology import EV, IN
from messages import BudgetsAre, BudgetsOf, JobRate, JobSubmit, Limit, NeedsAre, NeedsOf
from messages.fleet import whom

GOOD, BAD, SO = ("✔", "green"), ("✘", "red"), ("·", "dim")


def doctor(*, output: Output = TEXT, where: Where = HERE) -> int:
    """Look what is here and what is missing. Exit code 0 when at least one backend can be used."""
    return play(_doctor(where.settings(), where, output))


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    state: str
    """`good`, `bad`, or `so`: neither."""
    text: str
    remedy: str = ""


class Say:
    """Shows what was seen, and keeps it."""

    def __init__(self, output: Output) -> None:
        self._machine = output.machine
        self.found: list[Finding] = []

    def __call__(self, mark: tuple[str, str], what: str, text: str, remedy: str = "") -> None:
        """One thing that was looked at, and what to do about it."""
        self.found.append(Finding(what, {GOOD: "good", BAD: "bad"}.get(mark, "so"), clean(text), remedy))
        if self._machine:
            return
        line = Text.assemble(mark, f" {what:<12} ", clean(text))
        if remedy:
            line.append(f"  → {remedy}", "yellow")
        out.print(line, soft_wrap=True)


async def _doctor(settings: Settings, where: Where, output: Output) -> int:
    say = Say(output)
    _python(say)
    await _binary(say)
    _data(say, Path(settings.data_dir))
    await _gpus(say)
    _prices(say, settings)
    runs = await _bus(say, settings, where)
    await _ceilings(say, settings, where, runs=runs)
    _thresholds(say)
    usable = await _backends(say, settings)
    if output.machine:
        output.rows(say.found)
        return OK if usable else FAILED
    out.print()
    if usable:
        step = "turnout submit 'say hello'" if runs else "turnout dev"
        out.print(Text(f"{usable} usable; next: {step}", "bold green"))
        return OK
    out.print(Text("No backend can be used. Any one of these is enough:", "bold red"))
    out.print("  · install Ollama and run `ollama pull llama3.2`, or start vLLM, llama.cpp or LM Studio")
    out.print("  · export OPENAI_API_KEY=...")
    out.print("  · to try without either: turnout sim-backend --port 8000")
    return FAILED


def _python(say: Say) -> None:
    good = sys.version_info >= (3, 11)
    fast = ""
    try:
        import uvloop  # noqa: F401  # Only whether it is there.  # pyright: ignore[reportUnusedImport]
    except ImportError:
        fast = ", without uvloop (slower)"
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}{fast}"
    say(GOOD if good else BAD, "Python", text, "" if good else "turnout needs 3.11 or newer")


async def _binary(say: Say) -> None:
    try:
        binary = find_binary()
        process = await asyncio.create_subprocess_exec(
            str(binary), "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(10):
            said, _ = await process.communicate()
    except (ServerError, OSError, TimeoutError) as error:
        say(BAD, "nats-server", str(error) or "it does not run", "or use a server of your own: --nats URL")
        return
    say(GOOD, "nats-server", f"{said.decode(errors='replace').strip().removeprefix('nats-server: ')} at {binary}")


def _data(say: Say, data: Path) -> None:
    """Whether the data directory, or what will hold it, can be written."""
    there = next((path for path in (data, *data.absolute().parents) if path.exists()), Path.cwd())
    free = Disk(there, there).free()
    room = f"{free / 1e6:,.0f} MB free"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        say(BAD, "data", f"{data.absolute()}: {error.strerror}; {room}", "--data-dir names another directory")
        return
    if free < ROOM_BYTES:
        say(BAD, "data", f"{data.absolute()}: its disk is full, {room}", "free some space: jobs are taken again then")
        return
    say(GOOD, "data", f"{data.absolute()}, {room}{'' if data.exists() else ' (comes with the first `turnout dev`)'}")


def _prices(say: Say, settings: Settings) -> None:
    """Show what is wrong with the price lists, if anything is."""
    from actors.console.prices import warning

    said, to_do = warning(settings)
    if said:
        say(BAD, "prices", said, to_do)


async def _ceilings(say: Say, settings: Settings, where: Where, *, runs: bool) -> None:
    """Show what a day at a cloud provider may cost at most: as it holds on the bus, else as it would from the start."""
    limits = await _held(settings, where) if runs else None
    held = limits if limits is not None else node.in_force(settings)
    by_amount: dict[str, list[str]] = {}
    for one in held:
        if one.name.startswith(CEILING):
            by_amount.setdefault(f"{money(one.limit, one.unit)} a {one.window}", []).append(
                whom(one.scope, one.only).removeprefix("provider ")
            )
    if not by_amount:
        say(SO, "ceilings", "none: only your own budgets limit what cloud providers cost")
        return
    listed = "; ".join(f"{much}: {', '.join(sorted(names))}" for much, names in by_amount.items())
    say(GOOD, "ceilings", listed, "turnout budget raise ceiling-PROVIDER --limit DOLLARS")


async def _held(settings: Settings, where: Where) -> tuple[Limit, ...] | None:
    """The budgets that hold on the bus; None when nobody answers for them."""
    try:
        async with reach_url(*address(settings, where)) as bus:
            return (await ask(bus, BudgetsOf(), BudgetsAre)).limits
    except Complaint:
        return None


def _thresholds(say: Say) -> None:
    """Show what the environment wants to be told of."""
    for provider, amount in sorted(node.alert_thresholds(os.environ).items()):
        say(GOOD, "threshold", f"tells when a month at {provider} has cost {money(amount, 'microdollars')}")


async def _gpus(say: Say) -> None:
    """Show the GPUs of this machine, or why none can be read."""
    seen = await node.look_at_gpus()
    if seen.problem:
        say(SO, "GPU", seen.problem, "hosted models need none")
    for gpu in seen.gpus:
        what = f"{gpu.index}: {gpu.name or 'without a name'}"
        if gpu.problem:
            say(BAD, "GPU", f"{what}: {gpu.problem}")
            continue
        memory = "memory unknown"
        if gpu.memory_total_mb is not None:
            memory = f"{gpu.memory_free_mb:,} of {gpu.memory_total_mb:,} MB free"
        say(GOOD, "GPU", f"{what}, {memory}, driver {gpu.driver or 'unknown'}")


async def _bus(say: Say, settings: Settings, where: Where) -> bool:
    """Show what the bus is like; whether turnout runs on it."""
    url, source = address(settings, where)
    why = await knock(url)
    if why:
        if source == "the default" and not settings.nats.url:
            say(SO, "bus", f"port {settings.nats.port or 4222} is free: turnout dev can start its server there")
        else:
            say(SO, "bus", f"nothing at {shown(url)} (from {source}): {why}", "turnout dev starts one")
        return False
    try:
        async with reach_url(url, source) as bus:
            return await _running(say, bus, url)
    except Complaint as error:
        say(BAD, "bus", str(error), "if it is no NATS server: turnout dev --nats-port 0")
    except Exception as error:  # noqa: BLE001  # Whatever is wrong with it, the rest is looked at too.
        say(BAD, "bus", f"{shown(url)}: {error}", "turnout dev --nats-port 0 starts another one")
    return False


def _clocks(say: Say, bus: Bus) -> None:
    """Show how this machine's clock stands to that of the server, by which everything goes."""
    ahead = time.time() - bus.now()  # noqa: TID251  # It is this very clock that is looked at.
    if abs(ahead) < 1.0:
        say(GOOD, "clock", "like that of the NATS server")
    else:
        text = f"turnout goes by the NATS server's; this machine's is {apart(ahead)}"
        say(BAD, "clock", text, "let both machines keep time by NTP: times of the day differ until then")


async def _stores(say: Say, bus: Bus) -> bool:
    """Whether the streams take writes, tried out where it means nothing: by a rating of no job, and beside the schedules."""
    rating = JobRate(score=3.0, rater="doctor")
    probes = {
        IN.name: (JobRate.channel.key_of(tenant="-", job="doctor"), codec.encode(rating)),
        EV.name: ("sched.doctor", b""),
    }

    async def probe(subject: str, data: bytes) -> str:
        try:
            await bus.publish(subject, data, msg_id=f"doctor/{secrets.token_hex(8)}")
        except Refused:
            return ""  # This user may not say that, which tells nothing of the disk.
        except BusError as error:
            return str(error)
        return ""

    found = await asyncio.gather(*(probe(*one) for one in probes.values()))
    with contextlib.suppress(BusError):
        await bus.purge(EV.name, probes[EV.name][0])
    failed = {name: why for name, why in zip(probes, found, strict=True) if why}
    if failed:
        text = f"nothing is stored in {', '.join(failed)}: {next(iter(failed.values()))}"
        to_do = "free some space on its disk, then start the nats-server anew (`turnout dev` does it by itself)"
        say(BAD, "store", text, to_do)
    return not failed


async def _running(say: Say, bus: Bus, url: str) -> bool:
    if not await is_there(bus):
        say(SO, "bus", f"a NATS server is at {shown(url)}, without turnout", "turnout setup, then turnout run")
        return False
    _clocks(say, bus)
    if not await _stores(say, bus):
        return False
    try:
        await ask(bus, NeedsOf(submit=JobSubmit(prompt="hello")), NeedsAre)
    except Complaint:
        say(SO, "bus", f"turnout is set up on {shown(url)}, but nobody takes jobs there", "turnout run front")
        return False
    say(GOOD, "bus", f"turnout is on {shown(url)}; `turnout backends` shows how it does")
    return True


async def _backends(say: Say, settings: Settings) -> int:
    """Show what discovery finds; how many backends can be used."""
    now: Callable[[], float] = asyncio.get_running_loop().time
    discovery = node.discovery(settings, now, environment=os.environ)
    await discovery.look()
    usable = 0
    try:
        for name, served in sorted(discovery.served.items()):
            offer = served.offer
            good = offer.healthy and bool(offer.models)
            usable += good
            trouble = discovery.troubles.get(name, offer.health_reason)
            say(GOOD if good else BAD, name, discovery.describe(name), trouble)
        for name, trouble in sorted(discovery.troubles.items()):
            if name not in discovery.served:
                say(BAD, name, trouble)
        _places(say, discovery)
        _keys(say, discovery)
    finally:
        for served in discovery.served.values():
            await served.adapter.close()
    return usable


def _places(say: Say, discovery: node.Discovery) -> None:
    empty = [place for place in discovery.places if place.name not in {*discovery.served, *discovery.troubles}]
    if empty:
        listed = ", ".join(f"{place.what} ({place.url.split('//')[1].split('/')[0].split(':')[1]})" for place in empty)
        say(SO, "not running", listed)


def _keys(say: Say, discovery: node.Discovery) -> None:
    found = discovery.keys_here()
    for key in found:
        later = "" if key.usable else f"{key.provider} needs an address too: write it into the settings as a backend"
        say(GOOD if key.usable else SO, "key", f"{key.variable} is set", later)
    if not found:
        say(SO, "key", "none of a provider in the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY)")
