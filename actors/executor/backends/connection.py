"""How a backend is reached: address, key, headers, TLS, proxy. Checked when it is made, so that a wrong one names its field."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import httpx
import msgspec

from actors.executor.backends.address import header_value, http_address

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that opening an adapter needs. Raises ValueError naming the field and what would be right."""

    url: str
    """As its kind's `address` gives it: without the path's last slash."""
    now: Callable[[], float]
    """Epoch seconds, to read dates in `Retry-After`."""
    api_key: str | None = None
    headers: Mapping[str, str] = _NOTHING
    """Go with every request."""
    connect_timeout_seconds: float = 5.0
    use_env_proxy: bool = False
    """Obeys HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""
    proxy: str = ""
    """URL of a proxy for this backend; empty: none, or the environment's."""
    ca_file: str = ""
    """PEM file of the authorities to trust instead of the usual ones."""
    verify_tls: bool = True
    """False takes any certificate: for servers of one's own."""
    client_cert: str = ""
    """PEM file with a certificate and its key, for servers that ask for one."""
    max_connections: int = 0
    """Open at once; 0: no limit of its own (the executor's slots are the limit)."""
    options: Mapping[str, Any] = _NOTHING
    """What the kind of backend alone understands; see its `options`."""

    def __post_init__(self) -> None:
        """Check what an operator wrote."""
        if not self.url.startswith("file:"):  # A program of this machine, not a server.
            http_address(self.url)
        if self.api_key is not None:
            header_value("api_key", self.api_key)
        for name, value in self.headers.items():
            header_value(f"headers.{name}", value)
        if self.connect_timeout_seconds <= 0:
            raise ValueError(f"connect_timeout_seconds: {self.connect_timeout_seconds!r} must be above 0")
        if self.max_connections < 0:
            raise ValueError(f"max_connections: {self.max_connections!r} must be 0 (no limit) or more")
        if self.proxy:
            http_proxy(self.proxy)
        for field in ("ca_file", "client_cert"):
            path = getattr(self, field)
            if path and not Path(path).is_file():
                raise ValueError(f"{field}: there is no file {path!r}")

    @property
    def configuration(self) -> str:
        """A digest of all that makes two connections the same, key included; nothing can be read from it."""
        parts: list[Any] = [getattr(self, field) for field in self.__struct_fields__ if field != "now"]
        plain = [sorted(cast("dict[str, Any]", part).items()) if isinstance(part, Mapping) else part for part in parts]
        return hashlib.sha256(msgspec.json.encode(plain, enc_hook=str)).hexdigest()

    def tls(self) -> ssl.SSLContext:
        """The context for its certificates. Raises ValueError for a file that holds none."""
        if not self.url.startswith("https:"):
            return ssl.SSLContext(
                ssl.PROTOCOL_TLS_CLIENT
            )  # Loading the certificates takes long, and nobody needs them.
        try:
            context = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else httpx.create_ssl_context()
        except ssl.SSLError as error:
            raise ValueError(f"ca_file: {self.ca_file!r} holds no certificates in PEM form: {error.reason}") from None
        if not self.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert:
            try:
                context.load_cert_chain(self.client_cert)
            except ssl.SSLError as error:
                text = (
                    f"client_cert: {self.client_cert!r} holds no certificate with its key in PEM form: {error.reason}"
                )
                raise ValueError(text) from None
        return context


def http_proxy(url: str) -> str:
    """`url` if it can be a proxy's. Raises ValueError, which does not show it: it may hold a password."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("proxy: it is no URL; use http://host:port") from None
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise ValueError("proxy: use http://host:port (other kinds of proxy are not spoken)")
    return url
