"""From settings to clients."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.executor.backends import kinds, port
from actors.executor.backends.kinds import Kind
from actors.executor.clients import Broken, Clients, Missing, connection_of, fault_of, is_here, key_in, socket_of
from actors.settings import BackendSettings


def now() -> float:
    return 1_000_000.0


def backend(**changes: Any) -> BackendSettings:
    given: dict[str, Any] = {"name": "b", "url": "http://far.example:8000", **changes}
    return BackendSettings(**given)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("http://localhost:8000/v1", ("127.0.0.1", 8000)),
        ("http://[::1]:1", ("127.0.0.1", 1)),
        ("https://Far.example/x", ("far.example", 443)),
        ("http://far.example", ("far.example", 80)),
    ],
)
def test_sockets(url: str, where: tuple[str, int]) -> None:
    assert socket_of(url) == where
    assert is_here(url) == (where[0] == "127.0.0.1")


def test_everything_that_the_settings_say_reaches_the_connection(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("x")
    kind, connection = connection_of(
        backend(
            api_key_env="KEY", headers_env={"x-team": "TEAM"}, proxy_env="PROXY", ca_file=str(authority),
            client_cert=str(authority), verify_tls=False, connect_timeout_seconds=2.0, max_connections=3,
            options={"max_tokens_field": "max_tokens"},
        ),
        {"KEY": " k ", "TEAM": "red", "PROXY": "http://proxy:1"},
        now,
    )  # fmt: skip
    assert (kind.name, connection.url, connection.api_key) == ("openai", "http://far.example:8000/v1", "k")
    assert (dict(connection.headers), connection.proxy, connection.use_env_proxy) == (
        {"x-team": "red"}, "http://proxy:1", False
    )  # fmt: skip
    assert (connection.ca_file, connection.client_cert, connection.verify_tls) == (
        str(authority),
        str(authority),
        False,
    )
    assert (connection.connect_timeout_seconds, connection.max_connections) == (2.0, 3)
    assert dict(connection.options) == {"max_tokens_field": "max_tokens"}


def test_the_proxies_of_the_environment_are_for_others_than_this_machine() -> None:
    assert connection_of(backend(), {}, now)[1].use_env_proxy
    assert not connection_of(backend(url="http://localhost:1"), {}, now)[1].use_env_proxy


def test_a_missing_variable_is_named_with_its_field_but_a_missing_key_is_not() -> None:
    with pytest.raises(Missing, match=r"^headers_env\.x-team: the environment variable TEAM is not set$"):
        connection_of(backend(headers_env={"x-team": "TEAM"}), {}, now)
    assert fault_of(backend(headers_env={"x-team": "TEAM"}), {}, now) == ""
    assert connection_of(backend(api_key_env="NO_KEY"), {}, now)[1].api_key is None


@pytest.mark.parametrize(
    ("protocol", "options", "words"),
    [
        ("wan2gp", {"poll_seconds": 0}, "poll_seconds: 0.0 must be above 0 and at most 600"),
        ("runpod", {"poll_seconds": -1}, "poll_seconds: -1.0 must be above 0"),
        ("runpod", {"longest_seconds": -1}, "longest_seconds: -1.0 must be 0 or more"),
        ("gemini", {"poll_seconds": float("nan")}, "poll_seconds: nan must be above 0"),
        ("gemini", {"poll_seconds": 601}, "poll_seconds: 601.0 must be above 0 and at most 600"),
        ("comfyui", {"reconnect_seconds": -1}, "reconnect_seconds: -1.0 must be 0 to 3600"),
        ("ollama", {"keep_alive": "soon"}, "keep_alive: 'soon' must be a duration like 5m"),
        ("comfyui", {"poll_seconds": 1}, "unknown field `poll_seconds`"),
    ],
)
def test_an_option_that_cannot_hold_is_found_before_anything_is_opened(
    protocol: str, options: dict[str, Any], words: str
) -> None:
    url = "https://api.runpod.ai/v2/abc" if protocol == "runpod" else "http://far.example:8000"
    fault = fault_of(backend(protocol=protocol, url=url, options=options), {}, now)
    assert fault.startswith("options: ")
    assert words in fault
    assert f"options of {protocol}: " in fault


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("hello")
    fault = fault_of(backend(url="https://far.example", ca_file=str(file)), {}, now)
    assert fault.startswith("ca_file: ")
    assert "no certificates in PEM form" in fault


def test_the_first_key_that_is_set_counts() -> None:
    kind = Kind(name="k", title="K", open=kinds.kind("openai").open, address=str, key_variables=("A", "B"))
    assert key_in(kind, {"A": " ", "B": "b"}) == ("B", "b")
    assert key_in(kind, {}) == ("", "")


def test_whatever_an_adapter_raises_while_it_is_made_is_told_as_a_sentence() -> None:
    def explode(*_: object) -> port.Backend:
        raise RuntimeError("boom")

    kind = Kind(name="mine", title="Mine", open=explode, address=str)
    clients = Clients()
    with pytest.raises(ValueError, match="protocol: 'mine' can't be opened: RuntimeError: boom"):
        clients.open(kind, connection_of(backend(), {}, now)[1])


def test_a_broken_client_says_why_at_every_turn() -> None:
    async def story() -> None:
        broken = Broken("ca_file: gone")
        call = port.Call(model="m", messages=(), max_output_tokens=1)
        for attempt in (anext(broken.run(call)), broken.health(), broken.discover()):
            with pytest.raises(port.BackendError, match="ca_file: gone"):
                await attempt
        await broken.close()

    asyncio.run(story())
