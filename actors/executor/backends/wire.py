"""One backend's HTTP connections: sends requests and turns every kind of trouble into a BackendError."""

import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

import aiohttp
import httpx
import httpx_aiohttp
import msgspec

from actors.executor.backends import strangers
from actors.executor.backends.connection import Connection
from actors.executor.backends.errors import failure, redact, shorten
from actors.executor.backends.files import LIMIT_BYTES, File, TooLarge
from actors.executor.backends.json_reader import NotJson, value_of
from actors.executor.backends.port import BackendError, begun, watched

ERROR_BODY_LIMIT: Final = 64 * 1024
"""Bytes of an error body that are read."""
ANSWER_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an answer that are read, streamed or not, where nobody asks for more; more is a fault of the server."""
MEDIA_ANSWER_LIMIT: Final = 256 * 1024 * 1024
"""The same for answers that hold pictures, sounds or films as base64."""
SOCKET_MESSAGE_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one message of a websocket."""

# Idle connections are dropped before the usual servers do it (uvicorn: 5 s), so that no request meets a closed one.
_IDLE_SECONDS: Final = {"http": 4.0, "https": 30.0}

_REDIRECTS: Final = 5
_ITSELF: Final = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", "::"})  # noqa: S104  # How servers call themselves.

_TROUBLE: Final = (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError)


class _Response(aiohttp.ClientResponse):
    """An answer whose connection is not used again after a failure of the server: uvicorn closes it after an exception, without
    a word, and the next request, which has done nothing, would be lost with it.
    """

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Read the headers."""
        protocol = connection.protocol
        await super().start(connection)
        if self.status >= 500 and protocol is not None:
            if self.content.is_eof():
                protocol.close()  # It has been given back already.
            else:
                protocol.force_close()
        return self


class Reply:
    """An answer whose headers have come."""

    def __init__(self, response: httpx.Response, name: str, limit: int = ANSWER_LIMIT) -> None:
        self._pieces = response.aiter_bytes()
        self._name = name
        self._limit = limit
        self._size = 0
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        """By lower-case names."""
        self.media_type: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises BackendError when it breaks off or exceeds its limit.
        """
        try:
            piece = await anext(self._pieces, b"")
        except httpx.DecodingError as error:
            raise BackendError("invalid_structure", f"{self._name}: {_reason(error)}", status=200) from error
        except _TROUBLE as error:
            message = f"{self._name}: the connection broke before the end of the answer"
            raise BackendError("cut_stream", message, status=200) from error
        self._size += len(piece)
        if self._size > self._limit:
            message = f"{self._name}: the answer exceeds {self._limit} bytes"
            raise BackendError("invalid_structure", message, status=200)
        return piece

    async def read_all(self) -> bytes:
        """The rest of the body. Raises BackendError as `read` does."""
        pieces: list[bytes] = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)


