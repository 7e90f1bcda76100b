"""Puts tool calls of OpenAI's form together from their fragments, by one rule for all servers. Pure.

A call begins with a new id, whatever the index says: some servers count every call as 0, or none. Without ids the index tells
calls apart, without both the place, and a name after whole arguments begins the next one. What has neither an id nor a name
begins none. What is told twice is kept once, and what has neither a name nor arguments is no call.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from actors.executor.backends.errors import as_object
from actors.executor.backends.json_reader import NotJson, value_of

_OURS: Final = frozenset({"index", "id", "type", "function"})
_ARGUMENTS: Final = ("arguments", "parameters", "input")
"""How servers call what a function is called with, in the order in which they are looked for."""


class _Fragment(msgspec.Struct, frozen=True, gc=False):
    """A part of a call as it came, in one form whatever the server's."""

    id: str
    index: int | None
    name: str
    kind: str
    arguments: str
    more: dict[str, Any]
    """What else it holds, as it came: signatures that must travel back."""

    @property
    def begins(self) -> bool:
        """Whether it can be the first of a call."""
        return bool(self.id or self.name)


class _Call:
    """One call in the making."""

    def __init__(self, place: int, index: int | None) -> None:
        self.place, self.index = place, index
        self.id = self.name = self.arguments = ""
        self._last = ""  # The latest piece of the arguments.
        self.kind = "function"
        self.more: dict[str, Any] = {}

    def take(self, fragment: _Fragment) -> None:
        self.id = self.id or fragment.id
        self._call(fragment)
        self.kind = fragment.kind or self.kind
        self.more |= fragment.more
        if fragment.arguments:
            self._argue(fragment.arguments)

    def _call(self, fragment: _Fragment) -> None:
        """The name may grow, be repeated, or come in pieces, which have no id then."""
        name = fragment.name
        if name.startswith(self.name):
            self.name = name
        elif not self.name.startswith(name) and not self.arguments and not fragment.id and fragment.index is not None:
            self.name += name

    def _argue(self, piece: str) -> None:
        if self.arguments.strip() == "{}" and piece.strip():  # It comes first from some, and nothing can follow it.
            self.arguments = ""
        # It may say everything again.
        again = bool(self.arguments) and _is_whole(piece) and not _is_whole(self.arguments + piece)
        if again and (_is_whole(self.arguments) or piece.startswith(self.arguments)):
            self.arguments = piece
        else:
            self.arguments += piece
        self._last = piece

    @property
    def told(self) -> dict[str, Any]:
        arguments = self.arguments
        if self._last != arguments and _is_whole(self._last) and not _is_whole(arguments):
            arguments = self._last  # Every piece has said all of it so far.
        return {**self.more, "id": self.id, "type": self.kind, "function": {"name": self.name, "arguments": arguments}}

    def is_other(self, fragment: _Fragment) -> bool:
        """Whether a fragment with the same id tells of another call: some servers give an id to a function, or to an answer."""
        if not fragment.name or not _is_whole(self.arguments):
            return False
        if fragment.index == self.index and fragment.index is not None:
            return fragment.name != self.name
        if fragment.name != self.name:
            return True
        return self.arguments.strip() != "{}" and _is_whole(fragment.arguments) and self.arguments != fragment.arguments


class ToolCalls:
    """The calls of one answer in the making."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._legacy: _Call | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return any(call.name or call.arguments for call in self._all)

    @property
    def _all(self) -> list[_Call]:
        return self._calls or ([self._legacy] if self._legacy else [])

    def take(self, fragments: object) -> None:
        """Add a list of fragments, or one. Raises TypeError when it is neither."""
        one = as_object(fragments)
        if one is not None and one.keys() & {"function", "name"}:
            fragments = [one]
        if not isinstance(fragments, list):
            raise TypeError("tool_calls is no list")
        for place, item in enumerate(cast("list[Any]", fragments)):
            fields = as_object(item)
            if fields is None:
                raise TypeError("a tool call is no object")
            fragment = _fragment(fields)
            if call := self._call_of(fragment, place):
                call.take(fragment)

    def take_legacy(self, fragment: object) -> None:
        """Add a fragment of the one call of the older form, which counts where there is no other."""
        function = as_object(fragment)
        if function is not None:
            self._legacy = self._legacy or _Call(0, None)
            self._legacy.take(_fragment({"function": function}))

    def told(self) -> tuple[dict[str, Any], ...]:
        """The calls in OpenAI form: by their index where it tells them apart, else as they began."""
        calls = [call for call in self._all if call.name or call.arguments]
        indices = [call.index for call in calls if call.index is not None]
        if len(indices) == len(calls) == len(set(indices)):
            calls = sorted(calls, key=lambda call: call.index or 0)
        return tuple(call.told for call in calls)

    def _call_of(self, fragment: _Fragment, place: int) -> _Call | None:
        """The call that a fragment belongs to, begun with it if need be; None: it says nothing."""
        index = fragment.index
        same = [call for call in self._calls if fragment.id and call.id == fragment.id]
        if same:
            return self._begin(place, index) if same[-1].is_other(fragment) else same[-1]
        alike = [call for call in self._calls if (call.index == index if index is not None else call.place == place)]
        if not fragment.begins:
            if not self._calls:
                return self._begin(place, index) if fragment.arguments else None
            if not alike or (index is None and not place):
                return self._calls[-1]  # It goes on with the latest one.
        if not alike:
            return self._begin(place, index)
        latest = alike[-1]
        if fragment.id and latest.id:
            # An id for every fragment: only a call has a name.
            goes_on = index is not None and not fragment.name and not _is_whole(latest.arguments)
        elif fragment.name and latest.name:
            goes_on = not _is_whole(latest.arguments)
        else:
            goes_on = True
        return latest if goes_on else self._begin(place, index)

    def _begin(self, place: int, index: int | None) -> _Call:
        call = _Call(place, index)
        self._calls.append(call)
        return call


def as_call(fields: dict[str, Any], number: int) -> dict[str, Any]:
    """A whole call of a protocol that has OpenAI's words for it, in OpenAI's form; one without an id is named by its number."""
    call = _Call(0, None)
    fragment = _fragment(fields)
    named = fragment.id or f"call_{number}"
    call.take(msgspec.structs.replace(fragment, id=named, arguments=fragment.arguments or "{}"))
    return call.told


def _fragment(fields: dict[str, Any]) -> _Fragment:
    """A fragment as we read it; some servers leave out the level of the function."""
    function = as_object(fields.get("function"))
    ours = _OURS if function is not None else _OURS | {"name", *_ARGUMENTS}
    said = fields if function is None else function
    arguments: Any = next((said[name] for name in _ARGUMENTS if said.get(name) is not None), None)
    if arguments is not None and not isinstance(arguments, str):
        arguments = msgspec.json.encode(arguments).decode()
    return _Fragment(
        id=_text(fields.get("id")),
        index=_index(fields.get("index")),
        name=_text(said.get("name")),
        kind=_text(fields.get("type")),
        arguments=arguments or "",
        more={name: value for name, value in fields.items() if name not in ours and value is not None},
    )


def _is_whole(arguments: str) -> bool:
    """Whether they are an object of JSON, begun and ended."""
    if not arguments.lstrip().startswith("{"):
        return False
    try:
        return isinstance(value_of(arguments.encode("utf-8", "replace")), dict)
    except NotJson:
        return False


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else ""


def _index(value: object) -> int | None:
    """A place, however it is written: some write a number as text, or with a point."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 6:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
