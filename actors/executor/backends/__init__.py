"""Adapters, one per protocol, all behind the port.

`port` says what an adapter promises. `openai` and `ollama` keep it over HTTP, through `wire`. All else is pure: `sse`
cuts streams, `completion` folds answers, `errors` classifies failures, `address` checks settings.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from actors.executor.backends.address import header_value, ollama_address, openai_address
from actors.executor.backends.ollama import OllamaBackend
from actors.executor.backends.openai import MaxTokensField, OpenAIBackend
from actors.executor.backends.port import Backend
from actors.executor.backends.wire import Wire

BackendKind = Literal["openai", "ollama"]
"""The protocol that a backend speaks."""


def open_backend(
    kind: BackendKind,
    url: str,
    *,
    api_key: str | None,
    now: Callable[[], float],
    headers: Mapping[str, str] | None = None,
    connect_timeout_seconds: float = 5.0,
    use_env_proxy: bool = False,
    max_tokens_field: MaxTokensField = "max_tokens",
    keep_alive: str = "",
) -> Backend:
    """An adapter for the backend at `url`; it connects when it is first used, and must be closed.

    `now` tells epoch seconds, to read dates in `Retry-After`. `headers` go with every request. `use_env_proxy` obeys
    HTTP_PROXY, HTTPS_PROXY and NO_PROXY. `max_tokens_field` is for `openai`; `keep_alive` (`5m`, `-1`; empty: the
    server's own) is for `ollama`. Raises ValueError naming the field and the value.
    """
    address = {"openai": openai_address, "ollama": ollama_address}.get(kind)
    if address is None:
        raise ValueError(f"kind: {kind!r} is none of 'openai', 'ollama'")
    if connect_timeout_seconds <= 0:
        raise ValueError(f"connect_timeout_seconds: {connect_timeout_seconds!r} must be above 0")
    wire = Wire(
        address(url),
        api_key=header_value("api_key", api_key) if api_key else None,
        headers={name: header_value(f"headers.{name}", value) for name, value in (headers or {}).items()},
        connect_timeout_seconds=connect_timeout_seconds,
        use_env_proxy=use_env_proxy,
        now=now,
    )
    if kind == "ollama":
        return OllamaBackend(wire, keep_alive=keep_alive)
    return OpenAIBackend(wire, max_tokens_field=max_tokens_field)
