"""Reads an answer of OpenAI's kind, streamed or whole, event by event into a fold that knows the protocol."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from typing import Final, Protocol

from actors.executor.backends.errors import redact
from actors.executor.backends.port import Answer, Artifact, BackendError, Chunk, Item, Step
from actors.executor.backends.sse import LINE_LIMIT, Events, LineTooLong
from actors.executor.backends.wire import Reply

# The end of the body follows the last event at once. A server that leaves it open loses the connection instead.
_DRAIN_SECONDS: Final = 0.05

Part = str | tuple[Step | Artifact, ...]
"""What an event adds: text, or something else."""


class Fold(Protocol):
    """One answer in the making."""

    done: bool
    """Its last event has come."""

    def take(self, event: bytes) -> Part:
        """What one event adds. Raises BackendError."""
        ...

    def answer(self) -> Answer:
        """The whole answer, once the stream has ended. Raises BackendError."""
        ...

    def annotate(self, error: BackendError) -> BackendError:
        """`error`, with the text and the usage that had come before it."""
        ...


async def items(
    reply: Reply, fold: Fold, secrets: tuple[str, ...], *, event_bytes: int = LINE_LIMIT
) -> AsyncGenerator[Item, None]:
    """The items of one answer, its `Answer` last. `event_bytes` bounds one event. Raises BackendError."""
    waiting: deque[Item] = deque()
    try:
        if reply.media_type == "text/html":
            page = redact((await reply.read()).decode("utf-8", "replace"), secrets)
            message = "the answer is a web page: is the URL right?"
            raise BackendError("invalid_structure", message, status=200, body=page)
        if reply.media_type == "application/json":  # Not asked to stream, or it ignored that.
            part = fold.take(await reply.read_all())
            fold.done = True
            waiting += joined([part] if part else [])
        else:
            events = Events(event_bytes)
            while not fold.done and (piece := await reply.read()):
                waiting += joined(fold.take(event.data) for event in events.feed(piece))
                while waiting:
                    yield waiting.popleft()
            if fold.done:
                await _drain(reply)
            elif part := _last(events, fold):
                waiting += joined([part])
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


def _last(events: Events, fold: Fold) -> Part:
    """What an event adds that the end of the stream completed; one that was cut in the middle adds nothing."""
    event = events.close()
    if event is None:
        return ""
    try:
        return fold.take(event.data)
    except BackendError as error:
        if error.kind == "invalid_structure":
            return ""
        raise


async def _drain(reply: Reply) -> None:
    """Read to the end of the body, so that the connection can be used again."""
    with contextlib.suppress(TimeoutError, BackendError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await reply.read():
                pass
