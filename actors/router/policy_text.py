"""Policies as text: the TOML that can be loaded again, and what differs between two. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from actors.router.policy_fault import quoted
from messages.policies import Guardrail, Match, Policy, Rule

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_BOOKKEEPING = ("version", "applied_at", "applied_by")


def to_toml(policy: Policy) -> str:
    """The policy as a file: loading it gives the same policy. What has its default is left out."""
    return "\n".join(_table(policy, ())).strip("\n") + "\n"


def differences(old: Policy, new: Policy) -> list[str]:
    """What differs, as `field: old -> new`; rules by their names. Version and who applied it are no difference."""
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    found: list[str] = []
    for field in dict.fromkeys((*before, *after)):
        was, now = before.get(field, "nothing"), after.get(field, "nothing")
        if was != now and field not in _BOOKKEEPING:
            found.append(f"{field}: {was} -> {now}")
    return found


def _key(name: str) -> str:
    return name if _BARE.match(name) else quoted(name)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_scalar(item) for item in cast('tuple[Any, ...]', value))}]"
    return repr(value)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """What is to be written of a table: all of a mapping, of a message all that has not its default."""
    if isinstance(value, Mapping):
        yield from cast("Mapping[str, Any]", value).items()
        return
    for field in msgspec.structs.fields(value):
        part = getattr(value, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if field.required or part != default:
            yield field.name, part


def _is_table(value: Any) -> bool:
    return isinstance(value, (Mapping, msgspec.Struct)) or bool(_rules(value))


def _rules(value: Any) -> tuple[Rule | Guardrail, ...]:
    """The value if it is a list of rules or guardrails, which is not empty; else nothing."""
    if isinstance(value, tuple) and value and isinstance(value[0], (Rule, Guardrail)):
        return cast("tuple[Rule | Guardrail, ...]", value)
    return ()


def _named(rule: Rule | Guardrail, index: int) -> str:
    return rule.name if isinstance(rule, Rule) else str(index)


def _table(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    """A table's own keys first, because the header of a table within it ends it."""
    inner: list[tuple[str, Any]] = []
    for name, part in _items(value):
        if _is_table(part):
            inner.append((name, part))
        else:
            yield f"{_key(name)} = {_scalar(part)}"
    for name, part in inner:
        here = (*path, name)
        header = ".".join(_key(key) for key in here)
        if rules := _rules(part):
            for rule in rules:
                yield f"\n[[{header}]]"
                yield from _table(rule, here)
        else:
            yield f"\n[{header}]"
            yield from _table(part, here)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, part in _items(value):
        here = f"{path}.{_key(name)}" if path else _key(name)
        if isinstance(part, (Mapping, msgspec.Struct)):
            if not isinstance(part, (Mapping, Match)):
                yield (
                    here,
                    "given",
                )  # Even with all its defaults it speaks, and the next policy's numbers no longer hold.
            yield from _leaves(part, here)
        elif rules := _rules(part):
            yield here, _scalar(tuple(_named(rule, index) for index, rule in enumerate(rules)))
            for index, rule in enumerate(rules):
                yield from _leaves(rule, f"{here}[{_named(rule, index)}]")
        else:
            yield here, _scalar(part)
