"""Tells whether a recipe can run on a server, on which of its models, and if not why. Pure."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from actors.executor.recipes.loras import LORA_LOADERS, Sources, sources_of
from actors.executor.recipes.nodes import NodeClass, NodeInput, fault_of, takes
from actors.executor.recipes.recipe import NUMBERS, WHOLES, Field, Recipe, link_of, target

_SHOWN: Final = 5


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe on a server."""

    recipe: Recipe
    """With the server's files chosen, and its limits on top of the recipe's."""
    models: tuple[str, ...] = ()
    """Models of the server that it works with; empty for a recipe that names no model, which goes with any."""
    loras: tuple[str, ...] = ()
    """LoRAs that it can be run with."""
    sources: Sources = Sources()
    """Where LoRAs are put in."""
    problems: tuple[str, ...] = ()
    """Why it can't run; empty: it can."""

    @property
    def names_model(self) -> bool:
        """Whether the job's model is part of it."""
        return "model" in self.recipe.fields


def fit(recipe: Recipe, classes: Mapping[str, NodeClass]) -> Fitted:
    """The recipe on a server that has these node classes."""
    graph = copy.deepcopy(recipe.graph)
    problems: list[str] = []
    specs = _Specs(recipe, classes)
    for where, patterns in recipe.choose.items():
        node, name = target(recipe, where)
        spec = specs.of(where)
        if spec is None or spec.choices is None:
            continue  # Told below, or the server does not say.
        found = chosen(spec.choices, patterns)
        if found is None:
            has = _list(spec.choices)
            problems.append(
                f"{specs.label(node)}: {name}: no file like {_list(patterns)} on this server, which has {has}"
            )
        else:
            graph[node]["inputs"][name] = found
    missing = [problem for key in graph if (problem := _class_problem(specs, key, classes))]
    if missing:
        return Fitted(recipe=recipe, problems=tuple(missing))
    chosen_problems = {target(recipe, where) for where in recipe.choose} if problems else set[tuple[str, str]]()
    filled = {target(recipe, where) for field in recipe.fields.values() for where in field.to}
    filled |= {target(recipe, where) for given in recipe.inputs.values() for where in given.to}
    for key in graph:
        problems += _node_problems(specs, graph, key, filled | chosen_problems)
    for name, field in recipe.fields.items():
        problems += [
            f"{specs.label(node)}: it has no input {place!r}, where {name} goes"
            for node, place in (target(recipe, where) for where in field.to)
            if place not in classes[graph[node]["class_type"]].inputs
        ]
    fields = {
        name: _bounded(field, specs) if name in WHOLES | NUMBERS else field for name, field in recipe.fields.items()
    }
    problems += [problem for name, field in fields.items() if (problem := _default_problem(name, field))]
    models, why = _models(recipe, specs)
    problems += why
    loras: tuple[str, ...] = ()
    if recipe.loras is not None:
        loader = classes.get(LORA_LOADERS[recipe.loras.clip])
        spec = loader.inputs.get("lora_name") if loader else None
        loras = tuple(str(choice) for choice in (spec.choices if spec else None) or ())
    return Fitted(
        recipe=msgspec.structs.replace(recipe, graph=graph, fields=fields),
        models=models,
        loras=loras,
        sources=sources_of(graph, classes),
        problems=tuple(problems),
    )


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name, with or without its folder, is like one of the patterns."""
    whole = name.lower()
    last = re.split(r"[\\/]", whole)[-1]
    return any(fnmatchcase(whole, pattern.lower()) or fnmatchcase(last, pattern.lower()) for pattern in patterns)


def chosen(choices: Iterable[Any], patterns: Iterable[str]) -> str | None:
    """The first choice that is like the first pattern that any of them is like."""
    names = [choice for choice in choices if isinstance(choice, str)]
    return next((name for pattern in patterns for name in names if matches(name, (pattern,))), None)


class _Specs:
    """The inputs of a recipe's nodes, as the server describes them."""

    def __init__(self, recipe: Recipe, classes: Mapping[str, NodeClass]) -> None:
        self._recipe = recipe
        self.classes = classes

    def of(self, where: str) -> NodeInput | None:
        node, name = target(self._recipe, where)
        found = self.classes.get(self._recipe.graph[node]["class_type"])
        return found.inputs.get(name) if found else None

    def label(self, node: str) -> str:
        """A node, for people."""
        return f"node {node} ({self._recipe.graph[node]['class_type']})"


