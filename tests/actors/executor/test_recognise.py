"""Who listens there: every kind's fake is told apart, and whatever else listens is named in one sentence."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.executor import recognise as recognising
from actors.executor.backends.connection import Connection
from actors.executor.backends.kinds import kind
from actors.executor.clients import all_kinds
from actors.executor.recognise import Found, Unrecognised, recognise
from tests.fakes.anthropic import FakeAnthropic
from tests.fakes.base import FakeServer
from tests.fakes.comfyui import FakeComfyui
from tests.fakes.gemini import FakeGemini
from tests.fakes.llama_cpp import FakeLlamaCpp
from tests.fakes.llama_cpp_python import FakeLlamaCppPython
from tests.fakes.lm_studio import FakeLmStudio
from tests.fakes.ollama import FakeOllama
from tests.fakes.openai import FakeOpenAI
from tests.fakes.runpod import FakeRunpod
from tests.fakes.vllm import FakeVllm
from tests.fakes.wan2gp import FakeWan2gp

FAKES: dict[str, tuple[type[FakeServer], str]] = {
    "ollama": (FakeOllama, ""), "lm_studio": (FakeLmStudio, ""), "comfyui": (FakeComfyui, ""),
    "wan2gp": (FakeWan2gp, ""), "llama_cpp": (FakeLlamaCpp, ""), "vllm": (FakeVllm, ""),
    "llama_cpp_python": (FakeLlamaCppPython, ""), "anthropic": (FakeAnthropic, "the-key"),
    "gemini": (FakeGemini, "the-key"), "runpod": (FakeRunpod, "the-key"), "openai": (FakeOpenAI, "the-key"),
}  # fmt: skip
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def connection(url: str, **more: Any) -> Connection:
    return Connection(url=url, now=lambda: 1_000_000.0, **more)


def asked(url: str, **more: Any) -> Found:
    return asyncio.run(recognise(connection(url, **more)))


async def found_at(fake: FakeServer, key: str) -> Found:
    return await recognise(connection(fake.url, api_key=key or None))


@pytest.mark.parametrize("name", sorted(FAKES))
def test_each_kind_is_recognised_among_all(name: str) -> None:
    make, key = FAKES[name]

    async def story() -> Found:
        async with make() as fake:
            return await found_at(fake, key)

    found = asyncio.run(story())
    assert found.kind.name == name
    assert found.offers, found.trouble
    assert found.trouble == ""


def test_every_kind_has_a_fake_here() -> None:
    assert {kind.name for kind in all_kinds() if kind.recognise is not None} == set(FAKES)


@asynccontextmanager
async def server(talk: Talk, context: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    made = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=context)
    async with made:
        yield f"127.0.0.1:{made.sockets[0].getsockname()[1]}"


def says(data: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()

    return talk


def page(body: bytes, status: bytes = b"200 OK") -> bytes:
    size = str(len(body)).encode()
    return b"HTTP/1.1 " + status + b"\r\ncontent-length: " + size + b"\r\nconnection: close\r\n\r\n" + body


async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def complaint(talk: Talk, *, scheme: str = "http", context: ssl.SSLContext | None = None, **more: Any) -> str:
    async def story() -> str:
        async with server(talk, context) as where:
            with pytest.raises(Unrecognised) as raised:
                await recognise(connection(f"{scheme}://{where}", **more))
            return str(raised.value).replace(where, "HERE")

    said = asyncio.run(story())
    assert "\n" not in said
    return said


def test_nothing_listens() -> None:
    with pytest.raises(
        Unrecognised, match=r"nothing listens at 127.0.0.1:1: is the server running, and the port right\?"
    ):
        asked("http://127.0.0.1:1")


def test_an_unknown_name() -> None:
    with pytest.raises(Unrecognised, match=r"the name 'no\.such\.name\.invalid' is not known"):
        asked("http://no.such.name.invalid:80")


def test_a_web_page() -> None:
    said = complaint(says(page(b"<!DOCTYPE html><html><body>It works!</body></html>")))
    assert said == "http://HERE answers with a web page, not with an API of a backend: is the port or the path right?"


def test_an_unknown_protocol_over_http() -> None:
    said = complaint(says(page(b'{"hello": "world"}')))
    assert said.startswith(
        "http://HERE speaks HTTP, but none of the protocols that are known here (ollama, lm_studio, "
    )


def test_no_http_at_all() -> None:
    assert complaint(says(b"SSH-2.0-OpenSSH_9.9\r\n")) == "HERE does not speak HTTP: is the port right?"


def test_a_connection_that_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognising, "KNOCK_SECONDS", 0.2)
    assert complaint(says(b"")) == "HERE closed the connection without an answer: is the port right?"


def test_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognising, "KNOCK_SECONDS", 0.2)
    assert complaint(hang) == "HERE takes connections but hangs: no answer within 0.2 s"


def test_a_server_that_wants_a_key_and_one_that_does_not_take_it() -> None:
    refusal = page(b'{"error": {"message": "no", "code": "invalid_api_key"}}', b"401 Unauthorized")
    assert complaint(says(refusal)) == (
        "http://HERE wants a key: name the environment variable that holds it with --key-env"
    )
    said = complaint(says(refusal), api_key="sk-wrong-wrong")
    assert said.startswith("http://HERE does not accept the key: ")
    assert "sk-wrong" not in said


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    folder = tmp_path_factory.mktemp("tls")
    file = folder / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(file),
               "-out", str(folder / "c")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    with file.open("ab") as both:
        both.write((folder / "c").read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return folder / "c", context


def test_http_to_a_tls_port(certificate: tuple[Path, ssl.SSLContext]) -> None:
    said = complaint(says(page(b"{}")), context=certificate[1])
    assert said == "HERE speaks TLS: write https:// in place of http://"


def test_https_to_a_plain_port() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(page(b"what?", b"400 Bad Request"))
        await writer.drain()

    said = complaint(talk, scheme="https")
    assert said.startswith("HERE speaks no TLS, or not with us: try http:// in place of https://")


def test_https_to_a_plain_port_that_waits_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognising, "KNOCK_SECONDS", 0.2)
    said = complaint(hang, scheme="https")
    assert said == "HERE takes connections but speaks no TLS within 0.2 s: try http:// in place of https://"


def test_a_certificate_that_nobody_trusts(certificate: tuple[Path, ssl.SSLContext]) -> None:
    said = complaint(says(page(b"{}")), scheme="https", context=certificate[1])
    assert said.startswith("the certificate of HERE is not trusted (self-signed certificate)")
    assert said.endswith("give its authority with --ca-file, or --no-verify-tls")


MODELS = page(b'{"object": "list", "data": [{"id": "m1", "object": "model"}]}')


@pytest.mark.parametrize("trusted", [True, False])
def test_tls_with_the_right_authority_or_without_any(certificate: tuple[Path, ssl.SSLContext], trusted: bool) -> None:
    how: dict[str, Any] = {"ca_file": str(certificate[0])} if trusted else {"verify_tls": False}

    async def story() -> Found:
        async with server(says(MODELS), certificate[1]) as where:
            return await recognise(connection(f"https://{where}", **how), [kind("openai")])

    assert [offer.model for offer in asyncio.run(story()).offers] == ["m1"]


def test_behind_a_proxy_nobody_knocks_at_the_door() -> None:
    async def story() -> Found:
        async with server(says(MODELS)) as proxy:
            there = connection("http://backend.invalid:8000", proxy=f"http://{proxy}")
            return await recognise(there, [kind("openai")])

    assert [offer.model for offer in asyncio.run(story()).offers] == ["m1"]
