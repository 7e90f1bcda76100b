import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiohttp import web

from actors.executor.backends.connection import Connection
from actors.executor.backends.port import SENDING, BackendError, Sending
from actors.executor.backends.wire import Wire

KEY = "key-that-must-not-show"
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40


class Place:
    """A server that remembers what it was sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.url = ""
        self.moved_to = "http://127.0.0.1:1/elsewhere"

    async def any(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append({"headers": headers, "query": dict(request.query), "body": await request.read()})
        if request.path.endswith("/file"):
            return web.Response(body=PICTURE, content_type="image/png")
        if request.path.endswith("/moved"):
            return web.Response(status=302, headers={"location": self.moved_to})
        if request.path.endswith("/busy"):
            return web.Response(status=429, headers={"retry-after": "7"})
        if request.path.endswith("/forbidden"):
            return web.Response(status=403, text="the link has expired")
        if request.path.endswith("/ws"):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str(f"hello {request.query['clientId']}")
            async for message in socket:
                await socket.send_str(f"echo {message.data}")
            return socket
        return web.json_response({"ok": True})


@contextlib.asynccontextmanager
async def served(**fields: Any) -> AsyncGenerator[tuple[Place, Wire], None]:
    place = Place()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", place.any)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    place.url = f"http://127.0.0.1:{site.port}/base"
    auth, private = fields.pop("auth", "bearer"), fields.pop("private_files", False)
    connection = Connection(url=fields.pop("url", place.url), api_key=KEY, now=lambda: 0.0, **fields)
    wire = Wire(connection, auth=auth, private_files=private)
    try:
        yield place, wire
    finally:
        await wire.close()
        await runner.cleanup()


def test_the_key_goes_as_the_protocol_wants_it_and_to_nobody_else(run) -> None:
    async def main() -> None:
        async with served(headers={"x-team": "a"}, private_files=True) as (place, wire), served() as (other, _):
            await wire.fetch("models", params={"limit": "5"})
            await wire.fetch(f"{other.url}/x")
            (ours,), (theirs,) = place.seen, other.seen
            assert (ours["headers"]["authorization"], ours["headers"]["x-team"]) == (f"Bearer {KEY}", "a")
            assert ours["query"] == {"limit": "5"}
            assert not {"authorization", "x-team"} & theirs["headers"].keys()
        async with served(auth="x-goog-api-key") as (place, wire):
            await wire.fetch(f"{place.url}/models")  # A whole URL of the same host is ours.
            assert place.seen[0]["headers"]["x-goog-api-key"] == KEY
            assert "authorization" not in place.seen[0]["headers"]

    run(main())


def test_a_file_comes_down_whole_with_its_type_and_up_as_a_form(run) -> None:
    async def main() -> None:
        async with served() as (place, wire):
            file, kind = await wire.download("file", params={"filename": "a b.png"})
            assert (file.read(), kind, place.seen[0]["query"]) == (PICTURE, "image/png", {"filename": "a b.png"})
            file.close()
            with pytest.raises(BackendError) as caught:
                await wire.download("file", limit=100)
            assert (caught.value.kind, "100 bytes" in caught.value.message) == ("invalid_structure", True)
            files = {"image": ("a.png", PICTURE, "image/png")}
            async with wire.exchange("POST", "upload", files=files, fields={"type": "input"}) as reply:
                assert (reply.status, reply.media_type) == (200, "application/json")
            sent = place.seen[-1]
            assert sent["headers"]["content-type"].startswith("multipart/form-data; boundary=")
            assert PICTURE in sent["body"]
            assert b'filename="a.png"' in sent["body"]
            async with wire.exchange("PUT", "raw", content=PICTURE):
                assert place.seen[-1]["body"] == PICTURE

    run(main())


def test_an_answer_may_be_larger_where_somebody_says_so(run) -> None:
    async def main() -> None:
        async with served() as (_, wire):
            with pytest.raises(BackendError, match="exceeds 3 bytes"):
                await wire.fetch("x", limit=3)
            assert await wire.fetch("x", limit=20) == {"ok": True}

    run(main())


def test_a_redirect_is_not_followed(run) -> None:
    async def main() -> None:
        async with served() as (_, wire):
            with pytest.raises(BackendError) as caught:
                await wire.fetch("moved")
            assert (caught.value.kind, caught.value.status) == ("invalid_structure", 302)

    run(main())


def test_a_file_is_fetched_from_where_it_was_moved_to_without_the_key(run) -> None:
    async def main() -> None:
        async with served(private_files=True) as (place, wire), served() as (other, _):
            place.moved_to = f"{other.url}/file?sign=1"
            file, _ = await wire.download("moved", params={"x": "1"})
            assert (file.read(), place.seen[0]["query"], other.seen[0]["query"]) == (PICTURE, {"x": "1"}, {"sign": "1"})
            file.close()
            assert "authorization" not in other.seen[0]["headers"]
            place.moved_to = f"{place.url}/moved"
            for target in (place.moved_to, "ftp://127.0.0.1/x"):
                place.moved_to = target
                with pytest.raises(BackendError) as caught:
                    await wire.download("moved")
                assert (caught.value.kind, caught.value.status) == ("invalid_structure", 302)
            assert len(place.seen) < 12, "nobody goes round in circles"

    run(main())


@pytest.mark.parametrize("url", ["https://[bad/x", "https://127.0.0.1/\0", "https://x:99999/y", "ftp://x/y"])
def test_an_address_that_is_none_is_the_server_s_fault(run, url: str) -> None:
    async def main() -> None:
        async with served() as (_, wire):
            with pytest.raises(BackendError) as caught:
                await wire.download(url)
            assert caught.value.kind in ("invalid_structure", "connection_error")

    run(main())


def test_what_a_store_of_files_refuses_tells_nothing_of_the_account(run) -> None:
    async def main() -> None:
        async with served(private_files=True) as (place, wire), served() as (other, _):
            for url, kind in ((f"{place.url}/forbidden", "account"), (f"{other.url}/forbidden", "server_error")):
                with pytest.raises(BackendError) as caught:
                    await wire.download(url)
                assert (caught.value.kind, caught.value.status) == (kind, 403)

    run(main())


def test_a_proxy_s_password_shows_nowhere(run) -> None:
    async def main() -> None:
        proxy = "http://me:hunter%402@127.0.0.1:1"
        wire = Wire(Connection(url="http://backend.test/v1", proxy=proxy, now=lambda: 0.0))
        assert {"hunter%402", "hunter@2"} <= set(wire.secrets)
        with pytest.raises(BackendError) as caught:
            await wire.fetch("models")
        assert (caught.value.kind, "hunter" in caught.value.message) == ("connection_error", False)
        await wire.close()

    run(main())


def test_a_websocket_carries_the_key_and_closes_with_its_block(run) -> None:
    async def main() -> None:
        async with served() as (place, wire):
            async with wire.socket("ws", params={"clientId": "a b"}) as socket:
                assert (await socket.receive()).data == "hello a b"
                await socket.send_str("x")
                assert (await socket.receive()).data == "echo x"
            assert socket.closed
            assert place.seen[0]["headers"]["authorization"] == f"Bearer {KEY}"
            with pytest.raises(BackendError) as caught:
                async with wire.socket("models"):
                    pass
            assert caught.value.kind in ("invalid_structure", "server_error", "bad_request")
            with pytest.raises(BackendError) as caught:
                async with wire.socket("busy"):
                    pass
            assert (caught.value.kind, caught.value.retry_after_seconds) == ("rate_limited", 7.0)
        with pytest.raises(BackendError) as caught:
            async with wire.socket("ws"):
                pass
        assert caught.value.kind == "connection_error"

    run(main())


def test_a_proxy_gets_what_goes_to_the_backend(run) -> None:
    """A plain HTTP proxy is asked for the whole address."""

    async def main() -> None:
        async with served() as (proxy, _):
            address = proxy.url.removesuffix("/base")
            wire = Wire(Connection(url="http://backend.test/v1", proxy=address, now=lambda: 0.0))
            assert await wire.fetch("models") == {"ok": True}
            assert proxy.seen[0]["headers"]["host"] == "backend.test"
            await wire.close()

    run(main())


def test_no_more_connections_than_allowed(run) -> None:
    async def main() -> None:
        open_now, most = 0, 0

        async def slow(_: web.Request) -> web.Response:
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.01)
            open_now -= 1
            return web.json_response({})

        app = web.Application()
        app.router.add_get("/x", slow)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        wire = Wire(Connection(url=f"http://127.0.0.1:{site.port}", max_connections=2, now=lambda: 0.0))
        await asyncio.gather(*(wire.fetch("x") for _ in range(8)))
        assert most == 2
        await wire.close()
        await runner.cleanup()

    run(main())


# Whether a request has begun, as the transport tells.


@contextlib.asynccontextmanager
async def rude(what: str) -> AsyncGenerator[str, None]:
    """A server that takes the first bytes of a request and then does what it should not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            if what == "hangs":
                await reader.read()  # Until the client leaves.
            elif what == "cuts":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\ndata: ")
                await writer.drain()
            elif what == "no http":
                writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def sent(url: str, *, method: str = "POST", **fields: Any) -> tuple[Sending, BackendError | None]:
    """Send one request; what the transport told of it, and how it failed within a short time."""
    wire, sending = Wire(Connection(url=url, now=lambda: 0.0, **fields)), Sending()
    token = SENDING.set(sending)
    try:
        async with asyncio.timeout(2.0):
            await wire.fetch("chat", {} if method == "POST" else None, method=method)
    except TimeoutError:
        return sending, None
    except BackendError as error:
        return sending, error
    finally:
        SENDING.reset(token)
        await wire.close()
    return sending, None


