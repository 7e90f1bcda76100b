"""The estimate of tokens against counted texts, and what a request gives to read."""

from __future__ import annotations

import base64
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.tokens import LOW_DETAIL_TOKENS, MESSAGE_TOKENS, estimate_tokens, read
from messages import AnalysisRules, JobSubmit

COUNTED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("counted.json").read_text("utf-8"))["texts"]
RULES = AnalysisRules()


def errors(estimate: Any, counts: Any) -> list[float]:
    return [estimate(row["text"]) / counts(row) - 1 for row in COUNTED]


def middle(row: dict[str, Any]) -> float:
    return statistics.geometric_mean(row["counts"].values())


def mean(values: list[float]) -> float:
    return statistics.fmean(abs(value) for value in values)


def test_the_error_is_as_the_docstring_states() -> None:
    found = errors(estimate_tokens, middle)
    assert len(found) == 32
    assert round(mean(found), 2) == 0.11
    assert round(max(found, key=abs), 2) == 0.43
    plain = errors(lambda text: len(text) / 4, middle)
    assert (round(mean(plain), 2), round(max(plain, key=abs), 2)) == (0.32, -0.77)


@pytest.mark.parametrize("tokenizer", ["o200k", "cl100k", "qwen", "deepseek", "tekken"])
def test_the_error_against_one_tokenizer(tokenizer: str) -> None:
    found = errors(estimate_tokens, lambda row: row["counts"][tokenizer])
    assert 0.15 <= mean(found) <= 0.20
    assert max(map(abs, found)) <= 0.975


def test_nothing_has_no_tokens() -> None:
    assert estimate_tokens("") == 0
    assert estimate_tokens(" ") == 1


@given(st.text(), st.text())
def test_more_text_never_lowers_the_estimate(text: str, more: str) -> None:
    assert estimate_tokens(text + more) >= estimate_tokens(text)
    assert estimate_tokens(more + text) >= estimate_tokens(text)


@given(st.lists(st.sampled_from(["a", "A", "Ab", "0", ".", " ", "\n", "é", "ж", "漢", "க", "😀", "\ud800"])), st.data())
def test_more_of_any_script_never_lowers_the_estimate(pieces: list[str], data: Any) -> None:
    """Pieces in the middle, too, as long as they stand apart from their neighbours."""
    text, at = "".join(pieces), data.draw(st.integers(0, len(pieces)))
    longer = "".join([*pieces[:at], "\n漢\n", *pieces[at:]])
    assert estimate_tokens(longer) >= estimate_tokens(text)


@given(st.text(min_size=1), st.floats(1.0, 8.0))
def test_characters_per_token_scales(text: str, characters: float) -> None:
    scaled = estimate_tokens(text, AnalysisRules(characters_per_token=characters))
    assert abs(scaled - estimate_tokens(text) * 4.0 / characters) <= 1 + 4.0 / characters


def part(**image: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": image}


def png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR"
    raw = head + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x06"
    return "data:image/png;base64," + base64.b64encode(raw + b"\0" * 20).decode()


def tokens_of(*parts: Any) -> int:
    return read(JobSubmit(messages=({"role": "user", "content": list(parts)},)), RULES).content_tokens


@pytest.mark.parametrize(
    ("one", "tokens"),
    [
        (part(url="https://example.com/a.png"), 800),
        (part(url="data:image/png;base64,????"), 800),
        (part(url="data:image/png;base64,iVBORw0KGgo="), 800),
        (part(url=7), 800),
        (part(url="https://example.com/a.png", detail="low"), LOW_DETAIL_TOKENS),
        (part(url=png(750, 100)), 100),
        (part(url=png(1, 1)), 1),
        (part(url=png(9000, 9000)), 1600),
        ({"type": "image_url", "image_url": png(75, 100)}, 10),
        ({"type": "input_audio", "input_audio": {}}, 800),
    ],
)
def test_tokens_of_one_part(one: dict[str, Any], tokens: int) -> None:
    assert tokens_of(one) == tokens


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 500))
def test_a_larger_image_never_has_fewer(width: int, height: int, more: int) -> None:
    small = tokens_of(part(url=png(width, height)))
    assert tokens_of(part(url=png(width + more, height))) >= small
    assert tokens_of(part(url=png(width, height)), part(url=png(width, height))) >= small


def test_all_that_is_read_counts() -> None:
    submit = JobSubmit(
        messages=(
            {"role": "user", "content": ["loose", {"type": "text", "text": "hello"}, {"type": "image_url"}]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "x" * 400}}]},
        ),
        system="be brief",
        style="like Klee",
        tools=({"type": "function"},),
        response_format={"type": "json_object"},
    )
    reading = read(submit, RULES)
    assert reading.text == "be brief\nloose\nhello"
    assert (reading.images, reading.sounds, reading.messages) == (1, 0, 3)
    assert reading.tokens == reading.content_tokens + 3 * MESSAGE_TOKENS
    without = read(JobSubmit(messages=submit.messages[:1], system="be brief"), RULES)
    assert reading.content_tokens > without.content_tokens + 60
    assert math.isclose(without.content_tokens, 800 + estimate_tokens(reading.text))
