"""`turnout policy explain JOB`: what the policies made of a job, and which rule set which field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from actors.console.output import Output
from actors.console.publish import check_there
from actors.console.reach import Where, reach
from actors.console.screen import OK, Complaint, clean, err
from actors.console.tables import show
from actors.console.why import decoded, events_of
from messages import Decided, Plan

SHOWN = ("strategy", "pool", "requires", "prefers", "required_fields", "checks", "max_attempts")
"""Fields that rules set, in the order in which they are shown."""
OF_POOL = ("strict", "classes", "shares", "overflow")
"""They come with the pool, from the rule that gives it."""


async def explain(job: str, tenant: str, where: Where, output: Output) -> int:
    """Show the plan of the job's latest decision. Raises Complaint when it has none."""
    async with reach(where) as bus:
        await check_there(bus)
        events = decoded(await events_of(bus, tenant, job))
    rounds = [event for event in events if isinstance(event, Decided)]
    if not rounds:
        hint = f"turnout why {job}" if events else "`turnout jobs` lists them; `--tenant` says whose they are"
        raise Complaint(f"no decision about a job {job!r} of tenant {tenant!r} is stored", hint=hint)
    latest = max(rounds, key=lambda decided: decided.n)
    told = list(rows(latest))
    if output.machine:
        output.rows([{"round": latest.n, "field": field, "value": value, "set_by": who} for field, value, who in told])
        return OK
    cells: dict[str, list[Text | str]] = {
        "field": [Text(field, "bold") for field, _, _ in told],
        "value": [clean(value) for _, value, _ in told],
        "set by": [clean(who) for _, _, who in told],
    }
    show(cells, fold={"value": 24, "set by": 16}, wide=output.wide)
    err.print(
        clean(f"round {latest.n}; where several rules match, the nearest that says a field decides it"), style="dim"
    )
    return OK


def rows(decided: Decided) -> Iterator[tuple[str, str, str]]:
    """Field, value, and who set it; what nobody set has its default and is left out, but for the strategy."""
    plan = decided.plan
    if plan.fixed:
        yield "fixed order", ", ".join(plan.pool) or "by priority", decided.policy
        return
    for field in SHOWN:
        who = plan.set_by.get(field, "")
        if field == "strategy":
            yield field, plan.strategy, who or decided.policy
        elif field == "max_attempts":
            yield (
                field,
                str(decided.failover.max_attempts),
                who or plan.set_by.get("pool", "") or "failover of the policies",
            )
        elif who:
            yield field, _value(getattr(plan, field)), who
            if field == "pool":
                yield from ((part, _value(getattr(plan, part)), who) for part in OF_POOL if _differs(plan, part))


def _differs(plan: Plan, field: str) -> bool:
    return bool(getattr(plan, field) != getattr(Plan(), field))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_value(part)}" for name, part in value.items())  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value) or "everybody"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if hasattr(value, "__struct_fields__"):
        told = {name: getattr(value, name) for name in value.__struct_fields__}
        usual = type(value)()
        return "; ".join(f"{name} {_value(part)}" for name, part in told.items() if part != getattr(usual, name))
    return f"{value:g}" if isinstance(value, float) else str(value)
