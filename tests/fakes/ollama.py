"""A small, strict Ollama on a real socket: unknown fields and wrong types are errors, as a real one would not say."""

import asyncio
from typing import Any, Self

import msgspec
from aiohttp import web


class FakeMessage(msgspec.Struct, forbid_unknown_fields=True):
    role: str
    content: str
    images: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None


class FakeOptions(msgspec.Struct, forbid_unknown_fields=True):
    num_ctx: int
    num_predict: int
    temperature: float | None = None
    seed: int | None = None
    stop: list[str] | None = None


class FakeChat(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    messages: list[FakeMessage]
    options: FakeOptions
    stream: bool
    truncate: bool = True
    shift: bool = True
    format: Any = None
    tools: list[dict[str, Any]] | None = None
    keep_alive: str | None = None


class FakeOllama:
    """Answers every chat with `lines`, or refuses it with `refusal`; remembers what it was asked."""

    def __init__(self) -> None:
        self.lines: list[bytes] = [line("Hello"), line(" world"), last(prompt_eval_count=7, eval_count=2)]
        self.refusal: tuple[int, str] | None = None
        self.tags: Any = {"models": []}
        self.loaded: Any = {"models": []}
        self.asked: list[FakeChat] = []
        self.authorizations: list[str | None] = []
        self.hang = False
        self.cancelled = asyncio.Event()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.post("/api/chat", self._chat),
                web.get("/api/tags", self._tags),
                web.get("/api/ps", self._ps),
                web.get("/api/version", self._version),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.authorizations.append(request.headers.get("authorization"))
        try:
            chat = msgspec.json.decode(await request.read(), type=FakeChat)
        except msgspec.DecodeError as error:
            return web.json_response({"error": str(error)}, status=400)
        self.asked.append(chat)
        if self.refusal is not None:
            status, message = self.refusal
            return web.json_response({"error": message}, status=status)
        response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            for piece in self.lines:
                await response.write(piece)
            if self.hang:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await response.write_eof()
        return response

    async def _tags(self, _: web.Request) -> web.Response:
        return web.json_response(self.tags)

    async def _ps(self, _: web.Request) -> web.Response:
        return web.json_response(self.loaded)

    async def _version(self, request: web.Request) -> web.Response:
        self.authorizations.append(request.headers.get("authorization"))
        if self.refusal is not None:
            return web.json_response({"error": self.refusal[1]}, status=self.refusal[0])
        return web.json_response({"version": "0.13.1"})


def line(content: str = "", **message: Any) -> bytes:
    body = {"model": "llama3.1:8b", "message": {"role": "assistant", "content": content, **message}, "done": False}
    return msgspec.json.encode(body) + b"\n"


def last(reason: str | None = "stop", **counts: int) -> bytes:
    body: dict[str, Any] = {"model": "llama3.1:8b", "message": {"role": "assistant", "content": ""}, "done": True}
    if reason is not None:
        body["done_reason"] = reason
    return msgspec.json.encode({**body, **counts}) + b"\n"
