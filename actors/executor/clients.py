"""From what the settings say of a backend to its client. Two backends with the same configuration share one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from actors.executor.backends import kinds, port
from actors.executor.backends.connection import Connection
from actors.executor.backends.kinds import Kind
from actors.settings import BackendSettings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0"})  # noqa: S104  # Names to compare with.


class Missing(ValueError):
    """An environment variable that a setting names is not set."""


def socket_of(url: str) -> tuple[str, int]:
    """Host and port of a URL; every name of this machine counts as the same."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return ("127.0.0.1" if host in LOOPBACK else host), parts.port or (443 if parts.scheme == "https" else 80)


def is_here(url: str) -> bool:
    """Whether a URL names this machine, or a folder on it."""
    return url.startswith(("file:", "/")) or socket_of(url)[0] in LOOPBACK


def connection_of(
    backend: BackendSettings, environment: Mapping[str, str], now: Callable[[], float]
) -> tuple[Kind, Connection]:
    """How a configured backend is reached.

    Raises ValueError naming the field and what would be right; Missing for an environment variable that is not set (a key
    excepted: some servers take none).
    """
    kind = kind_of(backend.protocol)
    return kind, connection_to(kind.address(backend.url), backend, environment, now)


def connection_to(
    url: str, backend: BackendSettings, environment: Mapping[str, str], now: Callable[[], float]
) -> Connection:
    """The same for an address whose kind nobody knows yet. Raises ValueError and Missing likewise."""
    here = is_here(url)
    proxy = _variable("proxy_env", backend.proxy_env, environment)
    headers = {
        name: _variable(f"headers_env.{name}", variable, environment) for name, variable in backend.headers_env.items()
    }
    return Connection(
        url=url, now=now, api_key=environment.get(backend.api_key_env, "").strip() or None,
        headers=headers, connect_timeout_seconds=backend.connect_timeout_seconds, use_env_proxy=not here and not proxy,
        proxy=proxy, ca_file=backend.ca_file, verify_tls=backend.verify_tls, client_cert=backend.client_cert,
        max_connections=backend.max_connections, options=backend.options,
    )  # fmt: skip


def _variable(field: str, name: str, environment: Mapping[str, str]) -> str:
    value = environment.get(name, "").strip() if name else ""
    if name and not value:
        raise Missing(f"{field}: the environment variable {name} is not set")
    return value


def kind_of(name: str) -> Kind:
    """A kind by name. Raises ValueError for an unknown one, or one that can't be loaded."""
    try:
        return kinds.kind(name)
    except ImportError as error:
        raise ValueError(f"protocol: {name!r} can't be loaded: {error}") from error


def all_kinds() -> Iterator[Kind]:
    """Every kind that can be loaded, in the order of asking. A user's broken one must not take the others along."""
    for name in kinds.names():
        try:
            yield kind_of(name)
        except ValueError:
            continue


def fault_of(backend: BackendSettings, environment: Mapping[str, str], now: Callable[[], float]) -> str:
    """What is wrong with a backend's settings, whatever its server says; empty: nothing. Opens nothing."""
    known = backend.protocol in kinds.names()
    try:
        kind_of(backend.protocol)
    except ValueError as error:
        return "" if known else str(error)  # One that is installed but broken is a trouble of its backends alone.
    try:
        kind, connection = connection_of(backend, environment, now)
        kinds.check_options(kind, connection)
        connection.tls()
    except Missing:
        return ""  # A matter of this process's environment: told as a trouble of the backend.
    except ValueError as error:
        return str(error)
    except OSError as error:
        return f"ca_file or client_cert: {error.strerror or error}"
    return ""


class Broken:
    """Stands for a client that could not be made: it is announced as ill, with the reason, and others go on."""

    tells_begun = True

    def __init__(self, reason: str) -> None:
        self.reason = reason

    async def run(self, call: port.Call) -> AsyncGenerator[port.Item, None]:
        """Nothing can be called. Raises BackendError."""
        raise port.BackendError("connection_error", self.reason)
        yield  # A generator, as the port asks for.

    async def health(self) -> port.Vitals:
        """It is not well. Raises BackendError."""
        raise port.BackendError("connection_error", self.reason)

    async def discover(self) -> tuple[port.Offer, ...]:
        """Nothing is known of it. Raises BackendError."""
        raise port.BackendError("connection_error", self.reason)

    async def close(self) -> None:
        """Nothing is open."""


class Clients:
    """The open clients, by configuration."""

    def __init__(self) -> None:
        self._open: dict[str, port.Backend] = {}

    def open(self, kind: Kind, connection: Connection) -> port.Backend:
        """The client for a connection, the same one for the same configuration.

        Raises ValueError naming the field: whatever else an adapter raises while it is made is told as one.
        """
        key = f"{kind.name}/{connection.configuration}"
        found = self._open.get(key)
        if found is None:
            try:
                found = self._open[key] = kinds.open_kind(kind, connection)
            except (ValueError, OSError) as error:
                raise ValueError(str(error)) from error
            except Exception as error:
                raise ValueError(f"protocol: {kind.name!r} can't be opened: {type(error).__name__}: {error}") from error
        return found

    async def close(self) -> None:
        """Close all, each once."""
        adapters, self._open = list(self._open.values()), {}
        for adapter in adapters:
            await adapter.close()


def key_in(kind: Kind, environment: Mapping[str, str]) -> tuple[str, str]:
    """The variable that holds a kind's key, and the key; empty: none is set."""
    for variable in kind.key_variables:
        value = environment.get(variable, "").strip()
        if value:
            return variable, value
    return "", ""


def options_for(kind: Kind, **wanted: Any) -> Mapping[str, Any]:
    """Those of the wanted options that the kind knows."""
    return {name: value for name, value in wanted.items() if name in kind.options.__struct_fields__}
