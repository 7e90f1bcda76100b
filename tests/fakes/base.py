"""What all fakes share: one real HTTP server on a real loopback socket, its faults, and what tests ask of it.

A fake inherits from `FakeServer`, gives its routes and its protocol's form of an error, reads requests with `read` (strict)
and sends the answers to calls with `play`, which plays the fault that a test has set.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, Final, Self, TypeVar

import msgspec
from aiohttp import web

STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "rate_limited": 429,
        "server_error": 500,
        "overloaded": 503,
        "account": 401,
        "bad_request": 400,
        "unknown_model": 404,
    }
)
"""The faults that are a status, and the usual one for each."""
RETRY_AFTER_SECONDS: Final = 7
PAGE: Final = b"<!doctype html><html><body>It works!</body></html>"

_DRIP_BYTES: Final = 8 * 1024  # Byte by byte so far, then in larger pieces: pictures would take too long.
_Asked = TypeVar("_Asked")


class Refused(Exception):
    """Ends a handler with this response."""

    def __init__(self, response: web.StreamResponse) -> None:
        super().__init__(response.status)
        self.response = response


class FakeServer(abc.ABC):
    """A server of one protocol. Listens at the same address again after it was left and entered once more."""

    path: ClassVar[str] = ""
    """What follows host and port in `url`."""
    filler: ClassVar[bytes] = b" " * 65_536
    """What `huge` repeats."""

    def __init__(self) -> None:
        self.url = ""
        self.fault: str | None = None
        """One of the suite's faults, or one of the protocol's own; None: all is well."""
        self.calls = 0
        """Calls that it was asked to run; handlers count."""
        self.cancelled = asyncio.Event()
        """Set when a client left while its answer was on its way; protocols with a word for it set it by hand."""
        self.hanging = 0
        """Calls that began to hang so far."""
        self.keys: list[str | None] = []
        """The `Authorization` of every request, in their order."""
        self.paths: list[str] = []
        """Method and path of every request, in their order: `POST /v1/chat/completions`."""
        self.says: tuple[int, str, bytes] | None = None
        """What every call is answered with, to the letter: status, content type (empty: none) and body."""
        self._port = 0
        self._runner: web.AppRunner | None = None

    @abc.abstractmethod
    def routes(self) -> Iterable[web.AbstractRouteDef]:
        """Its endpoints."""

    @abc.abstractmethod
    def refusal(self, status: int, message: str = "no") -> web.Response:
        """The protocol's form of an error with this status."""

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._around], client_max_size=256 * 1024 * 1024)
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = site.port
        self.url = f"http://127.0.0.1:{self._port}{self.path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def open_connections(self) -> int:
        """Connections that clients hold open now."""
        server = self._runner.server if self._runner is not None else None
        return len(server.connections) if server is not None else 0

    async def read(self, request: web.Request, kind: type[_Asked]) -> _Asked:
        """The request's JSON; what does not fit `kind` (a struct that forbids unknown fields) is the protocol's 400."""
        try:
            return msgspec.json.decode(await request.read(), type=kind)
        except msgspec.DecodeError as error:
            raise Refused(self.refusal(400, str(error))) from None

    async def play(
        self,
        request: web.Request,
        pieces: Sequence[bytes],
        *,
        media_type: str,
        frame: Callable[[bytes], bytes] = lambda data: data,
        inside: bytes = b"",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> web.StreamResponse:
        """Answer a call with `pieces`, or as the fault says.

        `frame` puts JSON into the protocol's stream; `inside` is how the protocol tells an error after the answer began.
        """
        if self.says is not None:
            status, said, body = self.says
            return web.Response(status=status, body=body, headers={"content-type": said} if said else {})
        fault = self.fault
        if fault is not None and fault in STATUS:
            response = self.refusal(STATUS[fault])
            if fault == "rate_limited":
                response.headers["retry-after"] = str(RETRY_AFTER_SECONDS)
            return response
        if fault == "web_page":
            return web.Response(body=PAGE, content_type="text/html")
        begun = _beginning(pieces)
        data = {
            "no_json": [frame(b'{"broken')],
            "wrong_json": [frame(b"[1, 2]")],
            "error_inside": [*(begun if len(pieces) > 1 else []), inside],
            "cut": begun,
            "hang": begun if len(pieces) > 1 else [],
            "huge": begun,
        }.get(fault or "", pieces)
        response = web.StreamResponse(headers={"content-type": media_type, **headers})
        await response.prepare(request)
        try:
            await self._write(request, response, data, fault)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        except ConnectionError:
            self.cancelled.set()
        return response

    async def _write(
        self, request: web.Request, response: web.StreamResponse, data: Sequence[bytes], fault: str | None
    ) -> None:
        for piece in data:
            if fault == "drip":
                await _drip(response, piece)
            else:
                await response.write(piece)
                await asyncio.sleep(0)  # So that pieces come apart.
        if fault == "hang":
            self.hanging += 1
            await asyncio.Event().wait()
        while fault == "huge":
            await response.write(self.filler)
        if fault == "cut":
            transport = request.transport
            assert transport is not None
            transport.close()
            return
        await response.write_eof()

    @web.middleware
    async def _around(self, request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
        self.keys.append(request.headers.get("authorization"))
        self.paths.append(f"{request.method} {request.path}")
        try:
            return await handler(request)  # type: ignore[misc]
        except Refused as refused:
            return refused.response
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            return self.unknown_path(error.status)

    def unknown_path(self, status: int) -> web.StreamResponse:
        """What it says of a path or method that it does not know."""
        return self.refusal(status, "no such path")


def _beginning(pieces: Sequence[bytes]) -> list[bytes]:
    """The first half of an answer: whole pieces where there are several, otherwise half of the only one."""
    if len(pieces) > 1:
        return list(pieces[: max(1, len(pieces) // 2)])
    return [piece[: max(1, len(piece) // 2)] for piece in pieces]


async def _drip(response: web.StreamResponse, piece: bytes) -> None:
    for position in range(min(len(piece), _DRIP_BYTES)):
        await response.write(piece[position : position + 1])
        await asyncio.sleep(0)
    for position in range(_DRIP_BYTES, len(piece), _DRIP_BYTES):
        await response.write(piece[position : position + _DRIP_BYTES])
        await asyncio.sleep(0)
