"""Reads an answer, streamed or whole, event by event into a fold that knows the protocol: the one reader for all protocols."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final

from actors.executor.backends.errors import redact
from actors.executor.backends.fold import Fold, Part
from actors.executor.backends.port import Artifact, BackendError, Chunk, Item
from actors.executor.backends.sse import LINE_LIMIT, Event, Events, LineEvents, LineTooLong
from actors.executor.backends.wire import Reply

# The end of the body follows the last event at once. A server that leaves it open loses the connection instead.
_DRAIN_SECONDS: Final = 0.05
AFTER_SECONDS: Final = 3.0
"""So long what follows the finish reason is waited for: usage, and the mark of the end. Some servers leave the stream open."""


async def items(
    reply: Reply, fold: Fold[Any], secrets: tuple[str, ...], *, event_bytes: int = LINE_LIMIT, lines: bool = False
) -> AsyncGenerator[Item, None]:
    """The items of one answer, its `Answer` last. `event_bytes` bounds one event; with `lines` each line is one.

    Raises BackendError, but for nothing that happens after the answer has told its end.
    """
    waiting: deque[Item] = deque()
    try:
        if reply.media_type == "text/html":
            page = redact((await reply.read()).decode("utf-8", "replace"), secrets)
            message = "the answer is a web page: is the URL right?"
            raise BackendError("invalid_structure", message, status=200, body=page)
        if reply.media_type == "application/json" and not lines:  # Not asked to stream, or it ignored that.
            part = fold.take(await reply.read_all())
            fold.done = True
            waiting += joined([part] if part else [])
        else:
            events = LineEvents(event_bytes) if lines else Events(event_bytes)
            async with contextlib.aclosing(_pieces(reply, fold)) as pieces:
                async for piece in pieces:
                    waiting += joined(fold.take(event.data) for event in _cut(events, piece, fold))
                    while waiting:
                        yield waiting.popleft()
            if fold.done:
                await _drain(reply)
            elif part := _last(events, fold):
                waiting += joined([part])
        if rest := fold.end():
            waiting += joined([rest])
        while waiting:
            yield waiting.popleft()
        answer = fold.answer()
    except LineTooLong as error:
        raise fold.annotate(BackendError("invalid_structure", str(error), status=200)) from error
    except BackendError as error:
        fold.annotate(error)
        raise
    finally:
        for item in waiting:
            if isinstance(item, Artifact):
                item.file.close()
    yield answer


def joined(parts: Iterable[Part]) -> list[Item]:
    """Parts as items, neighbouring texts in one chunk; events without text are a sign of life."""
    found: list[Item] = []
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if texts and part:
            found.append(Chunk(text="".join(texts)))
            texts = []
        found += part
    return [*found, Chunk(text="".join(texts))] if texts else found


async def _pieces(reply: Reply, fold: Fold[Any]) -> AsyncGenerator[bytes, None]:
    """The pieces of the body until the answer is done. Once it has told its end neither silence nor a break is an error."""
    loop = asyncio.get_running_loop()
    until: float | None = None
    while not fold.done:
        if fold.settled and until is None:
            until = loop.time() + AFTER_SECONDS
        try:
            async with asyncio.timeout_at(until):
                piece = await reply.read()
        except TimeoutError:
            if until is None:
                raise  # Not ours.
            return
        except BackendError as error:
            if not fold.settled:
                raise
            fold.remark("stream", f"after its end the stream broke: {error.message}")
            return
        if not piece:
            return
        yield piece


def _cut(events: Events | LineEvents, piece: bytes, fold: Fold[Any]) -> Iterable[Event]:
    try:
        return events.feed(piece)
    except LineTooLong:
        if not fold.settled:
            raise
        fold.done = True
        return ()


def _last(events: Events | LineEvents, fold: Fold[Any]) -> Part:
    """What an event adds that the end of the stream completed; one that was cut in the middle adds nothing."""
    try:
        event = events.close()
        return fold.take(event.data, cut=True) if event is not None else ""
    except (BackendError, LineTooLong) as error:
        if isinstance(error, LineTooLong) or error.kind == "invalid_structure":
            return ""
        raise


async def _drain(reply: Reply) -> None:
    """Read to the end of the body, so that the connection can be used again."""
    with contextlib.suppress(TimeoutError, BackendError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await reply.read():
                pass
