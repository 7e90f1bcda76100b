"""What models read beside what they are given."""

from __future__ import annotations

import pytest

from actors.framing import ANTHROPIC, DEFAULT, GOOGLE, OPENAI, WORDY, framing_of
from messages import Bound, Framing


@pytest.mark.parametrize(
    ("protocol", "provider", "model", "framing"),
    [
        ("anthropic", "anthropic", "claude-opus-5-5", ANTHROPIC),
        ("gemini", "google", "gemini-3.8-flash", GOOGLE),
        ("openai", "openai", "gpt-6.1-sol", OPENAI),
        ("ollama", "", "gpt-oss:20b", DEFAULT),
        ("openai", "", "gpt-4o", DEFAULT),
        ("vllm", "", "mistralai/Devstral-Small-2507", WORDY),
        ("ollama", "", "command-r-plus:104b", WORDY),
        ("vllm", "", "Qwen/Qwen3-8B", DEFAULT),
    ],
)
def test_by_protocol_seller_and_name(protocol: str, provider: str, model: str, framing: Framing) -> None:
    assert framing_of(protocol, provider, model) == framing


@pytest.mark.parametrize(
    ("model", "documented"),
    [
        ("gpt-4o", 85 + 8 * 170),
        ("gpt-4o-mini-2024-07-18", 2_833 + 8 * 5_667),
        ("gpt-4.1", 85 + 8 * 170),
        ("gpt-4.1-nano", 1_536 * 2.46),
        ("o4-mini", 1_536 * 1.72),
        ("gpt-5", 70 + 8 * 140),
        ("gpt-5-nano", 1_536 * 2.46),
        ("gpt-5.4-mini", 10_000),
        ("gpt-6-luna", 10_000),
    ],
)
def test_an_image_counts_at_least_what_is_documented(model: str, documented: float) -> None:
    most, why = framing_of("openai", "openai", model).most(Bound(images=1), None)
    assert not why
    assert most is not None
    assert most >= documented