@pytest.mark.parametrize("what", ["hangs", "hangs up", "cuts", "no http"])
def test_a_request_has_begun_once_its_bytes_are_written_however_it_ends(run, what: str) -> None:
    async def main() -> None:
        async with rude(what) as url:
            sending, error = await sent(url)
            assert (sending.watched, sending.begun) == (True, True)
            assert (error is None) is (what == "hangs")
            assert error is None or not error.refused

    run(main())


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://nobody.invalid", "https://127.0.0.1:{plain}", "http://[::1]:1"]
)
def test_a_request_that_found_no_connection_has_not_begun(run, url: str) -> None:
    async def main() -> None:
        async with rude("hangs") as plain:
            sending, error = await sent(url.replace("{plain}", plain.rpartition(":")[2]))
            assert (sending.watched, sending.begun) == (True, False)
            assert error is None or error.kind == "connection_error"

    run(main())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "2130706433", "127.1"]
)
def test_no_answer_leads_into_our_own_network(run, host: str) -> None:
    async def main() -> None:
        async with served() as (place, wire), served() as (other, _):
            port = other.url.split(":")[2].split("/")[0]
            for url in (f"https://{host}:{port}/file", f"http://{host}:{port}/file"):
                place.moved_to = url
                for path in (url, "moved"):
                    with pytest.raises(BackendError) as caught:
                        await wire.download(path)
                    # A redirect that would leave TLS, or our own address for another, ends as one.
                    assert caught.value.kind in ("invalid_structure", "connection_error")
                    assert "TLS" not in caught.value.message, "nobody connects there"
            assert other.seen == []

    run(main())


