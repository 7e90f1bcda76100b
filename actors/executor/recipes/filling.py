"""Puts what a job says into a recipe. Pure."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from actors.executor.backends.port import Call, prompt_of
from actors.executor.recipes.fitting import Fitted
from actors.executor.recipes.loras import with_loras
from actors.executor.recipes.recipe import NUMBERS, WHOLES, Field, FileInput, Literals, Recipe, link_of, target
from actors.lora_names import lora_named


class Missing(ValueError):
    """The job lacks what the recipe can't do without, or brings what it has no place for; it is wrong everywhere."""


class Unfit(ValueError):
    """The job wants what this recipe can't do here; another backend may."""


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """A workflow that can be run."""

    body: dict[str, Any]
    """The graph, or the settings."""
    values: dict[str, Literals]
    """What each field got, defaults included."""


_Source = Callable[[Call], Literals]
# What a call says of each field; empty and 0: nothing.
_SAID: Final[Mapping[str, _Source]] = {
    "prompt": prompt_of,
    "negative_prompt": lambda call: call.negative_prompt,
    "model": lambda call: call.model,
    "size": lambda call: f"{call.media.width}x{call.media.height}" if call.media.width and call.media.height else "",
    "width": lambda call: call.media.width,
    "height": lambda call: call.media.height,
    "steps": lambda call: call.media.steps,
    "frames": lambda call: call.media.frames,
    "fps": lambda call: call.media.fps,
    "seconds": lambda call: call.media.seconds,
    "count": lambda call: call.media.images,
}


def fill(fitted: Fitted, call: Call, *, seed: int, files: Mapping[str, str] | None = None) -> Filled:
    """The recipe with what the call says, `seed`, and `files` (name of the input: how the server calls the file).

    The job's own word comes first and must be possible; then the recipe's default, then the quality level's, within limits.
    Length and rate of a video follow from each other: a job that says seconds gets seconds times rate frames. Raises Missing
    and Unfit with a sentence for people.
    """
    recipe, given = fitted.recipe, dict(files or {})
    values: dict[str, Literals] = {}
    own = _own_words(call)
    for name, field in recipe.fields.items():
        value: Literals | None = seed if name == "seed" else _said(name, own, recipe)
        if name == "size" and not value and (own.media.width or own.media.height):
            value = _whole_size(own, call, field)
        if value == "" or value is None or (value == 0 and name != "seed"):
            value = field.default
            if field.required or value is None:
                value = _within(name, field, _brought(name, call))
            if field.required and value is None:
                raise Missing(f"{name}: the recipe {recipe.name!r} needs it")
        if value is not None:
            values[name] = _fitting(recipe, name, field, value)
    _refuse(recipe, call)
    body: dict[str, Any] = copy.deepcopy(recipe.graph if recipe.server == "comfyui" else recipe.settings)
    for name, value in values.items():
        field = recipe.fields[name]
        written = field.format.replace("{}", _text(value)) if field.format else value
        for where in field.to:
            _put(recipe, body, where, written)
    for name, place in recipe.inputs.items():
        if name in given:
            for where in place.to:
                _put(recipe, body, where, given[name])
        elif place.required:
            raise Missing(f"inputs: the recipe {recipe.name!r} needs a file {name!r}")
        else:
            _leave_out(recipe, body, place)
    return Filled(body=_with_loras(fitted, call, body), values=values)


def suits(recipe: Recipe, call: Call) -> bool:
    """Whether a job that names no recipe may get this one: it makes what is wanted, from just what the job brings."""
    brought = {file.name for file in call.inputs}
    required = {name for name, place in recipe.inputs.items() if place.required}
    return recipe.asset == call.asset and not recipe.by_name and required <= brought <= recipe.inputs.keys()


def _own_words(call: Call) -> Call:
    nothing: dict[str, Any] = dict.fromkeys(call.unsaid, 0)
    return msgspec.structs.replace(call, media=msgspec.structs.replace(call.media, **nothing))


def _whole_size(own: Call, call: Call, field: Field) -> str:
    """The size where a job says one side alone: the other one is the recipe's, else the quality level's."""
    width, _, height = str(field.default or "").partition("x")
    sides = (own.media.width or width or call.media.width, own.media.height or height or call.media.height)
    return "x".join(map(str, sides)) if all(sides) else ""


def _brought(name: str, call: Call) -> Literals | None:
    """What the quality level says. A length of which it does not say the frames was reckoned for the estimate alone."""
    if name in ("frames", "seconds"):
        return getattr(call.media, name) if call.media.frames else None
    return _SAID[name](call) if name in _SAID else None


