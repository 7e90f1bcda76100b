"""Tools of an MCP server over HTTP: one JSON-RPC request for each call, answered as JSON or as a stream of one event."""

from __future__ import annotations

import itertools
from typing import Any, Final, cast

from actors.executor.backends.errors import as_object, redact, shorten
from actors.executor.backends.framing import Framed
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import BackendError
from actors.executor.backends.sse import LineTooLong
from actors.executor.backends.wire import Wire

_HEADERS: Final = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


class ToolError(Exception):
    """A tool said that it failed; the text is its own."""


class Mcp:
    """An MCP server's endpoint `mcp` below a wire's address, without a session."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._ids = itertools.count(1)

    async def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of a request. Raises BackendError when the server refuses it or answers something else."""
        body = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params or {}}
        try:
            async with self._wire.exchange("POST", "mcp", body, headers=_HEADERS) as reply:
                data = await reply.read_all()
        except BackendError as error:
            if error.kind == "bad_request":  # Its version of MCP, its rules for hosts: none of the job's doing.
                error.kind = "unknown_model"
            raise
        for one in self._events(data):
            fields = self._object(one)
            if "result" in fields or "error" in fields:
                break
        else:
            raise self._wrong("the answer holds no result", data)
        error = as_object(fields.get("error"))
        if error is not None:
            # A job's own faults are told by the tools; what the protocol refuses can't be done with this server.
            said = shorten(redact(str(error.get("message") or "no reason given"), self._wire.secrets), 300)
            raise BackendError("unknown_model", f"{self._wire.name}: {said}", status=200)
        result = as_object(fields.get("result"))
        if result is None:
            raise self._wrong("the result is no object", data)
        return result

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """What a tool gives. Raises ToolError when it says that it failed, and BackendError."""
        result = await self.ask("tools/call", {"name": tool, "arguments": arguments})
        content: Any = result.get("content")
        blocks = [as_object(one) or {} for one in cast("list[Any]", content)] if isinstance(content, list) else []
        texts = [str(block["text"]) for block in blocks if block.get("text")]
        text = texts[0] if texts else ""
        if result.get("isError"):
            raise ToolError(shorten(redact(text or "no reason given", self._wire.secrets), 300))
        given = as_object(result.get("structuredContent"))
        if given:
            inner = as_object(given.get("result"))  # What returns no object is wrapped.
            return inner if inner is not None and len(given) == 1 else given
        if len(texts) > 1:  # A list, each of whose items is a block of its own.
            return {"result": [self._decoded(one.encode()) for one in texts]}
        decoded = self._decoded(text.encode())
        fields = as_object(decoded)
        return {"result": decoded} if fields is None else fields

    def _decoded(self, data: bytes) -> Any:
        try:
            return value_of(data)
        except NotJson as error:
            raise self._wrong(f"the answer is no JSON: {error}", data) from None

    def _object(self, data: bytes) -> dict[str, Any]:
        fields = as_object(self._decoded(data))
        if fields is None:
            raise self._wrong("the answer is no JSON object", data)
        return fields

    def _wrong(self, message: str, data: bytes) -> BackendError:
        body = redact(data[:4096].decode("utf-8", "replace"), self._wire.secrets)
        return BackendError("invalid_structure", f"{self._wire.name}/mcp: {message}", status=200, body=body)

    def _events(self, data: bytes) -> list[bytes]:
        framed = Framed()
        try:
            found = [event.data for event in (*framed.feed(data), *framed.close())]
        except LineTooLong as error:
            raise self._wrong(str(error), data) from None
        return found if framed.form == "events" else [data]
