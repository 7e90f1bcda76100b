"""One backend's HTTP connections: sends requests and turns every kind of trouble into a BackendError."""

import contextlib
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final

import aiohttp
import httpx
import httpx_aiohttp
import msgspec

from actors.executor.backends.errors import failure, redact, shorten
from actors.executor.backends.port import BackendError

ERROR_BODY_LIMIT: Final = 64 * 1024
"""Bytes of an error body that are read."""
ANSWER_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an answer that are read, streamed or not; more is a fault of the server."""

# Idle connections are dropped before the usual servers do it (uvicorn: 5 s), so that no request meets a closed one.
_IDLE_SECONDS: Final = {"http": 4.0, "https": 30.0}

_TROUBLE: Final = (httpx.HTTPError, httpx.StreamError, aiohttp.ClientError, OSError)


class Reply:
    """An answer whose headers have come."""

    def __init__(self, response: httpx.Response, name: str) -> None:
        self._pieces = response.aiter_bytes()
        self._name = name
        self._size = 0
        self.media_type: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """The next piece of the body; empty at its end.

        Raises BackendError when it breaks off or exceeds `ANSWER_LIMIT`.
        """
        try:
            piece = await anext(self._pieces, b"")
        except httpx.DecodingError as error:
            raise BackendError("invalid_structure", f"{self._name}: {_reason(error)}", status=200) from error
        except _TROUBLE as error:
            message = f"{self._name}: the connection broke before the end of the answer"
            raise BackendError("cut_stream", message, status=200) from error
        self._size += len(piece)
        if self._size > ANSWER_LIMIT:
            message = f"{self._name}: the answer exceeds {ANSWER_LIMIT} bytes"
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

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        headers: Mapping[str, str],
        connect_timeout_seconds: float,
        use_env_proxy: bool,
        now: Callable[[], float],
    ) -> None:
        url = httpx.URL(base_url)
        self.base_url = base_url
        self.secrets = _secrets(api_key, headers)
        self._name = f"{url.host}:{url.port}" if url.port else url.host
        self._connect_timeout_seconds = connect_timeout_seconds
        self._now = now
        # Loading the certificates takes long, and plain HTTP needs none.
        context = httpx.create_ssl_context() if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

        def session() -> aiohttp.ClientSession:
            # No limit here: the executor's slots are the limit.
            connector = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=_IDLE_SECONDS[url.scheme])
            return aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=use_env_proxy
            )

        auth = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(
            transport=httpx_aiohttp.AiohttpTransport(verify=context, client=session),
            timeout=httpx.Timeout(None, connect=connect_timeout_seconds),
            headers={"user-agent": "turnout", **auth, **headers},
        )

    @contextlib.asynccontextmanager
    async def exchange(self, method: str, path: str, body: object = None) -> AsyncGenerator[Reply, None]:
        """Send a request (a `body` goes as JSON) to `path` below the base URL, and give its reply.

        `path` may be a whole URL. Leaving the block closes the connection, unless the body was read to its end.
        Raises BackendError for trouble on the way and for every status but 2xx.
        """
        url = path if "://" in path else f"{self.base_url}/{path}"
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        request = self._client.build_request(method, url, content=content, headers=headers)
        try:
            response = await self._client.send(request, stream=True)
        except _TROUBLE as error:
            raise self._unreached(error) from error
        try:
            reply = Reply(response, self._name)
            if not response.is_success:
                raise await self._refused(response, reply)
            yield reply
        finally:
            await response.aclose()

    async def fetch(self, path: str) -> Any:
        """The JSON that a GET answers. Raises BackendError."""
        async with self.exchange("GET", path) as reply:
            body = await reply.read_all()
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            text = redact(body.decode("utf-8", "replace"), self.secrets)
            message = f"{self._name}/{path}: the answer is no JSON: {error}"
            raise BackendError("invalid_structure", message, status=200, body=text) from error

    async def close(self) -> None:
        """Close all connections. May be called twice."""
        await self._client.aclose()

    async def _refused(self, response: httpx.Response, reply: Reply) -> BackendError:
        body = bytearray()
        with contextlib.suppress(BackendError):  # What came says enough.
            while len(body) < ERROR_BODY_LIMIT and (piece := await reply.read()):
                body += piece
        text = body.decode("utf-8", "replace")
        error = failure(response.status_code, text, response.headers, now=self._now(), secrets=self.secrets)
        error.message = f"{self._name}: {error.message}"
        return error

    def _unreached(self, error: Exception) -> BackendError:
        """The error for a request that got no answer at all.

        httpx-aiohttp calls most of it a connect timeout, so the exception below decides.
        """
        cause = error.__cause__ if isinstance(error.__cause__, aiohttp.ClientError) else error
        if isinstance(cause, aiohttp.ClientResponseError):
            return BackendError("invalid_structure", f"{self._name}: the answer is no HTTP: {_reason(cause)}")
        if isinstance(cause, TimeoutError):
            wait = f"{self._connect_timeout_seconds:g} s"
            return BackendError("connection_error", f"{self._name}: no connection within {wait}")
        if isinstance(cause, aiohttp.ClientConnectorError) and not isinstance(cause, aiohttp.ClientSSLError):
            reason = cause.os_error.strerror or _reason(cause)
            return BackendError("connection_error", f"{self._name}: cannot connect: {reason}")
        return BackendError("connection_error", f"{self._name}: {_reason(cause)}")


def _reason(error: BaseException) -> str:
    return shorten(str(error), 200) or type(error).__name__


def _secrets(api_key: str | None, headers: Mapping[str, str]) -> tuple[str, ...]:
    """What must not show in errors: the key, and the values of headers that usually carry keys."""
    found = [api_key] if api_key else []
    for name, value in headers.items():
        if any(word in name.lower() for word in ("key", "auth", "token", "secret", "cookie")):
            found += [value, value.rpartition(" ")[2]]
    return tuple(secret for secret in found if secret)
