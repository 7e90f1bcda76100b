from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.gemini_answer import GenerateFold
from actors.executor.backends.port import BackendError, Usage
from actors.executor.backends.usage import added, usage_of
from tests.fakes.gemini import PNG, TEXT, candidate, inline, said, usual

COUNTS = st.none() | st.integers(0, 10**9)
NAMES = st.sampled_from(
    ["candidates", "content", "parts", "text", "thought", "finishReason", "promptFeedback", "blockReason", "usageMetadata",
     "inlineData", "functionCall", "data", "args", "error"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["STOP", "NO_IMAGE", "SAFETY", "aGk=", "?"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
USAGES = st.builds(
    Usage, input_tokens=COUNTS, output_tokens=COUNTS, cached_tokens=COUNTS, reasoning_tokens=COUNTS
)  # fmt: skip


def data_of(piece: bytes) -> bytes:
    return piece.removeprefix(b"data: ")


@given(st.lists(JSON | st.fixed_dictionaries({"candidates": st.lists(JSON, max_size=2)}), max_size=5), st.booleans())
def test_whatever_comes_only_a_backend_error_is_raised(events: list[Any], images: bool) -> None:
    fold = GenerateFold("m", images=images)
    told = ""
    with contextlib.suppress(BackendError):
        for one in events:
            told += fold.take(msgspec.json.encode(one))
        answer = fold.answer()
        assert answer.text == told
        for artifact in fold.artifacts():
            artifact.file.close()


def test_the_last_usage_counts() -> None:
    fold = GenerateFold("m")
    assert "".join(fold.take(data_of(piece)) for piece in usual()) == TEXT
    usage = Usage(input_tokens=11, output_tokens=55, cached_tokens=4, reasoning_tokens=33)
    assert fold.answer().usage == usage


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_output_is_what_was_written_and_thought(
    prompt: int | None, tools: int | None, written: int | None, thought: int | None, cached: int | None
) -> None:
    usage = usage_of(
        {"promptTokenCount": prompt, "toolUsePromptTokenCount": tools, "candidatesTokenCount": written,
         "thoughtsTokenCount": thought, "cachedContentTokenCount": cached}
    )  # fmt: skip
    read = (prompt or 0) + (tools or 0)
    assert usage.input_tokens == ((read + (cached or 0) if (cached or 0) > read else read) if read else None)
    assert usage.output_tokens == (None if written is None and thought is None else (written or 0) + (thought or 0))
    if usage.output_tokens is not None:
        assert usage.reasoning_tokens == thought
    if usage.input_tokens is not None:
        assert usage.cached_tokens == cached


@given(USAGES, USAGES, USAGES)
def test_usages_add_up_in_any_order(one: Usage, two: Usage, three: Usage) -> None:
    assert added(one, two) == added(two, one)
    assert added(added(one, two), three) == added(one, added(two, three))
    assert added(None, one) == one
    assert added(one, None).input_tokens is None, "who does not tell makes the sum unknown"


@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"])
def test_what_the_model_broke_is_for_another_one(finish: str) -> None:
    fold = GenerateFold("m")
    fold.take(data_of(said({"text": "x"}, finish=finish)))
    with pytest.raises(BackendError, match=finish) as caught:
        fold.answer()
    assert (caught.value.kind, caught.value.retry) == ("invalid_structure", "elsewhere")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"candidates": [candidate({"text": "half"})]}, "cut_stream"),
        ({"candidates": []}, "invalid_structure"),
        ({"candidates": 5}, "invalid_structure"),
        ({"candidates": [5]}, "invalid_structure"),
        ({"candidates": [{"content": {"parts": 5}}]}, "invalid_structure"),
        ({"candidates": [candidate({"text": 5})]}, "invalid_structure"),
        ({"strange": 1}, "invalid_structure"),
        ([], "invalid_structure"),
        ({"error": {"code": 500, "message": "boom", "status": "INTERNAL"}}, "server_error"),
    ],
)
def test_broken_answers(body: object, kind: str) -> None:
    fold = GenerateFold("m")

    def folded() -> None:
        fold.take(msgspec.json.encode(body))
        fold.answer()

    with pytest.raises(BackendError) as caught:
        folded()
    assert (caught.value.kind, caught.value.status) == (kind, 200)


def test_pictures_have_their_sizes_and_are_made_once() -> None:
    fold = GenerateFold("m", images=True)
    fold.take(msgspec.json.encode({"candidates": [candidate(inline(PNG), inline(PNG), finish="STOP")]}))
    made = list(fold.artifacts())
    assert [(one.name, one.width, one.height) for one in made] == [("image1.png", 1, 1), ("image2.png", 1, 1)]
    for one in made:
        assert one.file.read() == PNG
        one.file.close()
