"""What a fake says to an adapter, kept, and said again with some of it altered on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from random import Random
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from tests.fakes.base import FakeServer

HERE = b"http://here.invalid"
"""Stands for a server's own address in what is kept."""
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -3, 1, 429, 10**30, 0.5, -0.0, 1e308, math.inf, -math.inf, math.nan),
    *("", "x", "\ud83d", "\0", "9" * 400, [], {}, [[]], [None], {"type": {}}, [{"type": "text"}]),
)
JUNK = (b"[DONE]", b"", b" ", b"ping", b"[" * 5000, b"\xff", b"{", b"null", b'"x"', b"[1]")


class Said(msgspec.Struct, frozen=True):
    """One answer."""

    status: int
    body: bytes
    media_type: str


class Recording(msgspec.Struct):
    """What a server said while it was asked one thing: answers by method and path, in their order, and frames of websockets."""

    answers: dict[str, list[Said]] = {}
    frames: list[bytes | str] = []


class _Server(FakeServer):
    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.route("*", "/{path:.*}", self.take)]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        return web.json_response({"error": message}, status=status)

    async def take(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("upgrade", "").lower() != "websocket":
            return await self.answer(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            await self.tell(request, socket)
            await socket.close()
        return socket

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError

    async def tell(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        raise NotImplementedError


class Recorder(_Server):
    """Stands before a fake, and keeps what it says."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self._origin = origin
        self.kept = Recording()

    async def answer(self, request: web.Request) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "transfer-encoding")}
        async with aiohttp.ClientSession(auto_decompress=False) as client:
            body = await request.read()
            url = self._origin + request.path_qs
            async with client.request(request.method, url, data=body, headers=headers) as reply:
                data = await reply.read()
        media_type = reply.headers.get("content-type", "")
        kept = Said(reply.status, data.replace(self._origin.encode(), HERE), media_type)
        self.kept.answers.setdefault(place(request), []).append(kept)
        onward = kept.body.replace(HERE, self.url.encode())
        return web.Response(status=reply.status, body=onward, headers={"content-type": media_type})

    async def tell(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        async with aiohttp.ClientSession() as client, client.ws_connect(self._origin + request.path_qs) as theirs:

            async def onward() -> None:
                async for frame in socket:
                    await theirs.send_str(frame.data)

            sending = asyncio.create_task(onward())
            try:
                async for frame in theirs:
                    self.kept.frames.append(frame.data)
                    await send(socket, frame.data)
            finally:
                sending.cancel()


class Altered(_Server):
    """Says again what was kept, some of it altered by a seed."""

    def say(self, kept: Recording, seed: int, foreign: Sequence[Said] = (), share: float = 0.5) -> None:
        """From now on. `foreign`: answers of other protocols. `share`: of the answers that are altered; 0: none is."""
        self._share = share
        self._kept = kept
        self._turns: dict[str, int] = {}
        self._draw = Random(seed)
        self._foreign = foreign
        self.said: list[Any] = []
        """So far."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        draw, turns = self._draw, self._kept.answers.get(place(request), ())
        at = self._turns.get(place(request), 0)
        self._turns[place(request)] = at + 1
        theirs = not turns or draw.random() < self._share / 6
        said = draw.choice(self._foreign) if theirs else turns[min(at, len(turns) - 1)]
        if draw.random() < self._share:
            said = altered(draw, said)
        self.said.append(said)
        response = web.StreamResponse(status=said.status, headers={"content-type": said.media_type})
        body = said.body.replace(HERE, self.url.encode())
        size = max(1, len(body) // draw.randint(1, 3))
        try:
            await response.prepare(request)
            for at in range(0, len(body), size):
                await response.write(body[at : at + size])
                await asyncio.sleep(0)
            await response.write_eof()
        except ConnectionError:
            pass  # The client has what it wants.
        return response

    async def tell(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        draw = self._draw
        for frame in self._kept.frames:
            for _ in range(draw.choice([0, 2]) if draw.random() < self._share / 3 else 1):
                told = altered_frame(draw, frame) if draw.random() < self._share * 0.6 else frame
                self.said.append(told)
                await send(socket, told)


def place(request: web.Request) -> str:
    """What is asked."""
    return f"{request.method} {request.path}"


async def send(socket: web.WebSocketResponse, frame: bytes | str) -> None:
    """Tell a frame as what it is."""
    if isinstance(frame, bytes):
        await socket.send_bytes(frame)
    else:
        await socket.send_str(frame)


def altered(draw: Random, said: Said) -> Said:
    """An answer with values replaced, events left out, told twice or as junk, or bytes damaged; its media type seldom."""
    body, media_type = said.body, said.media_type
    form = media_type.partition(";")[0]
    if form == "application/json":
        body = altered_json(draw, body)
    elif form in ("text/event-stream", "application/x-ndjson", "application/json-seq", "text/plain"):
        mark = b"\n\n" if b"\n\n" in body else b"\n"
        body = mark.join(
            altered_event(draw, event) if draw.random() < 0.3 else event
            for event in body.split(mark)
            for _ in range(draw.choice([0, 1, 1, 1, 1, 1, 1, 1, 1, 2]))
        )
    else:
        body = damaged(draw, body)
    if draw.random() < 0.1:
        body = damaged(draw, body)
    if draw.random() < 0.05:
        media_type = draw.choice(["", "text/event-stream", "application/json", "x/y"])
    return Said(draw.choice([400, 404, 429, 500]) if draw.random() < 0.03 else said.status, body, media_type)


def altered_event(draw: Random, event: bytes) -> bytes:
    """One event of a stream."""
    before, colon, data = event.partition(b"data:") if b"data:" in event else (b"", b"", event)
    return before + colon + (draw.choice(JUNK) if draw.random() < 0.15 else altered_json(draw, data))


def altered_frame(draw: Random, frame: bytes | str) -> bytes | str:
    """One frame of a websocket."""
    data = frame if isinstance(frame, bytes) else altered_json(draw, frame.encode())
    data = damaged(draw, data) if isinstance(frame, bytes) or draw.random() < 0.1 else data
    return data if isinstance(frame, bytes) != (draw.random() < 0.05) else data.decode("utf-8", "replace")


def altered_json(draw: Random, data: bytes) -> bytes:
    """JSON with up to three of its values replaced or left out; as it is where it is none."""
    try:
        top = [json.loads(data)]
    except ValueError:
        return damaged(draw, data)
    for _ in range(draw.randint(1, 3)):
        holder: Any = top
        while holder:
            keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = draw.choice(keys)
            if isinstance(holder[key], dict | list) and holder[key] and draw.random() < 0.8:
                holder = holder[key]
                continue
            if draw.random() < 0.2 and holder is not top:
                del holder[key]
            else:
                holder[key] = deepcopy(draw.choice(ODD))
            break
    return json.dumps(top[0]).encode("utf-8", "surrogatepass")


def damaged(draw: Random, data: bytes) -> bytes:
    """Bytes with some in their middle replaced, or without their end."""
    at = draw.randint(0, len(data))
    if draw.random() < 0.3:
        return data[:at]
    return data[:at] + draw.randbytes(draw.randint(0, 4)) + data[at + draw.randint(0, 6) :]


def foreign_of(recordings: Mapping[str, Recording]) -> tuple[Said, ...]:
    """Every answer that some protocol gives, each once."""
    every = (said for one in recordings.values() for turns in one.answers.values() for said in turns)
    return tuple(dict.fromkeys(every))