class Wire:
    """Connections to one backend. Belongs to the event loop that first uses it."""

    def __init__(self, connection: Connection, *, auth: str = "bearer", private_files: bool = False) -> None:
        """`auth` is how the key goes: `bearer` (`Authorization: Bearer KEY`), or the name of the header that holds it alone.
        `private_files`: files may also lie at other hosts of a private network.

        Raises ValueError for a certificate file that is none.
        """
        url = httpx.URL(connection.url)
        self.base_url = connection.url
        self.secrets = _secrets(connection.api_key, connection.headers, connection.proxy)
        self.name = f"{url.host}:{url.port}" if url.port else url.host
        """Host and port, for people."""
        self._connect_timeout_seconds = connection.connect_timeout_seconds
        self._now = connection.now
        context = connection.tls()
        limit, proxy = connection.max_connections, connection.proxy or None
        trust_env = connection.use_env_proxy and not proxy

        def session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(limit=limit, ssl=context, keepalive_timeout=_IDLE_SECONDS[url.scheme])
            return aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=trust_env, proxy=proxy,
                trace_configs=[_trace()], response_class=_Response,
            )  # fmt: skip

        self._headers = {"user-agent": "turnout", **_auth(connection.api_key, auth), **connection.headers}
        self._new_session = session
        self._private_files = private_files
        self._connection = connection
        self._strangers: httpx.AsyncClient | None = None
        self._sockets: aiohttp.ClientSession | None = None
        transport = httpx_aiohttp.AiohttpTransport(verify=context, client=session)
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(None, connect=connection.connect_timeout_seconds),
            headers=self._headers,
        )

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        fields: Mapping[str, str] | None = None,
        content: bytes | None = None,
        limit: int = ANSWER_LIMIT,
        redirects: int = 0,
    ) -> AsyncGenerator[Reply, None]:
        """Send a request to `path` below the base URL, and give its reply, of which at most `limit` bytes are read.

        A `body` goes as JSON; `files` (name of the field: file name, bytes, media type) and `fields` as a form; `content` as it
        is. `path` may be a whole URL: on another host it gets neither the key nor our headers, and must lie in the public
        internet. At most `redirects` are followed, which only a GET may be. Leaving the block closes the connection, unless the
        body was read to its end. Raises BackendError for trouble on the way and for every status but 2xx.
        """
        self._check_open()
        request = self._request(method, path, body, headers, params, files, fields, content)
        ours = self._is_ours(request.url)
        response = await self._send(request, ours=ours)
        for _ in range(redirects):
            target = _target(response)
            if target is None:
                break
            await response.aclose()
            request = self._request(method, target, None, headers, None, None, None, None)
            ours = ours and self._is_ours(request.url)  # A stranger leads to no place of ours.
            response = await self._send(request, ours=ours)
        try:
            reply = Reply(response, self.name, limit)
            if not response.is_success:
                raise await self._refused(response, reply, ours=ours)
            yield reply
        finally:
            await response.aclose()

    async def _send(self, request: httpx.Request, *, ours: bool) -> httpx.Response:
        client = self._client
        if not ours:
            if why := strangers.refusal(request.url, allow_private=self._private_files):
                raise BackendError("invalid_structure", f"{self.name}: a file is not fetched: {why}", status=200)
            for name in self._headers.keys() - {"user-agent"}:
                request.headers.pop(name, None)
            if self._strangers is None:
                self._strangers = strangers.client_for(self._connection, allow_private=self._private_files)
            client = self._strangers
        watched()
        try:
            return await client.send(request, stream=True)
        except _TROUBLE as error:
            raise self._unreached(error) from error

    def _request(
        self,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str] | None,
        files: Mapping[str, tuple[str, bytes, str]] | None,
        fields: Mapping[str, str] | None,
        content: bytes | None,
    ) -> httpx.Request:
        url = path if "://" in path else f"{self.base_url}/{path}"
        sent = dict(headers or {})
        if body is not None:
            content = msgspec.json.encode(body)
            sent["content-type"] = "application/json"
        try:
            request = self._client.build_request(
                method, url, content=content, headers=sent, params=params, files=files, data=fields
            )  # fmt: skip
        except httpx.InvalidURL as error:  # Of a file, as the server told it.
            message = f"{self.name}: an address that can't be asked: {_reason(error)}"
            raise BackendError("invalid_structure", redact(message, self.secrets)) from error
        return request

    def place(self, said: str) -> str:
        """The URL for a file's place as the server says it: a path is below its own address, and so is what it calls itself.

        A server that listens on all addresses, or behind a tunnel, knows itself as 127.0.0.1 alone.
        """
        ours = httpx.URL(self.base_url)
        try:
            url = ours.join(said)
        except httpx.InvalidURL:
            return said
        itself = url.host in _ITSELF and (ours.host not in _ITSELF or url.port == ours.port)
        if itself and not self._is_ours(url):
            url = url.copy_with(scheme=ours.scheme, host=ours.host, port=ours.port)
        return str(url)

    def _is_ours(self, url: httpx.URL) -> bool:
        ours = httpx.URL(self.base_url)
        return (url.scheme, url.host, url.port) == (ours.scheme, ours.host, ours.port)

    async def download(
        self, path: str, *, params: Mapping[str, str] | None = None, limit: int = LIMIT_BYTES
    ) -> tuple[File, str]:
        """A file and its media type; where it was moved to it is fetched from there. Raises BackendError."""
        file = File(limit_bytes=limit)
        try:
            async with self.exchange("GET", path, params=params, limit=limit, redirects=_REDIRECTS) as reply:
                while piece := await reply.read():
                    file.write(piece)
                return file, reply.media_type
        except TooLarge as error:
            file.close()
            raise BackendError("invalid_structure", f"{self.name}: a file {error}", status=200) from error
        except BaseException:
            file.close()
            raise

    @contextlib.asynccontextmanager
    async def socket(
        self, path: str, *, params: Mapping[str, str] | None = None
    ) -> AsyncGenerator[aiohttp.ClientWebSocketResponse, None]:
        """An open websocket to `path`; leaving the block closes it. Raises BackendError when it can't be opened."""
        self._check_open()
        if self._sockets is None:
            self._sockets = self._new_session()
        query = "&".join(f"{quote(name)}={quote(value)}" for name, value in (params or {}).items())
        url = f"{self.base_url}/{path}" + (f"?{query}" if query else "")
        timeout = aiohttp.ClientWSTimeout(ws_close=1.0)  # pyright: ignore[reportCallIssue]  # attrs, which it can't read.
        try:
            socket = await self._sockets.ws_connect(
                url, headers=self._headers, timeout=timeout, max_msg_size=SOCKET_MESSAGE_LIMIT,
                autoping=True, heartbeat=20.0,
            )  # fmt: skip
        except aiohttp.WSServerHandshakeError as error:
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            raise failure(error.status, error.message, headers, now=self._now(), secrets=self.secrets) from error
        except _TROUBLE as error:
            raise self._unreached(error) from error
        try:
            yield socket
        finally:
            await socket.close()

    async def fetch(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        limit: int = ANSWER_LIMIT,
    ) -> Any:
        """The JSON that is answered: to a GET, to a POST when there is a `body`, or to `method`. Raises BackendError."""
        method = method or ("GET" if body is None else "POST")
        async with self.exchange(method, path, body, headers=headers, params=params, limit=limit) as reply:
            data = await reply.read_all()
        try:
            return value_of(data)
        except NotJson as error:
            text = redact(data[:ERROR_BODY_LIMIT].decode("utf-8", "replace"), self.secrets)
            message = f"{self.name}/{path}: the answer is no JSON: {error}"
            raise BackendError("invalid_structure", message, status=200, body=text) from error

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        await self._client.aclose()
        if self._strangers is not None:
            await self._strangers.aclose()
        if self._sockets is not None:
            await self._sockets.close()

    def _check_open(self) -> None:
        if self._client.is_closed:
            raise BackendError("connection_error", f"{self.name}: its connections have been closed")

    async def _refused(self, response: httpx.Response, reply: Reply, *, ours: bool) -> BackendError:
        body = bytearray()
        with contextlib.suppress(BackendError):  # What came says enough.
            while len(body) < ERROR_BODY_LIMIT and (piece := await reply.read()):
                body += piece
        text = body.decode("utf-8", "replace")
        error = failure(response.status_code, text, response.headers, now=self._now(), secrets=self.secrets)
        error.message = f"{self.name}: {error.message}"
        if not ours:  # A store of files, whose refusal tells nothing of our account, our model or our request.
            error.message = f"{error.message} (at {response.url.host})"
            error.kind = error.kind if error.retry == "same" else "server_error"
        return error

    def _unreached(self, error: Exception) -> BackendError:
        """The error for a request that got no answer at all.

        httpx-aiohttp calls most of it a connect timeout, so the exception below decides.
        """
        cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
        if isinstance(cause, aiohttp.ClientResponseError):
            return BackendError("invalid_structure", f"{self.name}: the answer is no HTTP: {_reason(cause)}")
        if isinstance(cause, TimeoutError):
            wait = f"{self._connect_timeout_seconds:g} s"
            return BackendError("connection_error", f"{self.name}: no connection within {wait}")
        if isinstance(cause, aiohttp.ClientConnectorError) and not isinstance(cause, aiohttp.ClientSSLError):
            if isinstance(cause.os_error, strangers.NotPublic):
                return BackendError("invalid_structure", f"{self.name}: a file is not fetched: {cause.os_error}")
            reason = cause.os_error.strerror or _reason(cause)
            return BackendError("connection_error", f"{self.name}: cannot connect: {reason}")
        return BackendError("connection_error", redact(f"{self.name}: {_reason(cause)}", self.secrets))


