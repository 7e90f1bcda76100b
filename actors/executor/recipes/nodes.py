"""What a ComfyUI server can run: its `/object_info`, read tolerantly. Pure.

An input is `[type, {…}]`, where a list of choices is a type too; newer nodes write `["COMBO", {"options": […]}]`.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

_ANY: Final = "*"
_DYNAMIC: Final = "COMFY_"
"""Types of newer nodes that take their form from others start so; what fits them can't be told from outside."""


class NodeInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a node class."""

    type: str
    """`INT`, `STRING`, `COMBO`, `MODEL`, …; several are separated by commas."""
    choices: tuple[Any, ...] | None = None
    """Values that it takes; None: not a list, or the server does not say."""
    min: float | None = None
    max: float | None = None
    required: bool = True
    uploads: bool = False
    """Its choices are files that are brought along, so that a new one is none of them."""


class NodeClass(msgspec.Struct, frozen=True, kw_only=True):
    """A class of nodes that the server has."""

    inputs: dict[str, NodeInput]
    outputs: tuple[str, ...]
    """Types, by slot."""


def classes_of(object_info: object) -> dict[str, NodeClass]:
    """The node classes of a server, by name; entries that are none are left out."""
    found: dict[str, NodeClass] = {}
    for name, entry in _table(object_info).items():
        sections = _table(_table(entry).get("input"))
        if not isinstance(entry, dict):
            continue
        inputs: dict[str, NodeInput] = {}
        for section in ("optional", "required"):
            for key, value in _table(sections.get(section)).items():
                inputs[key] = _input(value, required=section == "required")
        outputs: Any = cast("dict[str, Any]", entry).get("output")
        slots = cast("list[Any]", outputs) if isinstance(outputs, list) else []
        found[name] = NodeClass(
            inputs=inputs, outputs=tuple(slot if isinstance(slot, str) else "COMBO" for slot in slots)
        )
    return found


def takes(wanted: str, given: str) -> bool:
    """Whether an output of the type `given` may be linked to an input of the type `wanted`."""
    left, right = set(wanted.split(",")), set(given.split(","))
    if _ANY in left | right or any(name.startswith(_DYNAMIC) for name in left | right):
        return True
    return bool(left & right)


def fault_of(spec: NodeInput, value: object) -> str:
    """What is wrong with a value for an input; empty: nothing."""
    if isinstance(value, dict) and "__value__" in value:
        value = cast("dict[str, Any]", value)["__value__"]
    if spec.choices is not None:
        if spec.uploads or value in spec.choices:
            return ""
        shown = ", ".join(repr(choice) for choice in spec.choices[:5]) or "nothing"
        more = f", … ({len(spec.choices)})" if len(spec.choices) > 5 else ""
        return f"{value!r} is not on this server, which has {shown}{more}"
    if spec.type in {"INT", "FLOAT"}:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{value!r} must be a {'whole ' if spec.type == 'INT' else ''}number"
        if spec.min is not None and value < spec.min:
            return f"{value} is less than {spec.min:g}"
        if spec.max is not None and value > spec.max:
            return f"{value} is more than {spec.max:g}"
        return f"{value} must be a whole number" if spec.type == "INT" and value != int(value) else ""
    if spec.type == "STRING":
        return "" if isinstance(value, str) else f"{value!r} must be text"
    if spec.type == "BOOLEAN":
        return "" if isinstance(value, bool) else f"{value!r} must be true or false"
    if spec.type in {_ANY, "COMBO"} or spec.type.startswith(_DYNAMIC) or not spec.type.isupper():
        return ""
    return f"{value!r} must be a link to an output of the type {spec.type}"


def _input(value: object, *, required: bool) -> NodeInput:
    parts: list[Any] = list(cast("list[Any]", value)) if isinstance(value, list | tuple) else [value]
    kind: Any = parts[0] if parts else _ANY
    options = _table(parts[1]) if len(parts) > 1 else {}
    uploads = any(bool(on) for name, on in options.items() if name.endswith("_upload"))
    if isinstance(kind, list):
        choices: list[Any] | None = cast("list[Any]", kind)
        kind = "COMBO"
    else:
        listed: Any = options.get("options")
        choices = cast("list[Any]", listed) if isinstance(listed, list) else None
    if choices is not None:  # A choice may be a table with a key, which brings inputs of its own.
        choices = [_table(choice).get("key", choice) for choice in choices]
    return NodeInput(
        type=kind if isinstance(kind, str) else _ANY,
        choices=tuple(choices) if choices is not None else None,
        min=_number(options.get("min")),
        max=_number(options.get("max")),
        required=required,
        uploads=uploads,
    )


def _table(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
