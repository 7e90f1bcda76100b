"""What listens at an address: every kind of backend is asked in turn, and what is wrong is said in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import urllib.request
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from actors.executor.backends import port
from actors.executor.backends.connection import Connection
from actors.executor.backends.kinds import Kind, open_kind
from actors.executor.backends.wire import Wire
from actors.executor.call import broken
from actors.executor.clients import all_kinds, socket_of

log = logging.getLogger(__name__)

KNOCK_SECONDS: Final = 3.0
"""A server that has not answered a first, plain request by then hangs."""
ASK_SECONDS: Final = 5.0
"""So long each kind may take to find out."""
LIST_SECONDS: Final = 10.0
"""A list of models that takes longer is left out."""
_ANSWER_BYTES: Final = 4_096


class Unrecognised(Exception):
    """It is no backend that we know, or can't be asked; one sentence says why."""

    def __init__(self, text: str, *, wants_key: bool = False) -> None:
        super().__init__(text)
        self.wants_key = wants_key


class Found(msgspec.Struct, frozen=True):
    """A backend as it presents itself."""

    kind: Kind
    url: str
    """As its kind wants it."""
    version: str
    """As it says; empty: it does not."""
    offers: tuple[port.Offer, ...]
    trouble: str = ""
    """Why its models could not be listed."""


async def recognise(connection: Connection, kinds: Iterable[Kind] | None = None) -> Found:
    """Ask every kind in its order whether the server speaks it, and the one that does for its models.

    The connection's URL is as a person wrote it. Raises Unrecognised.
    """
    url, key = connection.url, connection.api_key
    page = ""
    if not _goes_through_proxy(connection):
        page = await knock(url, connection.tls() if url.startswith("https:") else None)
    wants_key = ""
    asked = list(all_kinds() if kinds is None else kinds)
    for kind in asked:
        try:
            at = msgspec.structs.replace(connection, url=kind.address(url))
        except ValueError:
            continue  # It can't be one of these.
        try:
            version = await _ask(kind, at)
        except port.BackendError as error:
            if error.kind == "account":
                wants_key = wants_key or error.message
            continue
        if version is not None:
            offers, trouble = await _list(kind, at)
            return Found(kind, at.url, version, offers, trouble)
    raise Unrecognised(_reason(url, page, wants_key, key, asked), wants_key=bool(wants_key))


