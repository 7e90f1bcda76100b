"""The bound holds against real tokenizers, and with the templates that their packages ship."""

from __future__ import annotations

import base64
import importlib
import json
import random
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.analyzer.bound import bound_of, widest
from actors.framing import framing_of
from messages import JobSubmit
from tests.actors.analyzer.tokenizers import FORMS, TOKENIZERS, in_form, qwen

BEGINS = 1
"""SentencePiece marks the beginning of a text with a token of its own; `PART_TOKENS` holds it."""
SCRIPTS = (
    "The quick brown fox jumps over the lazy dog.",
    "ሰላም ለዓለም። ዛሬ ጥሩ ቀን ነው።",
    "გამარჯობა მსოფლიო",
    "สวัสดีชาวโลก",
    "𠀀𠀁𪚥𠜎",
    "今天天气很好，我们去公园散步吧。",
    "今日はいい天気ですね。",
    "Сегодня хорошая погода",
    "الطقس جميل اليوم",
    "오늘 날씨가 좋네요",
    "नमस्ते दुनिया क़ख़ग़",
    "😀👩‍👩‍👧‍👦🏳️‍🌈🧑🏽‍🚀",
    "\ufdfa\u0958\u0344\u1f82",
    "ﬁ ﬀ ① Ⅷ ㍿ ½",
    "\x00\x01\x07\x1b[31m\x7f\u2028\ufeff",
    "e\u0301\u0323a\u0308\u0304",
    "def f(x: int) -> int:\n    return x * 2  # twice\n",
    "<html><body class='a'>&amp;</body></html>",
    "3.14159 2,718,281.828",
    "<|im_start|>system<|im_end|></s><s>[INST]<unk>",
    "        \t\t\n\n\n   ",
    "ZALGƠ̷̢̮͎͈͝",
)
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather. Don't ask twice.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string", "description": "Köln, 東京"}}},
    },
}


def pieces() -> st.SearchStrategy[str]:
    anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    raw = st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode())
    values = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=8), max_size=4).map(json.dumps)
    return st.sampled_from(SCRIPTS) | anything | raw | values


TEXTS = st.lists(pieces(), min_size=1, max_size=4).map("".join)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_text_has_no_more_tokens_than_bytes(name: str, form: Any) -> None:
    count = in_form(TOKENIZERS[name](), form)

    @settings(max_examples=60, deadline=None)
    @given(TEXTS)
    @example("\ufdfa" * 20)
    @example("\u0958①" * 20)
    @example("\U0001d160" * 10)
    def holds(text: str) -> None:
        assert count(text) <= widest(text) + BEGINS

    holds()


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_kind_of_text_on_its_own(name: str) -> None:
    count = TOKENIZERS[name]()
    for text in SCRIPTS:
        assert count(text * 8) <= widest(text * 8) + BEGINS


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_character_of_a_sample_of_all_planes(name: str) -> None:
    rng = random.Random(7)
    count = TOKENIZERS[name]()
    codes = [code for code in rng.sample(range(0x110000), 3_000) if not 0xD800 <= code < 0xE000]
    for code in [*range(0x20, 0x180), *codes]:
        assert count(chr(code)) <= widest(chr(code)) + BEGINS, hex(code)


def most(submit: JobSubmit, model: str) -> int:
    found, why = framing_of("vllm", "", model).most(bound_of(submit), None)
    assert not why
    assert found is not None
    return found


@settings(max_examples=40, deadline=None)
@given(TEXTS, TEXTS, st.booleans())
def test_a_conversation_in_chatml(system: str, prompt: str, tools: bool) -> None:
    submit = JobSubmit(prompt=prompt or "x", system=system, tools=(TOOL,) if tools else ())
    said = [f"<|im_start|>{one['role']}\n{one['content']}<|im_end|>\n" for one in submit.conversation]
    offered = f"# Tools\n\n<tools>\n{json.dumps(TOOL, ensure_ascii=False)}\n</tools>\n\n" if tools else ""
    assert qwen()(offered + "".join(said) + "<|im_start|>assistant\n") <= most(submit, "Qwen/Qwen3-8B")


@cache
def mistral(*, tekken: bool) -> Any:
    module: Any = importlib.import_module("mistral_common.tokens.tokenizers.mistral")
    return module.MistralTokenizer.v3(is_tekken=tekken)


def mistral_count(submit: JobSubmit, *, tekken: bool) -> int:
    """What Mistral's own package makes of a conversation."""
    asking: Any = importlib.import_module("mistral_common.protocol.instruct.request")
    request = asking.ChatCompletionRequest(messages=list(submit.conversation), tools=list(submit.tools) or None)
    return len(mistral(tekken=tekken).encode_chat_completion(request).tokens)


@pytest.mark.parametrize("tekken", [True, False])
@pytest.mark.parametrize("tools", [(), (TOOL,)])
def test_a_conversation_in_mistrals_form(tekken: bool, tools: tuple[dict[str, Any], ...]) -> None:
    for text in SCRIPTS:
        for times in (1, 20):
            submit = JobSubmit(prompt=text * times, system="Answer briefly.", tools=tools)
            assert mistral_count(submit, tekken=tekken) <= most(submit, "mistral-small")