def _trace() -> aiohttp.TraceConfig:
    """Tells when the bytes of a request are written, however the connection fares later. A GET asks, and begins no work."""

    async def written(_: object, __: object, sent: aiohttp.TraceRequestHeadersSentParams) -> None:
        if sent.method != "GET":
            begun()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(written)
    return trace


def _target(response: httpx.Response) -> str | None:
    """Where a redirect leads; None: it is none, or one that would leave TLS."""
    place = response.headers.get("location", "")
    if not response.has_redirect_location or not place:
        return None
    try:
        target = response.url.join(place)
    except httpx.InvalidURL:
        return None
    return str(target) if target.scheme in {"https", response.url.scheme} else None


def _reason(error: BaseException) -> str:
    return shorten(str(error), 200) or type(error).__name__


def _auth(api_key: str | None, auth: str) -> dict[str, str]:
    if not api_key:
        return {}
    return {"authorization": f"Bearer {api_key}"} if auth == "bearer" else {auth: api_key}


def _secrets(api_key: str | None, headers: Mapping[str, str], proxy: str) -> tuple[str, ...]:
    """What must not show in errors: the key, the proxy's password, and the values of headers that usually carry keys."""
    found = [api_key] if api_key else []
    if proxy:
        password = httpx.URL(proxy).userinfo.decode().partition(":")[2]
        found += [password, unquote(password)]
    for name, value in headers.items():
        if any(word in name.lower() for word in ("key", "auth", "token", "secret", "cookie")):
            found += [value, value.rpartition(" ")[2]]
    return tuple(secret for secret in found if secret)
