"""Reads an answer, streamed or whole, event by event into a fold that knows the protocol: the one reader for all protocols."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final

from actors.executor.backends.errors import failure_in, redact
from actors.executor.backends.fold import Fold, Part
from actors.executor.backends.framing import Framed
from actors.executor.backends.port import Artifact, BackendError, Chunk, Item
from actors.executor.backends.sse import LINE_LIMIT, Event, LineTooLong
from actors.executor.backends.wire import Reply

# The end of the body follows the last event at once. A server that leaves it open loses the connection instead.
_DRAIN_SECONDS: Final = 0.05
AFTER_SECONDS: Final = 3.0
"""So long what follows the finish reason is waited for: usage, and the mark of the end. Some servers leave the stream open."""


class NothingCame(BackendError):
    """The answer was a good one, and held not a single event."""


async def items(
    reply: Reply, fold: Fold[Any], secrets: tuple[str, ...], *, event_bytes: int = LINE_LIMIT, lines: bool = False
) -> AsyncGenerator[Item, None]:
    """The items of one answer, its `Answer` last. `event_bytes` bounds one event; with `lines` each line is one.

    Its own first bytes tell its form, not its content type. An event named `error` is one, whatever it holds. Raises
    BackendError, but for nothing that happens after the answer has told its end.
    """
    waiting: deque[Item] = deque()
    framed = Framed(event_bytes, lines=lines)
    try:
        async with contextlib.aclosing(_pieces(reply, fold, framed)) as pieces:
            async for piece in pieces:
                waiting += joined(_taken(event, fold, secrets) for event in _cut(framed, piece, fold))
                while waiting:
                    yield waiting.popleft()
        if framed.form == "page":
            page = redact(framed.head.decode("utf-8", "replace"), secrets)
            message = "the answer is a web page: is the URL right?"
            raise BackendError("invalid_structure", message, status=200, body=page)
        if fold.done:
            await _drain(reply)
        else:
            waiting += joined(_last(framed, fold, secrets))
        if rest := fold.end():
            waiting += joined([rest])
        while waiting:
            yield waiting.popleft()
        if framed.is_text():
            raise failure_in(framed.head, secrets=secrets)
        if not framed.any and not fold.done:
            raise NothingCame("cut_stream", "the answer broke off before it began", status=200)
        answer = fold.answer()
    except LineTooLong as error:
        raise fold.annotate(BackendError("invalid_structure", str(error), status=200)) from error
    except BackendError as error:
        fold.annotate(error)
        if error.kind == "cut_stream" and not framed.form:
            raise NothingCame("cut_stream", error.message, status=200) from error
        raise
    finally:
        for item in waiting:
            if isinstance(item, Artifact):
                item.file.close()
    yield answer


def _taken(event: Event, fold: Fold[Any], secrets: tuple[str, ...], *, cut: bool = False) -> Part:
    """What an event adds."""
    if event.name == "error":
        return fold.failed(failure_in(event.data, secrets=secrets))
    return fold.take(event.data, cut=cut)


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


async def _pieces(reply: Reply, fold: Fold[Any], framed: Framed) -> AsyncGenerator[bytes, None]:
    """The pieces of the body until the answer is done. Once it has told its end neither silence nor a break is an error."""
    loop = asyncio.get_running_loop()
    until: float | None = None
    while not fold.done and framed.form != "page":
        if fold.settled and until is None:
            until = loop.time() + AFTER_SECONDS
        try:
            if until is None:
                piece = await reply.read()
            else:
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


def _cut(framed: Framed, piece: bytes, fold: Fold[Any]) -> Iterable[Event]:
    try:
        return framed.feed(piece)
    except LineTooLong:
        if not fold.settled:
            raise
        fold.done = True
        return ()


def _last(framed: Framed, fold: Fold[Any], secrets: tuple[str, ...]) -> Iterable[Part]:
    """What the events add that the end of the answer completed; one that was cut in the middle adds nothing."""
    whole = framed.form == "document"
    try:
        events = framed.close()
    except LineTooLong:
        return
    for event in events:
        try:
            part = _taken(event, fold, secrets, cut=not whole)
        except BackendError as error:
            if whole or error.kind != "invalid_structure":
                raise
            continue
        if part:
            yield part
    fold.done = fold.done or whole


async def _drain(reply: Reply) -> None:
    """Read to the end of the body, so that the connection can be used again."""
    with contextlib.suppress(TimeoutError, BackendError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await reply.read():
                pass
