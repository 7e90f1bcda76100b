"""Whatever bytes a server answers with, an adapter yields items or raises BackendError, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from actors.executor.backends import kinds, port
from actors.executor.backends.connection import Connection
from actors.executor.backends.port import Answer, Artifact, BackendError, Call
from messages.values import Asset
from tests.fakes.raw import RawServer

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
SECONDS = 0.4
"""So long one adapter is asked: those that look again and again at what is not ready would do so for ever."""

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
TOOL = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OUTPUT = [
    {"type": "reasoning", "summary": [{"text": "hm"}]},
    {"type": "message", "content": [{"type": "output_text", "text": "x"}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
BODIES: tuple[Any, ...] = (
    {
        "choices": [
            {
                "index": 0,
                "delta": {"content": "<think>a</think>b", "reasoning": "r", "refusal": "no"},
                "finish_reason": None,
            }
        ]
    },
    {
        "choices": [{"index": 0, "delta": {"tool_calls": [TOOL]}, "finish_reason": "tool_calls"}],
        "usage": USAGE,
        "model": "m",
    },
    {
        "choices": [{"message": {"content": [{"type": "text", "text": "x"}], "function_call": TOOL["function"]}}],
        "usage": USAGE,
    },
    {"error": {"message": "x", "type": "t", "code": 429, "param": None}},
    {"detail": [{"msg": "x"}]},
    {"type": "message_start", "message": {"model": "m", "content": [], "usage": {"input_tokens": 1}}},
    {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "thinking", "thinking": "a", "signature": ""},
    },
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c"}},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
    {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"text": "x", "thoughtSignature": "s"},
                        {"functionCall": {"name": "f", "args": {}}},
                        {"inlineData": {"mimeType": "image/png", "data": PNG}},
                    ]
                },
                "finishReason": "STOP",
                "finishMessage": "x",
            }
        ],
        "usageMetadata": {"promptTokenCount": 1, "thoughtsTokenCount": 2},
        "promptFeedback": {"blockReason": "SAFETY"},
    },
    {"type": "response.output_text.delta", "delta": "x"},
    {
        "type": "response.completed",
        "response": {"object": "response", "status": "completed", "output": OUTPUT, "usage": USAGE},
    },
    {
        "object": "response",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": OUTPUT,
    },
    {
        "message": {"role": "assistant", "content": "x", "thinking": "h", "tool_calls": [TOOL]},
        "done": False,
        "model": "m",
    },
    {"message": {"content": ""}, "done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 2},
    {"data": [{"b64_json": PNG}, {"url": "/x.png"}], "usage": USAGE},
    {"data": [{"embedding": [0.5, 1.0], "index": 0}], "usage": USAGE},
    {"embeddings": [[0.5, 1.0]], "prompt_eval_count": 1, "model": "m"},
    {"type": "image_generation.completed", "b64_json": PNG},
    {
        "data": [{"id": "m", "meta": {"n_ctx": 5}, "status": {"value": "loaded"}, "type": "model"}],
        "has_more": False,
        "last_id": "m",
    },
    {
        "models": [
            {
                "name": "models/m",
                "model": "m",
                "supportedGenerationMethods": ["generateContent"],
                "details": {"parameter_size": "7B"},
                "capabilities": ["completion"],
                "key": "m",
                "type": "llm",
                "loaded_instances": [{"id": "m", "config": {"context_length": 5}}],
            }
        ]
    },
    {
        "id": "j",
        "status": "COMPLETED",
        "output": {"text": "x", "images": [PNG], "usage": {"input": 1}},
        "executionTime": 5,
        "stream": [],
    },
    {
        "id": "j",
        "status": "completed",
        "steps": [{"type": "model_output", "content": [{"type": "video", "data": PNG}]}],
        "usage": {},
    },
    {"jobs": {"inQueue": 0, "inProgress": 1}, "workers": {"idle": 1, "unhealthy": 0}},
    {"version": "1", "models": []},
    {
        "system": {"comfyui_version": "1"},
        "devices": [{"vram_total": 5}],
        "exec_info": {"queue_remaining": 0},
        "prompt_id": "p",
    },
    {
        "queue_running": [[0, "p"]],
        "queue_pending": [],
        "KSampler": {"input": {"required": {"seed": ["INT", {}]}}, "output": ["IMAGE"]},
    },
    {
        "jsonrpc": "2.0",
        "id": 1,
        "result": {
            "tools": [{"name": "wangp_generate"}],
            "content": [{"type": "text", "text": "{}"}],
            "structuredContent": {
                "job_id": "j",
                "done": True,
                "result": {"success": True, "gallery_items": [{"gallery_id": "1"}]},
            },
        },
    },
    {"default_generation_settings": {"n_ctx": 5}, "total_slots": 1, "modalities": {"vision": True}, "model_path": "/m"},
)

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**30),
    st.floats(),
    st.text(max_size=4),
    st.builds(list),
    st.builds(dict),
    st.builds(lambda: [[]]),
    st.builds(lambda: {"type": {}}),
    st.just("\ud83d"),
)


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """A body as servers send it, with up to three of its values replaced."""
    body = json.loads(json.dumps(draw(st.sampled_from(BODIES))))
    for _ in range(draw(st.integers(0, 3))):
        holder, keys = body, draw(st.lists(st.integers(0, 9), min_size=1, max_size=6))
        for step in keys:
            places: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not places:
                break
            place = places[step % len(places)]
            if not isinstance(holder[place], dict | list) or step is keys[-1]:
                holder[place] = draw(ODD)
                break
            holder = holder[place]
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=4)) + data[at + draw(st.integers(0, 3)) :]
    return data


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, str]:
    """A body and its media type."""
    form = draw(st.sampled_from(["stream", "json", "lines", "bytes"]))
    if form == "bytes":
        return draw(st.binary(max_size=200)), draw(
            st.sampled_from(["", "text/event-stream", "application/json", "x/y"])
        )
    parts = draw(
        st.lists(altered() | st.sampled_from([b"[DONE]", b"", b" ", b"ping", b"[" * 5000]), min_size=1, max_size=4)
    )
    if form == "json":
        return parts[0], "application/json"
    if form == "lines":
        return b"\n".join(parts), "application/x-ndjson"
    return b"".join(b"data: " + part + b"\n\n" for part in parts), "text/event-stream"


ASSETS: tuple[tuple[Asset, tuple[str, ...]], ...] = (
    ("text", ()),
    ("image", ()),
    ("video", ()),
    ("embedding", ("x",)),
)
CALLS: tuple[Call, ...] = tuple(
    Call(
        key="k",
        model=model,
        asset=asset,
        messages=({"role": "user", "content": "x"},),
        max_output_tokens=5,
        texts=texts,
    )
    for model in ("m", "gpt-5.5-pro")
    for asset, texts in ASSETS
)


def ask(name: str, server: RawServer, call: Call, what: str) -> Awaitable[None]:
    """Open an adapter and ask it once."""
    kind = kinds.kind(name)
    options: dict[str, Any] = {"openai": {"service": "openai"}} if call.model != "m" else {}
    connection = Connection(url=kind.address(server.url + "/v2/e"), now=lambda: 0.0, options=options.get(name, {}))

    async def run() -> None:
        adapter = kinds.open_kind(kind, connection)
        try:
            async with asyncio.timeout(SECONDS):
                if what == "run":
                    async with contextlib.aclosing(adapter.run(call)) as items:
                        ended = False
                        async for item in items:
                            assert not ended, "an answer comes last"
                            ended = isinstance(item, Answer)
                            if isinstance(item, Artifact):
                                item.file.close()
                        assert ended, "an answer, or an error"
                elif what == "discover":
                    assert isinstance(await adapter.discover(), tuple)
                elif what == "recognise" and kind.recognise is not None:
                    wire = kinds_wire(connection, kind.auth)
                    try:
                        await kind.recognise(wire)
                    finally:
                        await wire.close()
                else:
                    assert isinstance(await adapter.health(), port.Vitals)
        except (BackendError, TimeoutError):
            pass  # A timeout is ours: it still waits.
        finally:
            await adapter.close()

    return run()


def kinds_wire(connection: Connection, auth: str) -> Any:
    from actors.executor.backends.wire import Wire

    return Wire(connection, auth=auth)


def examined(examples: int) -> Callable[[], None]:
    """The property, over so many examples."""
    names = [name for name in kinds.names() if name != "wan2gp_batch"]  # That one is a program of this machine.

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=SLOW)
    @given(
        st.sampled_from(names),
        st.sampled_from(CALLS),
        st.sampled_from(["run", "run", "run", "discover", "health", "recognise"]),
        answers(),
        answers(),
        st.integers(1, 3),
    )
    def holds(
        name: str, call: Call, what: str, posted: tuple[bytes, str], listed: tuple[bytes, str], cuts: int
    ) -> None:
        async def main() -> None:
            size = max(1, len(posted[0]) // cuts)
            pieces = [posted[0][at : at + size] for at in range(0, len(posted[0]), size)]
            async with RawServer(pieces, posted[1]) as server:
                server.listed, server.listed_type = listed
                await ask(name, server, call, what)

        asyncio.run(main())

    return holds


def test_an_adapter_raises_nothing_but_its_own_error() -> None:
    seed(0)(examined(200))()


@pytest.mark.soak
def test_an_adapter_raises_nothing_but_its_own_error_for_long() -> None:
    examined(10_000)()
