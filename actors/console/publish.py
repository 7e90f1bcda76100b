"""Putting jobs and cancellations on the bus, with the checks that come before."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from actors.console.screen import Unreachable
from bus import codec
from bus.bus import Bus, BusError, PayloadTooLarge
from messages import Analyzed, Deployment, JobCancel, JobSubmit, token, untoken

AT_ONCE = 64
"""Publishes on their way at the same time."""
HEAD_BYTES = 2_048
"""Room for the headers of a submission."""


async def is_there(bus: Bus) -> bool:
    """Whether this bus carries turnout. Its streams are missing where it has never run."""
    try:
        return await bus.last(Deployment.channel.stream, Deployment(rooms="together").subject) is not None
    except BusError:
        return False


async def check_there(bus: Bus) -> None:
    """Raise Unreachable when this bus carries no turnout."""
    if not await is_there(bus):
        text = "the NATS server answers, but turnout's streams are not there: turnout has not run on it yet"
        raise Unreachable(text, "`turnout setup` creates them, `turnout run ...` starts the parts")


def check_sizes(bus: Bus, jobs: Sequence[JobSubmit]) -> None:
    """Raise PayloadTooLarge before anything is sent."""
    limit = bus.max_payload - HEAD_BYTES
    for job in jobs:
        size = len(codec.encode(job))
        if size > limit:
            raise PayloadTooLarge(f"job {job.id}", size, limit)


def key_at(subject: str) -> tuple[str, str]:
    """Tenant and job of an event's subject."""
    parts = subject.split(".")
    return (untoken(parts[2]), untoken(parts[3])) if len(parts) > 3 else ("", "")


async def is_foreign(bus: Bus, job: JobSubmit, seq: int) -> bool:
    """Whether the job of this id comes from another submission than `seq`, with another body."""
    record = await bus.last("EV", Analyzed.channel.key_of(tenant=job.tenant, job=job.id))
    slip = codec.decode(Analyzed, record.data, record.headers).slip if record else None
    if slip is None or slip.input_seq == seq:
        return False
    first = await bus.get("IN", slip.input_seq)
    return first is not None and first.data != codec.encode(job)


async def publish_all(bus: Bus, jobs: Sequence[JobSubmit]) -> dict[tuple[str, str], int]:
    """Publish every job; each is stored when this returns. Their sequences in the stream, by tenant and id."""
    free = asyncio.Semaphore(AT_ONCE)
    numbers: dict[tuple[str, str], int] = {}

    async def publish(job: JobSubmit) -> None:
        async with free:
            data = codec.encode(job)
            # The same id with another body must arrive: it is to be refused, not dropped.
            body = hashlib.blake2b(data, digest_size=8).hexdigest()
            put = await bus.publish(job.subject, data, msg_id=f"submit/{token(job.tenant)}/{token(job.id)}/{body}")
            numbers[job.tenant, job.id] = put.seq

    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(publish(job))
    return numbers


async def cancel_job(bus: Bus, tenant: str, job: str, reason: str) -> None:
    """Ask for a job's end."""
    message = JobCancel(tenant=tenant, job=job, reason=reason)
    body = hashlib.blake2b(reason.encode(), digest_size=4).hexdigest()
    await bus.publish(
        message.subject, codec.encode(message), msg_id=f"cancel/{token(tenant)}/{token(job)}/{body}"
    )  # fmt: skip
