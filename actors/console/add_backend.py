"""`turnout backends add URL`: who is there, what it can do, and the table for the settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rich.text import Text

from actors import node
from actors.console.fleet import model_lines
from actors.console.output import Output
from actors.console.prices import wall
from actors.console.reach import Where
from actors.console.screen import FAILED, OK, Complaint, Wrong, clean, count, err, out, shown
from actors.settings import BackendSettings
from messages import Model

if TYPE_CHECKING:
    from actors.console.adding import Adding

MODELS_SHOWN = 12
"""Of more models only so many are described."""


async def add(url: str, adding: Adding, where: Where, output: Output) -> int:
    """Probe, show, and write when asked to."""
    if adding.key_env and not os.environ.get(adding.key_env, "").strip():
        raise Wrong(f"--key-env {adding.key_env}: that environment variable is not set")
    backend = BackendSettings(
        name=adding.name, url=url if "://" in url else f"http://{url}", api_key_env=adding.key_env,
        ca_file=adding.ca_file, verify_tls=adding.verify_tls, proxy_env=adding.proxy_env,
    )  # fmt: skip
    try:
        seen = await node.adding.see(backend, where.settings(), local=adding.local, environment=os.environ, now=wall)
    except ValueError as error:
        raise Wrong(str(error)) from error
    except node.adding.Unrecognised as error:
        raise Complaint(str(error)) from error
    if output.machine:
        if adding.write is not None:
            node.adding.written(adding.write, seen.backend)
        written = str(adding.write) if adding.write is not None else None
        told = {"backend": seen.backend, "version": seen.version, "models": seen.models, "trouble": seen.trouble}
        output.one({**told, "settings": node.adding.lines_of(seen.backend), "written": written})
        return FAILED if seen.trouble else OK
    _describe(seen)
    lines = node.adding.lines_of(seen.backend)
    if adding.write is None:
        err.print(
            f"to serve it, put this into the settings, or give --write {where.config or 'turnout.toml'}:", style="dim"
        )
        out.file.write("\n" + lines)
    else:
        node.adding.written(adding.write, seen.backend)
        out.print(
            Text.assemble("written to ", (str(adding.write), "bold"), f" as {clean(seen.backend.name)}; it is served by "
                          f"`turnout dev --config {adding.write}`, or `turnout run executor` likewise, from its next start on")
        )  # fmt: skip
    return FAILED if seen.trouble else OK


def _describe(seen: Any) -> None:
    place = "on hardware of ours" if seen.backend.local else "in the cloud"
    version = f" {seen.version}" if seen.version else ""
    out.print(
        Text.assemble((shown(seen.backend.url), "bold"), clean(f" is {seen.kind.title}{version}, {place}")),
        soft_wrap=True,
    )
    if seen.trouble:
        err.print(Text(clean(seen.trouble), "yellow"), soft_wrap=True)
    models: tuple[Model, ...] = seen.models
    out.print(count(len(models), "model"))
    for model in models[:MODELS_SHOWN]:
        out.print(Text.assemble("  ", (clean(model.name), "bold")))
        for key, value in model_lines(model):
            out.print(Text.assemble((f"    {key:<9}", "dim"), value), soft_wrap=True)
    if len(models) > MODELS_SHOWN:
        out.print(f"  and {count(len(models) - MODELS_SHOWN, 'more model')}", style="dim")
    if seen.elsewhere:
        names = ", ".join(model.name for model in seen.elsewhere)
        text = f"{names}: run elsewhere, and will be the backend {seen.backend.name}-cloud"
        out.print(Text(clean(text), "dim"), soft_wrap=True)
    unknown = [model.name for model in models if model.price.unknown]
    if unknown and not seen.backend.local:
        text = f"nobody knows the price of {', '.join(unknown[:4])}{' …' if len(unknown) > 4 else ''}: where a job or a budget"
        err.print(Text(clean(f"{text} limits dollars they are not used"), "yellow"), soft_wrap=True)
