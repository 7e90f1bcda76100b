"""What all protocols share: nothing that is paid for is thrown away, and nothing wrong is told as right."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import open_backend
from actors.executor.backends.anthropic_answer import MessageFold
from actors.executor.backends.completion import Completion
from actors.executor.backends.fold import Fold
from actors.executor.backends.gemini_answer import GenerateFold
from actors.executor.backends.json_reader import INVALID_UTF8, NO_NUMBER
from actors.executor.backends.ollama_form import ChatFold
from actors.executor.backends.port import Answer, BackendError, Call, Chunk
from actors.executor.backends.responses import Response
from actors.executor.backends.sse import Events
from tests.fakes.raw import STREAM, RawServer

CALL = Call(model="m", messages=({"role": "user", "content": "x"},), max_output_tokens=50)
LINES = "application/x-ndjson"


def sse(*events: object, name: str = "") -> list[bytes]:
    head = f"event: {name}\n".encode() if name else b""
    return [
        head + b"data: " + (one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n\n" for one in events
    ]


def delta(text: str | None, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish}]}


def part(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text}]}, **({"finishReason": finish} if finish else {})}]}


OPENAI = [*sse(delta("Hel"), delta("lo"), delta(None, "stop")), b"data: [DONE]\n\n"]
ANTHROPIC = sse(
    {
        "type": "message_start",
        "message": {"model": "m", "content": [], "usage": {"input_tokens": 1200, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}},
    {"type": "message_stop"},
)
GEMINI = sse(part("Hel"), part("lo", "STOP"))
OLLAMA = [
    json.dumps(line).encode() + b"\n"
    for line in (
        {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "lo"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    )
]
STREAMS = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}


async def told(kind: str, pieces: Sequence[bytes], **more: Any) -> tuple[Answer, str]:
    """The answer of an adapter to these pieces, on a real socket, and its chunks joined."""
    async with RawServer(pieces, LINES if kind == "ollama" else STREAM) as server:
        for name, value in more.items():
            setattr(server, name, value)
        backend = open_backend(kind, server.url, api_key=None, now=lambda: 0.0)
        try:
            items = [item async for item in backend.run(CALL)]
        finally:
            await backend.close()
    answer = items[-1]
    assert isinstance(answer, Answer)
    return answer, "".join(item.text for item in items if isinstance(item, Chunk))


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize(
    "junk", [b"data:\n\n", b"data: \n\n", b"event: ping\ndata:\n\n", b"data: ping\n\n", b"data: null\n\n", b"\n"]
)
def test_what_stands_between_the_events_loses_no_text(run, kind: str, junk: bytes) -> None:
    """Case 01, its variants and its neighbours."""
    if kind == "ollama":
        junk = junk.replace(b"data:", b"").replace(b"event: ping", b"").strip() + b"\n"
    mixed = [one for piece in STREAMS[kind] for one in (junk, piece)]

    async def main() -> None:
        answer, shown = await told(kind, mixed)
        assert (answer.text, answer.finish_reason, shown) == ("Hello", "stop", "Hello")

    run(main())


AFTER = [
    b"data: [DONE]\n\n",
    b'data: {"broken\n\n',
    b"data: junk",
    b"\xff\xfe\n\n",
    b'data: {"error": {"message": "late", "code": 500}}\n\n',
    b"data: [DONE]\n\ndata: [DONE]\n\n",
    b'data: {"choices": 5}\n\n',
    b"data: " + b"[" * 9000 + b"\n\n",
]


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("at_once", [True, False])
def test_nothing_that_follows_the_end_spoils_it(run, kind: str, after: bytes, at_once: bool) -> None:
    """Case 02: `[DONE]` in the wrong protocol, in the same piece and in one of its own; and whatever else may follow."""
    pieces = [b"".join([*STREAMS[kind], after])] if at_once else [*STREAMS[kind], after]

    async def main() -> None:
        answer, _ = await told(kind, pieces)
        assert (answer.text, answer.finish_reason) == ("Hello", "stop")

    run(main())


def test_the_mark_of_another_protocol_in_place_of_its_own_end(run) -> None:
    """Case 02: `[DONE]` ends a stream that has told its stop reason, and no other."""

    async def main() -> None:
        answer, _ = await told("anthropic", [*ANTHROPIC[:-1], b"data: [DONE]\n\n"])
        assert (answer.text, answer.usage.input_tokens, answer.usage.output_tokens) == ("Hello", 1200, 12)
        with pytest.raises(BackendError) as caught:
            await told("anthropic", [*ANTHROPIC[:3], b"data: [DONE]\n\n"])
        assert (caught.value.kind, caught.value.partial) == ("cut_stream", "Hel")

    run(main())


@pytest.mark.parametrize("kind", ["openai", "anthropic", "gemini"])
def test_a_server_that_leaves_the_stream_open_after_the_end(run, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.executor.backends.openai_stream.AFTER_SECONDS", 0.05)
    without_mark = [piece for piece in STREAMS[kind] if b"[DONE]" not in piece and b"message_stop" not in piece]

    async def main() -> None:
        answer, _ = await told(kind, without_mark, stays_open=True)
        assert (answer.text, answer.finish_reason) == ("Hello", "stop")

    run(main())


@pytest.mark.parametrize(
    ("kind", "pieces"),
    [
        (
            "openai",
            [
                b'data: {"choices":[{"index":0,"delta":{"content":"fox \xf0\x9f"}}]}\n\n',
                b'data: {"choices":[{"index":0,"delta":{"content":"\xa6\x8a!"},"finish_reason":"stop"}]}\n\n',
            ],
        ),
        (
            "anthropic",
            [
                *ANTHROPIC[:2],
                (
                    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"fox '
                    b'\xf0\x9f"}}\n\n'
                ),
                (
                    b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
                    b'"\xa6\x8a!"}}\n\n'
                ),
                *ANTHROPIC[5:],
            ],
        ),
        (
            "gemini",
            [
                b'data: {"candidates":[{"content":{"parts":[{"text":"fox \xf0\x9f"}]}}]}\n\n',
                b'data: {"candidates":[{"content":{"parts":[{"text":"\xa6\x8a!"}]},"finishReason":"STOP"}]}\n\n',
            ],
        ),
        (
            "ollama",
            [
                b'{"message":{"content":"fox \xf0\x9f"},"done":false}\n',
                b'{"message":{"content":"\xa6\x8a!"},"done":false}\n',
                OLLAMA[-1],
            ],
        ),
    ],
)
def test_bytes_that_are_no_utf_8_are_replaced_and_told(run, kind: str, pieces: list[bytes]) -> None:
    """Case 06."""

    async def main() -> None:
        answer, shown = await told(kind, pieces)
        assert shown == answer.text
        assert (answer.text.replace("\ufffd", ""), "\ufffd" in answer.text) == ("fox !", True)
        assert INVALID_UTF8 in [remark.message for remark in answer.remarks]

    run(main())


def test_lists_of_models_with_a_broken_byte_are_read(run) -> None:
    """Case 06: discovery and health raised it."""

    async def main() -> None:
        async with RawServer() as server:
            server.listed = b'{"data": [{"id": "a", "owned_by": "\xff"}]}'
            backend = open_backend("openai", server.url, api_key=None, now=lambda: 0.0)
            try:
                assert [offer.model for offer in await backend.discover()] == ["a"]
                await backend.health()
            finally:
                await backend.close()

    run(main())


def test_numbers_that_nobody_needs_may_be_none(run) -> None:
    async def main() -> None:
        odd = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"logprobs":{"x":-Infinity,"y":NaN}}]}\n\n'
        answer, _ = await told("openai", [odd, *OPENAI[2:]])
        assert (answer.text, [remark.message for remark in answer.remarks]) == ("Hello", [NO_NUMBER])

    run(main())


@pytest.mark.parametrize("kind", STREAMS)
def test_thoughts_before_json_are_no_part_of_the_answer(run, kind: str) -> None:
    """Case 24, in every protocol and cut in its marks."""
    words = ["<thi", "nk>The user wants JSON.</th", "ink>\n", '{"city":"Ulm"}']
    events: dict[str, list[bytes]] = {
        "openai": [*sse(*[delta(word) for word in words]), *OPENAI[2:]],
        "anthropic": [
            *ANTHROPIC[:2],
            *sse(
                *[
                    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
                    for word in words
                ]
            ),
            *ANTHROPIC[4:],
        ],
        "gemini": sse(*[part(word) for word in words], part("", "STOP")),
        "ollama": [
            *[json.dumps({"message": {"content": word}, "done": False}).encode() + b"\n" for word in words],
            OLLAMA[-1],
        ],
    }

    async def main() -> None:
        answer, shown = await told(kind, events[kind])
        assert (answer.text, answer.reasoning, shown) == ('{"city":"Ulm"}', "The user wants JSON.", '{"city":"Ulm"}')

    run(main())


def test_an_answer_in_two_forms_is_told_once() -> None:
    whole = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}]}
    both = {
        "choices": [
            {"index": 0, "delta": {"content": "Hello!"}, "message": {"content": "Hello!"}, "finish_reason": "stop"}
        ]
    }
    thought = {"choices": [{"index": 0, "delta": {"content": "Hello!", "reasoning": "hm", "reasoning_content": "hm"}}]}
    for events, text, reasoning in (
        ([delta("Hel"), delta("lo"), whole], "Hello!", ""),
        ([delta("Hello!"), whole], "Hello!", ""),
        ([both], "Hello!", ""),
        ([thought, delta(None, "stop")], "Hello!", "hm"),
        ([delta("ha"), delta("ha"), delta(None, "stop")], "haha", ""),
    ):
        answer = folded(Completion("m"), events)
        assert (answer.text, answer.reasoning) == (text, reasoning)


def test_what_must_travel_back_is_kept_as_it_came() -> None:
    extra = {"google": {"thought_signature": "c2ln"}}
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    event = delta("a", "stop")
    event["choices"][0]["delta"] |= {"extra_content": extra, "reasoning_details": details}
    assert folded(Completion("m"), [event]).carried == ({"extra_content": extra}, {"reasoning_details": details})
    signed = {"text": "x", "thoughtSignature": "c2ln"}
    answer = folded(GenerateFold("m"), [{"candidates": [{"content": {"parts": [signed]}, "finishReason": "STOP"}]}])
    assert answer.carried == (signed,)
    item = {"type": "reasoning", "id": "rs_1", "encrypted_content": "x", "summary": []}
    message = {"type": "message", "content": [{"type": "output_text", "text": "x"}]}
    last = {"object": "response", "status": "completed", "output": [item, message]}
    assert folded(Response("m"), [{"type": "response.completed", "response": last}]).carried == (item,)
    blocks = [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "redacted_thinking", "data": "x"}]
    whole = {"type": "message", "content": [*blocks, {"type": "text", "text": "x"}], "stop_reason": "end_turn"}
    assert folded(MessageFold("m"), [whole]).carried == tuple(blocks)


def test_a_refusal_is_told_in_its_words() -> None:
    refused = {"choices": [{"index": 0, "delta": {"refusal": "I can"}}]}
    answer = folded(Completion("m"), [refused, {"choices": [{"delta": {"refusal": "not."}, "finish_reason": "stop"}]}])
    assert (answer.finish_reason, answer.refusal, answer.text) == ("content_filter", "I cannot.", "")


def folded(fold: Fold[str], events: Sequence[object]) -> Answer:
    for event in events:
        fold.take(json.dumps(event).encode())
    return fold.answer()


@given(st.data())
def test_how_a_stream_was_cut_and_what_junk_lies_between_changes_no_answer(data: st.DataObject) -> None:
    kind, fold = data.draw(
        st.sampled_from([("openai", Completion), ("anthropic", MessageFold), ("gemini", GenerateFold)])
    )
    junk = st.sampled_from(
        [
            b"data:\n\n",
            b": hello\n\n",
            b"data: ping\n\n",
            b"data: 5\n\n",
            b"retry: 3\n\n",
            b"data: \xff\n\n",
            b"id: 4\n\n",
            b"what\n\n",
            b"data: [1]\n\n",
            b"event: x\n\n",
            b'data: "text"\n\n',
            b"data: {\n\n",
            b"data: }\n\n",
        ]
    )
    pieces = [one for piece in STREAMS[kind] for one in (*data.draw(st.lists(junk, max_size=2)), piece)]
    stream = b"".join([*pieces, *data.draw(st.lists(junk | st.binary(max_size=9), max_size=2))])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    events = Events()
    made = fold("m")
    shown = ""
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for event in events.feed(stream[a:b]):
            shown += made.take(event.data)
    shown += made.end()
    answer = made.answer()
    assert (answer.text, answer.finish_reason, shown) == ("Hello", "stop", "Hello")


def test_a_part_that_came_broken_before_the_end_is_not_passed_over() -> None:
    for fold, event in (
        (Completion("m"), b'{"choices": [{"delta": {"content": "mis'),
        (ChatFold("m"), b'{"message": {"con'),
    ):
        with pytest.raises(BackendError) as caught:
            fold.take(event)
        assert caught.value.kind == "invalid_structure"
