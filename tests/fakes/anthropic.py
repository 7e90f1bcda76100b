"""A strict server of Anthropic's Messages on a real socket: unknown fields, wrong types and wrong orders are its 400."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from tests.fakes.base import FakeServer, Refused

TEXT: Final = "Hello, wörld – ünd 東京!"
PIECES: Final = ("Hello, w", "örld – ", "ünd 東京!")
USAGE: Final = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 20,
    "cache_read_input_tokens": 300,
    "output_tokens": 1,
}
ENDED: Final = {"output_tokens": 42, "output_tokens_details": {"thinking_tokens": 12}}
TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class _Block(msgspec.Struct, forbid_unknown_fields=True, tag_field="type"):
    """A content block; `type` says which."""


class Text(_Block, tag="text"):
    text: str


class Base64(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class Url(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="url"):
    url: str


class Image(_Block, tag="image"):
    source: Base64 | Url


class ToolUse(_Block, tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ToolResult(_Block, tag="tool_result"):
    tool_use_id: str
    content: str | list[Text | Image] | None = None
    is_error: bool | None = None


class Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: str | list[Text | Image | ToolUse | ToolResult]


class Tool(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    input_schema: dict[str, Any]
    description: str | None = None


class Format(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, forbid_unknown_fields=True):
    format: Format | None = None


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    max_tokens: int
    messages: list[Message]
    system: str | None = None
    stop_sequences: list[str] | None = None
    stream: bool = False
    temperature: float | None = None
    tools: list[Tool] | None = None
    output_config: OutputConfig | None = None


class Count(msgspec.Struct, forbid_unknown_fields=True):
    """What may be counted: neither the cap nor how it is sampled belongs to it."""

    model: str
    messages: list[Message]
    system: str | None = None
    tools: list[Tool] | None = None
    output_config: OutputConfig | None = None


class FakeAnthropic(FakeServer):
    """Answers every message with `pieces`; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.versions: list[str | None] = []
        self.api_keys: list[str | None] = []
        self.pieces: list[bytes] = usual()
        self.details: dict[str, Any] | None = None
        """The `details` of every refusal."""
        self.models: list[dict[str, Any]] = [
            card("claude-sonnet-5-5"),
            card("claude-haiku-4-5", max_input_tokens=200_000, max_tokens=64_000),
        ]
        self.status: int | None = None
        """The status of every refusal, instead of the fault's."""
        self.whole = False
        """Ignores `stream`."""
        self.page = 1000

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return [
            web.post("/v1/messages", self._messages),
            web.post("/v1/messages/count_tokens", self._count),
            web.get("/v1/models", self._models),
        ]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        status = self.status or (529 if status == 503 else status)
        error = {"type": TYPES[status], "message": message, **({"details": self.details} if self.details else {})}
        body = {"type": "error", "error": error, "request_id": "req_1"}
        return web.json_response(body, status=status, headers={"request-id": "req_1"})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        version = self._authorized(request)
        asked = await self.read(request, Asked)
        self._check(asked, version)
        self.asked.append(asked)
        self.calls += 1
        if not asked.stream or self.whole:
            return await self.play(request, [whole(self.pieces)], media_type="application/json")
        inside = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        return await self.play(
            request, self.pieces, media_type="text/event-stream", frame=lambda data: b"data: " + data + b"\n\n",
            inside=inside, headers={"request-id": "req_1"},
        )  # fmt: skip

    async def _count(self, request: web.Request) -> web.Response:
        self._authorized(request)
        asked = await self.read(request, Count)
        return web.json_response({"input_tokens": 9 * len(asked.messages) + 400 * len(asked.tools or ())})

    async def _models(self, request: web.Request) -> web.Response:
        self._authorized(request)
        if not set(request.query) <= {"limit", "after_id", "before_id"}:
            raise Refused(self.refusal(400, "unknown parameter"))
        ids = [one["id"] for one in self.models]
        after = request.query.get("after_id")
        start = ids.index(after) + 1 if after else 0
        size = min(self.page, int(request.query.get("limit", "20")))
        found = self.models[start : start + size]
        first, last = (found[0]["id"], found[-1]["id"]) if found else (None, None)
        more = start + size < len(ids)
        return web.json_response({"data": found, "has_more": more, "first_id": first, "last_id": last})

    def _authorized(self, request: web.Request) -> str:
        version = request.headers.get("anthropic-version")
        key = request.headers.get("x-api-key") or (request.headers.get("authorization") or "").removeprefix("Bearer ")
        self.versions.append(version)
        self.api_keys.append(key)
        if not key or key == "wrong":
            raise Refused(self.refusal(401, "invalid x-api-key" if key else "x-api-key header is required"))
        if version not in {"2023-06-01", "2026-10-21"}:
            raise Refused(self.refusal(400, "anthropic-version: header is required"))
        return version

    def _check(self, asked: Asked, version: str) -> None:
        """What the types can't say."""
        new = version == "2026-10-21" or "-5" in asked.model.removeprefix("claude-haiku-4-5")
        faults = [
            (asked.temperature is not None and new, "temperature: not supported"),
            (asked.max_tokens < 1, "max_tokens: must be at least 1"),
            (not asked.messages or asked.messages[0].role != "user", "messages: first must be the user's"),
            (asked.messages[-1:] and asked.messages[-1].role == "assistant" and new, "prefill is not supported"),
            (any(not stop.strip() for stop in asked.stop_sequences or ()), "stop_sequences: only whitespace"),
        ]
        open_uses: list[str] = []
        for message in asked.messages:
            blocks = message.content if isinstance(message.content, list) else [Text(text=message.content)]
            results = [block.tool_use_id for block in blocks if isinstance(block, ToolResult)]
            faults += [
                (results != open_uses, "tool_use ids were found without tool_result blocks immediately after"),
                (any(isinstance(one, Text) and not one.text.strip() for one in blocks), "text must be non-empty"),
            ]
            open_uses = [block.id for block in blocks if isinstance(block, ToolUse)]
        for found, words in faults:
            if found:
                raise Refused(self.refusal(400, words))


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + msgspec.json.encode({"type": kind, **fields}) + b"\n\n"


