"""The kinds of backend that are known: those that come with us, and those that are installed beside us.

A kind is added by an entry point of the group `turnout.backends` that names a `Kind`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Final

import msgspec

from actors.executor.backends import port
from actors.executor.backends.connection import Connection
from actors.executor.backends.wire import Wire

GROUP: Final = "turnout.backends"


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The options of a kind that has none."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol: how to open it, and how to tell that a server speaks it."""

    name: str
    """As settings write it."""
    title: str
    """As people call it."""
    open: Callable[[Connection, Any], port.Backend]
    """An adapter for a connection and the kind's options; connects when it is first used. Raises ValueError naming the field."""
    address: Callable[[str], str]
    """The base URL for what an operator wrote. Raises ValueError naming the field and the value."""
    options: type[msgspec.Struct] = NoOptions
    """What a backend's table `options` may hold; unknown names are refused."""
    recognise: Callable[[Wire], Awaitable[str | None]] | None = None
    """Whether the server at this wire speaks it: its version in words, empty when it does not say; None when it is something
    else. Asks little; may raise BackendError, which means: something else, or not now. Absent: it can't be told."""
    auth: str = "bearer"
    """How the key goes, as in `Wire`."""
    ports: tuple[int, ...] = ()
    """Where it usually listens on this machine."""
    url: str = ""
    """Where it is, of a hosted one."""
    key_variables: tuple[str, ...] = ()
    """Environment variables that usually hold its key, the first that is set counts."""
    provider: str = ""
    """Who sells it; empty: it is run by oneself."""
    slots: int = 4
    """Attempts at once, where nobody says otherwise."""
    graphs: bool = False
    """A server that makes media runs any graph of a job's own, whatever models the settings name."""


# In the order in which a server is asked what it is: who can be told apart for certain comes first.
_SHIPPED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ollama": "actors.executor.backends.ollama",
        "lm_studio": "actors.executor.backends.lm_studio",
        "comfyui": "actors.executor.backends.comfyui",
        "wan2gp": "actors.executor.backends.wan2gp",
        "wan2gp_batch": "actors.executor.backends.wan2gp_batch",
        "llama_cpp": "actors.executor.backends.llama_cpp",
        "vllm": "actors.executor.backends.vllm",
        "llama_cpp_python": "actors.executor.backends.llama_cpp_python",
        "anthropic": "actors.executor.backends.anthropic",
        "gemini": "actors.executor.backends.gemini",
        "runpod": "actors.executor.backends.runpod",
        "openai": "actors.executor.backends.openai",
    }
)


def names() -> tuple[str, ...]:
    """Every kind's name: ours in the order of asking, then the others by name."""
    return (*_SHIPPED, *sorted(set(_installed()) - _SHIPPED.keys()))


def kind(name: str) -> Kind:
    """The kind of this name. Raises ValueError that names the nearest one, or says why an installed one can't be loaded."""
    if name in _SHIPPED:
        return importlib.import_module(_SHIPPED[name]).KIND
    point = _installed().get(name)
    if point is None:
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(names())}."
        raise ValueError(f"protocol: {name!r} is no kind of backend.{hint}")
    try:
        found = point.load()
    except Exception as error:
        raise ValueError(f"protocol: {name!r}: {point.value} can't be loaded: {error}") from error
    if not isinstance(found, Kind):
        raise ValueError(f"protocol: {name!r}: {point.value} is a {type(found).__name__}, but must be a Kind")  # noqa: TRY004
    return found


def open_kind(kind: Kind, connection: Connection) -> port.Backend:
    """An adapter; its options are checked. Raises ValueError naming the field and what would be right."""
    return kind.open(connection, check_options(kind, connection))


def check_options(kind: Kind, connection: Connection) -> Any:
    """The options of a connection as the kind understands them. Raises ValueError naming the field."""
    try:
        return msgspec.convert(dict(connection.options), kind.options, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(kind.options)) or "none"
        raise ValueError(f"options: {error} (options of {kind.name}: {known})") from None


def _installed() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=GROUP)}
