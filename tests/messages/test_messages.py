"""The wire form of every message is frozen in `golden/`.

A wanted change is accepted by running `UPDATE_GOLDEN=1 pytest tests/messages` and committing what it writes. What
others have already published must still decode: add fields with defaults, never rename or remove one.
"""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import messages
from bus import codec
from messages import (
    Message,
    Value,
    alerts,
    asking,
    attempts,
    deciding,
    fleet,
    jobs,
    known,
    message,
    policies,
    values,
)
from tests.messages.samples import EXAMPLES

GOLDEN = Path(__file__).with_name("golden")
TYPES = list(known().values())


def below(kind: type[Value]) -> Iterator[type[Value]]:
    """Yield every value of the contract that derives from `kind`; those without fields only group others."""
    for derived in kind.__subclasses__():
        if derived.__module__.startswith("messages.") and derived.__struct_fields__:
            yield derived
        yield from below(derived)


STRUCTS = [*TYPES, *below(Value)]


def name_of(example: Message) -> str:
    return type(example).__name__


def parts(value: Any) -> Iterator[Any]:
    """Yield `value` and every struct inside it."""
    if isinstance(value, msgspec.Struct):
        yield value
        for field in value.__struct_fields__:
            yield from parts(getattr(value, field))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from parts(item)
    elif isinstance(value, dict):
        yield from parts(tuple(value.values()))


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_bytes_are_those_of_the_golden_file(example: Message) -> None:
    path = GOLDEN / f"{name_of(example)}.json"
    encoded = codec.encode(example)
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded + b"\n")
    assert path.is_file(), "no golden file yet; see the top of this file"
    assert encoded + b"\n" == path.read_bytes(), "the wire form has changed; see the top of this file"


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_golden_file_decodes_to_the_example(example: Message) -> None:
    data = (GOLDEN / f"{name_of(example)}.json").read_bytes()
    assert codec.decode(type(example), data) == example


def test_every_type_has_one_example_and_one_golden_file() -> None:
    assert sorted(map(name_of, EXAMPLES)) == sorted(kind.__name__ for kind in TYPES)
    assert sorted(path.stem for path in GOLDEN.glob("*.json")) == sorted(map(name_of, EXAMPLES))


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_example_fills_every_field(example: Message) -> None:
    for part in parts(example):
        for field in msgspec.structs.fields(type(part)):
            value, where = getattr(part, field.name), f"{type(part).__name__}.{field.name}"
            if field.default is not msgspec.NODEFAULT:
                assert value != field.default, where
            elif field.default_factory is not msgspec.NODEFAULT:
                assert value != field.default_factory(), where


def test_every_struct_occurs_in_an_example() -> None:
    seen = {type(part) for example in EXAMPLES for part in parts(example)}
    assert {kind.__name__ for kind in STRUCTS} - {kind.__name__ for kind in seen} == set()


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_message_is_frozen_and_tagged(example: Message) -> None:
    for part in parts(example):
        with pytest.raises(AttributeError):
            setattr(part, part.__struct_fields__[0], "other")
    assert msgspec.json.decode(codec.encode(example))["type"] == example.type_name


@pytest.mark.parametrize("kind", STRUCTS, ids=lambda kind: kind.__name__)
def test_fields_are_keyword_only(kind: type[msgspec.Struct]) -> None:
    with pytest.raises(TypeError):
        kind("anything")


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_unknown_fields_are_ignored_except_at_the_outside_door(example: Message) -> None:
    told = msgspec.json.decode(codec.encode(example))
    newer = msgspec.json.encode({**told, "added_in_a_later_version": {"deep": [1]}})
    if example.channel.stream == "IN":
        with pytest.raises(codec.Undecodable, match="added_in_a_later_version"):
            codec.decode(type(example), newer)
    else:
        assert codec.decode(type(example), newer) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_message_pack_carries_the_same(example: Message) -> None:
    plain = msgspec.to_builtins(msgspec.json.decode(codec.encode(example)))
    packed = msgspec.msgpack.encode(plain)
    headers = {"Content-Type": "application/msgpack"}
    if any(type(part) in {messages.Slip, messages.Result} for part in parts(example)):
        return  # These hold raw JSON, which only a room writes, and rooms write JSON.
    assert codec.decode(type(example), packed, headers) == example


def undocumented(module: Any) -> Iterator[str]:
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        if not ast.get_docstring(node):
            yield node.name
        for statement, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign):
                match after:
                    case ast.Expr(value=ast.Constant(value=str(text))) if text.strip():
                        pass
                    case _:
                        yield f"{node.name}.{ast.unparse(statement.target)}"


@pytest.mark.parametrize(
    "module", [jobs, attempts, fleet, values, message, alerts, asking, deciding, policies],
    ids=lambda module: module.__name__,
)  # fmt: skip
def test_every_message_and_field_says_what_it_is(module: Any) -> None:
    assert list(undocumented(module)) == []


def test_the_package_exports_every_struct() -> None:
    for kind in STRUCTS:
        assert getattr(messages, kind.__name__) is kind
        assert kind.__name__ in messages.__all__
