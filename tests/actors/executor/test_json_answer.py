"""The JSON in an answer, whatever stands around it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import port
from actors.executor.json_answer import MISPLACED, placed, unfenced

ULM = '{"city":"Ulm"}'


def json_values() -> st.SearchStrategy[Any]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))


@given(json_values(), st.sampled_from(["```json\n{}\n```", "```\n{}```", "\n```JSON \n{}\n```\n\n"]))
def test_fences_around_json_are_seen_through(value: Any, fence: str) -> None:
    text = msgspec.json.encode(value).decode()
    assert msgspec.json.decode(unfenced(fence.replace("{}", text))) == value
    assert unfenced(text) == text


@pytest.mark.parametrize(
    "said",
    [
        f"<think>hm</think>\n{ULM}",
        f'<think id="1">hm</think>{ULM}',
        f"<reasoning>hm</reasoning>\n<answer>{ULM}</answer>",
        f"<think>hm</think>\n<response>\n```json\n{ULM}\n```\n</response>\n",
        f"<thinking>a</thinking>\n<reflection>b</reflection>\n<json>{ULM}</json>",
        f"<scratchpad>hm</scratchpad>\n\n{ULM}",
        f'{{"draft": 1}} no.\n</think>\n{ULM}',
        f"[Thinking] hm\n</THINK>\n\n{ULM}",
        f"a <think>b</think> c</think>{ULM}",
        f"<think>hm</think><|begin_of_box|>{ULM}<|end_of_box|>",
        f"hm<|END_THINKING|><|START_RESPONSE|>{ULM}<|END_RESPONSE|>",
        f"{ULM}<|im_end|>",
        f"```json\n{ULM}\n```</s>",
        f"~~~\n{ULM}\n~~~",
        f"```json{ULM}```",
        f"\ufeff{ULM}",
        f"<s> {ULM} </s>\n",
        f"analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>{ULM}",
        f"analysisThe user wants JSON.assistantfinal{ULM}",
    ],
)
def test_what_stands_around_it_is_taken_off(said: str) -> None:
    """Case 24."""
    assert unfenced(said) == ULM


@pytest.mark.parametrize(
    "said",
    [
        "Sure!",
        f"Here it is: {ULM}",
        f"{ULM} there",
        f"Here:\n```json\n{ULM}\n```",
        "",
        "<think>hm</think>",
        "<answer>",
        "```",
    ],
)
def test_words_beside_it_are_no_json(said: str) -> None:
    try:
        msgspec.json.decode(unfenced(said))
    except msgspec.DecodeError:
        return
    pytest.fail("it was taken for JSON")


@pytest.mark.parametrize(
    "said", ['{"a": "<think>x</think>"}', '["```", "</think>"]', '"<answer>x</answer>"', " [1]\n", "5"]
)
def test_what_is_json_stays_as_it_is(said: str) -> None:
    assert unfenced(said) == said


PARTS = st.sampled_from(
    ["<think>", "</think>", "<a>", "</a>", "```", "~~~", "<|x|>", "json", "{}", "[1]", "\n", " ", "a", "<"]
)


@given(st.lists(PARTS, max_size=8).map("".join))
def test_any_text_can_be_looked_at(said: str) -> None:
    """What was found is a part of it, and all that can be found."""
    found = unfenced(said)
    assert found in said
    assert unfenced(found) == found


def answer(text: str = "", reasoning: str = "", **more: Any) -> port.Answer:
    usage = port.Usage(thought_bytes=len(reasoning))
    return port.Answer(text=text, finish_reason="stop", model="m", usage=usage, reasoning=reasoning, **more)


def test_json_that_a_server_took_for_thoughts_is_the_answer() -> None:
    """Case 24: what servers do to models that don't think when they are asked for JSON."""
    found = placed(answer(reasoning=f"```json\n{ULM}\n```"))
    assert (found.text, found.reasoning, found.usage) == (ULM, "", port.Usage())
    assert found.remarks == (port.Remark("thoughts", MISPLACED),)
    for other in (
        answer("{}", ULM), answer(reasoning="hm"), answer(reasoning="5"), answer(refusal="no", reasoning=ULM),
        answer(reasoning=ULM, tool_calls=({"id": "a"},)), answer(),
    ):  # fmt: skip
        assert placed(other) is other
