"""`turnout budget`: what may be spent, what is, and who waits for more."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.budget_table import (
    DROP,
    FACTORS,
    FOLD,
    RIGHT,
    amount_of,
    budgets_cells,
    shown,
    unit_of,
    unused_ceilings,
)
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.rebalance import user
from actors.console.screen import FAILED, OK, Complaint, Wrong, clean, count, day_and_clock, err, out
from actors.console.tables import show
from actors.contradictions import of_budget
from actors.windows import span
from bus import codec
from bus.bus import Bus
from messages import BudgetsAre, BudgetsOf, Done, Held, JobResume, Limit, Retry, Spending, token
from messages.attempts import WhenOver
from messages.fleet import NARROW_FIRST, Scope, Scopes, Window, whom

Action = Literal["list", "show", "set", "raise", "remove", "resume"]


@Parameter(name="*", group="What")
@dataclass(frozen=True, kw_only=True)
class What:
    """What a budget is, for `set`; what is left out stays as it is, or is as in the settings' defaults."""

    scope: Annotated[
        str | None, Parameter(help=f"Whom it holds for: {', '.join(NARROW_FIRST)}; or several: step+model. [global]")
    ] = None
    only: Annotated[
        str | None,
        Parameter(
            help="This one of the scope alone; of a step: WORKFLOW/STEP; of several: step=site/hero,model=gpt-4o."
        ),
    ] = None
    unit: Annotated[str | None, Parameter(help="dollars, tokens, requests or gpu-seconds. [dollars]")] = None
    window: Annotated[Window | None, Parameter(help="How long the limit holds. [day]")] = None
    soft: Annotated[float | None, Parameter(help="Share of the limit from which on it warns. [0.8]")] = None
    time_zone: Annotated[str | None, Parameter(help="Whose calendar the window follows. [UTC]")] = None
    when_over: Annotated[
        WhenOver | None, Parameter(help="When nobody can run a job because of it. [as in the settings]")
    ] = None