def _goes_through_proxy(connection: Connection) -> bool:
    """Whether a direct connection says nothing, because requests take another way."""
    if connection.proxy or not connection.use_env_proxy:
        return bool(connection.proxy)
    parts = urlsplit(connection.url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")


async def _ask(kind: Kind, connection: Connection) -> str | None:
    """The server's version if it is of this kind; None: it is not. Raises BackendError of kind `account`."""
    if kind.recognise is None:
        return None
    wire = Wire(connection, auth=kind.auth)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await kind.recognise(wire)
    except TimeoutError:
        return None
    except port.BackendError as error:
        if error.kind == "account":
            raise
        return None
    except Exception:  # A user's kind must not take the others along.
        log.exception("the kind %r can't be asked for", kind.name)
        return None
    finally:
        await wire.close()


async def _list(kind: Kind, connection: Connection) -> tuple[tuple[port.Offer, ...], str]:
    try:
        adapter = open_kind(kind, connection)
    except ValueError as error:
        return (), str(error)
    try:
        async with asyncio.timeout(LIST_SECONDS):
            return await adapter.discover(), ""
    except TimeoutError:
        return (), f"it did not list its models within {LIST_SECONDS:g} s"
    except port.BackendError as error:
        needs = error.kind == "account" and not connection.api_key
        return (), "it wants a key: name its environment variable with --key-env" if needs else error.message
    except Exception as error:
        log.exception("%s: its models can't be listed", connection.url)
        return (), broken(error).message
    finally:
        await adapter.close()


def _reason(url: str, page: str, wants_key: str, key: str | None, asked: Iterable[Kind]) -> str:
    if wants_key:
        return (
            f"{url} does not accept the key: {wants_key}" if key
            else f"{url} wants a key: name the environment variable that holds it with --key-env"
        )  # fmt: skip
    if "<html" in page.lower() or "<!doctype" in page.lower():
        return f"{url} answers with a web page, not with an API of a backend: is the port or the path right?"
    names = ", ".join(kind.name for kind in asked)
    return f"{url} speaks HTTP, but none of the protocols that are known here ({names})"


async def knock(url: str, trust: ssl.SSLContext | None) -> str:
    """The beginning of the answer to a plain request for `/`. Raises Unrecognised when there is none, saying why."""
    host, number = socket_of(url)
    where = f"{host}:{number}"
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            reader, writer = await asyncio.open_connection(
                host, number, ssl=trust, server_hostname=host if trust is not None else None
            )
    except ssl.SSLCertVerificationError as error:
        why = f"the certificate of {where} is not trusted ({error.verify_message})"
        raise Unrecognised(f"{why}: give its authority with --ca-file, or --no-verify-tls") from error
    except (ssl.SSLError, ConnectionResetError, asyncio.IncompleteReadError) as error:
        raise Unrecognised(
            f"{where} speaks no TLS, or not with us: try http:// in place of https:// ({_plain(error)})"
        ) from error
    except socket.gaierror as error:
        raise Unrecognised(f"the name {host!r} is not known: {error.strerror}") from error
    except TimeoutError as error:
        if trust is not None and await _opens(host, number):
            raise Unrecognised(
                f"{where} takes connections but speaks no TLS within {KNOCK_SECONDS:g} s: try http:// in place of https://"
            ) from error
        raise Unrecognised(f"{where} does not answer: no connection within {KNOCK_SECONDS:g} s") from error
    except ConnectionRefusedError as error:
        raise Unrecognised(f"nothing listens at {where}: is the server running, and the port right?") from error
    except OSError as error:
        raise Unrecognised(f"{where} can't be reached: {error.strerror or error}") from error
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            writer.write(
                f"GET / HTTP/1.1\r\nHost: {where}\r\nUser-Agent: turnout\r\nConnection: close\r\n\r\n".encode()
            )
            await writer.drain()
            answer = await _beginning(reader)
    except TimeoutError as error:
        raise Unrecognised(f"{where} takes connections but hangs: no answer within {KNOCK_SECONDS:g} s") from error
    except OSError:
        answer = b""
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()
    if trust is None and (answer[:1] == b"\x15" or b"HTTPS port" in answer or (not answer and await _speaks_tls(url))):
        raise Unrecognised(f"{where} speaks TLS: write https:// in place of http://")
    if not answer.startswith(b"HTTP/"):
        said = "closed the connection without an answer" if not answer else "does not speak HTTP"
        raise Unrecognised(f"{where} {said}: is the port right?")
    return answer.decode("utf-8", "replace")


async def _beginning(reader: asyncio.StreamReader) -> bytes:
    """What comes first, headers and some of the body."""
    pieces = b""
    while len(pieces) < _ANSWER_BYTES and (piece := await reader.read(_ANSWER_BYTES)):
        pieces += piece
        if b"\r\n\r\n" in pieces and len(pieces) > pieces.index(b"\r\n\r\n") + 32:
            break
        if not pieces.startswith(b"HTTP/"[: len(pieces)]):
            break
    return pieces


async def _speaks_tls(url: str) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await _opens(*socket_of(url), context)


async def _opens(host: str, number: int, context: ssl.SSLContext | None = None) -> bool:
    """Whether a connection, with TLS or without, comes about."""
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(host, number, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):  # Of TLS the other side's farewell may never come.
            await writer.wait_closed()
    return True


def _plain(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else str(error) or type(error).__name__
