from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import error_words
from actors.executor.backends.complaint import complaint_of
from actors.executor.backends.error_rules import GENERAL, JOB, RULES, SUBJECTS, Rule
from actors.executor.backends.error_words import OF_A_JOB, STATUSES, in_words, kind_of, of_a_job, plainly
from actors.executor.backends.errors import failure, job_failure
from actors.executor.backends.port import ErrorKind
from actors.succession import answered
from messages import Problem
from tests.actors.executor.backends.error_bodies import NOW, Row, rows

KINDS = set(get_args(ErrorKind))
ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.source} {row.status}")
def test_what_real_servers_say(row: Row) -> None:
    """Cases 08, 09, 10, 11, 13 and 14, and bodies of some forty servers and gateways."""
    error = failure(row.status, row.text, row.headers, now=NOW)
    assert error.kind == row.kind
    if row.wait is not None:
        assert error.retry_after_seconds == pytest.approx(row.wait)
    if row.gathered > 1:
        assert (error.input_tokens, error.limit_tokens) == (row.input_tokens, row.limit_tokens)


SURE = [
    row
    for row in ROWS
    if row.kind in ("account", "too_large", "empty", "unknown_model") and not row.text.startswith("<")
]


def by_words(row: Row, status: int) -> str:
    """What a body means with another status, and without one of its own in it."""
    return kind_of(status, msgspec.structs.replace(complaint_of(row.text), status=None))


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_the_body_decides_and_not_the_status(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        error_words, "ABOUT", ()
    )  # What a sentence is about counts only where the status leaves it open.
    told = [row for row in SURE if by_words(row, 418) == row.kind]  # It has no meaning of its own.
    assert len(told) > 0.85 * len(SURE)  # The others say no more than their status, or only what they are about.
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


@pytest.mark.parametrize("rule", SUBJECTS, ids=lambda rule: rule.what)
def test_every_subject_knows_its_examples(rule: Rule) -> None:
    for example in rule.examples:
        assert kind_of(400, complaint_of(example)) == rule.kind, example


def test_every_general_word_knows_its_examples() -> None:
    for rule in GENERAL:
        for example in rule.examples:
            body = f'{{"error": {{"message": "x", "status": "{example}"}}}}'
            assert kind_of(400, complaint_of(body)) == rule.kind, example


def test_a_failed_jobs_exception_says_whose_fault_it_is_and_a_servers_own_does_not() -> None:
    for rule in JOB:
        for example in rule.examples:
            told = complaint_of(f'{{"error_type": "builtins.{example}", "error_message": "it broke"}}')
            assert of_a_job(told, refused=False).kind == rule.kind
            assert kind_of(500, told) == "server_error"


@pytest.mark.parametrize("status", [200, 400, 403, 429, 500])
@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB",
        "torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)",
        "HIP out of memory",
        "MPS backend out of memory (MPS allocated: 17 GB)",
        "std::bad_alloc",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes.",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 12 bytes",
        "ggml_backend_cuda: failed to allocate buffer",
        "Insufficient VRAM for this resolution",
        "显存不足，请稍后重试",
    ],
)
def test_a_request_that_its_card_has_no_room_for_goes_elsewhere_and_tells_nothing_of_others(
    said: str, status: int
) -> None:
    """Whatever protocol and status: answered, so breakers count it by distinct requests."""
    error = failure(status, msgspec.json.encode({"error": {"message": said}}).decode(), {}, now=0.0)
    assert (error.kind, error.retry) == ("server_error", "elsewhere")
    assert answered(error.kind, Problem(reason=error.kind, message="", status=status))
    assert job_failure(said, "there").retry == "elsewhere"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Payment Required: Please add credits to your account to use this node.", "unknown_model"),
        ("Unauthorized: Please login first to use this node.", "unknown_model"),
        ("Rate limit exceeded at the provider, retry in 20s", "server_error"),
        ("the provider is overloaded", "server_error"),
        ("HTTPSConnectionPool: Read timed out.", "server_error"),
        ("Your prompt was flagged by our moderation system", "empty"),
        ("Error while deserializing header: HeaderTooSmall", "unknown_model"),
        ("mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)", "unknown_model"),
        ("Cannot execute because node X does not exist.", "unknown_model"),
    ],
)
def test_what_a_job_says_of_accounts_and_queues_is_about_what_it_uses_and_not_about_its_server(
    said: str, kind: str
) -> None:
    assert job_failure(said, "there").kind == kind


@given(st.text(), st.lists(st.text(), max_size=3), st.booleans())
def test_no_failed_job_closes_an_account_or_counts_as_absence(said: str, words: list[str], refused: bool) -> None:
    error = job_failure(said, "there", words=words, refused=refused)
    assert error.kind in KINDS - OF_A_JOB.keys()
    assert (
        answered(error.kind, Problem(reason=error.kind, message="", status=error.status))
        or error.kind != "server_error"
    )


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
