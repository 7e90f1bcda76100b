"""Requests to other hosts than the backend's own, for files that it says lie there: without credentials, and to the public
internet alone, so that no answer makes us ask in our own network.
"""

from __future__ import annotations

import functools
import socket
import ssl
import urllib.request
from typing import Any, Final

import aiohttp
import httpx
import httpx_aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from actors.executor.backends.connection import Connection
from actors.public_address import problem

_IDLE_SECONDS: Final = 30.0


class NotPublic(OSError):
    """The host leads to an address that is none of the public internet's."""


class PublicResolver(AbstractResolver):
    """The system's resolver, for what lies in the public internet: one address that does not speaks against all of a name."""

    def __init__(self, exempt: frozenset[str], *, allow_private: bool) -> None:
        """`exempt` are hosts that are not looked at: proxies, which operators name."""
        self._resolver = aiohttp.ThreadedResolver()
        self._exempt, self._allow_private = exempt, allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises OSError, NotPublic among them."""
        found = await self._resolver.resolve(host, port, family)
        for one in found if host not in self._exempt else ():
            if why := problem(one["host"], allow_private=self._allow_private):
                raise NotPublic(f"{host} leads to an address that is not asked: {why}")
        return found

    async def close(self) -> None:
        """Release what the system's resolver holds."""
        await self._resolver.close()


def refusal(url: httpx.URL, *, allow_private: bool) -> str:
    """Why this place is not asked, before its name is looked up; empty: it may be."""
    if url.scheme != "https" and not (allow_private and url.scheme == "http"):
        return f"its place begins with {url.scheme}://, and only https:// is asked outside of the backend's own address"
    if not url.host or url.userinfo:
        return "its place must name a host, and no user"
    literal = url.host.strip("[]")
    why = problem(literal, allow_private=allow_private)
    return "" if why in ("", "no address") else f"its place is not asked: {why}"


def client_for(connection: Connection, *, allow_private: bool) -> httpx.AsyncClient:
    """A client for other hosts: it sends nothing of the backend's headers, and checks certificates in any case."""
    proxy = connection.proxy or None
    trust_env = connection.use_env_proxy and not proxy
    named = [proxy] if proxy else [*urllib.request.getproxies().values()] if trust_env else []
    exempt = frozenset(httpx.URL(one).host for one in named)
    options: dict[str, Any] = {"trust_env": trust_env, "proxy": proxy}

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=trusted(), keepalive_timeout=_IDLE_SECONDS, resolver=PublicResolver(exempt, allow_private=allow_private)
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), **options)

    return httpx.AsyncClient(
        transport=httpx_aiohttp.AiohttpTransport(client=session),
        timeout=httpx.Timeout(None, connect=connection.connect_timeout_seconds),
        headers={"user-agent": "turnout"},
    )


@functools.cache
def trusted() -> ssl.SSLContext:
    """Whom we trust: made once, since it reads all certificates."""
    return httpx.create_ssl_context()
