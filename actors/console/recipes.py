"""`turnout recipes`: the workflows that jobs may name, and what each takes."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.text import Text

from actors import node
from actors.console.app import play
from actors.console.fleet import gathered
from actors.console.output import TEXT, Output
from actors.console.reach import HERE, Where, reach
from actors.console.screen import OK, Complaint, Unreachable, Wrong, clean, err, out
from actors.console.tables import show

Action = Literal["list", "show"]


def recipes(
    action: Annotated[Action, Parameter(help="list, or show NAME.")] = "list",
    *names: Annotated[str, Parameter(help="Name of a recipe.")],
    output: Output = TEXT,
    where: Where = HERE,
) -> int:
    """Show the recipes: those that come with turnout and those of the backends on the bus, and who runs each now.

    Without a bus it shows those that come along. Exit codes: 0 fine, 1 there is no such recipe, 2 wrong usage.
    """
    if len(names) != (0 if action == "list" else 1):
        what = "takes no name" if action == "list" else "takes one NAME"
        raise Wrong(f"`recipes {action}` {what}", "turnout recipes list, or turnout recipes show upscale")
    return play(_recipes(names[0] if names else "", where, output))


async def _recipes(name: str, where: Where, output: Output) -> int:
    runs, there = await _who_runs(where)
    known = [one for one in node.shipped_recipes() if name in ("", one.name)]
    rows: list[dict[str, Any]] = [
        {**_row(one), "shipped": True, "backends": sorted(runs.get(one.name, ()))} for one in known
    ]
    others = sorted(set(runs) - {one.name for one in node.shipped_recipes()})
    rows += [{"name": one, "shipped": False, "backends": sorted(runs[one])} for one in others if name in ("", one)]
    if name and not rows:
        names = sorted({*runs, *(one.name for one in node.shipped_recipes())})
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        raise Complaint(f"there is no recipe {name!r}", hint=f"did you mean {close[0]}?" if close else ", ".join(names))
    if output.machine:
        if name:
            output.one(rows[0])
        else:
            output.rows(rows)
        return OK
    if not there:
        err.print("no bus is there: only what comes with turnout is shown", style="dim")
    if name:
        for row in rows:
            _show(row)
        return OK
    cells: dict[str, list[Text | str]] = {
        "recipe": [Text(clean(row["name"]), "bold") for row in rows],
        "makes": [row.get("asset", "-") for row in rows],
        "for": [row.get("server", "-") for row in rows],
        "brings": [", ".join(row.get("inputs", {})) or "-" for row in rows],
        "run by": [clean(", ".join(row["backends"])) or "-" for row in rows],
        "title": [clean(row.get("title", "")) for row in rows],
    }
    show(cells, fold={"title": 16, "run by": 10, "brings": 14}, drop=("title", "for"), wide=output.wide)
    return OK


async def _who_runs(where: Where) -> tuple[dict[str, set[str]], bool]:
    """Which backends offer each recipe, and whether a bus is there."""
    try:
        async with reach(where) as bus:
            fleet = await gathered(bus)
    except Unreachable:
        return {}, False
    found: dict[str, set[str]] = {}
    for backend in fleet.backends.values():
        for model in backend.models if backend.slots > 0 else ():
            for capability in model.capabilities:
                if capability.startswith(PREFIX):
                    found.setdefault(capability.removeprefix(PREFIX), set()).add(backend.backend)
    return found, True


PREFIX = "recipe:"


def _row(recipe: Any) -> dict[str, Any]:
    """What is to be known of a recipe, without its graph."""
    whole = msgspec.to_builtins(recipe)
    names = ("name", "title", "asset", "server", "models", "capabilities", "by_name", "vram_mb", "source")
    told = {name: whole[name] for name in names}
    told["fields"] = {name: {k: v for k, v in one.items() if k != "to"} for name, one in whole["fields"].items()}
    told["inputs"] = {name: {k: one[k] for k in ("required", "media")} for name, one in whole["inputs"].items()}
    told["loras"] = recipe.loras is not None
    return told


def _show(row: dict[str, Any]) -> None:
    out.print(Text.assemble((clean(row["name"]), "bold"), f"  {clean(row.get('title', ''))}"), soft_wrap=True)
    by = ", ".join(row["backends"]) or "nobody now"
    lines = [("run by", by)]
    if row["shipped"]:
        fields = [f"{name}{' (required)' if one['required'] else ''}" for name, one in row["fields"].items()]
        brings = [f"{name}{'' if one['required'] else ' (or not)'}" for name, one in row["inputs"].items()]
        lines = [
            ("makes", row["asset"]), ("for", f"{row['server']}, models {', '.join(row['models'])}"),
            ("says", ", ".join(fields) or "nothing"), ("brings", ", ".join(brings) or "nothing"),
            ("LoRAs", "yes" if row["loras"] else "no"),
            ("used", "when a job names it" if row["by_name"] else "when it suits a job"), *lines, ("from", row["source"]),
        ]  # fmt: skip
    for key, value in lines:
        out.print(Text.assemble((f"  {key:<8}", "dim"), clean(str(value))), soft_wrap=True)
