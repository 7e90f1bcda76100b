"""One prompt on a ComfyUI server: submitted, followed over the websocket, found again after a broken connection, stopped."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final

import aiohttp
import msgspec

from actors.executor.backends.comfyui_errors import dropped, history_failed, refused
from actors.executor.backends.comfyui_files import outputs_of, texts_of
from actors.executor.backends.comfyui_progress import Progress
from actors.executor.backends.comfyui_queue import history, mark_in, mark_of, marked, prompt_id, queue, remove
from actors.executor.backends.errors import as_object
from actors.executor.backends.parting import Parting
from actors.executor.backends.port import BackendError, Step
from actors.executor.backends.wire import Wire

POLL_SECONDS: Final = 10.0
"""After so long without a word the history is asked."""
PLACE_SECONDS: Final = 1.0
"""The place in the queue is asked at most so often: the answer holds every graph in it. It is asked whenever the queue has
changed, for who is taken out is not told.
"""
PREVIEW_SECONDS: Final = 0.6
STEP_SECONDS: Final = 0.3
"""Pictures and steps come at most so often, those with another stage excepted. Longer than the pauses for which the executor
drops them, or the last one before a long silence would be lost.
"""
_AGAIN_SECONDS: Final = 0.2
_PAUSE_SECONDS: Final = 1.0
_HISTORY_TRIES: Final = 25
_FLAGS: Final = '{"type":"feature_flags","data":{"supports_preview_metadata":true}}'
_BROKEN: Final = frozenset({"connection_error", "cut_stream"})
_CLOSED: Final = frozenset(
    {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
)


class Lost(BackendError):
    """The server no longer knows the prompt."""


class Prompt:
    """One graph on one server. Used once."""

    def __init__(
        self, wire: Wire, parting: Parting, key: str, graph: dict[str, Any], *, previews: bool, reconnect_seconds: float
    ) -> None:
        self._wire, self._parting = wire, parting
        self._mark = mark_of(key, graph)
        self._graph = graph
        self._previews = previews
        self._reconnect_seconds = reconnect_seconds
        self.id = self._client = prompt_id(key)
        self.progress = Progress(self.id, graph, wire.secrets)
        self.sent = False
        """The server may have it."""
        self._seen = False
        """The server has had it since this websocket is open: who restarts closes it."""
        self.entry: dict[str, Any] | None = None
        """Its entry in the history, once it is over."""

    async def find(self, earlier: Sequence[str]) -> str:
        """Go on with what the latest of some earlier calls left on the server, if it asks for the very same and has not failed.
        All else of theirs that the server still has is stopped. The key of that call; empty: there is none. Raises BackendError.
        """
        found = ""
        running, pending = await queue(self._wire)  # First: what is in neither of both afterwards was lost.
        there = {one.mark.key: one for one in (*running, *pending) if one.mark is not None}
        for key in reversed(earlier):
            one, wanted = there.get(key), self._mark._replace(key=key)
            if one is None and not found:
                entry = await history(self._wire, prompt_id(key))
                if entry is not None and mark_in(entry) == wanted and _is_useful(entry):
                    found, self.entry = key, entry
            elif one is not None and one.mark == wanted and not found:
                found, self.sent, self._client = key, True, prompt_id(key)
                self._named(one.id)
            elif one is not None:
                await remove(self._wire, lambda other, key=key: other.mark is not None and other.mark.key == key)
        return found

    async def follow(self) -> AsyncGenerator[Step, None]:
        """Submit it, unless the server has it, and yield steps until it is over; `entry` is there then. Raises BackendError."""
        loop = asyncio.get_running_loop()
        gone: float | None = None
        pause = _AGAIN_SECONDS
        while self.entry is None:
            try:
                # The socket comes first: what is said while nobody listens is not said again.
                async with self._wire.socket("ws", params={"clientId": self._client}) as socket:
                    self._seen = False
                    await socket.send_str(_FLAGS)
                    if not self.sent:
                        await self._submit()
                    elif await self._settled():
                        break
                    gone = None
                    shown = place = preview = -math.inf
                    stage, owed, looked = "", False, 0
                    while True:
                        left = STEP_SECONDS if owed else POLL_SECONDS
                        if not self.progress.started and self.progress.queue_changes != looked:
                            left = min(left, max(place + PLACE_SECONDS - loop.time(), 0.01))
                        said = await self._hear(socket, left)
                        if said is None:
                            break
                        now = loop.time()
                        pause = _AGAIN_SECONDS
                        if isinstance(said, bytes) and said and now - preview >= PREVIEW_SECONDS:
                            preview = now
                            yield msgspec.structs.replace(self.progress.step, preview=said)
                        elif not self.progress.started and now - place >= PLACE_SECONDS:
                            place, looked = now, self.progress.queue_changes
                            yield await self._queued()
                        elif said is True or owed:
                            step = self.progress.step
                            owed = step.stage == stage and now - shown < STEP_SECONDS
                            if not owed:
                                shown, stage = now, step.stage
                                yield step
                        if self.progress.failure is not None:
                            raise self.progress.failure
                        if self.progress.over and await self._settled(wait=True):
                            return
            except BackendError as error:
                broken: BackendError | None = error
            except (OSError, aiohttp.ClientError) as error:
                broken = BackendError("connection_error", f"{self._wire.name}: the websocket broke")
                broken.__cause__ = error
            else:
                broken = None
            if broken is not None:
                gone = gone or loop.time()
                if not self.sent or not _passes(broken) or loop.time() - gone >= self._reconnect_seconds:
                    raise broken
            left = math.inf if gone is None else gone + self._reconnect_seconds - loop.time()
            await asyncio.sleep(min(pause, max(left, 0.0)))
            pause = min(2 * pause, _PAUSE_SECONDS)

    async def cancel(self) -> None:
        """Take it out of the queue, or stop it when it runs. Raises BackendError."""
        await remove(self._wire, lambda one: one.id == self.id)

    async def place(self) -> int | None:
        """0: it runs; n: n prompts come first; None: the server does not have it. Raises BackendError."""
        running, pending = ([one.id for one in some] for some in await queue(self._wire))
        self._seen = self._seen or self.id in running or self.id in pending
        if self.id in running:
            return 0
        return len(running) + pending.index(self.id) if self.id in pending else None

    async def _submit(self) -> None:
        extra = marked(self._mark) | ({"preview_method": "latent2rgb"} if self._previews else {})
        body = {"prompt": self._graph, "client_id": self._client, "prompt_id": self.id, "extra_data": extra}
        self.sent = True
        try:
            # It is queued once it was checked, which takes a while.
            given = await self._parting.begin(lambda: self._wire.fetch("prompt", body), self._undo)
            answer = as_object(given)
        except BackendError as error:
            if error.kind in _BROKEN:
                await self._arrived(error)
                return
            self.sent = error.kind == "invalid_structure"
            raise refused(error) from error
        if answer is None or not isinstance(answer.get("prompt_id"), str):
            raise BackendError("invalid_structure", f"{self._wire.name}/prompt: no prompt_id in the answer", status=200)
        self._named(answer["prompt_id"])
        self._seen = True
        if answer.get("node_errors"):
            raise dropped(answer["node_errors"], self._wire.name)

    def _named(self, name: str) -> None:
        if name != self.id:
            # A server from before 0.3.45 chooses the id itself; nothing was heard of it yet.
            self.id = name
            self.progress = Progress(self.id, self._graph, self._wire.secrets)

    async def _undo(self, answered: object) -> None:
        name = (as_object(answered) or {}).get("prompt_id")
        self._named(name if isinstance(name, str) else self.id)
        await self.cancel()

    async def _arrived(self, error: BackendError) -> None:
        """After a lost answer: go on when the graph has arrived, otherwise raise what broke."""
        try:
            known = await history(self._wire, self.id) is not None or await self.place() is not None
        except BackendError:
            raise error from None
        if not known:
            self.sent = False
            raise error

    async def _hear(self, socket: aiohttp.ClientWebSocketResponse, seconds: float) -> bytes | bool | None:
        """The next message within some seconds: a preview, whether it changed anything, or None when the socket is closed or
        all is over.
        """
        if self.entry is not None:
            return None
        try:
            message = await socket.receive(timeout=_AGAIN_SECONDS if self.progress.ending else seconds)
        except TimeoutError:
            self.progress.over = self.progress.ending
            if seconds < POLL_SECONDS and not self.progress.ending:
                return False
            return None if await self._settled(ask_queue=not self.progress.started) else False
        if message.type in _CLOSED:
            return None
        if message.type == aiohttp.WSMsgType.BINARY:
            return self.progress.preview(message.data)
        return self.progress.take(message.data) if message.type == aiohttp.WSMsgType.TEXT else False

    async def _settled(self, *, wait: bool = False, ask_queue: bool = True) -> bool:
        """Whether it is over, by the history. Raises Lost when neither history nor queue has it."""
        for _ in range(_HISTORY_TRIES if wait else 1):
            self.entry = await history(self._wire, self.id)
            if self.entry is not None:
                break
            if wait:
                await asyncio.sleep(_AGAIN_SECONDS)
        if self.entry is None and ask_queue and await self.place() is None:
            self.entry = await history(self._wire, self.id)  # It may have ended between the two questions.
            if self.entry is None and self._seen and not self.progress.ending:
                message = f"{self._wire.name}: somebody took the prompt out of ComfyUI's queue"
                raise BackendError("interrupted", message, status=200)
            if self.entry is None:
                message = f"{self._wire.name}: ComfyUI has lost the prompt: it was restarted, or somebody took it out"
                raise Lost("cut_stream", message, status=200)
        if self.entry is None:
            return False
        failure = history_failed(self.entry, self._wire.secrets)
        if failure is not None:
            raise failure
        return True

    async def _queued(self) -> Step:
        place = await self.place()
        if (
            place is None and await history(self._wire, self.id) is None
        ):  # Of one that has ended the socket still tells, pictures too.
            await self._settled()
        return Step(stage="queued", text=f"{place} before it in the queue" if place else "")


def _is_useful(entry: dict[str, Any]) -> bool:
    """Whether it went well and what it made is still to be had: pictures that are only sent are gone."""
    return history_failed(entry) is None and bool(outputs_of(entry) or texts_of(entry))


def _passes(error: BackendError) -> bool:
    """Whether a server, or a proxy before it, may be back in a moment, and the prompt go on meanwhile."""
    return not isinstance(error, Lost) and (error.kind in _BROKEN or (error.status or 0) >= 500)
