"""`turnout jobs` and `turnout backends`: what there is, as tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.screen import (
    ENDINGS,
    OK,
    Wrong,
    clean,
    count,
    dollars,
    err,
    one_line,
    out,
    seconds,
    since,
    table,
)
from actors.price_words import in_words
from bus import codec
from bus.bus import FactEntry
from messages import Backend, Breaker, JobRow, JobsAre, JobsOf, Load, Message, Model, Stats
from messages.fleet import ALL_MODELS
from messages.jobs import Ending


def jobs(
    *,
    ending: Annotated[Ending | None, Parameter(help="Only those that ended so.")] = None,
    tenant: Annotated[str, Parameter(help="Only this tenant's. [all]")] = "",
    batch: Annotated[str, Parameter(help="Only those with this label.")] = "",
    limit: Annotated[int, Parameter(help="At most so many, 1 to 1000.")] = 20,
    output: Annotated[Literal["text", "json"], Parameter(help="`json`: one object per line.")] = "text",
    where: Where = HERE,
) -> int:
    """List the latest jobs, newest first."""
    if not 1 <= limit <= 1000:
        raise Wrong(f"--limit is {limit}: use 1 to 1000")
    question = JobsOf(tenant=tenant, ending=ending or "", batch=batch, limit=limit)
    return play(_jobs(question, where, machine=output == "json"))


async def _jobs(question: JobsOf, where: Where, *, machine: bool) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        answer = await ask(bus, question, JobsAre)
        now = bus.now()
    if machine:
        for row in answer.jobs:
            out.file.write(msgspec.json.encode(row).decode() + "\n")
    elif answer.jobs:
        out.print(_jobs_table(answer.jobs, now))
        if len(answer.jobs) == question.limit:
            err.print(f"the latest {count(question.limit, 'job')}; --limit shows more", style="dim")
    else:
        filtered = question.tenant or question.ending or question.batch
        err.print("no job matches" if filtered else "no job yet: turnout submit 'write a haiku about trains'")
    return OK


def _jobs_table(rows: tuple[JobRow, ...], now: float) -> object:
    several = len({row.tenant for row in rows}) > 1
    columns = [
        "job",
        *(["tenant"] if several else []),
        "submitted",
        "ending",
        "task",
        "backend",
        "tries",
        "cost",
        "took",
    ]
    made = table(*columns, "problem", right=("tries", "cost", "took"))
    for row in rows:
        made.add_row(
            Text(clean(row.job), "bold"),
            *([clean(row.tenant)] if several else []),
            since(row.submitted_at, now),
            Text(row.ending or "running", ENDINGS.get(row.ending, "cyan")),
            row.task,
            Text(clean(f"{row.backend}/{row.model}" if row.backend else "-")),
            str(row.attempts),
            dollars(row.cost_microdollars) if row.ending else "-",
            seconds(row.latency_seconds),
            Text(one_line(row.problem, 100)),
        )
    return made


@dataclass
class Fleet:
    """The facts about backends."""

    backends: dict[str, Backend] = field(default_factory=dict[str, Backend])
    loads: dict[str, Load] = field(default_factory=dict[str, Load])
    breakers: dict[str, list[Breaker]] = field(default_factory=lambda: defaultdict[str, list[Breaker]](list))
    stats: dict[tuple[str, str], Stats] = field(default_factory=dict[tuple[str, str], Stats])

    def learn(self, fact: Message) -> None:
        """Take in one fact."""
        match fact:
            case Backend():
                self.backends[fact.backend] = fact
            case Load():
                self.loads[fact.backend] = fact
            case Breaker():
                others = [known for known in self.breakers[fact.backend] if known.model != fact.model]
                self.breakers[fact.backend] = [*others, fact]
            case Stats() if fact.scope == "-":
                self.stats[fact.backend, fact.model] = fact
            case _:
                pass


def backends(
    *,
    gone: Annotated[bool, Parameter(name="--all", help="Those too that nobody serves any more.", negative="")] = False,
    output: Annotated[Literal["text", "json"], Parameter(help="`json`: one object per line.")] = "text",
    where: Where = HERE,
) -> int:
    """Show the backends: how they are, what waits before them, what they did so far."""
    return play(_backends(where, gone=gone, machine=output == "json"))


async def _backends(where: Where, *, gone: bool, machine: bool) -> int:
    fleet = Fleet()

    async def on_fact(entry: FactEntry) -> None:
        kind = codec.type_at(entry.subject)
        if kind is not None and entry.data is not None:
            try:
                fleet.learn(codec.decode(kind, entry.data))
            except codec.Undecodable:
                return  # From another version.

    async with reach(where) as bus:
        await check_there(bus)
        watching = await bus.watch_facts(on_fact)
        now = bus.now()
        await watching.stop()
    there = [backend for _, backend in sorted(fleet.backends.items()) if gone or backend.slots > 0]
    if machine:
        for backend in there:
            out.file.write(msgspec.json.encode(_row(backend, fleet)).decode() + "\n")
        return OK
    if there:
        out.print(_backends_table(there, fleet, now))
    else:
        err.print("no backend is there: start one and `turnout dev` finds it; `turnout doctor` looks what is missing")
    hidden = len(fleet.backends) - len(there)
    if hidden:
        err.print(f"{count(hidden, 'backend')} that nobody serves any more; --all shows them", style="dim")
    return OK


def _row(backend: Backend, fleet: Fleet) -> dict[str, object]:
    stats = [fleet.stats[key] for key in sorted(fleet.stats) if key[0] == backend.backend]
    return {
        "backend": backend,
        "load": fleet.loads.get(backend.backend),
        "breakers": fleet.breakers.get(backend.backend, []),
        "stats": stats,
    }


def _backends_table(there: list[Backend], fleet: Fleet, now: float) -> object:
    made = table(
        "backend", "model", "state", "busy", "waiting", "ok/tried", "latency", "tokens/s", "price in/out per M",
        right=("busy", "waiting", "ok/tried", "latency", "tokens/s"),
    )  # fmt: skip
    for backend in there:
        load = fleet.loads.get(backend.backend)
        for place, model in enumerate(backend.models or (Model(name="-"),)):
            stats = fleet.stats.get((backend.backend, model.name))
            place_name = "local" if backend.local else "cloud"
            made.add_row(
                Text.assemble((clean(backend.backend), "bold"), (f" {place_name}", "dim")) if place == 0 else "",
                Text(clean(model.name)),
                state(backend, model.name, fleet, now),
                f"{load.running if load else 0}/{backend.slots}" if place == 0 else "",
                str(load.waiting if load else 0) if place == 0 else "",
                f"{stats.successes}/{stats.attempts}" if stats else "-",
                seconds(stats.latency_seconds) if stats else "-",
                f"{stats.tokens_per_second:.0f}" if stats and stats.tokens_per_second else "-",
                price(model),
            )
    return made


def state(backend: Backend, model: str, fleet: Fleet, now: float) -> Text:
    """How a backend is for one model, in a few words."""
    if backend.slots <= 0:
        return Text("gone", "dim")
    if not backend.healthy:
        return Text(f"unhealthy: {one_line(backend.health_reason, 80)}", "red")
    if backend.exclusive_group and not backend.active:
        return Text(f"inactive: group {clean(backend.exclusive_group)}", "dim")
    breakers = [b for b in fleet.breakers.get(backend.backend, []) if b.model in (ALL_MODELS, model)]
    for breaker in sorted(breakers, key=lambda b: -b.open_until):
        if now < breaker.open_until:
            until = (
                "until somebody acts" if breaker.cause in ("account", "manual") else seconds(breaker.open_until - now)
            )
            return Text(f"paused {until}: {one_line(breaker.reason, 80)}", "yellow")
        if breaker.times_opened:
            return Text("on trial: the next job decides", "yellow")
    return Text("ready", "green")


def price(model: Model) -> str:
    """Dollars per million tokens, in and out, and for what is not counted in tokens."""
    return in_words(model.price)
