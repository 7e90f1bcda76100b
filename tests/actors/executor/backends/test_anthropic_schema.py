from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.anthropic_schema import strict_schema

NAMES = st.sampled_from(["a", "b", "c"])
LEAVES = st.sampled_from(
    [
        {"type": "string"}, {"type": "string", "format": "date"}, {"type": "integer"}, {"type": "boolean"},
        {"type": "null"}, {"enum": ["x", 1, None]}, {"const": "y"}, {"type": ["string", "null"]},
        {"$ref": "#/$defs/one"},
    ]
)  # fmt: skip
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(
            lambda fields: {"type": "object", "properties": fields, "required": sorted(fields)},
            st.dictionaries(NAMES, inner, min_size=1, max_size=3),
        )
        | st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda variants: {"anyOf": variants}, st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=6,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["x", "y", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


def objects_in(schema: object) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for item in schema for found in objects_in(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema] if schema.get("type") == "object" else []
    return own + [found for item in schema.values() for found in objects_in(item)]


@given(SCHEMAS)
def test_every_object_is_closed_and_nothing_else_changes_for_good(schema: dict[str, Any]) -> None:
    strict = strict_schema({**schema, "$defs": {"one": {"type": "integer"}}})
    assert strict is not None
    jsonschema.Draft202012Validator.check_schema(strict)
    assert all(one["additionalProperties"] is False for one in objects_in(strict))
    assert strict_schema(strict) == strict


@given(SCHEMAS, VALUES)
def test_what_it_allows_the_original_allows(schema: dict[str, Any], value: Any) -> None:
    whole = {**schema, "$defs": {"one": {"type": "integer"}}}
    strict = strict_schema(whole)
    assert strict is not None
    if jsonschema.Draft202012Validator(strict).is_valid(value):
        assert jsonschema.Draft202012Validator(whole).is_valid(value)


def test_what_the_grammar_lacks_moves_into_the_description() -> None:
    schema = {"type": "integer", "minimum": 1, "maximum": 10, "description": "A number"}
    assert strict_schema(schema) == {
        "type": "integer",
        "description": 'A number\n\n{"minimum":1,"maximum":10}',
    }
    assert strict_schema({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3}) == {
        "type": "array",
        "items": {"type": "string"},
        "minItems": 1,
        "description": '{"maxItems":3}',
    }


@pytest.mark.parametrize(
    "schema",
    [
        {},
        5,
        {"type": "strange"},
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": True},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
        {"type": "object", "properties": {"a": {"type": "integer"}}, "patternProperties": {"x": {}}},
        {"type": "array", "items": {"type": "object"}},
        {"enum": [{"a": 1}]},
        {"anyOf": [{"type": "integer"}], "oneOf": [{"type": "integer"}]},
        {"anyOf": 5},
    ],
)
def test_what_can_not_be_said_is_not_said_otherwise(schema: object) -> None:
    assert strict_schema(schema) is None


def test_depth_is_bounded() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(2_000):
        schema = {"type": "array", "items": schema}
    assert strict_schema(schema) is None