def _within(name: str, field: Field, value: Literals | None) -> Literals | None:
    """What nobody said, within the field's limits; None: nothing."""
    if not value:
        return None
    if name == "size":
        return "x".join(str(int(_limited(field, float(side)))) for side in str(value).split("x"))
    return _limited(field, value) if name in WHOLES | NUMBERS and not isinstance(value, str) else value


def _limited(field: Field, value: float) -> float:
    least = value if field.min is None else max(value, field.min)
    return least if field.max is None else min(least, field.max)


def _said(name: str, call: Call, recipe: Recipe) -> Literals | None:
    value = _SAID[name](call)
    media = call.media
    if name == "frames" and not value and media.seconds:
        rate = media.fps or _default(recipe, "fps")
        return math.ceil(media.seconds * rate) if rate else None
    if name == "seconds" and not value and media.frames:
        rate = media.fps or _default(recipe, "fps")
        return media.frames / rate if rate else None
    return value


def _default(recipe: Recipe, name: str) -> float:
    field = recipe.fields.get(name)
    value = field.default if field else None
    return float(value) if isinstance(value, int | float) else 0.0


def _refuse(recipe: Recipe, call: Call) -> None:
    """What must not be passed over in silence: files, LoRAs and further pictures that have no place."""
    for file in call.inputs:
        place = recipe.inputs.get(file.name)
        if place is None:
            names = ", ".join(recipe.inputs) or "none"
            wrong = Missing if call.recipe else Unfit  # Whoever has the recipe that the job names takes no more.
            raise wrong(f"inputs: the recipe {recipe.name!r} takes no file {file.name!r} (it takes: {names})")
        if file.media_type.partition("/")[0] not in place.media:
            wanted = " or ".join(place.media)
            raise Missing(f"inputs: {file.name!r} is {file.media_type}, but {recipe.name!r} needs {wanted}")
    if call.media.loras and recipe.loras is None:
        raise Unfit(f"loras: the recipe {recipe.name!r} takes none")
    if call.media.images > 1 and "count" not in recipe.fields:
        raise Unfit(f"count: the recipe {recipe.name!r} makes one at a time")


def _fitting(recipe: Recipe, name: str, field: Field, value: Literals) -> Literals:
    """The value in the field's steps and of its type. Raises Unfit when it is out of range."""
    if name == "size":
        width, _, height = str(value).partition("x")
        return "x".join(str(_number(recipe, name, field, float(side), whole=True)) for side in (width, height))
    if name in WHOLES | NUMBERS and not isinstance(value, str):
        return _number(recipe, name, field, value, whole=name in WHOLES)
    return value


def _number(recipe: Recipe, name: str, field: Field, value: float, *, whole: bool) -> int | float:
    if field.step:
        start = field.min or 0
        value = start + round((value - start) / field.step) * field.step
        # A step may lead just beyond the end.
        if field.max is not None and field.max < value < field.max + field.step:
            value -= field.step
    for limit, wrong, word in (
        (field.min, field.min is not None and value < field.min, "less"),
        (field.max, field.max is not None and value > field.max, "more"),
    ):
        if wrong:
            raise Unfit(f"{name}: {value:g} is {word} than the recipe {recipe.name!r} can do here, which is {limit:g}")
    return round(value) if whole else float(value)


def _text(value: Literals) -> str:
    """The value in a text; what is whole is written so, for who reads `24.0` may find no number."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _put(recipe: Recipe, body: dict[str, Any], where: str, value: object) -> None:
    if recipe.server == "comfyui":
        node, name = target(recipe, where)
        body[node]["inputs"][name] = value
        return
    *path, last = where.split(".")
    for key in path:
        body = body.setdefault(key, {})
    body[last] = value


def _leave_out(recipe: Recipe, body: dict[str, Any], place: FileInput) -> None:
    if recipe.server != "comfyui":
        return
    gone = {target(recipe, where)[0] for where in place.to} | set(place.nodes)
    for node in gone:
        body.pop(node, None)
    for node in body.values():
        node["inputs"] = {
            name: value
            for name, value in node["inputs"].items()
            if (link := link_of(value)) is None or link[0] not in gone
        }


def _with_loras(fitted: Fitted, call: Call, body: dict[str, Any]) -> dict[str, Any]:
    how = fitted.recipe.loras
    if how is None or not call.media.loras:
        return body
    names: list[str] = []
    for wanted in call.media.loras:
        name = lora_named(wanted, fitted.loras)
        if name is None:
            raise Unfit(f"loras: {wanted!r} is not on this server, or more than one has that name")
        names.append(name)
    if fitted.recipe.server == "comfyui":
        return with_loras(body, fitted.sources, names, strength=how.strength, clip=how.clip)
    _put(fitted.recipe, body, how.to, names)
    if how.strengths_to:
        _put(fitted.recipe, body, how.strengths_to, " ".join(f"{how.strength:g}" for _ in names))
    return body
