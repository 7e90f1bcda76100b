"""A strict llama-server: one model with slots, or a router that loads on command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
from aiohttp import web

from tests.fakes.base import Refused
from tests.fakes.openai_chat import Chat, ChatFake, Strict

MODEL, ALIAS = "qwen3-4b", "qwen"
TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error",
        401: "authentication_error",
        404: "not_found_error",
        500: "server_error",
        501: "not_supported_error",
        503: "unavailable_error",
    }
)


class Order(Strict):
    model: str


class Tokenize(Strict):
    model: str
    content: str
    add_special: bool
    parse_special: bool


class FakeLlamaCpp(ChatFake):
    """A llama-server. Whatever model is asked for, the one that there is answers."""

    usual: ClassVar[str] = MODEL

    def __init__(self) -> None:
        super().__init__()
        self.loading = False
        """Whether it still loads its model: everything is refused."""
        self.key = ""
        self.slots_on = self.metrics_on = self.takes_tools = True
        self.sees = self.is_sleeping = False
        self.slots = 2
        self.deferred = 0
        self.states: dict[str, str] = {}
        """Of a router: its models and their states; empty: it is none."""
        self.fails_to_load = False
        self.load_looks = 1
        """How many lists show a model as `loading` before it is loaded."""
        self._free = asyncio.Semaphore(self.slots)

    def more_routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/health", self.health),
            web.get("/props", self.props),
            web.get("/slots", self.list_slots),
            web.get("/metrics", self.metrics),
            web.post("/models/load", self.load),
            web.post("/apply-template", self.apply_template),
            web.post("/tokenize", self.tokenize),
            web.post("/models/unload", self.unload),
        ]

    async def apply_template(self, request: web.Request) -> web.Response:
        asked = await self.read(request, Chat)
        lines = [f"<|im_start|>{message.role}\n{message.content}<|im_end|>" for message in asked.messages]
        return web.json_response({"prompt": "\n".join([*lines, "<|im_start|>assistant\n"])})

    async def tokenize(self, request: web.Request) -> web.Response:
        asked = await self.read(request, Tokenize)
        return web.json_response({"tokens": list(range(len(asked.content.split())))})

    def refusal(self, status: int, message: str = "no") -> web.Response:
        error = {"code": status, "message": message, "type": TYPES.get(status, "server_error")}
        return web.json_response({"error": error}, status=status)

    def check_key(self, request: web.Request) -> None:
        if self.loading:
            raise Refused(self.refusal(503, "Loading model"))
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            raise Refused(self.refusal(401, "Invalid API Key"))

    def cards(self) -> list[dict[str, Any]]:
        card = {"object": "model", "created": 1, "owned_by": "llamacpp", "aliases": [], "tags": []}
        if self.states:
            return [{**card, "id": name, "status": {"value": state}} for name, state in self.states.items()]
        meta = {"n_ctx": 8192, "n_ctx_train": 40960, "n_params": 4_022_468_096, "size": 2_500_000_000, "ftype": "Q4_K"}
        return [{**card, "id": MODEL, "aliases": [ALIAS], "meta": meta}]

    async def models(self, request: web.Request) -> web.StreamResponse:
        self.check_key(request)
        answer = web.json_response({"object": "list", "data": self.cards(), "models": []})
        for name, state in self.states.items():
            if state == "loading":
                self.load_looks -= 1
                if self.load_looks <= 0:
                    self.states[name] = "unloaded" if self.fails_to_load else "loaded"
        return answer

    def check_chat(self, chat: Chat) -> None:
        if chat.has_images() and not self.sees:
            hint = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
            raise Refused(self.refusal(500, hint))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        try:
            msgspec.json.decode(await request.read())
        except msgspec.DecodeError:
            return self.refusal(500, "[json.exception.parse_error.101] parse error at line 1, column 1")
        return await super().chat(request)

    async def answer(self, request: web.Request, chat: Chat) -> web.StreamResponse:
        async with self._free:  # Without limit, and never a 429.
            return await super().answer(request, chat)

    def calls_tool(self, chat: Chat) -> dict[str, Any] | None:
        return super().calls_tool(chat) if self.takes_tools else None

    def head(self, chat: Chat, kind: str) -> dict[str, Any]:
        known = chat.model if self.states else MODEL
        return {**super().head(chat, kind), "model": known, "system_fingerprint": "b7000-abc"}

    async def health(self, _: web.Request) -> web.StreamResponse:
        if self.loading:
            return self.refusal(503, "Loading model")
        return web.json_response({"status": "ok"})

    def _check_model(self, request: web.Request) -> None:
        self.check_key(request)
        if self.states and self.states.get(request.query.get("model", "")) != "loaded":
            raise Refused(self.refusal(400, "model is not loaded"))

    async def props(self, request: web.Request) -> web.StreamResponse:
        self._check_model(request)
        return web.json_response(
            {
                "default_generation_settings": {"n_ctx": 4096, "params": {}},
                "total_slots": self.slots,
                "model_alias": MODEL,
                "modalities": {"vision": self.sees, "audio": False, "video": False},
                "chat_template_caps": {"supports_tools": self.takes_tools, "supports_tool_calls": self.takes_tools},
                "build_info": "b7000-abc",
                "is_sleeping": self.is_sleeping,
            }
        )

    async def list_slots(self, request: web.Request) -> web.StreamResponse:
        self._check_model(request)
        if not self.slots_on:
            return self.refusal(501, "This server does not support slots endpoint.")
        busy = self.slots - self._free._value
        return web.json_response(
            [{"id": number, "n_ctx": 4096, "is_processing": number < busy} for number in range(self.slots)]
        )

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        self._check_model(request)
        if not self.metrics_on:
            return self.refusal(501, "This server does not support metrics endpoint.")
        text = (
            "# TYPE llamacpp:requests_processing gauge\nllamacpp:requests_processing 1\n"
            f"# TYPE llamacpp:requests_deferred gauge\nllamacpp:requests_deferred {self.deferred}\n"
        )
        return web.Response(text=text, content_type="text/plain")

    async def _ordered(self, request: web.Request) -> str:
        self.check_key(request)
        order = await self.read(request, Order)
        if order.model not in self.states:
            raise Refused(self.refusal(404, "model is not found"))
        return order.model

    async def load(self, request: web.Request) -> web.StreamResponse:
        model = await self._ordered(request)
        if self.states[model] == "loaded":
            return self.refusal(400, "model is already loaded")
        self.states[model] = "loading"
        return web.json_response({"success": True})

    async def unload(self, request: web.Request) -> web.StreamResponse:
        model = await self._ordered(request)
        if self.states[model] != "loaded":
            return self.refusal(400, "model is not loaded")
        self.states[model] = "unloaded"
        return web.json_response({"success": True})
