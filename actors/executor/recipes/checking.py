"""Checks a recipe by itself, without any server. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from actors.executor.recipes.recipe import FIELDS, NUMBERS, TEXTS, WHOLES, Field, Recipe, RecipeError, link_of, target

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_BODIES: Final[Mapping[str, str]] = {"comfyui": "graph", "wan2gp": "settings"}


def check(recipe: Recipe) -> None:
    """Raise RecipeError that names the key and what would be right, when anything in the recipe is wrong."""
    if not _NAME.fullmatch(recipe.name):
        raise RecipeError(f"name: {recipe.name!r} must be lower-case letters, digits and hyphens, like text-to-image")
    body, other = _BODIES[recipe.server], "settings" if recipe.server == "comfyui" else "graph"
    if not getattr(recipe, body):
        raise RecipeError(f"{body}: missing; a recipe for {recipe.server} needs it")
    if getattr(recipe, other):
        raise RecipeError(f"{other}: a recipe for {recipe.server} has {body} instead")
    if recipe.server == "comfyui":
        _check_graph(recipe)
    elif recipe.choose:
        raise RecipeError("choose: only inputs of a graph can be chosen")
    for name, field in recipe.fields.items():
        _check_field(recipe, name, field)
    for name, given in recipe.inputs.items():
        _check_targets(recipe, f"inputs.{name}.to", given.to)
        for node in given.nodes:
            if node not in recipe.graph:
                raise RecipeError(f"inputs.{name}.nodes: the graph has no node {node!r}")
    for where in recipe.choose:
        _check_targets(recipe, "choose", (where,))
    if recipe.server == "wan2gp" and recipe.loras is not None and not recipe.loras.to:
        raise RecipeError("loras.to: missing; name the key that gets the LoRAs, like activated_loras")


def _check_graph(recipe: Recipe) -> None:
    for key, node in recipe.graph.items():
        if not isinstance(node.get("class_type"), str):
            raise RecipeError(f"graph.{key}.class_type: missing; export the graph with `Export (API)`")
        inputs: Any = node.get("inputs")
        if not isinstance(inputs, dict):
            raise RecipeError(f"graph.{key}.inputs: missing; it must be a table")
        for name, value in cast("dict[str, Any]", inputs).items():
            link = link_of(value)
            if link is not None and link[0] not in recipe.graph:
                raise RecipeError(f"graph.{key}.inputs.{name}: it is linked to node {link[0]!r}, which does not exist")


def _check_field(recipe: Recipe, name: str, field: Field) -> None:
    key = f"fields.{name}"
    if name not in FIELDS:
        near = difflib.get_close_matches(name, sorted(FIELDS), n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(FIELDS))}"
        raise RecipeError(f"{key}: jobs have no such field; {hint}")
    _check_targets(recipe, f"{key}.to", field.to)
    if field.format and "{}" not in field.format:
        raise RecipeError(f"{key}.format: {field.format!r} must hold {{}} where the value goes")
    if field.step < 0:
        raise RecipeError(f"{key}.step: {field.step} must be 0 (any) or more")
    if field.min is not None and field.max is not None and field.min > field.max:
        raise RecipeError(f"{key}.min: {field.min:g} is more than max, {field.max:g}")
    value = field.default
    if value is None:
        return
    wanted = "text" if name in TEXTS else "a whole number" if name in WHOLES else "a number"
    right = isinstance(value, str) if name in TEXTS else not isinstance(value, bool | str)
    if not right or (name in WHOLES and not isinstance(value, int)):
        raise RecipeError(f"{key}.default: {value!r} must be {wanted}")
    if name == "size" and not re.fullmatch(r"[1-9]\d*x[1-9]\d*", str(value)):
        raise RecipeError(f"{key}.default: {value!r} must be WIDTHxHEIGHT, like 832x480")
    if name in WHOLES | NUMBERS:
        number = float(cast("float", value))
        if (field.min is not None and number < field.min) or (field.max is not None and number > field.max):
            raise RecipeError(f"{key}.default: {value} is outside of min and max")


def _check_targets(recipe: Recipe, key: str, targets: Iterable[str]) -> None:
    places = tuple(targets)
    if not places:
        raise RecipeError(f"{key}: names no input")
    for where in places:
        if recipe.server == "comfyui":
            try:
                target(recipe, where)
            except RecipeError as error:
                raise RecipeError(f"{key}: {error}") from None
        elif not all(where.split(".")):
            raise RecipeError(f"{key}: {where!r} must be a key of settings")
