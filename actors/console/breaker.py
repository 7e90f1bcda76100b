"""`turnout breaker`: list the circuit breakers, open or close one by hand."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors import node
from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, reach
from actors.console.rebalance import user
from actors.console.screen import OK, Complaint, Wrong, clean, count, err, out, seconds
from actors.console.tables import Cells, show
from bus import codec
from bus.bus import Bus, Conflict, FactEntry
from messages import Backend, Breaker, Message
from messages.fleet import ALL_MODELS

Action = Literal["list", "open", "close"]
FOLD = {"reason": 20, "breaker": 16, "model": 16, "backend": 16}
TRIES = 5
"""So often a change is made anew on the fresh breaker when somebody else was quicker."""
STYLES = {"closed": "green", "open": "red", "half-open": "yellow", "probing": "yellow"}


def breaker(
    action: Annotated[
        Action, Parameter(help="list [BACKEND], open BACKEND [MODEL], or close BACKEND [MODEL].")
    ] = "list",
    *names: Annotated[str, Parameter(help="A backend, and a model of it; without one: the whole backend.")],
    by: Annotated[str, Parameter(help="open, close: who does it, for the record. [your user name]")] = "",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """List the circuit breakers, or open or close one by hand.

    What is opened by hand gets no jobs until it is closed by hand. Closing forgets what was held against a backend.
    Exit codes: 0 fine, 1 refused, 2 wrong usage, 3 no bus.
    """
    if action == "list":
        if len(names) > 1:
            raise Wrong(f"`breaker list` got {count(len(names), 'argument')}", "turnout breaker list [BACKEND]")
        if by:
            raise Wrong("--by is for `breaker open` and `breaker close`, not for `breaker list`")
        return play(_list(names[0] if names else "", where, output))
    if not 1 <= len(names) <= 2:
        example = f"turnout breaker {action} BACKEND [MODEL]"
        raise Wrong(f"`breaker {action}` got {count(len(names), 'argument')}", example)
    backend, model = names[0], names[1] if len(names) > 1 else ""
    return play((_open if action == "open" else _close)(backend, model, by or user(), where, output))


# -------------------------------------------------------------------------------------------------------------- facts


async def _known(bus: Bus) -> tuple[dict[str, Backend], list[Breaker]]:
    """The backends by name, and the breakers in order of their names. Raises Unreachable."""
    await check_there(bus)
    facts: list[Message] = []

    async def on_fact(entry: FactEntry) -> None:
        kind = codec.type_at(entry.subject)
        if kind in (Backend, Breaker) and entry.data is not None:
            try:
                facts.append(codec.decode(kind, entry.data))
            except codec.Undecodable as error:
                err.print(clean(f"{entry.subject} is left out: {error}"), style="yellow", soft_wrap=True)

    watching = await bus.watch_facts(on_fact)
    await watching.stop()
    backends = {fact.backend: fact for fact in facts if isinstance(fact, Backend)}
    breakers = {(fact.backend, fact.model): fact for fact in facts if isinstance(fact, Breaker)}
    return backends, [breakers[key] for key in sorted(breakers)]


def check_names(backend: str, model: str, backends: dict[str, Backend], breakers: Sequence[Breaker]) -> None:
    """Raise Complaint for a backend or a model that nobody knows, with the nearest one."""
    known = {*backends, *(one.backend for one in breakers)}
    if backend not in known:
        raise Complaint(f"no backend is called {backend!r}{_near(backend, known)}", hint="turnout backends --all")
    models = {one.model for one in breakers if one.backend == backend} | {ALL_MODELS}
    if backend in backends:
        models.update(one.name for one in backends[backend].models)
    if model and model not in models:
        near = _near(model, models - {ALL_MODELS})
        raise Complaint(f"{backend} has no model called {model!r}{near}", hint="turnout backends --all")


def _near(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f": did you mean {close[0]}?" if close else f": there are {', '.join(sorted(known))}" if known else ""


# --------------------------------------------------------------------------------------------------------------- list


async def _list(backend: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        backends, breakers = await _known(bus)
        now = bus.now()
    if backend:
        check_names(backend, "", backends, breakers)
    wanted = [one for one in breakers if backend in ("", one.backend)]
    if output.machine:
        output.rows({**msgspec.to_builtins(one), "state": node.breaker.state(one, now)} for one in wanted)
    elif wanted:
        show(listed(wanted, now), right=("failed",), fold=FOLD, wide=output.wide)
    else:
        err.print("no breaker has counted anything yet: all are closed")
    return OK


def listed(breakers: Sequence[Breaker], now: float) -> Cells:
    """The breakers as columns."""
    return {
        "backend": [clean(one.backend) for one in breakers],
        "model": ["all" if one.model == ALL_MODELS else clean(one.model) for one in breakers],
        "breaker": [Text(standing(one, now), STYLES[node.breaker.state(one, now)]) for one in breakers],
        "failed": [failed(one) for one in breakers],
        "reason": [clean(" ".join(one.reason.split())) for one in breakers],
    }


def standing(breaker: Breaker, now: float) -> str:
    """`closed`, `open for 30.0 s`, `open until closed by hand`, `half-open`, `probing for acme/j-1`."""
    word = node.breaker.state(breaker, now)
    if word == "probing":
        return f"probing for {clean(breaker.probe_tenant)}/{clean(breaker.probe_job)}"
    if word != "open":
        return word
    return "open until closed by hand" if breaker.cause == "manual" else f"open for {seconds(breaker.open_until - now)}"


def failed(breaker: Breaker) -> str:
    """`3 of 5 (60 %)` of the calls that are remembered; `-` without any."""
    calls = sum(one.calls for one in breaker.recent)
    failures = sum(one.failures for one in breaker.recent)
    return f"{failures} of {calls} ({100 * failures / calls:.0f} %)" if calls else "-"


# ------------------------------------------------------------------------------------------------------------ by hand


async def _open(backend: str, model: str, by: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        check_names(backend, model, *await _known(bus))
        stored = await _store(bus, backend, model or ALL_MODELS, by, opens=True)
    if output.machine:
        output.rows([stored])
        return OK
    what = named(backend, stored.model)
    out.print(clean(f"opened {what}, by {by}: it gets no jobs until `turnout breaker close`"), soft_wrap=True)
    return OK


async def _close(backend: str, model: str, by: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        backends, breakers = await _known(bus)
        check_names(backend, model, backends, breakers)
        here = [one for one in breakers if one.backend == backend and model in ("", one.model)]
        stored = [
            await _store(bus, backend, one.model, by, opens=False) for one in here if one.times_opened or one.open_until
        ]
        account = next((one for one in breakers if (one.backend, one.model) == (backend, ALL_MODELS)), None)
        if model not in ("", ALL_MODELS) and account is not None and node.breaker.state(account, bus.now()) != "closed":
            err.print(clean(f"all of {backend} is still shut: {account.reason}"), style="yellow", soft_wrap=True)
    if output.machine:
        output.rows(stored)
        return OK
    if not stored:
        out.print(clean(f"no breaker of {named(backend, model or ALL_MODELS)} is open"), soft_wrap=True)
    for one in stored:
        out.print(clean(f"closed {named(backend, one.model)}, by {by}"), soft_wrap=True)
    return OK


def named(backend: str, model: str) -> str:
    """What a breaker is of, in words."""
    return f"all of {backend}" if model == ALL_MODELS else f"{backend}/{model}"


async def _store(bus: Bus, backend: str, model: str, by: str, *, opens: bool) -> Breaker:
    """Change one breaker, on the newest value. Raises Complaint when somebody else is quicker each time."""
    empty = Breaker(backend=backend, model=model)
    by_hand = node.breaker_hand.opened_by_hand if opens else node.breaker_hand.closed_by_hand
    for _ in range(TRIES):
        record = await bus.last(Breaker.channel.stream, empty.subject)
        there = codec.decode(Breaker, record.data, record.headers) if record is not None and record.data else empty
        changed = by_hand(there, by, bus.now())
        try:
            await bus.put_fact(changed.subject, codec.encode(changed), expected_revision=record.seq if record else 0)
        except Conflict:
            continue
        return changed
    text = f"the breaker of {named(backend, model)} changes all the time; it is left as it is"
    raise Complaint(text, hint="once more, when there is less traffic")
