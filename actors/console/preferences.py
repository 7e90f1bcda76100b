"""`turnout preferences`: what a tenant, or one of its users, products, workflows or steps prefers for its jobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors.console.app import play
from actors.console.intake import microdollars
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, ask, reach
from actors.console.screen import OK, Wrong, clean, count, dollars, err, out
from actors.console.tables import Cells, show
from bus import codec
from bus.bus import Bus, FactEntry
from messages import JobSubmit, NeedsAre, NeedsOf, Preference
from messages.values import MODEL_CHARACTERS, Quality

MOST_CHARACTERS = 128
FOLD = {"scope": 16, "preferred-backend": 17, "preferred-model": 16, "strategy": 12}
SCOPES = ("step", "workflow", "product", "user", "tenant")
"""The nearest to a job first."""
FIELDS = tuple(name for name in Preference.__struct_fields__ if name not in ("tenant", "scope", "at"))


@Parameter(name="*", group="Whose")
@dataclass(frozen=True, kw_only=True)
class Whose:
    """Whose preference it is; without a user, product or workflow it is the whole tenant's."""

    tenant: Annotated[str, Parameter(help="Whose jobs.")] = "default"
    user: Annotated[str, Parameter(help="Only this user's.")] = ""
    product: Annotated[str, Parameter(help="Only those for this kind of product.")] = ""
    workflow: Annotated[str, Parameter(help="Only those of this workflow.")] = ""
    step: Annotated[str, Parameter(help="Only this step of the workflow.")] = ""


@Parameter(name="*", group="What")
@dataclass(frozen=True, kw_only=True)
class What:
    """What is preferred; a job's own word comes first."""

    quality: Annotated[Quality | None, Parameter(help="How good it must be.")] = None
    strategy: Annotated[str | None, Parameter(help="How to rank the backends, by name.")] = None
    preferred_backend: Annotated[
        str | None, Parameter(help="A backend, local, cloud or a provider, unless it can't; auto: none.")
    ] = None
    preferred_model: Annotated[str | None, Parameter(help="Model to use unless it can't be; `auto`: none.")] = None
    cloud: Annotated[bool | None, Parameter(help="Whether jobs may leave for the cloud.")] = None
    fast: Annotated[bool | None, Parameter(help="Whether speed counts more than cost.")] = None
    max_cost: Annotated[str | None, Parameter(help="Limit in dollars over all attempts of a job.")] = None
    value_per_hour: Annotated[str | None, Parameter(help="What an hour of waiting costs, in dollars.")] = None


FLAGS = {
    "quality": "--quality", "strategy": "--strategy", "preferred_backend": "--preferred-backend",
    "preferred_model": "--preferred-model", "allow_cloud": "--cloud", "prioritize_speed": "--fast",
    "max_cost_microdollars": "--max-cost", "value_per_hour_microdollars": "--value-per-hour",
}  # fmt: skip
"""The flag of every field."""


def scope_of(whose: Whose) -> str:
    """The scope that the flags name. Raises Wrong."""
    named = [name for name in ("user", "product", "workflow") if getattr(whose, name)]
    if len(named) > 1:
        flags = " and ".join(f"--{name}" for name in named)
        raise Wrong(f"{flags} are different scopes", "one of --user, --product, --workflow [--step], or none of them")
    if whose.step and not whose.workflow:
        raise Wrong("--step is one of a workflow, and no --workflow is named")
    if not whose.tenant:
        raise Wrong("--tenant is empty: name whose preference it is")
    for name in ("tenant", "user", "product", "workflow", "step"):
        value: str = getattr(whose, name)
        if len(value) > MOST_CHARACTERS or any(ord(mark) < 32 for mark in value):
            raise Wrong(f"--{name} is too long or has control characters: use at most {MOST_CHARACTERS} characters")
    if whose.step:
        return f"step:{whose.workflow}/{whose.step}"
    return f"{named[0]}:{getattr(whose, named[0])}" if named else "tenant"


def fields_of(what: What) -> dict[str, Any]:
    """The fields of a preference that the flags give. Raises Wrong."""
    given: dict[str, Any] = {
        "quality": what.quality, "strategy": what.strategy, "preferred_backend": what.preferred_backend,
        "preferred_model": what.preferred_model, "allow_cloud": what.cloud, "prioritize_speed": what.fast,
        "max_cost_microdollars": microdollars(what.max_cost) if what.max_cost is not None else None,
        "value_per_hour_microdollars": (
            microdollars(what.value_per_hour, "--value-per-hour") if what.value_per_hour is not None else None
        ),
    }  # fmt: skip
    found = {name: value for name, value in given.items() if value is not None}
    for name in ("strategy", "preferred_backend", "preferred_model"):
        value, most = found.get(name), MODEL_CHARACTERS if name == "preferred_model" else MOST_CHARACTERS
        if value is not None and not (0 < len(value) <= most and value.isprintable()):
            hint = f"turnout preferences clear {name} ends it"
            raise Wrong(f"{FLAGS[name]} is {value!r}: use 1 to {most:,} printable characters", hint)
    return found


