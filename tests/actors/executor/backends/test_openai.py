import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any

import httpx
import msgspec
import pytest
from aiohttp import web

from actors.executor.backends import open_backend
from actors.executor.backends.openai import OpenAIBackend
from actors.executor.backends.port import (
    Answer,
    Artifact,
    Backend,
    BackendError,
    Call,
    Chunk,
    NoList,
    Offer,
    Step,
    Usage,
)
from actors.simbackend import SimServer, SimSettings
from tests.fakes.openai import FakeOpenAI

CALL = Call(model="sim-small", messages=({"role": "user", "content": "say something"},), max_output_tokens=12)
KEY = "key-that-must-not-show"


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[Backend, None]:
    backend = open_backend("openai", url, api_key=KEY, now=lambda: 0.0, **options)
    try:
        yield backend
    finally:
        await backend.close()


@contextlib.asynccontextmanager
async def simulated(**settings: Any) -> AsyncGenerator[tuple[SimServer, Backend], None]:
    async with SimServer(SimSettings(name="t", **settings)) as server, opened(server.url) as backend:
        yield server, backend


class Scripted:
    """Answers with what a test says, piece by piece, and remembers the bodies."""

    def __init__(self, *pieces: bytes, status: int = 200, media: str = "text/event-stream", **headers: str) -> None:
        self.pieces = pieces
        self.status = status
        self.headers = {"content-type": media, **{name.replace("_", "-"): value for name, value in headers.items()}}
        self.hang = False
        self.asked: list[Any] = []
        self.authorization = ""
        self.paths: list[str] = []
        self.connections: set[int] = set()
        self.closed = asyncio.Event()
        self.respond: Callable[[Any], Scripted] = lambda _: self

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        self.authorization = request.headers.get("authorization", "")
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername")[1])
        body = await request.read()
        self.asked.append(msgspec.json.decode(body) if body else None)
        script = self.respond(self.asked[-1])
        response = web.StreamResponse(status=script.status, headers=script.headers)
        await response.prepare(request)
        try:
            for piece in script.pieces:
                await response.write(piece)
            if script.hang:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.closed.set()
            raise
        await response.write_eof()
        return response


@contextlib.asynccontextmanager
async def scripted(script: Scripted, **options: Any) -> AsyncGenerator[Backend, None]:
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", script.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with opened(f"http://127.0.0.1:{site.port}/v1", **options) as backend:
            yield backend
    finally:
        await runner.cleanup()


async def all_of(backend: Backend, call: Call = CALL) -> tuple[str, Answer]:
    *chunks, answer = [part async for part in backend.run(call)]
    assert isinstance(answer, Answer)
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk)), answer


async def failure_of(backend: Backend, call: Call = CALL) -> BackendError:
    with pytest.raises(BackendError) as caught:
        await all_of(backend, call)
    assert KEY not in f"{caught.value} {caught.value.body} {caught.value!r}"
    return caught.value


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + (e if isinstance(e, bytes) else msgspec.json.encode(e)) + b"\n\n" for e in events)


