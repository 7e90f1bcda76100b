"""What a ComfyUI server has: the prompts that run and wait, whose they are, and what has become of those that are over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast
from uuid import NAMESPACE_URL, uuid5  # noqa: TID251  # A name's digest in the form of a UUID, which newer servers want.

import msgspec

from actors.executor.backends.errors import as_object
from actors.executor.backends.port import BackendError
from actors.executor.backends.wire import MEDIA_ANSWER_LIMIT, Wire

MARK: Final = "turnout"
"""Under this name a prompt's `extra_data` says whose it is. Servers keep it, with the graph, as long as they know the prompt."""


class Mark(NamedTuple):
    """Whose prompt it is, and what it asks for."""

    key: str
    """Of the call."""
    graph: str
    """A digest of the graph as it was submitted: servers write numbers and lists in it otherwise."""


class Queued(NamedTuple):
    """A prompt that runs or waits."""

    id: str
    mark: Mark | None
    """None: not of ours."""


def prompt_id(key: str) -> str:
    """The id of a call's prompt, so that it can be found again. Servers from before 0.3.45 choose another."""
    return str(uuid5(NAMESPACE_URL, f"turnout:{key}"))


def mark_of(key: str, graph: Mapping[str, Any]) -> Mark:
    """The mark of a call's prompt."""
    return Mark(key, hashlib.sha256(msgspec.json.encode(graph, order="deterministic")).hexdigest())


def marked(mark: Mark) -> dict[str, Any]:
    """The mark as `extra_data` holds it."""
    return {MARK: mark._asdict()}


async def queue(wire: Wire) -> tuple[list[Queued], list[Queued]]:
    """The prompts that run and that wait, in the order in which they are run. Raises BackendError."""
    fields = as_object(await wire.fetch("queue", limit=MEDIA_ANSWER_LIMIT)) or {}
    return _listed(fields.get("queue_running")), _listed(fields.get("queue_pending"))


async def queue_remaining(wire: Wire) -> int:
    """Prompts that a server has, running or waiting. Raises BackendError."""
    fields = as_object(await wire.fetch("prompt")) or {}
    left: Any = (as_object(fields.get("exec_info")) or {}).get("queue_remaining")
    if not isinstance(left, int):
        raise BackendError("invalid_structure", f"{wire.name}/prompt: no queue_remaining", status=200)
    return left


async def history(wire: Wire, prompt: str) -> dict[str, Any] | None:
    """What has become of a prompt that is over; None: it is not, or not known. Raises BackendError."""
    fields = as_object(await wire.fetch(f"history/{prompt}"))
    return as_object((fields or {}).get(prompt))


def mark_in(entry: Mapping[str, Any]) -> Mark | None:
    """The mark of a prompt in the history."""
    one = _of(entry.get("prompt"))
    return one[1].mark if one is not None else None


async def remove(wire: Wire, is_it: Callable[[Queued], bool]) -> None:
    """Take a prompt out of the queue, or stop it when it runs. Raises BackendError."""
    for _ in range(3):  # It may begin while it is taken out.
        running, pending = await queue(wire)
        for one in filter(is_it, running):
            # Older servers stop whatever runs, so this is asked only while it is ours.
            await _tell(wire, "interrupt", {"prompt_id": one.id})
            return
        waiting = [one.id for one in pending if is_it(one)]
        if not waiting:
            return
        await _tell(wire, "queue", {"delete": waiting})


async def _tell(wire: Wire, path: str, body: dict[str, Any]) -> None:
    async with wire.exchange("POST", path, body) as reply:
        await reply.read_all()


def _listed(entries: object) -> list[Queued]:
    found = [one for entry in _list(entries) if (one := _of(entry)) is not None]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _of(entry: object) -> tuple[float, Queued] | None:
    match _list(entry):
        case [int() | float() as number, str(name), _, extra, *_]:
            mark = as_object((as_object(extra) or {}).get(MARK)) or {}
            key, graph = mark.get("key"), mark.get("graph")
            known = Mark(key, graph) if isinstance(key, str) and isinstance(graph, str) else None
            return float(number), Queued(name, known)
        case [int() | float() as number, str(name), *_]:
            return float(number), Queued(name, None)
        case _:
            return None


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