def test_a_server_that_refuses_has_begun_and_says_so(run) -> None:
    async def main() -> None:
        async with served() as (place, _):
            wire, sending = Wire(Connection(url=place.url, now=lambda: 0.0)), Sending()
            token = SENDING.set(sending)
            with pytest.raises(BackendError) as refused:
                await wire.fetch("busy", {})
            SENDING.reset(token)
            await wire.close()
            assert sending.begun
            assert refused.value.refused

    run(main())


def test_a_stranger_leads_to_no_place_of_ours_with_our_key(run) -> None:
    async def main() -> None:
        async with served(private_files=True) as (place, wire), served() as (other, _):
            other.moved_to = f"{place.url}/file"
            file, _ = await wire.download(f"{other.url}/moved")
            file.close()
            assert "authorization" not in place.seen[0]["headers"]

    run(main())


def test_who_only_asks_begins_nothing(run) -> None:
    async def main() -> None:
        async with served() as (place, _):
            sending, error = await sent(place.url, method="GET")
            assert (sending.watched, sending.begun, error) == (True, False, None)

    run(main())


@pytest.mark.parametrize(
    ("base", "said", "place"),
    [
        ("http://gpu:8080/v1", "http://127.0.0.1:5000/x.png", "http://gpu:8080/x.png"),
        ("http://gpu:8080/v1", "http://0.0.0.0:8080/x.png?a=b", "http://gpu:8080/x.png?a=b"),
        ("http://127.0.0.1:8080/v1", "http://localhost:8080/x.png", "http://127.0.0.1:8080/x.png"),
        ("http://127.0.0.1:8080/v1", "http://localhost:9000/x.png", "http://localhost:9000/x.png"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/x.png", "http://127.0.0.1:8080/x.png"),
        ("http://gpu:8080/v1", "/generated/x.png", "http://gpu:8080/generated/x.png"),
        ("https://api.x.com/v1", "https://cdn.x.com/x.png", "https://cdn.x.com/x.png"),
    ],
)
def test_what_a_server_calls_itself_is_where_we_know_it(run, base: str, said: str, place: str) -> None:
    """Case 22: local servers answer with addresses of their own view."""

    async def main() -> None:
        wire = Wire(Connection(url=base, now=lambda: 0.0))
        assert wire.place(said) == place
        await wire.close()

    run(main())


def test_a_server_may_close_a_connection_after_any_answer(run) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As uvicorn does after an exception: it says nothing of closing, and what is sent next is lost.
        for reply in (b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\nno", b""):
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b'{"a":1}')
                writer.write(reply)
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        wire = Wire(Connection(url=f"http://127.0.0.1:{port}", now=lambda: 0.0))
        try:
            for _ in range(3):
                with pytest.raises(BackendError) as caught:
                    await wire.fetch("x", {"a": 1})
                assert (caught.value.kind, caught.value.status) == ("server_error", 500), caught.value.message
        finally:
            await wire.close()
            server.close()

    run(main())
