"""What ComfyUI offers, and which recipe a call gets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from actors.executor.backends.errors import as_object
from actors.executor.backends.port import BackendError, Call, Offer
from actors.executor.recipes.filling import suits
from actors.executor.recipes.fitting import Fitted
from actors.executor.recipes.nodes import NodeClass
from actors.graph_names import BY_NAME, CHECKPOINT_INPUTS, GRAPH, LORA_INPUTS, packed


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
    own = [one for one in usable if not one.names_model and one.recipe.name == call.model]
    able = own or [one for one in usable if call.model in one.models or not one.names_model]
    found = next((one for one in able if suits(one.recipe, call)), None)
    if found is not None:
        return found
    if not own and not any(call.model in one.models for one in usable):
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


def offers_of(fitted: Iterable[Fitted], loaded: tuple[str, ...] | None, has: str) -> tuple[Offer, ...]:
    """All that a server offers: each model that a recipe can be run with, and any graph of a job's own."""
    usable = [one for one in fitted if not one.problems]
    models = dict.fromkeys(model for one in usable for model in one.models)
    found = [offer_of(model, usable, loaded) for model in models]
    shown = {word for offer in found for word in offer.capabilities}
    # A recipe that names no model goes with those that make the same. Where there is none it is a model itself.
    found += [
        Offer(model=one.recipe.name, capabilities=tuple(sorted(words_of((one,)))))
        for one in usable
        if not one.names_model and f"recipe:{one.recipe.name}" not in shown
    ]
    return (*found, Offer(model=GRAPH, capabilities=(GRAPH,), has=has))


def packed_of(classes: Mapping[str, NodeClass]) -> str:
    """What a graph may name on a server: its node classes, and the files that their inputs list."""
    checkpoints: set[str] | None = set()
    loras: set[str] = set()
    for spec, name in ((spec, name) for known in classes.values() for name, spec in known.inputs.items()):
        names = None if spec.choices is None else {choice for choice in spec.choices if isinstance(choice, str)}
        if name in CHECKPOINT_INPUTS:
            checkpoints = None if checkpoints is None or names is None else checkpoints | names
        elif name.startswith(LORA_INPUTS) and names is not None:
            loras |= names
    return packed(classes, checkpoints, loras or None)


def offer_of(model: str, usable: Iterable[Fitted], loaded: tuple[str, ...] | None) -> Offer:
    """A model, with all that the usable recipes can do with it; one that names no model goes with any that makes the same."""
    mine = [one for one in usable if model in one.models]
    assets = {one.recipe.asset for one in mine}
    able = mine + [one for one in usable if not one.names_model and one.recipe.asset in assets]
    words = {GRAPH, *words_of(able)}
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


def words_of(able: Iterable[Fitted]) -> set[str]:
    """What recipes make, and their names; that all of them are for jobs alone that name them."""
    several = [one.recipe for one in able]
    words = {word for recipe in several for word in (recipe.asset, f"recipe:{recipe.name}", *recipe.capabilities)}
    return words | ({BY_NAME} if all(recipe.by_name for recipe in several) else set())


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