def start(usage: dict[str, Any] | None = None, model: str = "claude-sonnet-5-5") -> bytes:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": usage or USAGE,
    }  # fmt: skip
    return event("message_start", message=message)


def block(index: int, content_block: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    return [
        event("content_block_start", index=index, content_block=content_block),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def text(index: int, *pieces: str) -> list[bytes]:
    return block(index, {"type": "text", "text": ""}, *({"type": "text_delta", "text": piece} for piece in pieces))


def end(reason: str = "end_turn", usage: dict[str, Any] | None = None) -> list[bytes]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [event("message_delta", delta=delta, usage=usage or ENDED), event("message_stop")]


def usual() -> list[bytes]:
    """The usual answer: it thinks, pings, writes `TEXT` and says something of a kind that nobody knows."""
    thinking = block(
        0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "abc"},
    )  # fmt: skip
    unknown = [*block(2, {"type": "hologram", "frames": []}, {"type": "hologram_delta", "frame": 1}), event("notice")]
    return [start(), event("ping"), *thinking, *text(1, *PIECES), event("ping"), *unknown, *end()]


def whole(pieces: Sequence[bytes]) -> bytes:
    """The message that a stream tells, at once."""
    message: dict[str, Any] = {}
    for piece in pieces:
        fields = msgspec.json.decode(piece.partition(b"data: ")[2])
        match fields["type"]:
            case "message_start":
                message = fields["message"]
            case "content_block_start":
                message["content"].append({**fields["content_block"], "partial": ""})
            case "content_block_delta":
                _grow(message["content"][fields["index"]], fields["delta"])
            case "message_delta":
                message.update(fields["delta"])
                message["usage"] = {**message["usage"], **fields["usage"]}
            case _:
                pass
    for one in message["content"]:
        arguments = one.pop("partial")
        if one["type"] == "tool_use":
            one["input"] = msgspec.json.decode(arguments or "{}")
    return msgspec.json.encode(message)


def _grow(content: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            content["text"] += delta["text"]
        case "thinking_delta":
            content["thinking"] += delta["thinking"]
        case "signature_delta":
            content["signature"] += delta["signature"]
        case "input_json_delta":
            content["partial"] += delta["partial_json"]
        case _:
            pass


def card(name: str, **more: Any) -> dict[str, Any]:
    names = ("batch", "citations", "image_input", "pdf_input", "structured_outputs")
    supported: dict[str, Any] = {one: {"supported": True} for one in names}
    return {
        "type": "model", "id": name, "display_name": name, "created_at": "2026-10-01T00:00:00Z", "lifecycle": "active",
        "deprecated_at": None, "retires_at": None, "line": "sonnet", "max_input_tokens": 1_000_000,
        "max_tokens": 128_000, "capabilities": {**supported, "thinking": {"supported": True, "types": {}}}, **more,
    }  # fmt: skip
