from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import codec, topology
from bus.memory_stream import matcher, overlap
from bus.topology import APART, QUEUES, STREAMS, work_queue
from messages import Kind, LedgerEntry, Message, Work, known

BY_NAME = {stream.name: stream for stream in STREAMS}
STORED = [kind for kind in known().values() if kind.channel.stream]


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: kind.__name__)
def test_every_stored_type_lies_in_exactly_its_stream(kind: type[Message]) -> None:
    sample = kind.channel.pattern.replace("*", "x") + (".t.tokens.total" if kind.channel.prefix == "ledger" else "")
    keepers = [stream.name for stream in STREAMS if matcher(stream.subjects)(sample)]
    assert keepers == [kind.channel.stream]


@pytest.mark.parametrize("kind", [k for k in known().values() if not k.channel.stream], ids=lambda kind: kind.__name__)
def test_what_is_not_stored_lies_in_no_stream(kind: type[Message]) -> None:
    sample = kind.channel.pattern.replace("*", "x")
    assert not [stream.name for stream in STREAMS if matcher(stream.subjects)(sample)]


def test_streams_do_not_overlap() -> None:
    for one, other in itertools.combinations(STREAMS, 2):
        assert not any(overlap(a, b) for a in one.subjects for b in other.subjects)


def test_what_is_republished_is_published_by_nobody_else() -> None:
    """`ev.done` appears as `job.done`; a signal or an outside subject of that name would be mistaken for it."""
    republished = {"job." + k.channel.prefix.removeprefix("ev.") for k in STORED if k.channel.stream == "EV"}
    others = {k.channel.prefix for k in known().values() if k.channel.stream != "EV"}
    assert not republished & others


@pytest.mark.parametrize("queue", [*QUEUES, *APART], ids=lambda queue: queue.name)
def test_a_queue_hears_what_its_stream_keeps(queue: topology.Queue) -> None:
    for pattern in queue.filters:
        assert any(overlap(pattern, kept) for kept in BY_NAME[queue.stream].subjects)
        kind = codec.type_at(pattern)
        assert kind is not None
        assert kind.channel.stream == queue.stream


def test_queues_have_names_of_their_own() -> None:
    names = [(queue.stream, queue.name) for queue in (*QUEUES, *APART)]
    assert len(names) == len(set(names))


def test_every_type_of_work_has_a_queue() -> None:
    heard = {codec.type_at(pattern) for queue in QUEUES for pattern in queue.filters}
    work = set(known(Kind.WORK).values()) - {Work}  # Backends have queues of their own.
    assert work <= heard


def test_the_ledger_has_no_queue() -> None:
    """It is read back; a queue of it would need the entry out of its header, which those who hear queues do not look at."""
    heard = {codec.type_at(pattern) for queue in (*QUEUES, *APART) for pattern in queue.filters}
    assert LedgerEntry not in heard
    assert LedgerEntry.channel.kind is Kind.RECORD


def test_alerts_that_wait_for_one_webhook_leave_room_for_others() -> None:
    assert topology.NOTIFIER.max_in_flight >= 10_000


def test_handed_on_types_have_a_queue_only_when_rooms_live_apart() -> None:
    handed = {kind for kind in known().values() if kind.channel.handed_on and kind.channel.kind is not Kind.SIGNAL}
    assert {codec.type_at(pattern) for queue in APART for pattern in queue.filters} == handed


def test_apart_adds_its_queues_and_starts_them_in_the_past() -> None:
    together, apart = topology.topology("together"), topology.topology("apart", apart_from=5.0)
    assert together.queues == QUEUES
    assert apart.streams == together.streams == STREAMS
    added = apart.queues[len(QUEUES) :]
    assert [queue.name for queue in added] == [queue.name for queue in APART]
    assert all(queue.start_time == 5.0 for queue in added)


def test_events_outlive_the_longest_job() -> None:
    assert topology.EV.max_age_seconds >= 2 * topology.DAY_SECONDS
    assert topology.IN.max_age_seconds >= topology.DAY_SECONDS


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(NAMES, NAMES, NAMES, NAMES, st.integers(1, 99))
def test_a_backends_queue_hears_its_work_and_no_other(backend: str, other: str, tenant: str, job: str, n: int) -> None:
    subject = Work.channel.key_of(backend=backend, tenant=tenant, job=job, n=n)
    assert matcher(work_queue(backend, 1).filters)(subject)
    assert matcher(work_queue(other, 1).filters)(subject) == (backend == other)
    assert (work_queue(other, 1).name == work_queue(backend, 1).name) == (backend == other)


@given(NAMES)
def test_names_of_queues_suit_the_server(backend: str) -> None:
    assert not set(work_queue(backend, 1).name) & set(". */\\>\t\n")


def test_slots_bound_what_is_in_flight() -> None:
    assert work_queue("a", 0).max_in_flight == 1
    assert work_queue("a", 7).max_in_flight == 7
    assert work_queue("a", 1).ack_wait_seconds == 6.0
