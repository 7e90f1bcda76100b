from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.classify import (
    IMAGE_TOKENS,
    complexity_of,
    estimate_tokens,
    lenient_id,
    needs_of,
    quality_of,
    task_of,
)
from messages import JobSubmit


@pytest.mark.parametrize(
    ("tokens", "complexity"),
    [
        (0, "simple"),
        (49, "simple"),
        (50, "medium"),
        (51, "medium"),
        (100, "medium"),
        (101, "complex"),
        (9e9, "complex"),
    ],
)
def test_classes_of_complexity_at_their_bounds(tokens: int, complexity: str) -> None:
    assert complexity_of(tokens) == complexity


@given(st.text(), st.text())
def test_more_text_never_lowers_an_estimate(text: str, more: str) -> None:
    assert estimate_tokens(text + more) >= estimate_tokens(text)
    assert estimate_tokens(more + text) >= estimate_tokens(text)


@given(st.text(min_size=1), st.text(), st.sampled_from(["standard", "final", "draft"]))
def test_more_text_never_needs_less(text: str, more: str, quality: Any) -> None:
    small, large = (
        needs_of(JobSubmit(prompt=prompt, task="chat", quality=quality)) for prompt in (text, f"{text}{more}")
    )
    assert large.input_tokens >= small.input_tokens
    assert large.complexity_score >= small.complexity_score
    assert 0.0 <= large.complexity_score <= 100.0


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("hello there", "chat"),
        ("write a python function", "code"),
        ("```\nx = 1\n```", "code"),
        ("a haiku about rain", "creative"),
        ("prove it step by step", "reasoning"),
        ("compare the two offers", "analytical"),
        ("summarise the trends", "analytical"),
        ("my classmate imported a car", "chat"),
    ],
)
def test_the_task_is_inferred(text: str, task: str) -> None:
    assert task_of(text) == task


@pytest.mark.parametrize(
    ("text", "quality"),
    [("hello", "standard"), ("a quick sketch", "draft"), ("the final text", "final"), ("a final draft", "final")],
)
def test_the_quality_is_inferred(text: str, quality: str) -> None:
    assert quality_of(text) == quality


def test_what_is_given_outweighs_what_could_be_inferred() -> None:
    needs = needs_of(JobSubmit(prompt="a quick haiku", task="code", quality="final", max_output_tokens=7))
    assert (needs.task, needs.quality, needs.max_output_tokens) == ("code", "final", 7)
    assert any("task code (given), quality final (given)" in line for line in needs.why)


@pytest.mark.parametrize(("quality", "cap"), [("draft", 512), ("standard", 1024), ("final", 2048)])
def test_the_output_cap_follows_the_quality(quality: Any, cap: int) -> None:
    assert needs_of(JobSubmit(prompt="hi", quality=quality)).max_output_tokens == cap


def test_capabilities_follow_from_the_request() -> None:
    picture = {"role": "user", "content": [{"type": "text", "text": "what is it?"}, {"type": "image_url"}]}
    needs = needs_of(
        JobSubmit(
            messages=(picture,), tools=({"type": "function"},), capabilities=("code",),
            response_format={"type": "json_object"},
        )
    )  # fmt: skip
    assert needs.capabilities == ("code", "json", "tools", "vision")
    assert needs.json_output
    assert needs.input_tokens > estimate_tokens("what is it?") + IMAGE_TOKENS  # Tools and schema are paid as well.


def test_plain_text_needs_no_json() -> None:
    needs = needs_of(JobSubmit(prompt="hi", response_format={"type": "text"}))
    assert not needs.json_output
    assert needs.capabilities == ()


def test_what_the_job_asks_for_travels() -> None:
    asked: dict[str, Any] = {
        "model": "m", "role": "writer", "product": "card", "user": "ada", "workflow": "w", "step": "s", "batch": "b",
        "strategy": "cost_first", "preferred_backend": "gpu-1", "allow_cloud": False, "prioritize_speed": True,
        "max_cost_microdollars": 5,
    }  # fmt: skip
    needs = msgspec.to_builtins(needs_of(JobSubmit(prompt="hi", **asked)))
    assert {name: needs[name] for name in asked} == asked


def test_a_conversation_has_the_system_text_in_front() -> None:
    submit = JobSubmit(prompt="hi", system="be brief")
    assert [message["role"] for message in submit.conversation] == ["system", "user"]
    before = ({"role": "user", "content": "hi"},)
    assert JobSubmit(messages=before).conversation == before


@given(st.text(min_size=1, max_size=300))
def test_needs_are_a_function_of_the_submission(text: str) -> None:
    assert needs_of(JobSubmit(prompt=text)) == needs_of(JobSubmit(prompt=text))


@pytest.mark.parametrize(
    ("body", "found"),
    [(b'{"id":"j-1","promt":1}', "j-1"), (b'{"id":5}', ""), (b"[]", ""), (b"{", ""), (b"\xff", ""), (b"{}", "")],
)
def test_the_id_of_a_body_that_is_no_job(body: bytes, found: str) -> None:
    assert lenient_id(body) == found
