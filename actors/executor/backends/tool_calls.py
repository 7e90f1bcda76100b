"""Puts tool calls of OpenAI's form together from their fragments, by one rule for all servers. Pure.

A call begins with a new id, whatever the index says: some servers count every call as 0, or none. Without ids the index tells
calls apart, without both the place, and a name after whole arguments begins the next one. What is told twice is kept once.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgspec

from actors.executor.backends.errors import as_object
from actors.executor.backends.json_reader import NotJson, value_of

_OURS: Final = frozenset({"index", "id", "type", "function"})


class _Call:
    """One call in the making."""

    def __init__(self, place: int, index: int | None) -> None:
        self.place, self.index = place, index
        self.id = self.name = self.arguments = ""
        self.kind = "function"
        self.more: dict[str, Any] = {}
        """What else the call holds, as it came: signatures that must travel back."""

    def take(self, fragment: dict[str, Any]) -> None:
        function = as_object(fragment.get("function")) or {}
        self.id = self.id or _text(fragment.get("id"))
        self.name = self.name or _text(function.get("name"))
        self.kind = _text(fragment.get("type")) or self.kind
        self.more |= {name: value for name, value in fragment.items() if name not in _OURS and value is not None}
        arguments: Any = function.get("arguments")
        if arguments is not None:
            self._argue(arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode())

    def _argue(self, piece: str) -> None:
        # It may say everything again, or at last: `{}` comes first from some.
        again = bool(self.arguments) and _is_whole(piece) and not _is_whole(self.arguments + piece)
        if again and (_is_whole(self.arguments) or piece.startswith(self.arguments)):
            self.arguments = piece
        else:
            self.arguments += piece

    def told(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": self.arguments}
        return {**self.more, "id": self.id, "type": self.kind, "function": function}


class ToolCalls:
    """The calls of one answer in the making."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._legacy: _Call | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._calls or self._legacy)

    def take(self, fragments: object) -> None:
        """Add a list of fragments. Raises TypeError when it is none."""
        if not isinstance(fragments, list):
            raise TypeError("tool_calls is no list")
        for place, item in enumerate(cast("list[Any]", fragments)):
            fragment = as_object(item)
            if fragment is None:
                raise TypeError("a tool call is no object")
            self._call_of(fragment, place).take(fragment)

    def take_legacy(self, fragment: object) -> None:
        """Add a fragment of the one call of the older form, which counts where there is no other."""
        function = as_object(fragment)
        if function is not None:
            self._legacy = self._legacy or _Call(0, None)
            self._legacy.take({"function": function})

    def told(self) -> tuple[dict[str, Any], ...]:
        """The calls in OpenAI form: by their index where it tells them apart, else as they began."""
        calls = self._calls or ([self._legacy] if self._legacy else [])
        indices = [call.index for call in calls if call.index is not None]
        if len(indices) == len(calls) == len(set(indices)):
            calls = sorted(calls, key=lambda call: call.index or 0)
        return tuple(call.told() for call in calls)

    def _call_of(self, fragment: dict[str, Any], place: int) -> _Call:
        """The call that a fragment belongs to, begun with it if need be."""
        said, index = _text(fragment.get("id")), _index(fragment.get("index"))
        function = as_object(fragment.get("function")) or {}
        name = _text(function.get("name"))
        same = [call for call in self._calls if said and call.id == said]
        if same:
            return same[-1]
        alike = [call for call in self._calls if (call.index == index if index is not None else call.place == place)]
        if index is None and not said and not name and not place and self._calls:
            alike = self._calls  # It goes on with the latest one.
        if not alike:
            return self._begin(place, index)
        latest = alike[-1]
        if said and latest.id:
            # An id for every fragment: only a call has a name.
            goes_on = index is not None and not name and not _is_whole(latest.arguments)
        elif name and latest.name:
            goes_on = not _is_whole(latest.arguments)
        else:
            goes_on = True
        return latest if goes_on else self._begin(place, index)

    def _begin(self, place: int, index: int | None) -> _Call:
        call = _Call(place, index)
        self._calls.append(call)
        return call


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
    return value if isinstance(value, int) and not isinstance(value, bool) else None