def _class_problem(specs: _Specs, node: str, classes: Mapping[str, NodeClass]) -> str:
    name = specs.label(node).partition("(")[2].rstrip(")")
    if name in classes:
        return ""
    near = difflib.get_close_matches(name, classes, n=1, cutoff=0.8)
    hint = f"; it has {near[0]}" if near else "; a newer ComfyUI or a custom node brings it"
    return f"node {node}: this server has no node class {name}{hint}"


def _node_problems(
    specs: _Specs, graph: Mapping[str, Mapping[str, Any]], key: str, filled: set[tuple[str, str]]
) -> Iterable[str]:
    label = specs.label(key)
    inputs: Mapping[str, Any] = graph[key]["inputs"]
    found = specs.classes[graph[key]["class_type"]]
    for name, spec in found.inputs.items():
        if spec.required and name not in inputs and (key, name) not in filled:
            yield f"{label}: the input {name!r} is missing, which this server requires"
    for name, value in inputs.items():
        spec = found.inputs.get(name)
        if spec is None or (key, name) in filled:
            continue  # What a class does not know it does not read.
        link = link_of(value)
        if link is None:
            if fault := fault_of(spec, value):
                yield f"{label}: {name}: {fault}"
            continue
        source, slot = link
        outputs = specs.classes[graph[source]["class_type"]].outputs
        if slot >= len(outputs):
            yield f"{label}: {name}: {specs.label(source)} has no output {slot}, only {len(outputs)}"
        elif not takes(spec.type, outputs[slot]):
            yield f"{label}: {name}: it takes {spec.type}, but is linked to {outputs[slot]} of {specs.label(source)}"


def _bounded(field: Field, specs: _Specs) -> Field:
    """The field with the server's limits on top of its own."""
    found = [spec for where in field.to if (spec := specs.of(where)) is not None]
    least = [value for value in (field.min, *(spec.min for spec in found)) if value is not None]
    most = [value for value in (field.max, *(spec.max for spec in found)) if value is not None]
    return msgspec.structs.replace(field, min=max(least, default=None), max=min(most, default=None))


def _default_problem(name: str, field: Field) -> str:
    value = field.default
    if name not in WHOLES | NUMBERS or not isinstance(value, int | float):
        return ""
    if field.min is not None and value < field.min:
        return f"fields.{name}.default: {value} is less than this server's {field.min:g}"
    if field.max is not None and value > field.max:
        return f"fields.{name}.default: {value} is more than this server's {field.max:g}"
    return ""


def _models(recipe: Recipe, specs: _Specs) -> tuple[tuple[str, ...], list[str]]:
    field = recipe.fields.get("model")
    if field is None:
        return (), []
    lists = [spec.choices for where in field.to if (spec := specs.of(where)) and spec.choices is not None]
    names = [str(name) for name in (lists[0] if lists else ()) if all(name in choices for choices in lists)]
    found = tuple(name for name in names if matches(name, recipe.models) and not matches(name, recipe.not_models))
    if found:
        return found, []
    but = f", but not like {_list(recipe.not_models)}" if recipe.not_models else ""
    return (), [f"no model like {_list(recipe.models)}{but} on this server, which has {_list(names)}"]


def _list(names: Iterable[Any]) -> str:
    shown = [str(name) for name in names]
    text = ", ".join(shown[:_SHOWN]) or "none"
    return text if len(shown) <= _SHOWN else f"{text}, … ({len(shown)})"
