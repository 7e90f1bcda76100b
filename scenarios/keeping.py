"""Backends that go on with a call when its caller has died, as ComfyUI does: what they have is found and stopped by its key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Literal

import msgspec

from actors.executor.backends import port
from scenarios.backends import READ_TOKENS, STEP_TOKENS, Acted, Call, Script, Stage


class Kept(msgspec.Struct, kw_only=True):
    """A call as its server knows it."""

    making: Call
    """By whom it was made."""
    request: bytes
    """What it asks for."""
    began_at: float
    ends_at: float
    state: Literal["here", "stopped", "taken"] = "here"
    """`taken`: its answer was read."""


class Shelf:
    """What all servers of a world have, through all lives of its processes."""

    def __init__(self, now: Callable[[], float], is_dead: Callable[[Call], bool]) -> None:
        self.now, self.is_dead = now, is_dead
        self.kept: dict[tuple[str, str], Kept] = {}
        """By backend and key."""
        self.wrong: list[str] = []
        """What must never happen there."""

    def put(self, backend: str, key: str, kept: Kept) -> None:
        """A new call. Nothing of its job may be left running there by somebody who is dead."""
        mine = (kept.making.tenant, kept.making.job)
        for (where, _), one in self.kept.items():
            if (
                (where, one.making.tenant, one.making.job) == (backend, *mine)
                and self.runs(one)
                and self.is_dead(one.making)
            ):
                self.wrong.append(
                    f"round {kept.making.n} of {mine} began beside what round {one.making.n} left on {backend}"
                )
        assert (backend, key) not in self.kept, f"{key} is called twice"
        self.kept[backend, key] = kept

    def runs(self, one: Kept) -> bool:
        """Whether the server is at work for it."""
        return one.state == "here" and self.now() < one.ends_at

    def stop(self, backend: str, key: str) -> None:
        """Take a call away, unless it is over."""
        one = self.kept.get((backend, key))
        if one is not None and self.runs(one):
            one.state = "stopped"


class Keeping(Acted):
    """The adapter of such a backend in one process."""

    def __init__(self, stage: Stage, backend: str, shelf: Shelf) -> None:
        super().__init__(stage, backend)
        self._shelf = shelf

    async def act(
        self, call: port.Call, making: Call, script: Script
    ) -> AsyncGenerator[port.Chunk | port.TookUp | port.Answer, None]:
        """Go on with what an earlier call left, or make one that goes on whoever dies."""
        shelf, request = self._shelf, msgspec.json.encode([call.model, call.messages, call.max_output_tokens])
        key = ""
        for earlier in reversed(call.earlier):
            one = shelf.kept.get((self._backend, earlier))
            if one is not None and not key and one.state == "here" and one.request == request:
                key = earlier
            else:
                shelf.stop(self._backend, earlier)
        if not key and script.fate not in ("ok", "slow", "crash", "raise"):
            async for item in super().act(call, making, script):
                yield item
            return
        port.watched()
        port.begun()
        if key:
            yield port.TookUp(key)
        else:
            key, now = call.key, shelf.now()
            ends = now + script.seconds
            shelf.put(self._backend, key, Kept(making=making, request=request, began_at=now, ends_at=ends))
        kept = shelf.kept[self._backend, key]
        try:
            self._happen(script, making, 0, 1)
            while shelf.runs(kept):
                await asyncio.sleep(max(0.0, min(1.0, kept.ends_at - shelf.now())))
                yield port.Chunk(text="")
            if kept.state == "stopped":
                raise port.BackendError("interrupted", "somebody stopped it", status=200)
            kept.state = "taken"
            making.read_tokens, making.made_tokens = READ_TOKENS, min(call.max_output_tokens, STEP_TOKENS)
            usage = port.Usage(
                input_tokens=making.read_tokens,
                output_tokens=making.made_tokens,
                gpu_seconds=kept.ends_at - kept.began_at,
            )
            yield port.Answer(text=f"all of {making.job}", finish_reason="stop", model=call.model, usage=usage)
        finally:
            if not shelf.is_dead(making):
                shelf.stop(self._backend, key)

    async def left(self) -> tuple[str, ...]:
        """The keys of what runs there."""
        return tuple(
            key for (name, key), one in self._shelf.kept.items() if name == self._backend and self._shelf.runs(one)
        )

    async def stop(self, key: str) -> None:
        """Stop a call."""
        self._shelf.stop(self._backend, key)
