from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.complaint import complaint_of
from actors.executor.backends.error_words import GENERAL, RULES, STATUSES, Rule, in_words, kind_of, plainly
from actors.executor.backends.errors import failure
from actors.executor.backends.port import ErrorKind
from tests.actors.executor.backends.error_bodies import Row, rows

KINDS = set(get_args(ErrorKind))
ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.source} {row.status}")
def test_what_real_servers_say(row: Row) -> None:
    """Cases 08, 09, 10, 11, 13 and 14, and bodies of some forty servers and gateways."""
    assert failure(row.status, row.text, {}, now=0.0).kind == row.kind


SURE = [
    row
    for row in ROWS
    if row.kind in ("account", "too_large", "empty", "unknown_model") and not row.text.startswith("<")
]


def by_words(row: Row, status: int) -> str:
    """What a body means with another status, and without one of its own in it."""
    return kind_of(status, msgspec.structs.replace(complaint_of(row.text), status=None))


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_the_body_decides_and_not_the_status(status: int) -> None:
    told = [row for row in SURE if by_words(row, 418) == row.kind]  # It has no meaning of its own.
    assert len(told) > 0.9 * len(SURE)
    assert [row.source for row in told if by_words(row, status) != row.kind] == []


@given(st.integers(100, 599), st.text())
def test_every_answer_means_something(status: int, text: str) -> None:
    assert kind_of(status, complaint_of(text)) in KINDS
    assert kind_of(status, complaint_of(f"!{text}")) == kind_of(status, complaint_of(f"!{text}"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.what)
def test_every_rule_knows_its_examples(rule: Rule) -> None:
    for example in rule.examples:
        coded = " " not in example and rule.kind != "bad_request"
        body = f'{{"error": {{"message": "x", "code": "{example}"}}}}' if coded else example
        assert kind_of(400, complaint_of(body)) == rule.kind, example


def test_every_general_word_knows_its_examples() -> None:
    for rule in GENERAL:
        for example in rule.examples:
            body = f'{{"error": {{"message": "x", "status": "{example}"}}}}'
            assert kind_of(400, complaint_of(body)) == rule.kind, example


def test_where_nothing_is_said_the_status_decides() -> None:
    for status, kind in STATUSES.items():
        assert kind_of(status, complaint_of("")) == kind
    assert (kind_of(418, complaint_of("")), kind_of(599, complaint_of(""))) == ("bad_request", "server_error")
    assert kind_of(307, complaint_of("")) == "invalid_structure"


@pytest.mark.parametrize(
    "code", ["InsufficientBalance", "insufficient_balance", "INSUFFICIENT-BALANCE", "insufficient.balance"]
)
def test_codes_are_the_same_however_they_are_written(code: str) -> None:
    assert in_words(code) == "insufficient balance"


def test_names_and_addresses_say_nothing() -> None:
    said = plainly(
        "The model `sensitive-7b` is busy; upgrade at https://x.example/settings/billing, or ask 'moderation-2'."
    )
    assert "billing" not in said
    assert "sensitive" not in said
    assert "moderation" not in said
    assert kind_of(503, complaint_of("The model `billing-suspended` is currently loading")) == "overloaded"
