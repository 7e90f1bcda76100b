from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import codec
from bus.codec import Undecodable
from messages import Backend, JobSubmit, LedgerEntry, Message, NeedsOf, Retry, known
from tests.messages.samples import EXAMPLES, T0

MSGPACK = {"ce-datacontenttype": "application/msgpack"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_message_comes_back(example: Message) -> None:
    assert codec.decode(type(example), codec.encode(example), {"ce-type": "whatever"}) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_type_at_finds_the_type_by_its_subject(example: Message) -> None:
    if example.subject.startswith("ledger") or not example.channel.keys:
        return
    assert codec.type_at(example.subject) is type(example)
    assert codec.type_at(example.channel.pattern) is type(example)
    assert codec.type_at(example.channel.public) is type(example)


def test_type_at_finds_questions_and_counters() -> None:
    assert codec.type_at("ask.analyzer.needs") is NeedsOf
    assert codec.type_at("ledger.tenant.acme.tokens.total") is LedgerEntry
    assert codec.type_at("fact.backend.gpu-1") is codec.type_at("$KV.facts.backend.gpu-1") is Backend
    assert codec.type_at("job.retry.acme.j-1.2") is Retry


@pytest.mark.parametrize(
    "subject", ["", "ev", "job", "fact", "$KV", "sched.due.a.b.2", "ev.unheard.a.b", "job.unheard.a", "$JS.API.INFO"]
)
def test_type_at_knows_nothing_of_other_subjects(subject: str) -> None:
    assert codec.type_at(subject) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "truncated"),
        (b"not json", "malformed"),
        (b"\xff\xfe", ""),
        (b'{"prompt":"\xff"}', "utf-8"),
        (b"[]", "expected `object`"),
        (b'{"messages":[{"role":"user"},7]}', "$.messages[1]"),
        (b'{"deadline_seconds":"soon"}', "$.deadline_seconds"),
        (b'{"promt":"hi"}', "promt"),
        (b"[" * 100_000, ""),
        (b'{"messages":[' + b'{"a":' * 100_000, ""),
        (b'{"seed":' + b"9" * 10_000 + b"}", ""),
    ],
)
def test_what_is_no_message_is_undecodable_and_says_where(data: bytes, words: str) -> None:
    with pytest.raises(Undecodable) as caught:
        codec.decode(JobSubmit, data)
    assert words in str(caught.value) or words in str(caught.value).lower()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_undecodable(data: bytes) -> None:
    for headers in ({}, MSGPACK):
        try:
            made = codec.decode(JobSubmit, data, headers)
            text = codec.as_json(data, headers)
        except Undecodable:
            continue
        assert isinstance(made, JobSubmit)
        assert codec.decode(JobSubmit, text) == made


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_message_pack_becomes_the_same_json(value: Any) -> None:
    packed = msgspec.msgpack.encode(value)
    assert msgspec.json.decode(codec.as_json(packed, MSGPACK)) == value
    assert codec.as_json(packed, {}) is packed


def test_message_pack_is_understood_by_either_header() -> None:
    packed = msgspec.msgpack.encode({"prompt": "hi"})
    for headers in (MSGPACK, {"Content-Type": "application/msgpack"}):
        assert codec.decode(JobSubmit, packed, headers) == JobSubmit(prompt="hi")
    with pytest.raises(Undecodable):
        codec.decode(JobSubmit, packed)


def test_headers_follow_cloudevents_and_trace_context() -> None:
    event = EXAMPLES[0]
    trace = codec.trace_id("acme", "j-1")
    made = codec.headers(event, msg_id="ev.x/host/boot/1", source="/turnout/host", now=T0 + 0.1234, trace=trace)
    assert made["ce-specversion"] == "1.0"
    assert made["ce-type"] == "turnout.job_submit"
    assert made["ce-source"] == "/turnout/host"
    assert made["ce-id"] == "ev.x/host/boot/1"
    assert made["ce-time"] == "2026-01-01T00:00:00.123Z"
    assert codec.trace_of(made) == trace


def test_another_message_id_is_another_span_of_the_same_trace() -> None:
    one, other = (
        codec.headers(EXAMPLES[0], msg_id=msg_id, source="/s", now=T0, trace="a" * 32)["traceparent"]
        for msg_id in ("1", "2")
    )
    assert one != other
    assert one[:35] == other[:35]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_the_event_id_is_plain_ascii(msg_id: str) -> None:
    made = codec.headers(EXAMPLES[0], msg_id=msg_id, source="/s", now=T0, trace="a" * 32)["ce-id"]
    assert made.isascii()
    assert " " not in made


@given(st.floats(0, 4e9, allow_nan=False))
def test_stamp_is_the_time_to_the_millisecond(at: float) -> None:
    read = dt.datetime.fromisoformat(codec.stamp(at)).timestamp()
    assert -1e-6 <= at - read < 0.001001


@pytest.mark.parametrize(
    "value", ["", "00", "00-abc-def-01", f"00-{'a' * 31}-{'b' * 16}-01", f"00-{'a' * 32}-{'b' * 16}"]
)
def test_a_broken_traceparent_is_none(value: str) -> None:
    assert codec.trace_of({"traceparent": value}) is None
    assert codec.trace_of({}) is None


@given(st.text(), st.text(), st.text(), st.text())
def test_trace_id_is_made_of_tenant_and_job(tenant: str, job: str, tenant2: str, job2: str) -> None:
    if any("\0" in text or not text.isascii() for text in (tenant, job, tenant2, job2)):
        return
    same = (tenant, job) == (tenant2, job2)
    made = codec.trace_id(tenant, job)
    assert len(made) == 32
    assert (made == codec.trace_id(tenant2, job2)) == same


def test_the_entry_of_a_counter_is_read_from_its_header() -> None:
    entry = next(example for example in EXAMPLES if isinstance(example, LedgerEntry))
    headers = {codec.LEDGER_HEADER: codec.encode(entry).decode(), "Nats-Incr": "+5"}
    data, left = codec.body_of(b'{"val":"5"}', headers)
    assert codec.decode(LedgerEntry, data, left) == entry
    assert codec.body_of(b"x", {}) == (b"x", {})


def test_every_type_has_a_decoder() -> None:
    for kind in known().values():
        with pytest.raises(Undecodable):
            codec.decode(kind, b"[]")
