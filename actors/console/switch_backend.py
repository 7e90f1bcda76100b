"""`turnout backends switch NAME`: make a backend the active one of its exclusive group, by hand."""

from __future__ import annotations

import asyncio
import os

from rich.text import Text

from actors import node
from actors.console.fleet import Fleet, gathered
from actors.console.output import Output
from actors.console.prices import wall
from actors.console.reach import Where, reach
from actors.console.screen import OK, Complaint, Unreachable, Wrong, clean, count, err, out, seconds
from actors.settings import BackendSettings, GroupSettings, Settings

POLL_SECONDS = 0.5


async def switch(name: str, where: Where, output: Output, *, at_once: bool) -> int:
    """Run the group's program on this machine, and wait until the server answers. Executors notice within some seconds."""
    settings = where.settings()
    backend, group = chosen(settings, name)
    if not at_once:
        _check_idle(await _fleet(where), settings, backend)
    model = backend.models[0].name if backend.models else ""
    command, variables = node.switch.command_for(group, name, model)
    loop = asyncio.get_running_loop()
    began = loop.time()
    err.print(Text(clean(f"running {' '.join(command)}"), "dim"), soft_wrap=True)
    try:
        await node.script.run_script(command, variables, group.timeout_seconds)
        while reason := await node.adding.answers(backend, os.environ, wall):
            if loop.time() - began >= group.timeout_seconds:
                raise Complaint(f"{name} does not answer {seconds(group.timeout_seconds)} after the switch: {reason}")
            await asyncio.sleep(POLL_SECONDS)
    except node.script.ScriptFailed as error:
        raise Complaint(f"group {group.name}: {error}") from error
    except ValueError as error:
        raise Wrong(f"backend {name!r}: {error}") from error
    if output.machine:
        output.one({"backend": name, "group": group.name, "seconds": round(loop.time() - began, 3)})
        return OK
    took = seconds(loop.time() - began)
    out.print(Text.assemble((clean(name), "bold"), f" answers; the switch took {took}"))
    return OK


def chosen(settings: Settings, name: str) -> tuple[BackendSettings, GroupSettings]:
    """The backend of this name and its group, as the settings have them. Raises Wrong."""
    backend = next((one for one in settings.backends if one.name == name), None)
    if backend is None:
        members = ", ".join(one.name for one in settings.backends if one.exclusive_group)
        known = f"members of groups: {members}" if members else "no backend is in an exclusive group"
        raise Wrong(
            f"the settings have no backend {name!r}; {known}", "turnout backends switch NAME --config turnout.toml"
        )
    if not backend.exclusive_group:
        raise Wrong(f"{name} is in no exclusive group: there is nothing to switch")
    group = next((one for one in settings.groups if one.name == backend.exclusive_group), None)
    if group is None:
        raise Wrong(
            f"the settings do not say how group {backend.exclusive_group!r} is switched: add [[groups]] with switch"
        )
    return backend, group


async def _fleet(where: Where) -> Fleet | None:
    try:
        async with reach(where) as bus:
            return await gathered(bus)
    except Unreachable:
        err.print("no bus is there, so nobody knows whether jobs run", style="dim")
        return None


def _check_idle(fleet: Fleet | None, settings: Settings, backend: BackendSettings) -> None:
    """What runs is not evicted. Raises Complaint."""
    others = [
        one.name for one in settings.backends if one.exclusive_group == backend.exclusive_group and one is not backend
    ]  # fmt: skip
    for other in others if fleet is not None else ():
        assert fleet is not None
        load = fleet.loads.get(other)
        busy = load.running + load.foreign if load else 0
        if busy:
            raise Complaint(
                f"{other} works on {count(busy, 'request')}, which the switch would end",
                hint="wait until it is idle, or --now",
            )