def said(content: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


@pytest.mark.parametrize("speed", [0, 500])
def test_an_answer(run, speed: float) -> None:
    async def main() -> None:
        async with simulated(tokens_per_second=speed, first_token_seconds=speed / 100_000) as (_, backend):
            text, answer = await all_of(backend)
            assert text.startswith("[simulated by t] ")
            assert answer == Answer(
                text=text,
                finish_reason="stop",
                model="sim-small",
                usage=Usage(input_tokens=2, output_tokens=12, cached_tokens=0, reasoning_tokens=0),
            )

    run(main())


@pytest.mark.parametrize("speed", [0, 2000])
@pytest.mark.parametrize(
    ("fault", "kind", "retry"),
    [
        ("500", "server_error", "same"),
        ("429", "rate_limited", "same"),
        ("cut", "cut_stream", "same"),
        ("malformed", "invalid_structure", "elsewhere"),
        ("structure", "invalid_structure", "elsewhere"),
    ],
)
def test_every_fault_has_its_kind(run, fault: str, kind: str, retry: str, speed: float) -> None:
    async def main() -> None:
        async with simulated(faults={fault: 1.0}, tokens_per_second=speed, retry_after_seconds=7.5) as (_, backend):
            error = await failure_of(backend)
            assert (error.kind, error.retry) == (kind, retry)
            assert error.retry_after_seconds == (7.5 if fault == "429" else None)
            assert error.partial.startswith("[simulated by t]" if error.status == 200 else "")
            assert error.status == (int(fault) if fault.isdigit() else 200)

    run(main())


def test_empty_and_slow_answers_are_answers(run) -> None:
    async def main() -> None:
        async with simulated(faults={"empty": 1.0}) as (_, backend):
            assert await all_of(backend) == ("", (await all_of(backend))[1])
        async with simulated(faults={"slow": 1.0}, slow_factor=1) as (_, backend):
            assert (await all_of(backend))[1].finish_reason == "stop"

    run(main())


def test_cancelling_a_hanging_call_frees_the_slot(run) -> None:
    async def main() -> None:
        async with simulated(faults={"hang": 1.0}, slots=1) as (server, backend), httpx.AsyncClient() as client:

            async def state() -> Any:
                return (await client.get(server.url.replace("/v1", "/sim/state"))).json()

            calls = [asyncio.create_task(all_of(backend)) for _ in range(2)]
            while (await state())["queued"] < 1:
                pass
            assert (await state())["running"] == 1
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            while (now := await state())["running"] or now["queued"]:
                pass

    run(main())


def test_closing_in_the_middle_closes_the_connection(run) -> None:
    async def main() -> None:
        script = Scripted(sse(said("a")))
        script.hang = True
        async with scripted(script) as backend:
            running = backend.run(CALL)
            assert await anext(running) == Chunk(text="a")
            await running.aclose()  # type: ignore[attr-defined]
            await asyncio.wait_for(script.closed.wait(), 5)

    run(main())


def test_a_dying_server_and_its_return(run) -> None:
    async def main() -> None:
        async with simulated(tokens_per_second=20) as (server, backend):
            running = backend.run(CALL)
            first = await anext(running)
            while isinstance(first, Chunk) and not first.text:
                first = await anext(running)
            assert isinstance(first, Chunk)
            await server.kill()
            with pytest.raises(BackendError) as caught:
                [part async for part in running]
            assert (caught.value.kind, caught.value.partial[:4]) == ("cut_stream", "[sim")
            assert (await failure_of(backend)).kind == "connection_error"
            with pytest.raises(BackendError):
                await backend.health()
            await server.start()
            await backend.health()

    run(main())


def test_a_server_that_hangs_up_without_a_word(run) -> None:
    async def main() -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async def talk_nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n\r\n")
            writer.close()

        for handler, kind in ((hang_up, "connection_error"), (talk_nonsense, "invalid_structure")):
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            async with server, opened(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as backend:
                error = await failure_of(backend)
                assert (error.kind, error.status) == (kind, None)

    run(main())


def test_connecting_is_bounded(run) -> None:
    async def main() -> None:
        # A full backlog: the kernel answers no further handshake.
        with socket.socket() as listener, contextlib.ExitStack() as stack:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for _ in range(4):
                blocker = stack.enter_context(socket.socket())
                blocker.setblocking(False)
                blocker.connect_ex(listener.getsockname())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with opened(url, connect_timeout_seconds=0.1) as backend:
                error = await failure_of(backend)
                assert error.kind == "connection_error"
                assert "within 0.1 s" in str(error)

    run(main())


DONE = b"[DONE]"


@pytest.mark.parametrize(
    "pieces",
    [
        [sse(said("a"), said("b", "stop"), DONE)],
        [sse(said("a"), said("b", "stop"))],
        [sse(said("a"), said("b", "stop"))[:-2]],
        [b": keep-alive\n\n", sse(said("a")), b": x\n\nevent: ping\n\n", sse(said("b", "stop"), DONE, said("c"))],
        [piece.to_bytes() for piece in sse(said("a"), said("b", "stop"), DONE)],
        [sse(said("a"), said("b", "stop"), DONE).replace(b"\n", b"\r\n")],
    ],
)
def test_streams_as_real_servers_end_them(run, pieces: list[bytes]) -> None:
    async def main() -> None:
        async with scripted(Scripted(*pieces)) as backend:
            text, answer = await all_of(backend)
            assert (text, answer.text, answer.finish_reason, answer.usage) == ("ab", "ab", "stop", Usage())

    run(main())


def test_a_stream_that_ends_early_or_says_an_error(run) -> None:
    async def main() -> None:
        for events, kind in (
            (sse(said("ab")), "cut_stream"),
            (sse(said("ab")) + b'data: {"choices": [{"de', "cut_stream"),
            (sse(said("ab"), {"error": {"message": "engine died", "code": 500}}), "server_error"),
            (sse(said("ab"), {"error": "boom"})[:-2], "server_error"),
            (sse(said("ab"), b"{"), "invalid_structure"),
        ):
            async with scripted(Scripted(events)) as backend:
                error = await failure_of(backend)
                assert (error.kind, error.partial, error.status) == (kind, "ab", 200)
        async with scripted(Scripted(b"<html>hello</html>", media="text/html")) as backend:
            assert (await failure_of(backend)).kind == "invalid_structure"

    run(main())


def test_an_answer_in_one_piece(run) -> None:
    whole = {"choices": [{"message": {"content": "ab"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}

    async def main() -> None:
        for body in (whole, {**whole, "choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]}):
            async with scripted(
                Scripted(msgspec.json.encode(body), media="application/json; charset=utf-8")
            ) as backend:
                text, answer = await all_of(backend)
                assert (text, answer.usage) == ("ab", Usage(input_tokens=1, output_tokens=2))
        async with scripted(
            Scripted(b'{"error": {"message": "no", "code": 503}}', media="application/json")
        ) as backend:
            assert (await failure_of(backend)).kind == "overloaded"

    run(main())


def test_connections_are_used_again_after_good_and_bad_answers(run) -> None:
    async def main() -> None:
        script = Scripted(sse(said("a", "stop"), DONE))
        async with scripted(script) as backend:
            for status, connections in ((200, 1), (404, 1), (200, 1), (429, 1), (200, 1), (500, 1), (200, 2), (200, 2)):
                script.status = status
                with contextlib.suppress(BackendError):
                    await all_of(backend)
                # Servers close a connection after an error of their own, and some don't say so.
                assert len(script.connections) == connections
            script.hang = True  # [DONE] came, but the body stays open.
            script.status = 200
            assert (await all_of(backend))[0] == "a"
            await asyncio.wait_for(script.closed.wait(), 5)

    run(main())


def test_the_key_is_sent_and_never_shown(run) -> None:
    async def main() -> None:
        echo = f'{{"error": {{"message": "Incorrect API key provided: {KEY}", "code": "invalid_api_key"}}}}'.encode()
        for status in (401, 200):
            script = Scripted(echo, status=status, media="application/json")
            async with scripted(script) as backend:
                assert (await failure_of(backend)).kind == "account"
                assert script.authorization == f"Bearer {KEY}"

    run(main())


def test_waiting_times_come_with_the_error(run) -> None:
    async def main() -> None:
        script = Scripted(b"busy", status=503, media="text/plain", retry_after="Thu, 01 Jan 1970 00:01:00 GMT")
        async with scripted(script) as backend:
            error = await failure_of(backend)
            assert (error.kind, error.retry_after_seconds, error.body) == ("overloaded", 60.0, "busy")

    run(main())


def test_a_refused_optional_field_is_left_out_once(run) -> None:
    def refuse(param: str) -> Scripted:
        error = {"message": "no", "type": "invalid_request_error", "param": param, "code": "unsupported_parameter"}
        return Scripted(msgspec.json.encode({"error": error}), status=400, media="application/json")

    async def main() -> None:
        script = Scripted(sse(said("a", "stop"), DONE))
        call = msgspec.structs.replace(CALL, temperature=0.5)
        script.respond = lambda asked: refuse("max_tokens") if "max_tokens" in asked else script
        async with scripted(script) as backend:
            await all_of(backend, call)
            assert [asked.get("max_completion_tokens") for asked in script.asked] == [None, 12]
            script.respond = lambda _: refuse("temperature")
            assert (await failure_of(backend, call)).kind == "unknown_model"
            assert ["temperature" in asked for asked in script.asked[2:]] == [True, False]

    run(main())


def test_discovery(run) -> None:
    cards = {
        "object": "list",
        "data": [
            {"id": "vllm", "max_model_len": 32768},
            {"id": "llama", "meta": {"n_ctx": 4096, "n_ctx_train": 131072}, "status": {"value": "unloaded"}},
            {"id": "plain"},
            {"id": "vllm"},
            {"name": "no id"},
        ],
        "models": [{"name": "llama", "capabilities": ["completion", "multimodal"]}],
    }

    async def main() -> None:
        async with scripted(Scripted(msgspec.json.encode(cards), media="application/json")) as backend:
            assert await backend.discover() == (
                Offer(model="vllm", context_tokens=32768),
                Offer(model="llama", context_tokens=4096, capabilities=("text", "vision"), loaded=False),
                Offer(model="plain"),
            )
        for body in (b"{}", b"<html>", b'{"data": {}}'):
            async with scripted(Scripted(body)) as backend:
                with pytest.raises(BackendError) as caught:
                    await backend.discover()
                assert caught.value.kind == "invalid_structure"
        async with simulated(models=("a", "b"), context_tokens=100) as (_, backend):
            assert await backend.discover() == (
                Offer(model="a", context_tokens=100),
                Offer(model="b", context_tokens=100),
            )

    run(main())


def test_health(run) -> None:
    async def main() -> None:
        async with simulated() as (_, backend):
            await backend.health()
        script = Scripted(b'{"data": []}', media="application/json")
        nothing = Scripted(b"", status=404, media="text/plain")
        script.respond = lambda _: nothing if script.paths[-1] == "/health" else script
        async with scripted(script) as backend:
            await backend.health()
            await backend.health()
            assert script.paths == ["/health", "/v1/models", "/v1/models"]
        for status, kind in ((503, "overloaded"), (401, "account")):
            async with scripted(Scripted(b"", status=status)) as backend:
                with pytest.raises(BackendError) as caught:
                    await backend.health()
                assert caught.value.kind == kind

    run(main())


def test_many_at_once_and_closing_twice(run) -> None:
    async def main() -> None:
        async with simulated(slots=8, tokens_per_second=1000) as (_, backend):
            answers = await asyncio.gather(*(all_of(backend) for _ in range(150)))
            assert len({text for text, _ in answers}) == 1
            await backend.close()

    run(main())


async def alone(backend: Backend, call: Call) -> list[Any]:
    items: list[Any] = [item async for item in backend.run(call)]
    for item in items:
        if isinstance(item, Artifact):
            item.file.close()
    return items


def test_openais_own_models_are_known_by_their_names(run) -> None:
    async def main() -> None:
        async with FakeOpenAI() as fake:
            async with opened(fake.url, options={"service": "openai"}) as backend:
                await backend.health()
                assert fake.paths == ["GET /v1/models"]
                offers = {offer.model: offer for offer in await backend.discover()}
                assert offers["gpt-image-2.5-flare"].capabilities == ("image",)
                assert offers["gpt-5-mini"].retires == "2026-12-11"
                assert "whisper-1" not in offers
            async with opened(fake.url) as backend:
                assert {offer.capabilities for offer in await backend.discover()} == {
                    ("text",),
                    ("embedding",),
                    ("image",),
                }

    run(main())


@pytest.mark.parametrize(
    ("url", "own"),
    [
        ("https://api.openai.com/v1", True),
        ("https://eu.api.openai.com/v1", True),
        ("https://api.openai.com.evil.example/v1", False),
        ("http://127.0.0.1:8000/v1", False),
    ],
)
def test_the_address_tells_whose_models_they_are(run, url: str, own: bool) -> None:
    async def main() -> None:
        async with opened(url) as backend:
            assert isinstance(backend, OpenAIBackend)
            assert backend._own is own
            assert ("max_completion_tokens" in backend._chat_body(CALL)) is own
        async with opened(url, options={"service": "compatible"}) as backend:
            assert isinstance(backend, OpenAIBackend)
            assert backend._own is False

    run(main())


@pytest.mark.parametrize("options", [{"service": "azure"}, {"partial_images": 4}, {"max_tokens": 5}])
def test_wrong_options_are_named(run, options: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match=next(iter(options))):
            open_backend("openai", "http://127.0.0.1:1/v1", api_key=None, now=lambda: 0.0, options=options)

    run(main())


def test_pictures_of_a_server_that_is_not_openai(run) -> None:
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(60)).decode()
    body = msgspec.json.encode({"created": 1, "data": [{"b64_json": data}]})

    async def main() -> None:
        script = Scripted(body, media="application/json")
        async with scripted(script) as backend:
            picture, answer = await alone(backend, msgspec.structs.replace(CALL, asset="image"))
            assert (picture.media_type, answer.usage) == ("image/png", Usage())
            assert script.paths == ["/v1/images/generations"]
            assert script.asked == [
                {"model": "sim-small", "prompt": "say something", "n": 1, "response_format": "b64_json"}
            ]

    run(main())


def test_many_texts_are_embedded_in_parts(run) -> None:
    async def main() -> None:
        async with FakeOpenAI() as fake, opened(fake.url) as backend:
            texts = tuple("x" * (number % 7 + 1) for number in range(600))
            call = Call(model="text-embedding-3-small", messages=(), texts=texts, max_output_tokens=1)
            *steps, answer = await alone(backend, call)
            assert steps == [Step(stage="working", share=256 / 600), Step(stage="working", share=512 / 600)]
            assert [vector[0] for vector in answer.embeddings] == [float(len(text)) for text in texts]
            assert answer.usage == Usage(input_tokens=600, output_tokens=0)

    run(main())


@pytest.mark.parametrize(
    ("asset", "kind"), [("video", "unknown_model"), ("audio", "unknown_model"), ("embedding", "bad_request")]
)
def test_what_it_does_not_make(run, asset: Any, kind: str) -> None:
    async def main() -> None:
        async with FakeOpenAI() as fake, opened(fake.url) as backend:
            error = await failure_of(backend, msgspec.structs.replace(CALL, asset=asset))
            assert (error.kind, fake.paths) == (kind, [])

    run(main())


@contextlib.asynccontextmanager
async def listing(answer: Callable[[], web.StreamResponse]) -> AsyncGenerator[Backend, None]:
    async def models(_: web.Request) -> web.StreamResponse:
        return answer()

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with opened(f"http://127.0.0.1:{site.port}/v1") as backend:
            yield backend
    finally:
        await runner.cleanup()


def test_case_21_a_bare_list_is_a_list() -> None:
    async def main() -> None:
        async with listing(lambda: web.json_response([{"id": "m", "object": "model"}, {"id": "e-embed"}])) as backend:
            await backend.health()
            assert [(one.model, one.capabilities[0]) for one in await backend.discover()] == [
                ("m", "text"), ("e-embed", "embedding"),
            ]  # fmt: skip

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "kind"), [(404, "unknown_model"), (405, "unknown_model"), (501, "unknown_model"), (403, "account")]
)
def test_case_21_a_missing_list_is_told_from_a_missing_server(status: int, kind: str) -> None:
    async def main() -> None:
        async with listing(lambda: web.json_response({"detail": "Not Found"}, status=status)) as backend:
            with pytest.raises(NoList) as caught:
                await backend.health()
            assert (caught.value.kind, caught.value.status) == (kind, status)
        async with listing(lambda: web.Response(status=500)) as backend:
            with pytest.raises(BackendError) as broken:
                await backend.health()
            assert not isinstance(broken.value, NoList)

    asyncio.run(main())
