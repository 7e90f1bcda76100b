"""The part that all fakes of OpenAI's family share: `/v1/chat/completions`, `/v1/models` and `/v1/embeddings`, strict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import msgspec
from aiohttp import web

from tests.fakes.base import FakeServer, Refused

PIECES = ("Grüße", ", ", "世界", " 🚀", " – ", "naïve", " façade.")
TEXT = "".join(PIECES)
USAGE: Mapping[str, Any] = {
    "prompt_tokens": 12,
    "completion_tokens": 9,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class ImageUrl(Strict):
    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class TextPart(Strict, tag_field="type", tag="text"):
    text: str


class ImagePart(Strict, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class Called(Strict):
    name: str
    arguments: str


class ToolCall(Strict):
    id: str
    function: Called
    type: Literal["function"] = "function"


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart | ImagePart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None

    def __post_init__(self) -> None:
        if self.content is None and not self.tool_calls:
            raise ValueError("content: must be given")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id: belongs to the role tool alone")


class Function(Strict):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    function: Function
    type: Literal["function"]


class StreamOptions(Strict):
    include_usage: bool = False


class Schema(Strict):
    name: str
    schema: dict[str, Any]
    strict: bool | None = None
    description: str | None = None


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None
    schema: dict[str, Any] | None = None
    """Beside `json_object`: the form of llama.cpp's servers."""


class Chat(Strict):
    model: str
    messages: list[Message]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = None
    tool_choice: Any = None

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("messages: must hold at least one")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with stream")

    def has_images(self) -> bool:
        return any(
            isinstance(part, ImagePart)
            for message in self.messages
            if isinstance(message.content, list)
            for part in message.content
        )


class Embed(Strict):
    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


class ChatFake(FakeServer):
    """Answers every chat with `pieces`, and with a tool call when it is asked with tools; remembers what it was asked."""

    path: ClassVar[str] = "/v1"
    usual: ClassVar[str] = "some-model"
    """Its usual model."""
    takes_schema: ClassVar[bool] = False
    """A schema may stand beside `json_object`."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: Sequence[str] = PIECES
        self.usage: Mapping[str, Any] = USAGE
        self.asked: list[Any] = []
        """Requests that passed, decoded."""

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.post("/v1/chat/completions", self.chat),
            web.get("/v1/models", self.models),
            web.post("/v1/embeddings", self.embeddings),
            *self.more_routes(),
        ]

    def more_routes(self) -> list[web.AbstractRouteDef]:
        return []

    def cards(self) -> list[dict[str, Any]]:
        return [{"id": self.usual, "object": "model", "created": 1, "owned_by": "somebody"}]

    def check_key(self, request: web.Request) -> None:
        """Raise Refused without a right key."""

    def check_chat(self, chat: Chat) -> None:
        """Raise Refused for what this server or its model does not take."""

    def inside(self) -> bytes:
        """What tells an error after the answer began."""
        return event(self.refusal(503, "the engine died").body)  # type: ignore[arg-type]

    async def models(self, request: web.Request) -> web.StreamResponse:
        self.check_key(request)
        return web.json_response({"object": "list", "data": self.cards()})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.check_key(request)
        chat = await self.read(request, Chat)
        if chat.response_format is not None and chat.response_format.schema is not None and not self.takes_schema:
            raise Refused(self.refusal(400, "response_format: unknown field schema"))
        self.check_chat(chat)
        self.asked.append(chat)
        self.calls += 1
        return await self.answer(request, chat)

    async def answer(self, request: web.Request, chat: Chat) -> web.StreamResponse:
        if chat.stream:
            return await self.play(
                request, self.chunks(chat), media_type="text/event-stream", frame=event, inside=self.inside()
            )
        return await self.play(request, [msgspec.json.encode(self.whole(chat))], media_type="application/json")

    def calls_tool(self, chat: Chat) -> dict[str, Any] | None:
        if not chat.tools:
            return None
        return {
            "id": "call_1",
            "type": "function",
            "function": {"name": chat.tools[0].function.name, "arguments": '{"q":1}'},
        }

    def head(self, chat: Chat, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1763678000, "model": chat.model}

    def whole(self, chat: Chat) -> dict[str, Any]:
        tool = self.calls_tool(chat)
        message = {"role": "assistant", "content": None if tool else "".join(self.pieces)}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if tool else "stop", "logprobs": None}
        if tool:
            message["tool_calls"] = [tool]  # type: ignore[assignment]
        return {**self.head(chat, "chat.completion"), "choices": [choice], "usage": self.usage}

    def chunk(self, chat: Chat, delta: Mapping[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return event(msgspec.json.encode({**self.head(chat, "chat.completion.chunk"), "choices": [choice], **more}))

    def chunks(self, chat: Chat) -> list[bytes]:
        tool = self.calls_tool(chat)
        found = [self.chunk(chat, {"role": "assistant", "content": "" if tool is None else None})]
        if tool:
            arguments = tool["function"]["arguments"]
            first = {**tool, "index": 0, "function": {**tool["function"], "arguments": arguments[:3]}}
            rest = {"index": 0, "function": {"arguments": arguments[3:]}}
            found += [self.chunk(chat, {"tool_calls": [part]}) for part in (first, rest)]
        else:
            found += [self.chunk(chat, {"content": piece}) for piece in self.pieces]
        found.append(self.chunk(chat, {}, "tool_calls" if tool else "stop"))
        if chat.stream_options is not None and chat.stream_options.include_usage:
            last = {**self.head(chat, "chat.completion.chunk"), "choices": [], "usage": self.usage}
            found.append(event(msgspec.json.encode(last)))
        return [*found, event(b"[DONE]")]

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        self.check_key(request)
        asked = await self.read(request, Embed)
        self.asked.append(asked)
        self.calls += 1
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if not texts or asked.encoding_format != "float":
            raise Refused(self.refusal(400, "input: must hold a text"))
        rows = [
            {"object": "embedding", "index": index, "embedding": vector_of(text, asked.dimensions or 4)}
            for index, text in enumerate(texts)
        ]
        rows.reverse()  # The index counts, not the place.
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        body = {"object": "list", "data": rows, "model": asked.model, "usage": usage}
        return await self.play(request, [msgspec.json.encode(body)], media_type="application/json")


def vector_of(text: str, dimensions: int) -> list[float]:
    """An embedding that tells the text, as far as it goes."""
    return [float(len(text)), *(0.5 for _ in range(dimensions - 1))]
