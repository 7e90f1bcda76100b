"""Answers as other servers than the usual ones send them, over a real socket: cases 01, 02, 03 and 06, and their neighbours."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from actors.executor.backends import open_backend
from actors.executor.backends.port import Answer, BackendError, Call, Chunk
from tests.fakes.raw import STREAM, RawServer

CALL = Call(model="m", messages=({"role": "user", "content": "x"},), max_output_tokens=50)
JSON, LINES = "application/json", "application/x-ndjson"


class Row(NamedTuple):
    """What a server sends, and what is right."""

    name: str
    kind: str
    body: bytes
    media_type: str = STREAM
    text: str = "Hello"
    finish: str = "stop"
    calls: tuple[tuple[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()


def sse(*events: object, before: str = "data: ", end: str = "\n\n", mark: bool = True) -> bytes:
    told = [one if isinstance(one, bytes) else (before + json.dumps(one) + end).encode() for one in events]
    return b"".join(told) + ((before + "[DONE]" + end).encode() if mark else b"")


def lines(*events: object) -> bytes:
    return b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in events)


def delta(content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    said = more if content is None else {"content": content, **more}
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def calling(*fragments: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return delta(finish=finish, tool_calls=list(fragments))


def tool(name: str | None = None, arguments: object = None, **more: Any) -> dict[str, Any]:
    said = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**more, "function": said}


def message(*events: object, stop: str = "end_turn", last: bool = True) -> list[Any]:
    started = {"model": "m", "content": [], "usage": {"input_tokens": 12, "output_tokens": 1}}
    ended = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 7}}
    stopped = [{"type": "message_stop"}] if last else []
    return [{"type": "message_start", "message": started}, *events, ended, *stopped]


def begun(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def added(index: int, **said: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": said}


def part(*parts: Any, finish: str | None = None, **more: Any) -> dict[str, Any]:
    ended = {"finishReason": finish} if finish else {}
    return {"candidates": [{"content": {"parts": list(parts)}, "index": 0, **ended}], **more}


def line(content: str, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **more}, "done": False}


STOP = delta(finish="stop")
WHOLE = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}
HELLO = (begun(0, type="text", text=""), added(0, type="text_delta", text="Hello"))
DONE = {"message": {"content": ""}, "done": True, "done_reason": "stop"}
ULM, CET = '{"city":"Ulm"}', '{"tz":"CET"}'
WEATHER, CLOCK = ("weather", {"city": "Ulm"}), ("clock", {"tz": "CET"})
CALLED = delta(finish="tool_calls")
AZURE = {
    "choices": [],
    "id": "",
    "model": "",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
}

EMPTY_EVENTS = [  # Case 01
    Row(
        "comments, and CRLF",
        "openai",
        sse(delta("Hel"), b": OPENROUTER PROCESSING\n\n", delta("lo"), STOP).replace(b"\n", b"\r\n"),
    ),
    Row("Azure's first chunk", "openai", sse(AZURE, delta("", role="assistant"), delta("Hello"), STOP)),
    Row("no blank lines", "openai", sse(delta("Hel"), delta("lo"), STOP, end="\n")),
    Row("data: data:", "openai", sse(delta("Hel"), delta("lo"), STOP, before="data: data: ")),
    Row("space before data:", "openai", sse(delta("Hel"), delta("lo"), STOP, before=" data: ")),
    Row("a field without a colon", "openai", sse(delta("Hel"), b"data\n\n", delta("lo"), STOP)),
    Row("events encoded twice", "openai", sse(json.dumps(delta("Hello", "stop")))),
    Row("blank lines before a whole answer", "openai", b"\n\n\n\n" + json.dumps(WHOLE).encode(), JSON),
    Row(
        "comments before a whole answer",
        "openai",
        b": PROCESSING\n\n: PROCESSING\n\n" + json.dumps(WHOLE).encode(),
        JSON,
    ),
    Row("NUL bytes", "openai", sse(delta("Hel"), b"\0\0\n\n", delta("lo"), STOP)),
    Row("no data: at all", "openai", lines(delta("Hel"), delta("lo"), STOP), LINES),
    Row(
        "anthropic",
        "anthropic",
        sse(*message(HELLO[0], b"event: ping\ndata:\n\n", b"data: \t \n\n", HELLO[1]), mark=False),
    ),
    Row(
        "gemini, CR",
        "gemini",
        sse(part({"text": "Hel"}), b"data:  \n\n", part({"text": "lo"}, finish="STOP")).replace(b"\n", b"\r"),
    ),
]
ENDS = [  # Case 02
    Row("a finish reason of null as a text", "openai", sse(delta("Hel", "null"), delta("lo", ""), delta("", "stop"))),
    Row("a finish reason in every piece", "openai", sse(delta("Hel", "stop"), delta("lo", "stop"))),
    Row("another server's word for the end", "openai", sse(delta("Hello"), delta("", "eos_token"))),
    Row("another server's word for the cap", "openai", sse(delta("Hello"), delta("", "model_length")), finish="length"),
    Row(
        "another server's word for a filter",
        "openai",
        sse(delta("Hello"), delta("", "SAFETY")),
        finish="content_filter",
    ),
    Row("pieces without chat", "openai", sse({"choices": [{"index": 0, "text": "Hello", "finish_reason": "stop"}]})),
    Row("[done] in small letters", "anthropic", sse(*message(*HELLO, last=False), b"data: [done]\n\n", mark=False)),
    Row("a second message", "anthropic", sse(*message(*HELLO), *message(*HELLO), mark=False)),
    Row("an error after the end", "anthropic", sse(*message(*HELLO), b'event: error\ndata: {"type":"error"}\n\n')),
    Row("a piece of usage after the end", "gemini", sse(part({"text": "Hello"}, finish="STOP"), {"usageMetadata": {}})),
    Row(
        "STOP in every piece", "gemini", sse(part({"text": "Hel"}, finish="STOP"), part({"text": "lo"}, finish="STOP"))
    ),
    Row("[DONE] after lines", "ollama", lines(line("Hello"), DONE, b"data: [DONE]\n"), LINES),
    Row("lines as events", "ollama", sse(line("Hel"), line("lo"), b": ping\n\n", DONE)),
]
BOTH = (WEATHER, CLOCK)
TOOLS = [  # Case 03
    Row(
        "two at an index",
        "anthropic",
        sse(
            *message(
                begun(0, type="tool_use", id="t1", name="weather", input={}),
                added(0, type="input_json_delta", partial_json=ULM),
                begun(0, type="tool_use", id="t2", name="clock", input={}),
                added(0, type="input_json_delta", partial_json=CET),
                stop="tool_use",
            )
        ),
        text="",
        finish="tool_calls",
        calls=BOTH,
    ),
    Row(
        "an end by itself",
        "anthropic",
        sse(*message(begun(0, type="tool_use", id="t1", name="weather", input={"city": "Ulm"}))),
        text="",
        finish="tool_calls",
        calls=(WEATHER,),
    ),
    Row(
        "a tool of the server's own",
        "anthropic",
        sse(
            *message(
                begun(0, type="server_tool_use", id="s", name="web_search", input={}),
                *({**one, "index": 1} for one in HELLO),
            )
        ),
    ),
    Row(
        "an end by itself",
        "openai",
        sse(calling(tool("weather", ULM, id="a1"), tool("clock", CET, id="a2"), finish="stop")),
        text="",
        finish="tool_calls",
        calls=BOTH,
    ),
    Row("no call after all", "openai", sse(delta("Hello"), CALLED), remarks=("tools",)),
    Row("a call of nothing", "openai", sse(delta("Hello"), calling(tool("", "", index=0, id="")), STOP)),
    Row(
        "an object in place of a list",
        "openai",
        sse(delta(tool_calls=tool("weather", ULM, id="a1")), CALLED),
        text="",
        finish="tool_calls",
        calls=(WEATHER,),
    ),
    Row(
        "the older form in pieces",
        "openai",
        sse(
            delta(function_call={"name": "weather", "arguments": ""}),
            delta(function_call={"arguments": '{"city"'}),
            delta(function_call={"arguments": ':"Ulm"}'}),
            delta(finish="function_call"),
        ),
        text="",
        finish="tool_calls",
        calls=(WEATHER,),
    ),
    Row(
        "the protocol's own spelling",
        "gemini",
        sse(
            {
                "candidates": [
                    {
                        "finish_reason": "STOP",
                        "content": {"parts": [{"function_call": {"name": "weather", "args": {"city": "Ulm"}}}]},
                    }
                ]
            }
        ),
        text="",
        finish="tool_calls",
        calls=(WEATHER,),
    ),
    Row(
        "a call with an id told twice",
        "gemini",
        sse(*[part({"functionCall": {"id": "x", "name": "weather", "args": {"city": "Ulm"}}}, finish="STOP")] * 2),
        text="",
        finish="tool_calls",
        calls=(WEATHER,),
    ),
    Row(
        "a picture that nobody asked for",
        "gemini",
        sse(part({"text": "Hello"}, {"inlineData": {"mimeType": "image/png", "data": "aGk="}}, finish="STOP")),
        remarks=("count",),
    ),
    Row(
        "arguments as text",
        "ollama",
        lines(line("", tool_calls=[tool("weather", ULM), tool("clock", {"tz": "CET"})]), DONE),
        LINES,
        text="",
        finish="tool_calls",
        calls=BOTH,
    ),
]
BYTES = [  # Case 06
    Row("UTF-16", "gemini", json.dumps([part({"text": "Hello"}, finish="STOP")]).encode("utf-16"), JSON),
    Row("a comment", "openai", sse(b": \xff\xfe\n\n", delta("Hello"), STOP)),
    Row(
        "an argument",
        "openai",
        sse(calling(tool("weather", '{"city":"@"}', id="a1"), finish="tool_calls")).replace(b"@", b"\xff"),
        text="",
        finish="tool_calls",
        calls=(("weather", {"city": "\ufffd"}),),
        remarks=("encoding",),
    ),
    Row(
        "halves of a letter",
        "openai",
        sse(delta("fox \ud83e"), delta("\udd8a", "stop")),
        text="fox \ufffd\ufffd",
        remarks=("encoding",),
    ),
]


@pytest.mark.parametrize("row", [*EMPTY_EVENTS, *ENDS, *TOOLS, *BYTES], ids=lambda row: f"{row.kind}: {row.name}")
def test_answers(run, row: Row) -> None:
    async def main() -> None:
        answer, shown = await told(row.kind, row.body, row.media_type)
        calls = tuple((one["function"]["name"], json.loads(one["function"]["arguments"])) for one in answer.tool_calls)
        assert (answer.text, shown, answer.finish_reason, calls) == (row.text, row.text, row.finish, row.calls)
        assert tuple(remark.name for remark in answer.remarks if remark.name != "stream") == row.remarks

    run(main())


async def told(kind: str, body: bytes, media_type: str) -> tuple[Answer, str]:
    async with RawServer([body], media_type) as server:
        backend = open_backend(kind, server.url, api_key=None, now=lambda: 0.0)
        try:
            items = [item async for item in backend.run(CALL)]
        finally:
            await backend.close()
    answer = items[-1]
    assert isinstance(answer, Answer)
    return answer, "".join(item.text for item in items if isinstance(item, Chunk))


@pytest.mark.parametrize(
    ("kind", "body", "failed", "partial"),
    [
        ("openai", sse(delta("Hel", "null"), delta("lo", "null"), mark=False), "cut_stream", "Hello"),
        ("openai", sse(delta("Hel"), delta("", "MALFORMED_FUNCTION_CALL")), "invalid_structure", "Hel"),
        ("openai", sse(delta("Hel"), delta("", "cancelled")), "cut_stream", "Hel"),
        (
            "openai",
            sse(
                delta("Hel"),
                {
                    "choices": [
                        {
                            "index": 0,
                            "delta": {"content": ""},
                            "finish_reason": "error",
                            "error": {"code": 429, "message": "Provider rate limited"},
                        }
                    ]
                },
            ),
            "rate_limited",
            "Hel",
        ),
        (
            "ollama",
            lines(line("Hel"), {"error": "an error was encountered while running the model"}),
            "server_error",
            "Hel",
        ),
    ],
)
def test_what_was_given_up_is_no_answer(run, kind: str, body: bytes, failed: str, partial: str) -> None:
    """Case 02: an end is one only where it says so."""

    async def main() -> None:
        with pytest.raises(BackendError) as caught:
            await told(kind, body, LINES if kind == "ollama" else STREAM)
        assert (caught.value.kind, caught.value.partial) == (failed, partial)

    run(main())
