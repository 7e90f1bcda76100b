"""A strict LM Studio: 0.4 with its native list and orders, or an older one with the list of before."""

from __future__ import annotations

from typing import Any, ClassVar

from aiohttp import web

from tests.fakes.base import Refused
from tests.fakes.openai_chat import Chat, ChatFake, Strict

MODEL, OTHER, EMBEDDING = "qwen/qwen3-8b", "google/gemma-3-12b", "text-embedding-nomic-embed-text-v1.5"


class Load(Strict):
    model: str
    context_length: int | None = None


class Unload(Strict):
    instance_id: str


class FakeLmStudio(ChatFake):
    """An LM Studio. A call for a model that is not loaded loads it in place of the others."""

    path: ClassVar[str] = ""
    usual: ClassVar[str] = MODEL

    def __init__(self) -> None:
        super().__init__()
        self.native = True
        """Whether it is 0.4 or later."""
        self.token = ""
        self.loaded: dict[str, int] = {MODEL: 1}
        """How many instances of each model are loaded."""
        self.load_status = "loaded"
        self.downloaded: tuple[str, ...] = (MODEL, OTHER, EMBEDDING)

    def more_routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/api/v1/models", self.native_models),
            web.get("/api/v0/models", self.older_models),
            web.post("/api/v1/models/load", self.load),
            web.post("/api/v1/models/unload", self.unload),
        ]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        code = "model_not_found" if status == 404 else None
        error = {"message": message, "type": "invalid_request", "param": None, "code": code}
        return web.json_response({"error": error}, status=status)

    def unknown_path(self, status: int) -> web.StreamResponse:
        return web.json_response({"error": f"Unexpected endpoint or method ({status}). Returning 200 anyway"})

    def check_key(self, request: web.Request) -> None:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refused(self.refusal(401, "Invalid API token"))

    def cards(self) -> list[dict[str, Any]]:
        return [{"id": name, "object": "model", "owned_by": "organization_owner"} for name in (MODEL, OTHER, EMBEDDING)]

    def check_chat(self, chat: Chat) -> None:
        if chat.model not in {MODEL, OTHER}:
            raise Refused(self.refusal(404, f"No model {chat.model!r}"))
        if chat.model not in self.loaded:
            self.loaded = {chat.model: 1}

    def _check_native(self, request: web.Request) -> None:
        self.check_key(request)
        if not self.native:
            raise web.HTTPNotFound

    async def native_models(self, request: web.Request) -> web.StreamResponse:
        self._check_native(request)
        return web.json_response({"models": [self._native(name) for name in self.downloaded]})

    def _native(self, name: str) -> dict[str, Any]:
        config = {"context_length": 8192, "parallel": 4, "flash_attention": True}
        count = self.loaded.get(name, 0)
        instances = [name if number == 0 else f"{name}:{number + 1}" for number in range(count)]
        card: dict[str, Any] = {
            "type": "embedding" if name == EMBEDDING else "llm",
            "publisher": name.partition("/")[0],
            "key": name,
            "display_name": name,
            "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
            "size_bytes": 5_000_000_000,
            "params_string": None if name == EMBEDDING else "8B",
            "loaded_instances": [{"id": instance, "config": config} for instance in instances],
            "max_context_length": 131_072,
            "format": "gguf",
        }
        if name != EMBEDDING:
            card["capabilities"] = {"vision": name == OTHER, "trained_for_tool_use": name == MODEL}
        return card

    async def older_models(self, request: web.Request) -> web.StreamResponse:
        self.check_key(request)
        kinds = {MODEL: "llm", OTHER: "vlm", EMBEDDING: "embeddings"}
        cards = [
            {
                "id": name, "object": "model", "type": kind, "arch": "qwen3", "max_context_length": 131_072,
                "state": "loaded" if name in self.loaded else "not-loaded",
                **({"capabilities": ["tool_use"]} if name == MODEL else {}),
            }
            for name, kind in kinds.items()
        ]  # fmt: skip
        return web.json_response({"object": "list", "data": cards})

    async def load(self, request: web.Request) -> web.StreamResponse:
        self._check_native(request)
        order = await self.read(request, Load)
        if order.model not in {MODEL, OTHER, EMBEDDING}:
            return self.refusal(404, "no such model")
        if self.load_status == "loaded":
            self.loaded = {order.model: 1}
        body = {"type": "llm", "instance_id": order.model, "load_time_seconds": 2.5, "status": self.load_status}
        return web.json_response(body)

    async def unload(self, request: web.Request) -> web.StreamResponse:
        self._check_native(request)
        order = await self.read(request, Unload)
        name = order.instance_id.partition(":")[0]
        if not self.loaded.get(name):
            return self.refusal(404, "no such instance")
        self.loaded[name] -= 1
        return web.json_response({"instance_id": order.instance_id})
