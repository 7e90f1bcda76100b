"""Whether a tree has the shape of a message, with everything that does not fit, not only the first of it. Pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, cast

import msgspec
from msgspec import inspect

from actors.router.policy_fault import Say, nearest, shown
from actors.toml_lines import Path

LARGEST_INTEGER = 2**53
"""Beyond it JSON readers in other languages lose digits."""

_BAD: Any = object()


def fit(tree: dict[str, Any], kind: type[msgspec.Struct], say: Say) -> dict[str, Any]:
    """The part of a tree that fits a message, ready for `msgspec.convert`; the rest is said.

    So that positions in lists stay, a name that does not fit is replaced by an empty one, a table by an empty one.
    """
    return _struct(tree, cast("inspect.StructType", inspect.type_info(kind)), (), say)


def _fit(value: Any, kind: inspect.Type, path: Path, say: Say) -> Any:
    match kind:
        case inspect.UnionType():  # TOML has no null, so of `X | None` only X can stand in a file.
            (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
            return _fit(value, kind, path, say)
        case inspect.StructType():
            return _struct(value, kind, path, say)
        case inspect.DictType():
            return _dict(value, kind, path, say)
        case inspect.VarTupleType():
            return _list(value, kind, path, say)
        case inspect.LiteralType():
            if isinstance(value, str) and value in kind.values:
                return value
            say(path, value, f"{_word(value)} is none of the values. {nearest(shown(value), map(str, kind.values))}")
        case inspect.StrType():
            if isinstance(value, str):
                return value
            say(path, value, f'{_word(value)} is {_kind(value)}: use a text in quotes, as in "name"')
        case inspect.BoolType():
            if isinstance(value, bool):
                return value
            say(path, value, f"{_word(value)} is {_kind(value)}: use true or false")
        case inspect.IntType() | inspect.FloatType():
            return _number(value, kind, path, say)
        case _:
            raise TypeError(f"{kind} has no form in a policy file")
    return _BAD


def _struct(value: Any, kind: inspect.StructType, path: Path, say: Say) -> dict[str, Any]:
    fields = {field.encode_name: field for field in kind.fields}
    given: dict[str, Any] = {}
    if isinstance(value, dict):
        given = cast("dict[str, Any]", value)
        for key in given:
            if key not in fields:
                say((*path, key), key, f"{key} is no key of {_table(path)}. {nearest(key, fields)}")
    else:
        say(path, value, f"{_word(value)} is {_kind(value)}: use a table with keys of its own")
    fitted: dict[str, Any] = {}
    for name, field in fields.items():
        if name in given:
            part = _fit(given[name], field.type, (*path, name), say)
            if part is not _BAD:
                fitted[name] = part
        elif field.required and isinstance(value, dict):
            say((*path, name), None, f'{name} is missing: {_table(path)} needs one, as in {name} = "my-{name}"')
        if field.required:
            fitted.setdefault(name, "")
    return fitted


def _dict(value: Any, kind: inspect.DictType, path: Path, say: Say) -> dict[str, Any]:
    fitted: dict[str, Any] = {}
    if not isinstance(value, dict):
        say(path, value, f"{_word(value)} is {_kind(value)}: use a table, as in [{path[-1]}]")
        return fitted
    for key, item in cast("dict[str, Any]", value).items():
        at = (*path, key)
        if isinstance(kind.key_type, inspect.LiteralType) and key not in kind.key_type.values:
            say(at, key, f"{key} is none of the values. {nearest(key, map(str, kind.key_type.values))}")
        elif not key:
            say(at, None, "the name is empty: give it one")
        else:
            part = _fit(item, kind.value_type, at, say)
            if part is not _BAD:
                fitted[key] = part
    return fitted


def _list(value: Any, kind: inspect.VarTupleType, path: Path, say: Say) -> list[Any]:
    fitted: list[Any] = []
    if not isinstance(value, list):
        tables = isinstance(kind.item_type, inspect.StructType)
        right = f"write each as [[{path[-1]}]]" if tables else f"use a list, as in [{_example(value)}]"
        say(path, value, f"{_word(value)} is {_kind(value)}: {right}")
        return fitted
    for index, item in enumerate(cast("list[Any]", value)):
        at = (*path, index)
        part = _fit(item, kind.item_type, at, say)
        names = isinstance(kind.item_type, inspect.StrType)
        if part is _BAD:
            fitted += [""] if names else []
            continue
        if part == "":
            say(at, None, "the name is empty: give one, or leave it out")
        elif isinstance(part, str) and part in fitted:
            say(at, part, f"{part} is in the list twice")
            part = ""
        if names or part != "":
            fitted.append(part)
    return fitted


def _number(value: Any, kind: inspect.IntType | inspect.FloatType, path: Path, say: Say) -> Any:
    whole = isinstance(kind, inspect.IntType)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        say(path, value, f"{_word(value)} is {_kind(value)}: use a {'whole number' if whole else 'number'}")
        return _BAD
    if isinstance(value, float) and not math.isfinite(value):
        say(path, value, f"{value} is no amount: use a finite number")
        return _BAD
    if abs(value) > LARGEST_INTEGER:
        say(path, value, f"is too large: use at most {LARGEST_INTEGER:,}")
        return _BAD
    bounds: tuple[tuple[float | None, Callable[[Any, Any], bool], str], ...] = (
        (kind.ge, operator.ge, "{:g} or more"),
        (kind.gt, operator.gt, "more than {:g}"),
        (kind.le, operator.le, "at most {:g}"),
        (kind.lt, operator.lt, "less than {:g}"),
    )
    given = [(bound, holds, words.format(bound)) for bound, holds, words in bounds if bound is not None]
    if not all(holds(value, bound) for bound, holds, _ in given):
        say(path, value, f"{value} is out of range: use {' and '.join(words for _, _, words in given)}")
        return _BAD
    return value


def _table(path: Path) -> str:
    keys = [str(part) for part in path if isinstance(part, str)]
    return f"[{'.'.join(keys)}]" if keys else "a policy"


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a truth value"),  # Before int, which a truth value is as well.
    (str, "a text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "a table"),
    (type(None), "null"),  # Of JSON; TOML has none.
)


def _kind(value: Any) -> str:
    return next((words for kind, words in _KINDS if isinstance(value, kind)), "a date or time")


def _word(value: Any) -> str:
    return "this" if value is None or isinstance(value, (dict, list)) else shown(value)


def _example(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else "…"
