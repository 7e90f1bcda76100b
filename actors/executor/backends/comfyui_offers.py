"""What ComfyUI offers, and which recipe a call gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from actors.executor.backends.errors import as_object
from actors.executor.backends.port import BackendError, Call, Offer
from actors.executor.recipes.filling import suits
from actors.executor.recipes.fitting import Fitted


def choice(fitted: Iterable[Fitted], call: Call) -> Fitted:
    """The recipe for a call: the one that it names, or the first that makes what it wants from what it brings.

    Raises BackendError that says why there is none.
    """
    every = tuple(fitted)
    if call.recipe:
        one = next((one for one in every if one.recipe.name == call.recipe), None)
        if one is None:
            known = ", ".join(one.recipe.name for one in every)
            raise BackendError("unknown_model", f"there is no recipe {call.recipe!r}; known: {known}")
        if one.problems:
            raise BackendError("unknown_model", f"the recipe {call.recipe!r} can't run here: {one.problems[0]}")
        if one.names_model and call.model not in one.models:
            raise BackendError("unknown_model", f"the recipe {call.recipe!r} can't run {call.model!r} here")
        if one.recipe.asset != call.asset:
            raise BackendError(
                "unknown_model", f"the recipe {call.recipe!r} makes {one.recipe.asset}, not {call.asset}"
            )
        return one
    usable = [one for one in every if not one.problems]
    found = next(
        (one for one in usable if suits(one.recipe, call) and (call.model in one.models or not one.names_model)), None
    )
    if found is not None:
        return found
    if not any(call.model in one.models for one in usable):
        raise BackendError("unknown_model", f"no recipe can run {call.model!r} here, or the server does not have it")
    brought = ", ".join(file.name for file in call.inputs)
    what = f"with {brought}" if brought else "from a text alone"
    raise BackendError("unknown_model", f"no recipe makes {call.asset} {what} with {call.model!r} here")


def with_files(graph: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A job's own graph as it is, but for files that the job brings: a loader's input that names one gets the server's name."""
    found: dict[str, Any] = dict(graph)
    for key, value in graph.items():
        node = as_object(value) or {}
        inputs = as_object(node.get("inputs")) or {}
        if "Load" in str(node.get("class_type", "")) and names:
            new = {name: names.get(given, given) if isinstance(given, str) else given for name, given in inputs.items()}
            found[key] = {**node, "inputs": new}
    return found


def offer_of(model: str, usable: Iterable[Fitted], loaded: tuple[str, ...] | None) -> Offer:
    """A model, with all that the usable recipes can do with it; one that names no model goes with any that makes the same."""
    mine = [one for one in usable if model in one.models]
    assets = {one.recipe.asset for one in mine}
    able = mine + [one for one in usable if not one.names_model and one.recipe.asset in assets]
    words = {*assets, *(f"recipe:{one.recipe.name}" for one in able)}
    words |= {word for one in mine for word in one.recipe.capabilities}
    loras = dict.fromkeys(lora for one in mine for lora in one.loras)
    if loras:
        words.add("lora")
    return Offer(
        model=model,
        capabilities=tuple(sorted(words)),
        loaded=None if loaded is None else model in loaded,
        vram_mb=max((one.recipe.vram_mb for one in mine if one.recipe.vram_mb is not None), default=None),
        loras=tuple(loras),
    )


def device_of(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The GPU that it uses; empty when it has none: a processor's figures are the machine's memory."""
    devices: Any = stats.get("devices")
    for entry in cast("list[Any]", devices) if isinstance(devices, list) else []:
        device = as_object(entry) or {}
        if device.get("type") != "cpu":
            return device
    return {}


def mb(value: object) -> int | None:
    """Bytes as MiB."""
    return int(value / 1024 / 1024) if isinstance(value, int | float) and not isinstance(value, bool) else None