def budget(
    action: Annotated[Action, Parameter(help="list, show NAME, set NAME, raise NAME, remove NAME, or resume JOB.")] = (
        "list"
    ),
    *names: Annotated[str, Parameter(help="Name of the budget; for `resume` the jobs.")],
    limit: Annotated[str, Parameter(help="The most per window: 5.00 or $5 of dollars, a whole number of others.")] = "",
    what: What | None = None,
    tenant: Annotated[str, Parameter(help="resume: whose jobs they are.")] = "default",
    by: Annotated[str, Parameter(help="Who does it, for the record. [your user name]")] = "",
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Show, set, raise or remove budgets while everything runs, or let a held job try again.

    Bars show what is spent (█), what is held for attempts that run (▒), and what is left. Exit codes: 0 fine, 1 refused,
    2 wrong usage, 3 no bus.
    """
    given, actor = what or What(), by or user()
    _check_usage(action, names, limit, given)
    match action:
        case "list":
            return play(_list("", where, output))
        case "show":
            return play(_list(names[0], where, output))
        case "set":
            return play(_set(names[0], limit, given, actor, where, output))
        case "raise":
            return play(_raise(names[0], limit, actor, where, output))
        case "remove":
            return play(_remove(names[0], actor, where, output))
        case "resume":
            return play(_resume(names, tenant, actor, where, output))


def _check_usage(action: Action, names: Sequence[str], limit: str, what: What) -> None:
    """Raise Wrong for what does not go together."""
    if action == "list" and names:
        raise Wrong("`budget list` takes no name", f"turnout budget show {names[0]}")
    if action == "resume" and not names:
        raise Wrong("which job?", "turnout budget resume JOB")
    if action in ("show", "set", "raise", "remove") and len(names) != 1:
        raise Wrong(f"`budget {action}` takes one name and got {len(names)}", f"turnout budget {action} NAME")
    if action in ("set", "raise") and not limit:
        raise Wrong(f"`budget {action}` needs a limit", f"turnout budget {action} {names[0]} --limit 5.00")
    if action not in ("set", "raise") and limit:
        raise Wrong(f"--limit is for `budget set` and `budget raise`, not for `budget {action}`")
    if action != "set" and what != What():
        raise Wrong("--scope, --only, --unit, --window, --soft, --time-zone and --when-over are for `budget set`")


# ---------------------------------------------------------------------------------------------------- looking


async def _held(bus: Bus, name: str = "") -> BudgetsAre:
    await check_there(bus)
    return await ask(bus, BudgetsOf(name=name), BudgetsAre)


async def _named(bus: Bus, name: str) -> tuple[Limit, BudgetsAre]:
    """The budget of this name, with its use. Raises Complaint with the nearest one."""
    answer = await _held(bus, name)
    if answer.limits:
        return answer.limits[0], answer
    known = [limit.name for limit in (await _held(bus)).limits]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else "`turnout budget list` shows all"
    raise Complaint(f"no budget called {name!r} is in force", hint=hint)


async def _spending(bus: Bus, name: str) -> dict[tuple[str, str], Spending]:
    """Where each budget is going, by budget and holder."""
    key = Spending.channel.key_of(budget=name) if name else Spending.channel.pattern
    told = [codec.decode(Spending, r.data) async for r in bus.read(Spending.channel.stream, key) if r.data]
    return {(one.budget, one.holder): one for one in told}


async def _list(name: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        answer = (await _named(bus, name))[1] if name else await _held(bus)
        spending, now = await _spending(bus, name), bus.now()
    if output.machine:
        found: list[dict[str, Any]] = []
        for limit in answer.limits:
            states = [state for state in answer.states if state.budget == limit.name]
            going = [one for one in spending.values() if one.budget == limit.name]
            row = {**msgspec.to_builtins(limit), "states": msgspec.to_builtins(states)}
            row["spending"] = msgspec.to_builtins(going)
            found.append(row)
        if name:
            output.one(found[0])
        else:
            output.rows(found)
    elif answer.limits:
        hidden = 0 if name else unused_ceilings(answer)
        if hidden < len(answer.limits):
            show(
                budgets_cells(answer, spending, now=now, ceilings=bool(name)), right=RIGHT, fold=FOLD, drop=DROP,
                wide=output.wide,
            )  # fmt: skip
        if hidden:
            err.print(
                f"{count(hidden, 'shipped ceiling')} for cloud providers not used yet: `turnout budget list --output json`"
            )
        soft = [state for state in answer.states if state.soft]
        if soft:
            err.print(f"{count(len(soft), 'budget')} over the soft share", style="yellow")
    else:
        err.print("nothing is limited: turnout budget set NAME --scope tenant --window day --limit 5.00")
    return OK


# --------------------------------------------------------------------------------------------------- changing


async def _set(name: str, text: str, what: What, by: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        answer = await _held(bus, name)
        before = answer.limits[0] if answer.limits else Limit(name=name)
        changes: dict[str, Any] = {
            "scope": _scopes(what.scope), "only": _only(what.only, what.scope or before.scope),
            "unit": unit_of(what.unit) if what.unit else None, "window": what.window, "soft_share": what.soft,
            "time_zone": what.time_zone, "on_all_over_budget": what.when_over,
        }  # fmt: skip
        changes = {field: value for field, value in changes.items() if value is not None}
        made = msgspec.structs.replace(before, **changes, by=by, at=bus.now(), removed=False)
        made = msgspec.structs.replace(made, limit=amount_of(text, made.unit))
        for problem in of_budget(made):
            raise Wrong(f"{name}: {problem}")
        await _say(bus, made, output)
    changed = [field for field in changes if answer.limits and getattr(before, field) != changes[field]]
    if changed and {"scope", "unit", "window", "time_zone"} & set(changed):
        err.print("it counts on other counters now, which begin at nothing", style="yellow")
    return OK


def _scopes(text: str | None) -> Scopes | None:
    """`step` or `step+model` as a scope. Raises Wrong."""
    if text is None:
        return None
    found: list[Scope] = []
    for part in text.split("+"):
        if part not in NARROW_FIRST:
            close = difflib.get_close_matches(part, NARROW_FIRST, n=1, cutoff=0.5)
            raise Wrong(
                f"--scope is {text!r}: {part!r} is none", f"use {close[0] if close else ', '.join(NARROW_FIRST)}"
            )
        found.append(part)
    return found[0] if len(found) == 1 else tuple(found)


def _only(text: str | None, scope: Scopes | str) -> str | dict[str, str] | None:
    """Whom alone: a name, or of several scopes `step=site/hero,model=gpt-4o`. Raises Wrong."""
    several = "+" in scope if isinstance(scope, str) else len(scope) > 1
    if text is None or not text or not several:
        return text
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise Wrong(f"--only is {text!r}", "of several scopes say which: --only step=site/hero,model=gpt-4o")
        found[name] = value
    return found


async def _raise(name: str, text: str, by: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        before, _ = await _named(bus, name)
        wanted = amount_of(text, before.unit)
        if wanted <= before.limit:
            now = shown(before.limit, before.unit)
            raise Wrong(
                f"--limit is {text}, and {name} stands at {now} already: raise it above", f"turnout budget set {name}"
            )
        await _say(bus, msgspec.structs.replace(before, limit=wanted, by=by, at=bus.now()), output)
    return OK


async def _say(bus: Bus, limit: Limit, output: Output) -> None:
    await bus.put_fact(limit.subject, codec.encode(limit))
    if output.machine:
        output.one(limit)
        return
    who = "global" if limit.scope == "global" else whom(limit.scope, limit.only)
    name = FACTORS[limit.unit][1]
    ends = (
        ""
        if limit.window == "total"
        else f", until {day_and_clock(span(limit.window, bus.now(), limit.time_zone or 'UTC').ends_at)}"
    )
    unit = "" if limit.unit == "microdollars" else f" {name}"
    much = f"{limit.limit / 1000:g}" if limit.unit == "gpu_milliseconds" else shown(limit.limit, limit.unit)
    per = "in all" if limit.window == "total" else f"per {limit.window}"
    out.print(
        Text.assemble((clean(limit.name), "bold"), clean(f": {much}{unit} {per} for {who}{ends}")), soft_wrap=True
    )


async def _remove(name: str, by: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        before, _ = await _named(bus, name)
        gone = msgspec.structs.replace(before, removed=True, by=by, at=bus.now())
        await bus.put_fact(gone.subject, codec.encode(gone))
    if output.machine:
        output.one(gone)
        return OK
    out.print(Text.assemble((clean(name), "bold"), " holds no more"))
    return OK


# --------------------------------------------------------------------------------------------------- resuming


class Resumed(msgspec.Struct, frozen=True):
    """What became of letting one job go on."""

    job: str
    tenant: str
    resumed: bool
    """It tries again, now or since somebody resumed it before."""
    text: str
    """The same in words."""
    budgets: tuple[str, ...] = ()
    """What stood in the way."""


async def _resume(jobs: Sequence[str], tenant: str, by: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        found = [await _resume_one(bus, tenant, job, by) for job in jobs]
    if output.machine:
        output.rows(found)
    for one in found if not output.machine else ():
        said = Text.assemble((clean(one.job), "bold"), clean(f": {one.text}"))
        (out if one.resumed else err).print(said, soft_wrap=True)
    return OK if all(one.resumed for one in found) else FAILED


async def _resume_one(bus: Bus, tenant: str, job: str, by: str) -> Resumed:
    """Let it go on, if it is held. Raises Complaint when it never was."""
    waits = [
        codec.decode(Held, record.data, record.headers)
        async for record in bus.read("EV", Held.channel.key_of(tenant=tenant, job=job))
    ]
    latest = max(waits, key=lambda one: one.n, default=None)
    if latest is None:
        raise Complaint(f"no job {job!r} of tenant {tenant!r} is held", hint=f"`turnout why {job}` tells where it is")
    if await bus.last("EV", Done.channel.key_of(tenant=tenant, job=job)) is not None:
        return Resumed(job, tenant, resumed=False, text="has ended meanwhile", budgets=latest.budgets)
    if await bus.last("EV", Retry.channel.key_of(tenant=tenant, job=job, n=latest.n + 1)) is not None:
        return Resumed(job, tenant, resumed=True, text="was resumed before", budgets=latest.budgets)
    resume = JobResume(tenant=tenant, job=job, by=by)
    msg_id = f"resume/{token(tenant)}/{token(job)}/{latest.n}"
    await bus.publish(resume.subject, codec.encode(resume), msg_id=msg_id)
    text = f"tries again; {', '.join(latest.budgets)} stood in the way"
    return Resumed(job, tenant, resumed=True, text=text, budgets=latest.budgets)
