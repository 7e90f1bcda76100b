from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.classify import (
    NOTHING_TOLD,
    TELLING_CHARACTERS,
    complexity_of,
    parts_of,
    quality_of,
    task_of,
    telling,
)
from messages import AnalysisRules
from messages.values import Media

RULES = AnalysisRules()


def complexity(tokens: int, **changes: Any) -> str:
    given: dict[str, Any] = {
        "task": "code", "quality": "standard", "asked_tokens": 0, "counted": True, "rules": RULES,
    }  # fmt: skip
    return complexity_of(tokens, **{**given, **changes})


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        (1, "simple"),
        (49, "simple"),
        (50, "medium"),
        (51, "medium"),
        (100, "medium"),
        (101, "complex"),
        (10**9, "complex"),
    ],
)
def test_classes_of_complexity_at_their_bounds(tokens: int, wanted: str) -> None:
    """seeds/004: Simple (<50), Medium (50-100), Complex (>100)."""
    assert complexity(tokens) == wanted
    assert complexity(tokens, task="chat") == wanted


@pytest.mark.parametrize(
    ("tokens", "changes", "wanted"),
    [
        (10, {}, "standard"),
        (1_000, {}, "standard"),
        (1_001, {}, "high"),
        (10, {"asked_tokens": 1_000}, "standard"),
        (10, {"asked_tokens": 1_001}, "high"),
        (10, {"quality": "final"}, "high"),
        (10, {"quality": "draft"}, "standard"),
    ],
)
def test_creative_work_is_standard_or_high(tokens: int, changes: dict[str, Any], wanted: str) -> None:
    """seeds/004: Standard (<1K), High Quality/Long (>1K); requirement A2: exactly 1,000 is standard."""
    assert complexity(tokens, task="creative", **changes) == wanted


def test_what_cannot_be_counted_is_unknown() -> None:
    assert complexity(0, counted=False) == "unknown"
    assert complexity(0, counted=False, task="creative", quality="final") == "unknown"


def test_the_bounds_are_configuration() -> None:
    rules = AnalysisRules(simple_below=10, complex_above=20, long_above=30)
    assert [complexity(tokens, rules=rules) for tokens in (9, 10, 20, 21)] == ["simple", "medium", "medium", "complex"]
    assert [complexity(tokens, rules=rules, task="creative") for tokens in (30, 31)] == ["standard", "high"]


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("hello there", "chat"),
        ("write a python function", "code"),
        ("Fix this BUG.", "code"),
        ("```\nx = 1\n```", "code"),
        ("why this stack\ntrace?", "code"),
        ("a haiku about rain", "creative"),
        ("prove it step by step", "reasoning"),
        ("think, step by step!", "reasoning"),
        ("compare the two offers", "analytical"),
        ("pros and cons of tea", "analytical"),
        ("summarise the trends", "analytical"),
        ("my classmate imported a car", "chat"),
        ("naïve_code", "chat"),
        ("codé", "chat"),
        ("", "chat"),
        ("x " * TELLING_CHARACTERS + "python", "chat"),
    ],
)
def test_the_task_is_inferred(text: str, task: str) -> None:
    assert task_of(telling(text)) == task


@pytest.mark.parametrize(
    ("text", "quality"),
    [
        ("hello", "standard"),
        ("a quick sketch", "draft"),
        ("the final text", "final"),
        ("a final draft", "final"),
        ("Make it client-ready.", "final"),
        ("the finals", "standard"),
    ],
)
def test_the_quality_is_inferred(text: str, quality: str) -> None:
    assert quality_of(telling(text)) == quality


def test_of_nothing_nothing_is_inferred() -> None:
    assert (task_of(NOTHING_TOLD), quality_of(NOTHING_TOLD)) == ("chat", "standard")


@given(st.text(max_size=200), st.text(max_size=200))
def test_more_text_never_makes_the_task_weigh_less(text: str, more: str) -> None:
    def points(words: str) -> float:
        told = telling(f"{words} ")
        return parts_of(
            tokens=0, capabilities=0, task=task_of(told), quality="draft", work=0.0, media=Media()
        )["task"]  # fmt: skip

    assert points(f"{text} {more}") >= points(text)


@given(
    st.integers(0, 10**9), st.integers(0, 50), st.sampled_from(["chat", "code", "creative", "large_context"]),
    st.sampled_from(["draft", "standard", "final"]), st.floats(0, 1e9), st.integers(0, 32),
)  # fmt: skip
def test_the_score_lies_between_0_and_100(
    tokens: int, capabilities: int, task: Any, quality: Any, work: float, loras: int
) -> None:
    media = Media(loras=tuple(str(n) for n in range(loras)))
    parts = parts_of(tokens=tokens, capabilities=capabilities, task=task, quality=quality, work=work, media=media)
    assert 0.0 <= sum(parts.values()) <= 100.0
    assert all(value >= 0 for value in parts.values())
    assert ("media" in parts) == (work > 0)
