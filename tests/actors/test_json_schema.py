"""JSON schemas of jobs and patterns of policies, judged against the reference implementation."""

from __future__ import annotations

import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.json_schema import NoPattern, check_schema, has, misfit, schema_of

SCHEMA = {"type": "object"}
LEAVES: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
)
TYPES = st.sampled_from([{"type": name} for name in ("object", "array", "string", "integer", "boolean", "null")])
SCHEMAS = st.recursive(
    TYPES | st.builds(lambda least: {"minimum": least}, st.integers(-9, 9)),
    lambda inner: (
        st.builds(lambda a, b: {"properties": {"a": a, "b": b}, "required": ["a"]}, inner, inner)
        | st.builds(lambda a: {"type": "array", "items": a, "maxItems": 2}, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("given_format", "expected"),
    [
        (None, None),
        ({"type": "json_object"}, None),
        ({"type": "text"}, None),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, SCHEMA),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, None),
        ({"type": "json_schema"}, None),
    ],
)
def test_the_schema_of_a_response_format(given_format: dict[str, Any] | None, expected: object) -> None:
    assert schema_of(given_format) == expected


@given(VALUES, SCHEMAS)
def test_it_agrees_with_the_reference(value: Any, schema: dict[str, Any]) -> None:
    assert (misfit(value, schema) is None) == jsonschema.Draft202012Validator(schema).is_valid(value)


def test_a_misfit_names_its_place_and_why() -> None:
    schema = {"properties": {"a": {"items": {"type": "integer"}}}}
    assert misfit({"a": [1, "x"]}, schema) == ("a.1", '"x" is not of type "integer"')


@pytest.mark.parametrize(
    "schema",
    [
        3, "x", None, [], {"type": "nope"}, {"$ref": "http://127.0.0.1:1/x"}, {"$ref": "file:///etc/hostname"},
        {"$schema": "http://example.org/own"}, {"pattern": "("},
    ],
)  # fmt: skip
def test_what_is_no_schema_or_lies_elsewhere_is_refused(schema: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_schema(schema)


def test_a_value_nested_too_deeply_does_not_fit() -> None:
    value: Any = 1
    for _ in range(400):
        value = [value]
    found = misfit(value, {"type": "array"})
    assert found is None or found[1]


@pytest.mark.parametrize(("text", "pattern", "there"), [("say Hello", "(?i)hello", True), ("x", "^$", False)])
def test_a_pattern_is_searched_anywhere(text: str, pattern: str, there: bool) -> None:
    assert has(text, pattern) is there


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|aa)+$", "(.*)*b", "a*a*a*a*a*a*b"])
def test_no_pattern_runs_away(pattern: str) -> None:
    began = time.process_time()
    assert has("a" * 150_000 + "!", pattern) is False
    assert time.process_time() - began < 10  # Whoever goes back would be at it for ever.


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)", "(?<!a)b"])
def test_what_is_no_pattern_here_says_so(pattern: str) -> None:
    with pytest.raises(NoPattern, match="can't be used as a pattern"):
        has("x", pattern)
    with pytest.raises(ValueError, match="regex"):
        check_schema({"type": "string", "pattern": pattern})
