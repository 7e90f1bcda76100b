"""Plays one answer of the simulated backend: whole or streamed, at a pace, with a fault or without."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from actors.simbackend import protocol
from actors.simbackend.protocol import ChatRequest
from actors.simbackend.settings import Fault, SimSettings
from actors.simbackend.words import answer_pieces

_MIN_PAUSE_SECONDS: Final = 0.02
"""Shortest sleep between two chunks; faster answers put more tokens into each."""
_SLOW_FIRST_SECONDS: Final = 0.1
_SLOW_TOKENS_PER_SECOND: Final = 100.0
"""Pace that `slow` divides when the settings know no delay."""


async def play(
    request: web.Request,
    asked: ChatRequest,
    *,
    number: int,
    input_tokens: int,
    fault: Fault | None,
    settings: SimSettings,
) -> web.StreamResponse:
    """Answer `request` at the pace of the settings and with this fault, if any; `hang` never returns."""
    if fault == "hang":
        await asyncio.Event().wait()
    tokens = min(settings.answer_tokens, asked.cap or settings.answer_tokens)
    pieces, finish = answer_pieces(asked, name=settings.name, tokens=tokens, seed=settings.seed)
    if fault == "empty":
        pieces, finish = [], "stop"
    first, speed = settings.first_token_seconds, settings.tokens_per_second
    if fault == "slow":
        first = (first or _SLOW_FIRST_SECONDS) * settings.slow_factor
        speed = (speed or _SLOW_TOKENS_PER_SECOND) / settings.slow_factor
    if first:
        await asyncio.sleep(first)
    usage = protocol.usage(input_tokens, len(pieces))
    if not asked.stream:
        if speed:
            await asyncio.sleep(len(pieces) / speed)
        return await _whole(request, protocol.whole(number, asked.model, "".join(pieces), finish, usage), fault)
    wants_usage = asked.stream_options is not None and asked.stream_options.include_usage
    if not speed and fault in {None, "empty"}:
        events = protocol.stream(number, asked.model, ["".join(pieces)], finish, usage if wants_usage else None)
        return web.Response(body=b"".join(events), content_type="text/event-stream")
    events = protocol.stream(number, asked.model, pieces, finish, usage if wants_usage else None)
    return await _stream(request, events, speed, fault)


async def _whole(request: web.Request, answer: dict[str, object], fault: Fault | None) -> web.StreamResponse:
    if fault == "structure":
        answer["choices"] = {"text": "no list"}
    body = protocol.encode(answer)
    if fault == "malformed":
        body = body[: len(body) // 2]
    if fault != "cut":
        return json_response(body)
    response = web.StreamResponse(headers={"content-type": "application/json"})
    response.content_length = len(body)
    with contextlib.suppress(ConnectionError):  # Whoever asked has left, or this server dies.
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
    await _break(request)
    return response


async def _stream(
    request: web.Request, events: Sequence[bytes], speed: float, fault: Fault | None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
    with contextlib.suppress(ConnectionError):  # Whoever asked has left, or this server dies.
        await _write(request, response, events, speed, fault)
    if fault == "cut":
        await _break(request)
    return response


async def _write(
    request: web.Request, response: web.StreamResponse, events: Sequence[bytes], speed: float, fault: Fault | None
) -> None:
    await response.prepare(request)
    middle = max(1, len(events) // 2) if fault in {"cut", "malformed", "structure"} else len(events)
    loop = asyncio.get_running_loop()
    start, sent = loop.time(), 0
    while sent < middle:
        if speed:
            await asyncio.sleep(max(_MIN_PAUSE_SECONDS, 1 / speed))
            due = max(sent + 1, int((loop.time() - start) * speed))
        else:
            due = middle
        await response.write(b"".join(events[sent : min(due, middle)]))
        sent = due
    if fault == "malformed":
        await response.write(b'data: {"id":"chatcmpl-sim","choices":[{"index":0,"delta":\n\n')
    elif fault == "structure":
        await response.write(protocol.event({"choices": {"text": "no list"}}))
    elif fault == "cut":
        return
    await response.write_eof()


def json_response(body: bytes, status: int = 200) -> web.Response:
    """A whole JSON answer."""
    return web.Response(body=body, status=status, content_type="application/json")


async def _break(request: web.Request) -> None:
    """Break the connection of `request`, after what was written has left."""
    await asyncio.sleep(0)
    if request.transport is not None:
        abort(request.transport)


def abort(transport: asyncio.BaseTransport) -> None:
    """Break a connection without goodbye."""
    if isinstance(transport, asyncio.Transport):
        transport.abort()
