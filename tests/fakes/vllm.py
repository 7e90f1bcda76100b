"""A strict vLLM with one model, a LoRA adapter, figures, and sleep where it was started with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from aiohttp import web

from tests.fakes.base import Refused
from tests.fakes.openai_chat import Chat, ChatFake, Message, Strict, Tool

MODEL, ADAPTER = "Qwen/Qwen3-8B", "sql-lora"
MAX_MODEL_LEN = 32_768
TYPES: Mapping[int, str] = MappingProxyType(
    {
        400: "BadRequestError",
        404: "NotFoundError",
        429: "TooManyRequestsError",
        500: "InternalServerError",
        503: "Service Unavailable",
    }
)


class Tokenize(Strict):
    """What `/tokenize` takes of a chat."""

    model: str
    messages: list[Message]
    add_generation_prompt: bool
    tools: list[Tool] | None = None


class FakeVllm(ChatFake):
    """A vLLM. `/health` and the like are open, whatever key it has."""

    usual: ClassVar[str] = MODEL

    def __init__(self) -> None:
        super().__init__()
        self.key = ""
        """The key it was started with; empty: none."""
        self.dev = True
        """Whether it was started with VLLM_SERVER_DEV_MODE=1 and --enable-sleep-mode."""
        self.silent_orders = False
        """Whether `/sleep` and `/wake_up` answer nothing, as older builds do."""
        self.sleeping = False
        self.wake_looks = 0
        """How many more looks see it asleep after it was told to wake."""
        self.dead = False
        """Whether the engine has died."""
        self.running, self.waiting = 2, 5
        self.metrics_on = self.version_on = True
        self.flat_errors = False
        """Whether errors have the form of before 0.10."""
        self.slept = asyncio.Event()

    def more_routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/health", self.health),
            web.get("/version", self.version),
            web.get("/metrics", self.metrics),
            web.get("/is_sleeping", self.is_sleeping),
            web.post("/sleep", self.sleep),
            web.post("/tokenize", self.tokenize),
            web.post("/wake_up", self.wake_up),
        ]

    async def tokenize(self, request: web.Request) -> web.Response:
        asked = await self.read(request, Tokenize)
        if asked.model not in {card["id"] for card in self.cards()}:
            raise Refused(self.refusal(404))
        tokens = list(range(3 * len(asked.messages) + 50 * len(asked.tools or ())))
        return web.json_response(
            {"count": len(tokens), "max_model_len": MAX_MODEL_LEN, "tokens": tokens, "token_strs": None}
        )

    def refusal(self, status: int, message: str = "no") -> web.Response:
        if status == 401:
            return web.json_response({"error": "Unauthorized"}, status=401)
        error = {"message": message, "type": TYPES.get(status, "BadRequestError"), "param": None, "code": status}
        if self.flat_errors:
            return web.json_response({"object": "error", **error}, status=status)
        return web.json_response({"error": error}, status=status)

    def unknown_path(self, status: int) -> web.StreamResponse:
        return web.json_response({"detail": "Not Found"}, status=status)

    def check_key(self, request: web.Request) -> None:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            raise Refused(self.refusal(401))

    def cards(self) -> list[dict[str, Any]]:
        card = {"object": "model", "created": 1, "owned_by": "vllm", "permission": []}
        return [
            {**card, "id": MODEL, "root": MODEL, "parent": None, "max_model_len": MAX_MODEL_LEN},
            {**card, "id": ADAPTER, "root": "/loras/sql", "parent": MODEL, "max_model_len": None},
        ]

    def check_chat(self, chat: Chat) -> None:
        if self.sleeping:
            raise Refused(self.refusal(500, "the engine sleeps"))
        if chat.model not in {MODEL, ADAPTER}:
            raise Refused(self.refusal(404, f"The model `{chat.model}` does not exist."))
        if (chat.max_tokens or 0) > MAX_MODEL_LEN:
            raise Refused(self.refusal(400, f"This model's maximum context length is {MAX_MODEL_LEN} tokens."))

    async def health(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=503 if self.dead else 200)

    async def version(self, _: web.Request) -> web.StreamResponse:
        if not self.version_on:
            raise web.HTTPNotFound
        return web.json_response({"version": "0.33.0"})

    async def metrics(self, _: web.Request) -> web.StreamResponse:
        if not self.metrics_on:
            raise web.HTTPNotFound
        text = (
            "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
            "# TYPE vllm:num_requests_running gauge\n"
            f'vllm:num_requests_running{{engine="0",model_name="{MODEL}"}} {float(self.running - 1)}\n'
            f'vllm:num_requests_running{{engine="1",model_name="{MODEL}"}} 1.0\n'
            f'vllm:num_requests_waiting{{engine="0",model_name="{MODEL}"}} {float(self.waiting)}\n'
            f'vllm:num_requests_waiting_by_reason{{engine="0",reason="capacity"}} {float(self.waiting)}\n'
            f'vllm:kv_cache_usage_perc{{engine="0",model_name="{MODEL}"}} 0.25\n'
        )
        return web.Response(text=text, content_type="text/plain")

    def _check_dev(self) -> None:
        if not self.dev:
            raise web.HTTPNotFound

    def _ordered(self, body: Mapping[str, Any]) -> web.StreamResponse:
        return web.Response() if self.silent_orders else web.json_response(body)

    async def is_sleeping(self, _: web.Request) -> web.StreamResponse:
        self._check_dev()
        if self.wake_looks > 0:
            self.wake_looks -= 1
            return web.json_response({"is_sleeping": True})
        return web.json_response({"is_sleeping": self.sleeping})

    async def sleep(self, request: web.Request) -> web.StreamResponse:
        self._check_dev()
        if dict(request.query) != {"level": "1", "mode": "wait"}:
            raise Refused(self.refusal(400, f"{request.query_string}: level=1 and mode=wait are expected"))
        self.sleeping = True
        self.slept.set()
        return self._ordered({"status": "sleeping", "level": 1})

    async def wake_up(self, _: web.Request) -> web.StreamResponse:
        self._check_dev()
        self.sleeping = False
        return self._ordered({"status": "awake", "tags": None})
