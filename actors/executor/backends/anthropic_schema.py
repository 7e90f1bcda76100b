"""JSON schemas as Anthropic's structured outputs take them. Pure.

Source: `transform_schema` of Anthropic's Python SDK. Objects are closed, and what the grammar can't enforce moves into the
description, so that the model may still follow it.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from actors.executor.backends.errors import as_object

_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_TYPES: Final = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_DEPTH: Final = 32


class _Unfit(Exception):
    """The schema means something that structured outputs can't say."""


def strict_schema(schema: object) -> dict[str, Any] | None:
    """The schema to send, or None when it can't be sent without changing what it allows."""
    try:
        return _schema(schema, 0)
    except _Unfit:
        return None


def _schema(schema: object, depth: int) -> dict[str, Any]:
    fields = as_object(schema)
    if fields is None or depth > _DEPTH:
        raise _Unfit
    rest = dict(fields)
    rest.pop("$schema", None)
    found: dict[str, Any] = {}
    definitions = rest.pop("$defs", None)
    if definitions is not None:
        found["$defs"] = _schemas(definitions, depth)
    reference = rest.pop("$ref", None)
    if reference is not None:
        found["$ref"] = reference
        return found
    for name in ("title", "description"):
        if isinstance(rest.get(name), str):
            found[name] = rest.pop(name)
    _choose(rest, found, depth)
    if rest:
        left = msgspec.json.encode(rest).decode()
        found["description"] = f"{found['description']}\n\n{left}" if "description" in found else left
    return found


def _choose(rest: dict[str, Any], found: dict[str, Any], depth: int) -> None:
    """Move what a schema allows from `rest` into `found`."""
    kind: Any = rest.pop("type", None)
    literal = [name for name in ("enum", "const") if name in rest]
    for name in literal:
        value = rest.pop(name)
        if any(isinstance(item, (list, dict)) for item in (value if name == "enum" else [value])):
            raise _Unfit
        found[name] = value
    variants = [name for name in ("anyOf", "oneOf", "allOf") if name in rest]
    if len(variants) > 1 or (variants and (literal or kind == "object")):
        raise _Unfit
    if variants:
        listed: Any = rest.pop(variants[0])
        if not isinstance(listed, list):
            raise _Unfit
        name = "allOf" if variants[0] == "allOf" else "anyOf"
        found[name] = [_schema(one, depth + 1) for one in cast("list[Any]", listed)]
    elif isinstance(kind, list):  # `["string", "null"]`
        found["anyOf"] = [_schema({**rest, "type": one}, depth + 1) for one in cast("list[Any]", kind)]
        rest.clear()
    elif not literal:
        _typed(kind, rest, found, depth)


def _typed(kind: object, rest: dict[str, Any], found: dict[str, Any], depth: int) -> None:
    if kind not in _TYPES:
        raise _Unfit
    found["type"] = kind
    if kind == "object":
        if rest.pop("additionalProperties", None) or "patternProperties" in rest or not rest.get("properties"):
            raise _Unfit  # Free keys: a closed object would allow none.
        found["properties"] = _schemas(rest.pop("properties"), depth)
        found["additionalProperties"] = False
        if "required" in rest:
            found["required"] = rest.pop("required")
    elif kind == "array":
        if "items" in rest:
            found["items"] = _schema(rest.pop("items"), depth + 1)
        if rest.get("minItems") in {0, 1}:
            found["minItems"] = rest.pop("minItems")
    elif kind == "string" and rest.get("format") in _FORMATS:
        found["format"] = rest.pop("format")


def _schemas(named: object, depth: int) -> dict[str, Any]:
    fields = as_object(named)
    if fields is None:
        raise _Unfit
    return {name: _schema(one, depth + 1) for name, one in fields.items()}
