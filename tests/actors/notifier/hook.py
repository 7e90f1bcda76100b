"""A webhook's other side: a real HTTP server on a real socket that answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple


class Got(NamedTuple):
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Hook:
    """Answers requests in turn; the last answer is repeated. An empty one hangs, and never answers."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers or ("200 OK",))
        self.got: list[Got] = []
        self.connections = 0
        self.port = 0
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/T0/B0/s3cr3t?token=s3cr3t"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.got.append(Got(method, path, headers, body))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if not answer:
                await reader.read()  # Until the other side has had enough.
                return
            status, _, more = answer.partition("\n")
            extra = "".join(f"{line}\r\n" for line in more.split("\n") if line)
            writer.write(f"HTTP/1.1 {status}\r\n{extra}Content-Length: 2\r\nConnection: close\r\n\r\nok".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._open.discard(writer)
            writer.close()


@asynccontextmanager
async def hook(*answers: str, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Hook]:
    """A running one."""
    made = Hook(*answers)
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in list(made._open):
            writer.transport.abort()
        await asyncio.sleep(0)
