"""Whoever it is about, and whatever is wrong with it: each subject with each predicate means the same under any status."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import msgspec
import pytest

from actors.executor.backends.complaint import complaint_of
from actors.executor.backends.error_words import kind_of


class Table(msgspec.Struct, frozen=True):
    """Each subject goes with each predicate."""

    kind: str
    subjects: tuple[str, ...]
    predicates: tuple[str, ...]


class Saying(msgspec.Struct, frozen=True):
    """Sentences that come with a status."""

    kind: str
    status: int
    words: tuple[str, ...]


class Phrases(msgspec.Struct, frozen=True):
    """All of `error_phrases.toml`."""

    table: tuple[Table, ...]
    saying: tuple[Saying, ...]


PHRASES = msgspec.toml.decode(Path(__file__).with_name("error_phrases.toml").read_bytes(), type=Phrases)
SAID = [(saying.kind, saying.status, words) for saying in PHRASES.saying for words in saying.words]


def meant(said: str, status: int, **fields: str) -> str:
    """What a body means that says no more than this."""
    return kind_of(status, complaint_of(msgspec.json.encode({"error": {"message": said, **fields}}).decode()))


@pytest.mark.parametrize("status", [400, 403, 429, 500])
@pytest.mark.parametrize("table", PHRASES.table, ids=lambda table: f"{table.kind}, {table.subjects[0]}")
def test_every_subject_with_every_predicate(table: Table, status: int) -> None:
    for subject, predicate in product(table.subjects, table.predicates):
        gap = "" if not subject[-1].isascii() and not predicate[0].isascii() else " "
        said = f"{subject}{gap}{predicate}"
        assert (said, meant(said, status, type="api_error")) == (said, table.kind)


@pytest.mark.parametrize(("kind", "status", "said"), SAID)
def test_words_that_no_rule_was_made_of(kind: str, status: int, said: str) -> None:
    assert meant(said, status) == kind


@pytest.mark.parametrize(
    "said",
    [
        "Something went wrong on our side",
        "Unexpected error in worker thread",
        "KeyError: 'balance'",
        "failed to read credentials from the vault",
        "the model raised an exception",
        "signature of forward() changed",
        "'payment' object has no attribute 'shape'",
    ],
)
def test_a_server_that_broke_speaks_of_itself(said: str) -> None:
    assert meant(said, 500) == "server_error"


@pytest.mark.parametrize(
    "quoted", ["please pay my invoice", "my account is suspended", "a violent jailbreak", "model x is gone"]
)
@pytest.mark.parametrize("marks", ['"{}"', "`{}`", "'{}'", "“{}”"])
def test_what_is_quoted_may_be_anybodys_text(quoted: str, marks: str) -> None:
    said = f"messages[0].content: expected an array, received {marks.format(quoted)}"
    assert meant(said, 400) == "bad_request"
