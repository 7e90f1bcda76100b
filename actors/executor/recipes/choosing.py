"""Which recipe a call gets, and the workflow that comes of it, with the errors of adapters. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.executor.backends.port import BackendError, Call
from actors.executor.recipes.filling import Missing, Unfit, fill, suits
from actors.executor.recipes.fitting import Fitted
from actors.executor.recipes.loading import Collected, collected
from actors.executor.recipes.recipe import Recipe, RecipeError, Server


def known(server: Server, folders: Sequence[str]) -> Collected:
    """Our recipes for a kind of server and those in `folders`. Raises ValueError that names the option `recipes`."""
    try:
        return collected(server, [Path(folder) for folder in folders])
    except RecipeError as error:
        raise ValueError(f"options.recipes: {error}") from error


def chosen(from_: Sequence[Recipe], call: Call, where: str) -> Recipe:
    """The recipe that the call names, else the first that makes what it wants from just what it brings.

    Raises BackendError (`unknown_model`) when there is none; `where` is the server's name.
    """
    for recipe in from_:
        if recipe.name == call.recipe if call.recipe else suits(recipe, call):
            return recipe
    what = f"recipe {call.recipe!r}" if call.recipe else f"recipe that makes {call.asset} from what the job brings"
    raise BackendError("unknown_model", f"{where}: there is no {what} for {call.model!r}")


def filled(fitted: Fitted, call: Call, *, seed: int, files: Mapping[str, str]) -> dict[str, Any]:
    """The workflow for a call. Raises BackendError: `bad_request` for what the job lacks, `unknown_model` for what can't be done
    here.
    """
    try:
        return fill(fitted, call, seed=seed, files=files).body
    except Missing as error:
        raise BackendError("bad_request", str(error)) from error
    except Unfit as error:
        raise BackendError("unknown_model", str(error)) from error


def seed_for(call: Call) -> int:
    """The job's seed, else one that depends on the call alone, or on the one that it may go on with, to ask for the same."""
    if call.seed is not None:
        return call.seed
    key = call.earlier[0] if call.earlier else call.key
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") >> 1


def capabilities_of(recipe: Recipe) -> tuple[str, ...]:
    """What a server can do that can run it."""
    lora = ("lora",) if recipe.loras is not None else ()
    return (recipe.asset, f"recipe:{recipe.name}", *recipe.capabilities, *lora)
