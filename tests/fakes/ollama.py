"""A small, strict Ollama on a real socket: unknown fields and wrong types are errors, as a real one would not say."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from tests.fakes.base import FakeServer, Refused


class FakeMessage(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: str
    images: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None


class FakeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    num_ctx: int | None = None
    num_predict: int | None = None
    temperature: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None


class FakeChat(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: list[FakeMessage]
    options: FakeOptions = FakeOptions()
    stream: bool = True
    truncate: bool = True
    shift: bool = True
    format: Any = None
    tools: list[dict[str, Any]] | None = None
    keep_alive: str | int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.keep_alive, str) and not re.fullmatch(r"-?(\d+(\.\d*)?(ms|s|m|h))+", self.keep_alive):
            raise ValueError(f"time: missing unit in duration {self.keep_alive!r}")


class FakeEmbed(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    input: list[str] | str
    truncate: bool = True
    dimensions: int | None = None
    keep_alive: str | int | None = None
    options: FakeOptions | None = None


class FakeShow(msgspec.Struct, forbid_unknown_fields=True):
    model: str


class FakeOllama(FakeServer):
    """Answers every chat with `lines`, or refuses it with `refusal_with`; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = [line("Hello"), line(" world, né 🚂"), last(prompt_eval_count=7, eval_count=2)]
        self.refusal_with: tuple[int, str] | None = None
        self.tags: Any = {"models": [{"name": "llama3.1:8b", "model": "llama3.1:8b", "digest": "d1"}]}
        self.shown: dict[str, Any] = {}
        """What `/api/show` says, by model; what is not in here is unknown."""
        self.loaded: list[str] = []
        self.asked: list[FakeChat] = []
        self.embedded: list[FakeEmbed] = []

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return [
            web.get("/", self._root),
            web.post("/api/chat", self._chat),
            web.post("/api/embed", self._embed),
            web.post("/api/show", self._show),
            web.get("/api/tags", self._tags),
            web.get("/api/ps", self._ps),
            web.get("/api/version", self._version),
        ]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        words = {404: "model 'x' not found", 503: "server busy, please try again.  maximum pending requests exceeded"}
        return web.json_response({"error": words.get(status, message)}, status=status)

    def _refuse(self) -> None:
        if self.refusal_with is not None:
            status, message = self.refusal_with
            raise Refused(web.json_response({"error": message}, status=status))

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        chat = await self.read(request, FakeChat)
        if not chat.messages:
            return self._hold(chat)
        self.calls += 1
        self.asked.append(chat)
        self._refuse()
        if not chat.stream:
            return self._whole()
        inside = b'{"error":"an error was encountered while running the model"}\n'
        return await self.play(
            request, self.lines, media_type="application/x-ndjson", frame=lambda data: data + b"\n", inside=inside
        )

    def _whole(self) -> web.Response:
        cards = [msgspec.json.decode(one) for one in self.lines]
        cards[-1]["message"]["content"] = "".join(card["message"]["content"] for card in cards)
        return web.json_response(cards[-1])

    def _hold(self, chat: FakeChat) -> web.Response:
        """A chat without messages loads the model, or unloads it."""
        self._known(chat.model)
        out = chat.keep_alive == 0
        if out and chat.model in self.loaded:
            self.loaded.remove(chat.model)
        elif not out and chat.model not in self.loaded:
            self.loaded.append(chat.model)
        reason = "unload" if out else "load"
        body = {
            "model": chat.model,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": reason,
        }
        return web.json_response(body)

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        asked = await self.read(request, FakeEmbed)
        self.calls += 1
        self.embedded.append(asked)
        self._refuse()
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        vectors = [[float(len(text)), 0.5, -0.25][: asked.dimensions or 3] for text in texts]
        body = {"model": asked.model, "embeddings": vectors, "prompt_eval_count": sum(map(len, texts))}
        return await self.play(request, [msgspec.json.encode(body)], media_type="application/json")

    async def _show(self, request: web.Request) -> web.Response:
        asked = await self.read(request, FakeShow)
        self._known(asked.model)
        return web.json_response(self.shown.get(asked.model, {}))

    def _known(self, model: str) -> None:
        names = [card.get("name") for card in self.tags["models"] or ()]
        if model not in names:
            raise Refused(self.refusal(404))

    async def _tags(self, _: web.Request) -> web.Response:
        return web.json_response(self.tags)

    async def _ps(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": name, "size_vram": 1} for name in self.loaded]})

    async def _version(self, _: web.Request) -> web.Response:
        self._refuse()
        await asyncio.sleep(0)
        return web.json_response({"version": "0.13.1"})


def line(content: str = "", **message: Any) -> bytes:
    body = {"model": "llama3.1:8b", "message": {"role": "assistant", "content": content, **message}, "done": False}
    return msgspec.json.encode(body) + b"\n"


def last(reason: str | None = "stop", **counts: int) -> bytes:
    body: dict[str, Any] = {"model": "llama3.1:8b", "message": {"role": "assistant", "content": ""}, "done": True}
    if reason is not None:
        body["done_reason"] = reason
    return msgspec.json.encode({**body, **counts}) + b"\n"
