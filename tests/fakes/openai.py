"""A strict OpenAI: chat, responses, pictures and embeddings, with its rules for each family of models."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import msgspec
from aiohttp import web

from tests.fakes.base import Refused
from tests.fakes.openai_chat import Chat, ChatFake, Strict, event

CHAT, REASONING, PRO = "gpt-4.1", "gpt-6-luna", "gpt-5.5-pro"
IMAGE, EMBEDDING = "gpt-image-2.5-flare", "text-embedding-3-small"
KEY_MARK = "Bearer "
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
WORDS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        400: ("invalid_request_error", "invalid_value"),
        401: ("invalid_request_error", "invalid_api_key"),
        404: ("invalid_request_error", "model_not_found"),
        429: ("requests", "rate_limit_exceeded"),
        500: ("server_error", ""),
        503: ("service_unavailable_error", "server_is_overloaded"),
    }
)
"""Type and code of the usual error with each status."""
BILLING = (
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
)
IMAGE_USAGE: Mapping[str, Any] = {
    "input_tokens": 15,
    "input_tokens_details": {"text_tokens": 15, "image_tokens": 0},
    "output_tokens": 1056,
    "total_tokens": 1071,
}


class InputText(Strict, tag_field="type", tag="input_text"):
    text: str


class OutputText(Strict, tag_field="type", tag="output_text"):
    text: str


class InputImage(Strict, tag_field="type", tag="input_image"):
    image_url: str
    detail: Literal["auto", "low", "high"]


class Said(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[InputText | OutputText | InputImage]


class FunctionCall(Strict, tag_field="type", tag="function_call"):
    call_id: str
    name: str
    arguments: str


class FunctionOutput(Strict, tag_field="type", tag="function_call_output"):
    call_id: str
    output: str


class ResponseTool(Strict):
    type: Literal["function"]
    name: str
    parameters: dict[str, Any] | None
    strict: bool | None
    description: str | None = None


class TextFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextConfig(Strict):
    format: TextFormat | None = None


class Responding(Strict):
    model: str
    input: str | list[msgspec.Raw]
    instructions: str | None = None
    max_output_tokens: int | None = None
    store: bool = True
    stream: bool = False
    temperature: float | None = None
    text: TextConfig | None = None
    tools: tuple[ResponseTool, ...] = ()

    def items(self) -> list[Any]:
        """What was said, each item checked by its kind."""
        if isinstance(self.input, str):
            return [Said(role="user", content=self.input)]
        kinds: Any = FunctionCall | FunctionOutput
        return [
            msgspec.json.decode(raw, type=kinds if "type" in msgspec.json.decode(raw) else Said) for raw in self.input
        ]


class Drawing(Strict):
    model: str
    prompt: str
    n: int = 1
    size: str = "auto"
    quality: Literal["low", "medium", "high", "auto"] = "auto"
    stream: bool = False
    partial_images: int = 0
    output_format: Literal["png", "webp", "jpeg"] = "png"

    def __post_init__(self) -> None:
        if not 1 <= self.n <= 10 or not 0 <= self.partial_images <= 3 or not self.prompt:
            raise ValueError("n must be 1 to 10, partial_images 0 to 3, and prompt not empty")
        if self.size != "auto" and not re.fullmatch(r"\d+x\d+", self.size):
            raise ValueError("size must be WIDTHxHEIGHT")


class FakeOpenAI(ChatFake):
    """OpenAI; `fault` may also be one of `BILLING`, `slow_down` or `moderation_blocked`."""

    usual: ClassVar[str] = CHAT

    def __init__(self) -> None:
        super().__init__()
        self.files: list[dict[str, tuple[str, bytes]]] = []
        """Of every edit: the files, by their names in the form."""
        self.final = "completed"
        """How a response ends: `completed`, `incomplete`, `failed` or `refused`."""
        self.picture = PNG

    def more_routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.post("/v1/responses", self.respond),
            web.post("/v1/images/generations", self.draw),
            web.post("/v1/images/edits", self.edit),
        ]

    def refusal(self, status: int, message: str = "no", *, code: str = "", param: str | None = None) -> web.Response:
        kind, usual = WORDS.get(status, ("server_error", ""))
        error = {"message": message, "type": kind, "param": param, "code": code or usual or None}
        return web.json_response({"error": error}, status=status, headers={"x-request-id": "req_1"})

    def inside(self) -> bytes:
        return event(b'{"error": {"message": "died", "type": "server_error", "param": null, "code": null}}')

    def cards(self) -> list[dict[str, Any]]:
        names = (CHAT, REASONING, PRO, IMAGE, EMBEDDING, "whisper-1", "gpt-5-mini")
        cards: list[dict[str, Any]] = [
            {"id": name, "object": "model", "created": 1, "owned_by": "openai"} for name in names
        ]
        cards[-1]["shutdown_date"] = "2026-12-11"
        return cards

    def check_key(self, request: web.Request) -> None:
        key = request.headers.get("authorization", "")
        if not key.startswith(KEY_MARK) or key == f"{KEY_MARK}wrong":
            message = f"Incorrect API key provided: {key.removeprefix(KEY_MARK)}."
            raise Refused(self.refusal(401, message))

    def check_money(self) -> None:
        """Raise Refused for the faults that are OpenAI's own."""
        if self.fault in BILLING:
            error = {"message": "pay", "type": "insufficient_quota", "param": None, "code": self.fault}
            raise Refused(web.json_response({"error": error}, status=429))
        if self.fault == "slow_down":
            error = {"message": "slow", "type": "rate_limit_error", "param": None, "code": "slow_down"}
            headers = {"retry-after-ms": "2500", "retry-after": "3"}
            raise Refused(web.json_response({"error": error}, status=429, headers=headers))
        if self.fault == "moderation_blocked":
            raise Refused(self.refusal(400, "rejected by the safety system", code="moderation_blocked"))

    def check_model(self, name: str, *fitting: str) -> None:
        if name not in {card["id"] for card in self.cards()}:
            raise Refused(self.refusal(404, f"The model `{name}` does not exist or you do not have access to it."))
        if name not in fitting:
            raise Refused(self.refusal(404, "This is not the endpoint of that model.", param="model"))

    def check_chat(self, chat: Chat) -> None:
        self.check_money()
        self.check_model(chat.model, CHAT, REASONING)
        if chat.model != REASONING:
            return
        for name, wrong in (
            ("max_tokens", chat.max_tokens is not None),
            ("temperature", chat.temperature not in {None, 1.0}),
            ("stop", chat.stop is not None),
        ):
            if wrong:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                raise Refused(self.refusal(400, message, code="unsupported_parameter", param=name))

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.check_key(request)
        asked = await self.read(request, Responding)
        try:
            items = asked.items()
        except msgspec.ValidationError as error:
            raise Refused(self.refusal(400, str(error), param="input")) from None
        self.check_money()
        self.check_model(asked.model, CHAT, REASONING, PRO)
        self.asked.append((asked, items))
        self.calls += 1
        whole = self.response(asked)
        if not asked.stream:
            return await self.play(request, [msgspec.json.encode(whole)], media_type="application/json")
        error = {"type": "error", "code": "server_error", "message": "died", "param": None, "sequence_number": 9}
        return await self.play(
            request, self.events(asked, whole), media_type="text/event-stream", frame=event, inside=named(error)
        )

    def response(self, asked: Responding) -> dict[str, Any]:
        status = {"refused": "completed"}.get(self.final, self.final)
        kind = {"type": "refusal", "refusal": "I can't."}
        if self.final != "refused":
            kind = {"type": "output_text", "text": "".join(self.pieces), "annotations": [], "logprobs": []}  # type: ignore[dict-item]
        output: list[dict[str, Any]] = [
            {"type": "reasoning", "id": "rs_1", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [kind]},
        ]
        if asked.tools:
            call = {"id": "fc_1", "call_id": "call_1", "name": asked.tools[0].name, "arguments": '{"q":1}'}
            output[1] = {"type": "function_call", "status": "completed", **call}
        usage = {
            "input_tokens": 30,
            "input_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 5},
            "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 11},
            "total_tokens": 50,
        }
        failed = {"code": "server_error", "message": "it broke"} if status == "failed" else None
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": "resp_1", "object": "response", "created_at": 1763678000, "status": status, "model": asked.model,
            "output": output, "usage": usage, "error": failed, "incomplete_details": reason, "instructions": None,
            "metadata": {}, "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto",
            "tools": [],
        }  # fmt: skip

    def events(self, asked: Responding, whole: Mapping[str, Any]) -> list[bytes]:
        begun = {**whole, "status": "in_progress", "output": [], "usage": None, "error": None}
        found: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
        ]
        if not asked.tools and self.final != "refused":
            place = {"item_id": "msg_1", "output_index": 1, "content_index": 0, "logprobs": []}
            found += [{"type": "response.output_text.delta", "delta": piece, **place} for piece in self.pieces]
            found.append({"type": "response.output_text.done", "text": "".join(self.pieces), **place})
        found += [
            {"type": "response.output_item.done", "output_index": index, "item": item}
            for index, item in enumerate(whole["output"])
        ]
        found.append({"type": f"response.{whole['status']}", "response": whole})
        return [named({**item, "sequence_number": number}) for number, item in enumerate(found)]

    async def draw(self, request: web.Request) -> web.StreamResponse:
        self.check_key(request)
        return await self._pictures(request, await self.read(request, Drawing), "image_generation")

    async def edit(self, request: web.Request) -> web.StreamResponse:
        self.check_key(request)
        fields: dict[str, Any] = {}
        files: dict[str, tuple[str, bytes]] = {}
        form = await request.post()
        for name, value in form.items():
            if isinstance(value, web.FileField):
                if name not in {"image", "image[]", "mask"}:
                    raise Refused(self.refusal(400, f"unknown file {name!r}"))
                with value.file:
                    files[f"{name}{len(files)}"] = (value.content_type, value.file.read())
            else:
                fields[name] = value if name in {"model", "prompt", "size", "quality"} else json.loads(str(value))
        if not any(name.startswith("image") for name in files):
            raise Refused(self.refusal(400, "image: must be given", param="image"))
        try:
            asked = msgspec.convert(fields, Drawing)
        except msgspec.ValidationError as error:
            raise Refused(self.refusal(400, str(error))) from None
        self.files.append(files)
        return await self._pictures(request, asked, "image_edit")

    async def _pictures(self, request: web.Request, asked: Drawing, kind: str) -> web.StreamResponse:
        self.check_money()
        self.check_model(asked.model, IMAGE)
        self.asked.append(asked)
        self.calls += 1
        data = base64.b64encode(self.picture).decode()
        size = "1024x1024" if asked.size == "auto" else asked.size
        facts = {"size": size, "quality": "medium", "background": "opaque", "output_format": "png"}
        if not asked.stream:
            body = {"created": 1, "data": [{"b64_json": data}] * asked.n, **facts, "usage": IMAGE_USAGE}
            return await self.play(request, [msgspec.json.encode(body)], media_type="application/json")
        shown = {**facts, "b64_json": data, "created_at": 1}
        pieces = [
            named({"type": f"{kind}.partial_image", "partial_image_index": index, **shown})
            for index in range(asked.partial_images)
        ]
        pieces.append(named({"type": f"{kind}.completed", "usage": IMAGE_USAGE, **shown}))
        return await self.play(
            request, pieces, media_type="text/event-stream", frame=event, inside=self.inside()
        )  # fmt: skip


def named(fields: Mapping[str, Any]) -> bytes:
    return f"event: {fields['type']}\n".encode() + event(msgspec.json.encode(fields))
