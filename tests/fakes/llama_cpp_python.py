"""A strict llama_cpp.server: FastAPI's errors, no usage in streams, and a newer call that interrupts a running one.

A stream of a prompt that is too long ends before it begins, with a good status; only a whole answer says why. What pydantic
refuses comes as a 500, and the body that is no JSON as one without words, after which the connection is closed.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from aiohttp import web

from tests.fakes.base import Refused
from tests.fakes.openai_chat import Chat, ChatFake, event

MODEL = "models/llama.gguf"


class Silent(Exception):  # It is none of ours: the real server breaks off here.
    """The stream ends before it begins."""


def invalid(message: str) -> web.Response:
    """What it says of a request that pydantic refuses, or of a call that its model was not made for."""
    error = {"message": message, "type": "internal_server_error", "param": None, "code": None}
    return web.json_response({"error": error}, status=500)


class FakeLlamaCppPython(ChatFake):
    """A llama_cpp.server. The name that is asked for is echoed, known or not."""

    usual: ClassVar[str] = MODEL
    takes_schema: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.key = ""
        self.ends_early = False
        """Somebody else's newer call interrupts the next one: it ends as if all had been said."""
        self.interrupted = 0
        """Calls that a newer one broke off."""
        self._running: asyncio.Event | None = None

    def refusal(self, status: int, message: str = "no") -> web.Response:
        if status in {401, 404}:
            detail = {401: "Invalid API key", 404: "Not Found"}[status]
            return web.json_response({"detail": detail}, status=status)
        if status == 500:
            return web.Response(text="Internal Server Error", status=500)
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        return web.json_response({"error": error}, status=status)

    def inside(self) -> bytes:
        return event(b'{"error": {"message": "died", "type": "internal_server_error", "param": null, "code": null}}')

    def check_key(self, request: web.Request) -> None:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            raise Refused(self.refusal(401))

    def cards(self) -> list[dict[str, Any]]:
        return [{"id": MODEL, "object": "model", "owned_by": "me", "permissions": []}]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        try:
            return await super().chat(request)
        except Silent:
            response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
            await response.prepare(request)
            assert request.transport is not None
            request.transport.close()  # Without the end of the body: the connection is gone.
            return response

    def check_chat(self, chat: Chat) -> None:
        form = chat.response_format
        if form is not None and form.type == "json_schema":
            told = "'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or 'json_object'\""
            raise Refused(
                invalid(f"1 validation error:\n  {{'type': 'literal_error', {told}, 'input': 'json_schema'}}")
            )
        if chat.has_images():
            raise Refused(self.refusal(400, "images are ignored in silence: nobody should send them"))
        if (chat.max_tokens or 0) > 2048:
            error = {"message": "This model's maximum context length is 2048 tokens", "type": "invalid_request_error"}
            body = {"error": {**error, "param": "messages", "code": "context_length_exceeded"}}
            if chat.stream:
                raise Silent
            raise Refused(web.json_response(body, status=400))

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        return invalid("Llama model must be created with embedding=True to call this method")

    async def answer(self, request: web.Request, chat: Chat) -> web.StreamResponse:
        if self._running is not None:
            self.interrupted += 1
            self._running.set()
        mine = self._running = asyncio.Event()
        answer = asyncio.ensure_future(super().answer(request, chat))
        stop = asyncio.ensure_future(mine.wait())
        try:
            await asyncio.wait({answer, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                assert request.transport is not None
                request.transport.close()
                return web.Response()
            return await answer
        finally:
            for task in (answer, stop):
                task.cancel()
            await asyncio.gather(answer, stop, return_exceptions=True)
            if self._running is mine:
                self._running = None

    def chunks(self, chat: Chat) -> list[bytes]:
        *found, done = super().chunks(chat)
        if self.ends_early:
            return [*found[:3], done]
        asked = chat.stream_options is not None and chat.stream_options.include_usage
        return [*(found[:-1] if asked else found), done]  # Never with usage, asked for or not.