def preferences(
    action: Annotated[Literal["show", "set", "clear"], Parameter(help="What to do.")] = "show",
    *names: Annotated[str, Parameter(help="For `clear`: the fields to clear. [all]")],
    output: Output = TEXT,
    whose: Whose | None = None,
    what: What | None = None,
    where: Where = HERE,
) -> int:
    """Show, set or clear what jobs prefer where they do not say so themselves.

    The nearest scope wins, field by field: step, workflow, product, user, tenant.
    """
    given, fields = whose or Whose(), fields_of(what or What())
    scope = scope_of(given)
    if names and action != "clear":
        raise Wrong(f"{names[0]!r} is no flag", f"turnout preferences {action} --help")
    if fields and action != "set":
        flag = FLAGS[next(iter(fields))]
        raise Wrong(f"{flag} belongs to `set`", f"turnout preferences set {flag} …")
    if action == "show":
        return play(_show(given.tenant, "" if scope == "tenant" else scope, where, output))
    if action == "set" and not fields:
        raise Wrong("nothing is to be set", "turnout preferences set --quality draft --max-cost 0.01")
    cleared = {_field(name) for name in names} or (set(FIELDS) if action == "clear" else set())
    return play(_change(given.tenant, scope, fields, cleared, where, output))


def _field(name: str) -> str:
    """A field by its name or that of its flag. Raises Wrong."""
    plain = name.lstrip("-").replace("-", "_")
    for field, flag in FLAGS.items():
        if plain in (field, flag[2:].replace("-", "_")):
            return field
    raise Wrong(
        f"{name!r} is nothing that can be preferred", f"one of {', '.join(flag[2:] for flag in FLAGS.values())}"
    )


def changed(before: Preference, fields: dict[str, Any], cleared: set[str], at: float) -> Preference:
    """The preference with some fields set and some cleared; the others stay as they are."""
    return msgspec.structs.replace(before, **{**dict.fromkeys(cleared), **fields, "at": at})


async def _change(
    tenant: str, scope: str, fields: dict[str, Any], cleared: set[str], where: Where, output: Output
) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        if "strategy" in fields:
            await _check_strategy(bus, tenant, fields["strategy"])
        before = await _known(bus, tenant, scope)
        after = changed(before, fields, cleared, bus.now())
        if msgspec.structs.replace(after, at=before.at) == before:
            err.print("that is how it stands already" if fields else "nothing is preferred there", style="dim")
            if output.machine:
                output.one(before)
            return OK
        await bus.put_fact(after.subject, codec.encode(after))
    if output.machine:
        output.one(after)
        return OK
    shown_at = f"{tenant}, {scope}" if scope != "tenant" else tenant
    lines = [f"{name}: {_value(after, name)}" for name in FIELDS if getattr(after, name) is not None]
    out.print(
        Text.assemble((clean(shown_at), "bold"), ": ", clean("; ".join(lines)) or "nothing is preferred any more")
    )
    return OK


async def _known(bus: Bus, tenant: str, scope: str) -> Preference:
    """What stands there now."""
    empty = Preference(tenant=tenant, scope=scope)
    record = await bus.last(Preference.channel.stream, empty.subject)
    if record is None or not record.data:
        return empty
    try:
        return codec.decode(Preference, record.data, record.headers)
    except codec.Undecodable:
        return empty  # From another version; what is set now takes its place.


async def _check_strategy(bus: Bus, tenant: str, strategy: str) -> None:
    """Raise Wrong when the analyzer does not know a strategy of this name."""
    question = NeedsOf(submit=JobSubmit(tenant=tenant, prompt="hello", strategy=strategy))
    answer = await ask(bus, question, NeedsAre)
    if answer.problem is not None and answer.problem.field == "strategy":
        raise Wrong(f"--{answer.problem.message}")


async def _show(tenant: str, scope: str, where: Where, output: Output) -> int:
    found: dict[str, Preference] = {}

    async def on_fact(entry: FactEntry) -> None:
        if codec.type_at(entry.subject) is not Preference or entry.data is None:
            return
        try:
            fact = codec.decode(Preference, entry.data)
        except codec.Undecodable:
            return  # From another version.
        if fact.tenant == tenant and scope in ("", fact.scope):
            found[fact.scope] = fact

    async with reach(where) as bus:
        await check_there(bus)
        watching = await bus.watch_facts(on_fact)
        await watching.stop()
    there = in_order(found.values())
    if output.machine:
        output.rows(there)
    elif there:
        show(preferences_cells(there), fold=FOLD, wide=output.wide)
        err.print(f"{count(len(there), 'scope')} of tenant {clean(tenant)}; the upper ones win", style="dim")
    else:
        err.print("nothing is preferred: turnout preferences set --quality draft")
    return OK


def in_order(preferences: Any) -> list[Preference]:
    """Those that prefer anything, the nearest scope first."""
    spoken: list[Preference] = [one for one in preferences if any(getattr(one, name) is not None for name in FIELDS)]
    return sorted(spoken, key=lambda one: (SCOPES.index(one.scope.partition(":")[0]), one.scope))


def preferences_cells(there: list[Preference]) -> Cells:
    """One row per scope; only the columns that anybody uses."""
    used = [name for name in FIELDS if any(getattr(one, name) is not None for one in there)]
    scopes: list[Text | str] = [Text(clean(one.scope), "bold") for one in there]
    return {"scope": scopes, **{FLAGS[name][2:]: [clean(_value(one, name)) for one in there] for name in used}}


def _value(preference: Preference, name: str) -> str:
    value: Any = getattr(preference, name)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{dollars(value) if value else '$0'}" if name.endswith("microdollars") else str(value)
