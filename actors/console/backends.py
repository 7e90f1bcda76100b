"""`turnout backends`: what is there and how it does; add one, or make one of a group the active one."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from rich.text import Text

from actors.console.adding import Adding
from actors.console.app import play
from actors.console.fleet import backends_cells, details, gathered, model_lines, models_cells, row_of, totals_of
from actors.console.output import TEXT, Output
from actors.console.publish import check_there
from actors.console.reach import HERE, Where, reach
from actors.console.screen import OK, Complaint, Wrong, clean, count, err, out
from actors.console.tables import show

Action = Literal["list", "show", "add", "switch"]


def backends(
    action: Annotated[Action, Parameter(help="list, show NAME, add URL, or switch NAME.")] = "list",
    *names: Annotated[str, Parameter(help="Name of a backend; for `add` its URL.")],
    gone: Annotated[bool, Parameter(name="--all", help="Those too that nobody serves any more.", negative="")] = False,
    now: Annotated[bool, Parameter(help="switch: even if a job runs there.", negative="")] = False,
    adding: Adding | None = None,
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Show the backends: what they speak, how they are, what waits before them, what they did so far.

    `add` asks who is at an address and shows the table for the settings; `switch` makes a backend the active one of its
    exclusive group by the group's own program.
    """
    wanted = 0 if action == "list" else 1
    if len(names) != wanted:
        what = {"list": "takes no name", "show": "takes one NAME", "add": "takes one URL", "switch": "takes one NAME"}
        raise Wrong(f"`turnout backends {action}` {what[action]}", f"turnout backends {action} --help")
    if adding is not None and adding != Adding() and action != "add":
        raise Wrong(f"`turnout backends {action}` adds nothing: the flags of `add` mean nothing here")
    if action == "add":
        from actors.console.add_backend import add

        return play(add(names[0], adding or Adding(), where, output))
    if action == "switch":
        from actors.console.switch_backend import switch

        return play(switch(names[0], where, output, at_once=now))
    if action == "show":
        return play(_show(names[0], where, output))
    return play(_list(where, output, gone=gone))


async def _list(where: Where, output: Output, *, gone: bool) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        fleet = await gathered(bus)
        fleet.totals = await totals_of(bus)
        now = bus.now()
    there = [backend for _, backend in sorted(fleet.backends.items()) if gone or backend.slots > 0]
    if output.machine:
        output.rows(row_of(backend, fleet) for backend in there)
        return OK
    if there:
        show(
            backends_cells(there, fleet, now), right=("busy", "waiting", "GPU memory", "jobs", "cost"),
            fold={"state": 14, "backend": 16, "speaks": 12}, drop=("GPU memory", "speaks"), wide=output.wide,
        )  # fmt: skip
        if any(backend.models for backend in there):
            out.print()
            show(
                models_cells(there, fleet), right=("context", "ok/tried", "latency", "tokens/s", "cost"),
                fold={"model": 18, "price in/out per M": 18, "backend": 12}, drop=("context", "cost", "tokens/s"),
                wide=output.wide,
            )  # fmt: skip
    else:
        err.print("no backend is there: start one and `turnout dev` finds it; `turnout doctor` looks what is missing")
    hidden = len(fleet.backends) - len(there)
    if hidden:
        err.print(f"{count(hidden, 'backend')} that nobody serves any more; --all shows them", style="dim")
    return OK


async def _show(name: str, where: Where, output: Output) -> int:
    async with reach(where) as bus:
        await check_there(bus)
        fleet = await gathered(bus)
        fleet.totals = await totals_of(bus)
        now = bus.now()
    backend = fleet.backends.get(name)
    if backend is None:
        known = ", ".join(sorted(fleet.backends)) or "there is none"
        raise Complaint(f"no backend is called {name!r}", hint=f"backends: {clean(known)}")
    if output.machine:
        output.one(row_of(backend, fleet))
        return OK
    out.print(Text(clean(name), "bold"))
    for key, value in details(backend, fleet, now):
        out.print(Text.assemble((f"  {key:<11}", "dim"), value), soft_wrap=True)
    load = fleet.loads.get(name)
    for model in backend.models:
        loaded = load is not None and model.name in (load.loaded or ())
        out.print(Text.assemble("\n  ", (clean(model.name), "bold"), (" ● loaded" if loaded else "", "green")))
        for key, value in model_lines(model):
            out.print(Text.assemble((f"    {key:<9}", "dim"), value), soft_wrap=True)
    return OK
