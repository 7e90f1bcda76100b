"""How what handlers say reaches the bus: message ids, headers, and what happens when another writer was first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.actor import Heard, Later, Stored
from bus import codec
from bus.bus import Bus, Conflict
from messages import DeadLetter, JobSubmit, Kind, Message, Refused, token

Boundary = Callable[[str, str], Awaitable[None]]
"""Called at every step boundary with the point (`before publish`, `after publish`, `before acknowledge`) and the event's name."""

_REPEATED = (Refused, DeadLetter)


class FactLost(Exception):
    """A compared fact was refused: somebody wrote a newer value first."""

    def __init__(self, subject: str) -> None:
        super().__init__(subject)
        self.subject = subject


class Voice:
    """Publishes what one process says and knows whose word was first."""

    def __init__(self, bus: Bus, *, instance: str, boot: str, boundary: Boundary | None = None) -> None:
        self.bus = bus
        self.instance, self.boot = instance, boot
        self.source = f"/turnout/{instance}"
        self.boundary = boundary
        self.revisions: dict[str, int] = {}
        """Latest known revision of every fact that is there."""

    def message_id(self, message: Message, subject: str, heard: Heard) -> str:
        """The id under which a repetition is recognised.

        A first-writer event names its writer (instance, boot and run), or a loser would take the winner's message for
        its own. Any other event is determined by its subject, and by its cause where a subject may hold several.
        """
        if message.channel.first_writer:
            return f"{subject}/{self.instance}/{self.boot}/{heard.run}"
        if isinstance(message, _REPEATED):
            return f"{subject}/{heard.stream}:{heard.seq}"
        if isinstance(message, JobSubmit):  # Its subject is the tenant's: what makes it one is its id.
            return f"submit/{token(message.tenant)}/{token(message.id)}"
        return subject

    async def say(self, message: Message, heard: Heard) -> Stored:
        """Publish one message in the way its type travels. Raises FactLost, and the bus's errors."""
        channel = message.channel
        if channel.kind is Kind.SIGNAL:
            await self.bus.signal(message.subject, codec.encode(message))
            return Stored(message, True)
        if self.boundary:
            await self.boundary("before publish", message.type_name)
        stored = await (self._fact(message) if channel.kind is Kind.FACT else self._event(message, heard))
        if self.boundary:
            await self.boundary("after publish", message.type_name)
        return stored

    async def _event(self, message: Message, heard: Heard) -> Stored:
        channel = message.channel
        subject = message.subject
        msg_id = self.message_id(message, subject, heard)
        named: Any = message
        trace = heard.trace or codec.trace_id(getattr(named, "tenant", ""), getattr(named, "job", subject))
        headers = codec.headers(message, msg_id=msg_id, source=self.source, now=heard.now, trace=trace)
        put = await self.bus.publish(
            subject, codec.encode(message), msg_id=msg_id, headers=headers, first_writer=channel.first_writer
        )
        if put.ours or put.stored is None:
            return Stored(message, True, put.seq)
        return Stored(codec.decode(type(message), put.stored.data, put.stored.headers), False, put.seq)

    async def _fact(self, message: Message) -> Stored:
        subject = message.subject
        expected = self.revisions.get(subject, 0) if message.channel.compared else None
        try:
            revision = await self.bus.put_fact(subject, codec.encode(message), expected_revision=expected)
        except Conflict as error:
            raise FactLost(subject) from error
        # A newer value may have been heard before this answer.
        self.revisions[subject] = max(revision, self.revisions.get(subject, 0))
        return Stored(message, True, revision)

    async def later(self, later: Later, heard: Heard) -> None:
        """Let the server say it at its time. The schedule's own subject mirrors the target, so a repetition replaces it."""
        message: Any = later.message
        if self.boundary:
            await self.boundary("before publish", "schedule")
        target = message.subject
        trace = heard.trace or codec.trace_id(message.tenant, message.job)
        headers = codec.headers(message, msg_id=target, source=self.source, now=heard.now, trace=trace)
        await self.bus.schedule(
            "sched" + target.removeprefix("ev"), codec.encode(message), at=later.at, target=target, headers=headers
        )
        if self.boundary:
            await self.boundary("after publish", "schedule")

    async def dead_letter(self, heard: Heard, problem: Any, *, tenant: str, job: str) -> None:
        """Put a message that can't be handled out of the way, with the reason."""
        head = heard.body[:200].decode("utf-8", "replace")
        letter = DeadLetter(
            tenant=tenant, job=job, stream=heard.stream, seq=heard.seq, subject_heard=heard.subject, problem=problem,
            head=head, at=heard.now,
        )  # fmt: skip
        await self.say(letter, heard)


async def together(first: Awaitable[Any], others: Sequence[Awaitable[Any]]) -> list[Any]:
    """Run independent publishes at once; the first one in this very task, to save a task where there is only one."""
    if not others:
        return [await first]
    tasks = [asyncio.ensure_future(other) for other in others]
    try:
        return [await first, *[await task for task in tasks]]
    finally:
        for task in tasks:
            task.cancel()
