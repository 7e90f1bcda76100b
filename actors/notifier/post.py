"""One post to one webhook: resolve, look at the addresses, connect to the very one that was looked at, and say how it went.

It speaks to httpx's transport and not to its client: no redirects are followed, no proxy of the environment is used, and
nothing logs the URL, whose path is the secret of chat webhooks. What goes wrong is told by its kind, never by a text that
came from elsewhere.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import httpx

from actors.public_address import is_private, problem

TIMEOUT_SECONDS = 10.0
"""For all of it: name, connection, answer."""
MOST_ADDRESSES = 4
"""So many addresses of a host are tried, one after the other."""
MOST_PORT = 65_535
AGAIN = (408, 425, 429)
"""Client errors that pass by themselves; those of the server do as well."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host. Raises OSError."""


class Outcome(NamedTuple):
    """How a post went."""

    status: int | None = None
    """HTTP status; None: there was no answer."""
    problem: str = ""
    """Why it failed, in words; empty: it arrived."""
    refused: bool = False
    """It was not even tried."""
    again: bool = False
    """It may go well later."""
    retry_after: float = 0.0
    """The server asks to be left alone for so many seconds."""


async def addresses_of(host: str, port: int) -> list[str]:
    """What the system's resolver says. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@functools.cache
def trusted() -> ssl.SSLContext:
    """Whom we trust: made once, since it reads all certificates."""
    return httpx.create_ssl_context(trust_env=False)


async def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    now: float,
    allow_private: bool = False,
    resolve: Resolve = addresses_of,
    timeout_seconds: float = TIMEOUT_SECONDS,
    context: ssl.SSLContext | None = None,
) -> Outcome:
    """Post a JSON body once. Never raises for what the URL or the other side does."""
    try:
        place = httpx.URL(url)
        host, port = place.host, place.port or {"https": 443, "http": 80}[place.scheme]
    except (httpx.InvalidURL, UnicodeError, KeyError):
        return Outcome(
            problem="its URL is wrong: it must begin with https:// (or http:// in a private network)", refused=True
        )
    if not host or place.userinfo:
        return Outcome(problem="its URL is wrong: it must name a host, and no user", refused=True)
    if port > MOST_PORT:
        return Outcome(problem=f"its URL is wrong: there is no port above {MOST_PORT}", refused=True)
    try:
        async with asyncio.timeout(timeout_seconds):
            try:
                found = await resolve(host, port)
            except (OSError, UnicodeError):
                return Outcome(problem="its host has no address", again=True)
            why = _refusal(place.scheme, found, allow_private=allow_private)
            if why:
                return Outcome(problem=why, refused=True)
            outcome = Outcome(problem="its host has no address", again=True)
            for address in found[:MOST_ADDRESSES]:
                outcome, connected = await _post_to(address, place, body, headers, now, timeout_seconds, context)
                if connected:
                    break
            return outcome
    except TimeoutError:
        return Outcome(problem=f"no answer within {timeout_seconds:g} s", again=True)


def _refusal(scheme: str, addresses: list[str], *, allow_private: bool) -> str:
    """Why none of these may be called: one that may not speaks against all, since the name is somebody else's."""
    for address in addresses:
        why = problem(address, allow_private=allow_private)
        if why:
            more = "" if allow_private else "; set allow_private if that is meant"
            return f"its address is not allowed: {why}{more}"
        if scheme == "http" and not is_private(address):
            return "its URL begins with http:// and leads to the public internet: use https://"
    return ""


async def _post_to(
    address: str, place: httpx.URL, body: bytes, headers: Mapping[str, str], now: float, timeout_seconds: float,
    context: ssl.SSLContext | None,
) -> tuple[Outcome, bool]:  # fmt: skip
    """The outcome at one address, and whether somebody was there."""
    request = httpx.Request(
        "POST",
        place.copy_with(host=address),
        content=body,
        headers={
            "host": place.netloc.decode("ascii"), "content-type": "application/json", "user-agent": "turnout", **headers,
        },
        # The certificate is checked against the name, although we connect to the address.
        extensions={"sni_hostname": place.raw_host.decode("ascii"), "timeout": httpx.Timeout(timeout_seconds).as_dict()},
    )  # fmt: skip
    try:
        async with httpx.AsyncHTTPTransport(verify=context or trusted(), trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            await response.aclose()
    except httpx.ConnectError as error:
        wrong = isinstance(error.__context__, ssl.SSLError) or "CERTIFICATE" in str(error)
        return Outcome(
            problem="its certificate is not valid" if wrong else "nobody accepts a connection", again=True
        ), wrong
    except httpx.TimeoutException:
        return Outcome(problem=f"no answer within {timeout_seconds:g} s", again=True), True
    except httpx.TransportError:
        return Outcome(problem="the connection broke, or the answer is no HTTP", again=True), True
    return judged(response.status_code, response.headers.get("retry-after", ""), now), True


def judged(status: int, retry_after: str, now: float) -> Outcome:
    """What an answer means."""
    if 200 <= status < 300:
        return Outcome(status)
    if 300 <= status < 400:
        return Outcome(status, f"it redirects ({status}), and redirects are not followed: give the URL it leads to")
    if status in AGAIN or status >= 500:
        return Outcome(status, f"it answered {status}", again=True, retry_after=seconds_of(retry_after, now))
    return Outcome(status, f"it answered {status}")


def seconds_of(retry_after: str, now: float) -> float:
    """A `Retry-After` header in seconds; 0 when there is none that is understood. RFC 9110, 10.2.3: seconds, or a date."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=dt.UTC)
    return max(0.0, at.timestamp() - now)
