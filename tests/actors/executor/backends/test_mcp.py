from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiohttp import web

from actors.executor.backends.connection import Connection
from actors.executor.backends.mcp import Mcp, ToolError
from actors.executor.backends.port import BackendError
from actors.executor.backends.wire import Wire

KEY = "key-that-must-not-show"


@contextlib.asynccontextmanager
async def answering(answer: Any, status: int = 200, kind: str = "application/json") -> AsyncGenerator[Mcp, None]:
    """An MCP server that gives this answer: bytes, or the `result` or `error` of a request."""

    async def mcp(request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked.keys() == {"jsonrpc", "id", "method", "params"}
        body = (
            answer
            if isinstance(answer, bytes)
            else json.dumps({"jsonrpc": "2.0", "id": asked["id"], **answer}).encode()
        )
        return web.Response(body=body, status=status, content_type=kind)

    app = web.Application()
    app.router.add_post("/mcp", mcp)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    wire = Wire(Connection(url=f"http://127.0.0.1:{site.port}", api_key=KEY, now=lambda: 0.0))
    try:
        yield Mcp(wire)
    finally:
        await wire.close()
        await runner.cleanup()


def texts(*found: str) -> dict[str, Any]:
    return {"result": {"content": [{"type": "text", "text": text} for text in found]}}


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (texts('{"job_id": "1"}'), {"job_id": "1"}),
        (texts('{"a": 1}', '{"a": 2}'), {"result": [{"a": 1}, {"a": 2}]}),
        (texts("[1, 2]"), {"result": [1, 2]}),
        ({"result": {"structuredContent": {"a": 1}, "content": []}}, {"a": 1}),
        ({"result": {"structuredContent": {"result": {"a": 1}}}}, {"a": 1}),
        ({"result": {"structuredContent": {"result": [1]}}}, {"result": [1]}),
    ],
)
def test_what_a_tool_gives_in_every_form(run, answer: dict[str, Any], given: dict[str, Any]) -> None:
    async def main() -> None:
        async with answering(answer) as mcp:
            assert await mcp.call("tool", {}) == given
        body = json.dumps({"jsonrpc": "2.0", "id": 1, **answer})
        events = f'event: message\ndata: {{"jsonrpc": "2.0", "method": "ping"}}\n\ndata: {body}\n\n'.encode()
        async with answering(events, kind="text/event-stream") as mcp:
            assert await mcp.call("tool", {}) == given

    run(main())


@pytest.mark.parametrize(
    ("answer", "status", "kind"),
    [
        ({"error": {"code": -32601, "message": f"no method for {KEY}"}}, 200, "unknown_model"),
        ({"error": {"code": -32602, "message": "Unknown tool"}}, 200, "unknown_model"),
        ({"error": {"code": -32600, "message": "Unsupported protocol version"}}, 400, "unknown_model"),
        (b"Invalid Host header", 421, "unknown_model"),
        (b"no", 401, "account"),
        (b"busy", 503, "overloaded"),
        (b"{", 200, "invalid_structure"),
        (b"[]", 200, "invalid_structure"),
        ({"result": 5}, 200, "invalid_structure"),
        (texts("no JSON"), 200, "invalid_structure"),
        ({"result": {"content": []}}, 200, "invalid_structure"),
    ],
)
def test_what_the_protocol_refuses_is_not_the_job_s_fault(run, answer: Any, status: int, kind: str) -> None:
    async def main() -> None:
        async with answering(answer, status) as mcp:
            with pytest.raises(BackendError) as caught:
                await mcp.call("tool", {})
            assert caught.value.kind == kind
            assert KEY not in f"{caught.value.message} {caught.value.body}"

    run(main())


def test_a_tool_that_fails_says_why(run) -> None:
    async def main() -> None:
        answer = texts(f"no such model, {KEY}")
        answer["result"]["isError"] = True
        async with answering(answer) as mcp:
            with pytest.raises(ToolError, match=r"^no such model, \[redacted\]$"):
                await mcp.call("tool", {})

    run(main())


def test_an_event_stream_without_a_result(run) -> None:
    async def main() -> None:
        async with answering(b'data: {"method": "ping"}\n\n', kind="text/event-stream") as mcp:
            with pytest.raises(BackendError, match="no result"):
                await mcp.ask("ping")

    run(main())
