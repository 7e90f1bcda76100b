from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import Attempted, Channel, Kind, Message, Value, known, token, untoken
from messages.message import ALL, event_name, fact
from tests.messages.samples import EXAMPLES

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
TOKEN = re.compile(r"[^\s.*>]+\Z")


@given(TEXTS)
def test_token_is_one_plain_token_and_comes_back(text: str) -> None:
    encoded = token(text)
    assert TOKEN.match(encoded)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert untoken(encoded) == text


@given(TEXTS, TEXTS)
def test_different_texts_have_different_tokens(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [("llama3.1:8b", "llama3%2E1:8b"), ("*", "%2A"), (">", "%3E"), ("a b", "a%20b"), ("50%", "50%25"), ("j-1", "j-1"),
     ("a\n", "a%0A"), ("ü", "%C3%BC"), ("$KV", "%24KV")],
)  # fmt: skip
def test_token_examples(text: str, encoded: str) -> None:
    assert token(text) == encoded


def test_an_empty_text_is_no_token() -> None:
    with pytest.raises(ValueError, match="empty"):
        token("")


@given(TEXTS, TEXTS, st.integers(1, 10**6))
def test_subject_of_a_message_has_no_wildcard_and_tells_its_keys(tenant: str, job: str, n: int) -> None:
    event = Attempted(tenant=tenant, job=job, n=n, backend="b", model="m", task="chat", outcome="ok", at=0.0)
    parts = event.subject.split(".")
    assert parts[:2] == ["ev", "attempted"]
    assert [untoken(part) for part in parts[2:]] == [tenant, job, str(n)]
    assert not {"*", ">"} & set(parts)
    assert event.subject == Attempted.channel.key_of(tenant=tenant, job=job, n=n)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_subject_lies_on_the_pattern_of_its_type(example: Message) -> None:
    pattern, subject = example.channel.pattern.split("."), example.subject.split(".")
    assert len(pattern) == len(subject)
    assert all(want in {"*", have} for want, have in zip(pattern, subject, strict=True))
    assert all(TOKEN.match(part) for part in subject)


def test_what_is_not_known_of_a_key_is_a_wildcard() -> None:
    assert Attempted.channel.key_of(tenant="a.b") == "ev.attempted.a%2Eb.*.*"
    assert Attempted.channel.pattern == "ev.attempted.*.*.*"


def test_public_subjects() -> None:
    public = {kind.__name__: kind.channel.public for kind in known().values()}
    assert public["Decided"] == "job.decided.*.*.*"
    assert public["Breaker"] == "fact.breaker.*.*"
    assert public["Chunk"] == "job.chunk.*.*.*"
    assert public["JobSubmit"] == "job.submit.*"


@pytest.mark.parametrize(
    ("name", "event"),
    [("JobSubmit", "turnout.job_submit"), ("Done", "turnout.done"), ("AttemptsAre", "turnout.attempts_are")],
)
def test_event_names(name: str, event: str) -> None:
    assert event_name(name) == event


def test_every_type_is_known_by_its_name_and_kind() -> None:
    assert {kind.type_name for kind in ALL.values()} == set(ALL)
    by_kind = [set(known(kind)) for kind in Kind]
    assert set().union(*by_kind) == set(ALL)
    assert sum(map(len, by_kind)) == len(ALL)


def test_no_two_types_share_an_address() -> None:
    prefixes = [kind.channel.prefix for kind in ALL.values()]
    assert len(prefixes) == len(set(prefixes))


@pytest.mark.parametrize("kind", ALL.values(), ids=lambda kind: kind.__name__)
def test_a_channel_fits_its_kind(kind: type[Message]) -> None:
    channel = kind.channel
    stored = channel.kind in {Kind.WORK, Kind.FACT, Kind.RECORD}
    assert bool(channel.stream) == stored
    assert set(channel.keys) <= set(kind.__struct_fields__)
    if channel.first_writer or (channel.handed_on and channel.kind is not Kind.SIGNAL):
        assert channel.stream == "EV"
    if channel.compared:
        assert channel.kind is Kind.FACT


def test_a_fact_lies_in_the_bucket() -> None:
    channel = fact("thing", keys=("name",), compared=True)
    assert channel == Channel(
        kind=Kind.FACT, stream="KV_facts", prefix="$KV.facts.thing", keys=("name",), compared=True
    )
    assert channel.public == "fact.thing.*"


def test_a_value_has_no_address() -> None:
    class Part(Value):
        size: int = 0

    assert not hasattr(Part, "channel")
    assert Part.__name__ not in {kind.__name__ for kind in ALL.values()}
