"""The streams and durable consumers, declared once. One admin step creates them; rooms never do."""

from __future__ import annotations

from typing import Literal

import msgspec

from messages import (
    Alert,
    Analyzed,
    Attempted,
    Decided,
    Done,
    Due,
    Expired,
    Granted,
    Held,
    JobCancel,
    JobRate,
    JobResume,
    JobSubmit,
    Retry,
)
from messages.message import token

DAY_SECONDS = 86_400.0
RoomsMode = Literal["together", "apart"]


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One stream; the kind of retention follows from what it is for."""

    name: str
    subjects: tuple[str, ...]
    max_age_seconds: float = 0.0
    """0: no limit."""
    work_queue: bool = False
    """A message is gone once acknowledged; one per subject; refuses more than `max_messages`."""
    max_messages: int = -1
    last_per_subject: bool = False
    """Keeps only the latest message of each subject."""
    counters: bool = False
    """Every message is an increment."""
    schedules: bool = False
    republish: tuple[str, str] | None = None
    """(source pattern, destination) for core subscribers, after storing."""
    duplicate_window_seconds: float = 300.0


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """One durable pull consumer."""

    stream: str
    name: str
    filters: tuple[str, ...]
    ack_wait_seconds: float = 15.0
    max_in_flight: int = 1000
    """Messages delivered and not acknowledged, over all who pull from it."""
    patience_seconds: float = 0.0
    """How long messages lie before they are handled, so that jobs on their way go first and what waited goes together.
    Not the server's business."""
    in_order: bool = False
    """Each process handles them one after the other, as the stream has them; only where they are handled together."""
    start_time: float | None = None
    """Deliver only what was stored at or after this time; absent: everything there is. Only heeded when it is created."""


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """All streams and the consumers of the rooms. Executor queues come later, from the registry."""

    streams: tuple[Stream, ...]
    queues: tuple[Queue, ...]


IN = Stream(
    name="IN",
    # Whatever begins like a word to us is taken in, so that one on a wrong subject is answered as well.
    subjects=tuple(f"job.{word}{rest}" for word in ("submit", "cancel", "rate", "resume") for rest in ("", ".>")),
    max_age_seconds=3 * DAY_SECONDS,
)
EV = Stream(
    name="EV",
    subjects=("ev.>", "sched.>"),
    max_age_seconds=7 * DAY_SECONDS,
    schedules=True,
    republish=("ev.>", "job.>"),
)
WORK = Stream(name="WORK", subjects=("work.>",), work_queue=True, max_messages=200_000)
LEDGER = Stream(name="LEDGER", subjects=("ledger.>",), counters=True, duplicate_window_seconds=4 * 3600.0)
FACTS = Stream(
    name="KV_facts", subjects=("$KV.facts.>",), last_per_subject=True, republish=("$KV.facts.>", "fact.>")
)  # fmt: skip
STREAMS = (IN, EV, WORK, LEDGER, FACTS)

RESULTS = "RESULTS"
"""The object store of results: files that were made, and texts that exceed the payload limit."""
INPUTS = "INPUTS"
"""The object store of files that jobs bring along."""


def _queue(name: str, *types: type, **more: object) -> Queue:
    channels = [made.channel for made in types]  # type: ignore[attr-defined]
    return Queue(stream=channels[0].stream, name=name, filters=tuple(c.pattern for c in channels), **more)  # type: ignore[arg-type]


def _door(name: str, kind: type) -> Queue:
    """A queue for a word from outside, on whatever subject it comes: with too few names or too many as well."""
    right: str = _queue(name, kind).filters[0]
    names = right.split(".")
    fewer = (".".join(names[:length]) for length in range(2, len(names)))
    return Queue(stream="IN", name=name, filters=(right, *fewer, f"{right}.>"))


ANALYZER = _door("analyzer", JobSubmit)
ROUTER_CANCEL = _door("router-cancel", JobCancel)
ROUTER = _queue("router", Retry, Due, Expired)
SETTLE = _queue("guardrail", Attempted, patience_seconds=0.02)
RESUME = _door("guardrail-resume", JobResume)
FOLD = _queue("breaker", Attempted, max_in_flight=256, patience_seconds=0.02, in_order=True)
TELEMETRY = _queue("telemetry", Analyzed, Attempted, Done, max_in_flight=20_000, patience_seconds=0.05)
"""What the history could not keep is not acknowledged: averages go on for so many events with a full disk, and pause then."""
TELEMETRY_RATE = _door("telemetry-rate", JobRate)
EXPLAINER = _queue("explainer", Decided, Granted, Done, patience_seconds=0.05)
MONITOR = _queue("monitor", Attempted, Held, max_in_flight=256, patience_seconds=0.1)
NOTIFIER = _queue("notifier", Alert, max_in_flight=10_000)
"""An alert that waits for another try at one webhook counts as in flight for up to an hour, and must not keep new ones from
the other webhooks: the notifier lets a thousand wait per webhook."""
ROUTER_ANALYZED = _queue("router-analyzed", Analyzed)
GUARDRAIL_DECIDED = _queue("guardrail-decided", Decided)

QUEUES = (
    ANALYZER,
    ROUTER_CANCEL,
    ROUTER,
    SETTLE,
    RESUME,
    FOLD,
    TELEMETRY,
    TELEMETRY_RATE,
    EXPLAINER,
    MONITOR,
    NOTIFIER,
)
APART = (ROUTER_ANALYZED, GUARDRAIL_DECIDED)
"""Heard in memory inside a front; consumers of their own only when the rooms live apart."""


def topology(rooms: RoomsMode, *, apart_from: float | None = None) -> Topology:
    """Everything the admin step creates. `apart_from`: a time before the oldest unacknowledged head was stored, for rooms
    that move apart.
    """
    if rooms == "together":
        return Topology(streams=STREAMS, queues=QUEUES)
    moved = tuple(msgspec.structs.replace(queue, start_time=apart_from) for queue in APART)
    return Topology(streams=STREAMS, queues=QUEUES + moved)


def work_queue(backend: str, slots: int) -> Queue:
    """The queue of one backend; `slots` is the total its live executors run at once."""
    name = "exec-" + token(backend)
    return Queue(
        stream="WORK",
        name=name,
        filters=(f"work.{token(backend)}.>",),
        ack_wait_seconds=6.0,
        max_in_flight=max(1, slots),
    )
