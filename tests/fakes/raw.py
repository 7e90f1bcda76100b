"""A server that answers every request with the bytes that a test gives it, whatever protocol they are of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiohttp import web

from tests.fakes.base import FakeServer

STREAM = "text/event-stream"


class RawServer(FakeServer):
    """Answers to a GET are `listed`, all others `pieces`, each written by itself; both of the media types beside them."""

    def __init__(self, pieces: Sequence[bytes] = (), media_type: str = STREAM) -> None:
        super().__init__()
        self.pieces, self.media_type = pieces, media_type
        self.listed, self.listed_type = b'{"data": []}', "application/json"
        self.at: dict[str, tuple[bytes, str]] = {}
        """Bytes and media type of single paths."""
        self.status = 200
        """Of the answers that are no GET's."""
        self.stays_open = False
        """Streams never end by themselves."""

    def routes(self) -> list[web.AbstractRouteDef]:
        return [web.route("*", "/{path:.*}", self.answer)]

    def refusal(self, status: int, message: str = "no") -> web.Response:
        return web.json_response({"error": message}, status=status)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        if request.path in self.at:
            body, media_type = self.at[request.path]
            return web.Response(body=body, headers={"content-type": media_type})
        if request.method == "GET":
            return web.Response(body=self.listed, headers={"content-type": self.listed_type})
        self.calls += 1
        response = web.StreamResponse(status=self.status, headers={"content-type": self.media_type})
        await response.prepare(request)
        try:
            for piece in self.pieces:
                await response.write(piece)
                await asyncio.sleep(0)
            if self.stays_open:
                await asyncio.Event().wait()
            await response.write_eof()
        except ConnectionError:
            pass  # The client has what it wants.
        return response
