"""The simulated backend's HTTP server: counts, queues, and can die and come back."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Final, Self

import msgspec
from aiohttp import web

from actors.simbackend import protocol
from actors.simbackend.play import abort, json_response, play
from actors.simbackend.protocol import ChatRequest, Refused
from actors.simbackend.settings import Fault, SimSettings, checked_rates, fault_of
from actors.simbackend.words import count_tokens

_MAX_BODY_BYTES: Final = 32 * 1024 * 1024


class SimServer:
    """One simulated backend on one port. Belongs to one event loop; counts survive a restart."""

    def __init__(self, settings: SimSettings, host: str = "127.0.0.1", port: int = 0) -> None:
        self.settings = settings
        self.host = host
        self.port = port
        """0 until the first start, if a free one was asked for; the same ever after."""
        self._rates = settings.rates()
        self._slots = asyncio.Semaphore(settings.slots)
        self._requests = 0
        self._completed = 0
        self._running = 0
        self._queued = 0
        self._faults: Counter[Fault] = Counter()
        self._runner: web.AppRunner | None = None
        self._stopped = asyncio.Event()
        self._dying: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The base URL for OpenAI clients. The server must have been started once."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/v1"

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken; does nothing when it listens already."""
        if self._runner is not None:
            return
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.on_response_prepare.append(_mark)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/models", self._models),
                web.get("/health", self._health),
                web.get("/sim/state", self._state),
                web.put("/sim/faults", self._set_faults),
                web.post("/sim/die", self._die),
            ]
        )
        # A client that goes away cancels its handler, which frees the slot.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self.host, self.port, backlog=1024)
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self.port = site.port
        self._runner = runner
        self._stopped.clear()

    async def stop(self) -> None:
        """Stop listening, and give running answers a second to end."""
        await self._close(abruptly=False)

    async def kill(self) -> None:
        """Stop listening and break all connections, as if the process had died."""
        await self._close(abruptly=True)

    async def wait_stopped(self) -> None:
        """Return once the server has stopped, by whatever way."""
        await self._stopped.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def _close(self, *, abruptly: bool) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in runner.sites:
            await site.stop()
        if abruptly and runner.server is not None:
            for connection in runner.server.connections:
                if connection.transport is not None:
                    abort(connection.transport)
        await runner.cleanup()
        self._stopped.set()
        self._slots = asyncio.Semaphore(self.settings.slots)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            asked = protocol.read_request(body, self.settings)
            input_tokens = self._input_tokens(asked)
        except Refused as refused:
            return json_response(refused.body, refused.status)
        number = self._requests
        self._requests += 1
        fault = fault_of(self.settings.seed, number, self._rates)
        if fault is not None:
            self._faults[fault] += 1
        if fault == "500":
            return json_response(protocol.error_body(500, f"[simulated by {self.settings.name}] it broke"), 500)
        if fault == "429":
            message = f"[simulated by {self.settings.name}] too many requests"
            response = json_response(protocol.error_body(429, message, code="rate_limit_exceeded"), 429)
            response.headers["retry-after"] = f"{self.settings.retry_after_seconds:g}"
            return response
        async with self._slot():
            response = await play(
                request, asked, number=number, input_tokens=input_tokens, fault=fault, settings=self.settings
            )
        if fault in {None, "slow", "empty"}:
            self._completed += 1
        return response

    def _input_tokens(self, asked: ChatRequest) -> int:
        tokens = count_tokens(asked.texts())
        limit = self.settings.context_tokens
        if tokens + (asked.cap or 1) > limit:
            message = (
                f"the request needs {tokens + (asked.cap or 1)} tokens; this model's maximum context length is {limit}"
            )
            raise Refused(400, message, code="context_length_exceeded", param="messages")
        return tokens

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncGenerator[None, None]:
        slots = self._slots
        self._queued += 1
        try:
            await slots.acquire()
        finally:
            self._queued -= 1
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            slots.release()

    async def _models(self, _: web.Request) -> web.Response:
        return json_response(protocol.model_list(self.settings))

    async def _health(self, _: web.Request) -> web.Response:
        return json_response(protocol.encode({"status": "ok", "simulated": True}))

    async def _state(self, _: web.Request) -> web.Response:
        state = {
            "name": self.settings.name,
            "simulated": True,
            "requests": self._requests,
            "completed": self._completed,
            "running": self._running,
            "queued": self._queued,
            "slots": self.settings.slots,
            "faults": self._rates,
            "faulted": dict(self._faults),
        }
        return json_response(protocol.encode(state))

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self._rates = checked_rates(msgspec.json.decode(await request.read(), type=dict[Fault, float]))
        except (msgspec.DecodeError, ValueError) as error:
            return json_response(protocol.error_body(400, str(error), param="faults"), 400)
        return json_response(protocol.encode({"faults": self._rates}))

    async def _die(self, request: web.Request) -> web.StreamResponse:
        response = json_response(protocol.encode({"simulated": True, "dying": True}), 202)
        await response.prepare(request)
        await response.write_eof()
        self._dying = asyncio.get_running_loop().create_task(self.kill())
        return response


async def serve(settings: SimSettings, host: str = "127.0.0.1", port: int = 8300) -> None:
    """Run a simulated backend until cancelled, or until it is told to die. Raises OSError when the port is taken."""
    server = SimServer(settings, host, port)
    await server.start()
    try:
        await server.wait_stopped()
    finally:
        await server.stop()


async def _mark(_: web.Request, response: web.StreamResponse) -> None:
    response.headers[protocol.HEADER] = "true"
