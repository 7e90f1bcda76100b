"""Against real sockets: what arrives, what does not, and what may not even be tried."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.notifier.post import Outcome, addresses_of, judged, post, seconds_of
from actors.notifier.signing import is_signed, signed
from tests.actors.notifier.hook import Hook, hook

NOW = 1_767_225_600.0
BODY = b'{"text":"hi"}'


def play(story: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        return await story()

    return asyncio.run(main())


async def send(there: Hook, *, allow_private: bool = True, url: str = "", **more: Any) -> Outcome:
    headers = signed(BODY, message_id="msg_1", at=int(NOW), secret="s")
    return await post(url or there.url, BODY, headers, now=NOW, allow_private=allow_private, **more)


def test_what_is_posted_arrives_whole_and_signed() -> None:
    async def story() -> None:
        async with hook() as there:
            assert await send(there) == Outcome(200)
        (got,) = there.got
        assert (got.method, got.path, got.body) == ("POST", "/services/T0/B0/s3cr3t?token=s3cr3t", BODY)
        assert got.headers["host"] == f"127.0.0.1:{there.port}"
        assert got.headers["content-type"] == "application/json"
        assert is_signed(got.body, got.headers, secret="s", now=NOW)

    play(story)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("500 Oops", Outcome(500, "it answered 500", again=True)),
        ("503 Busy\nRetry-After: 7", Outcome(503, "it answered 503", again=True, retry_after=7.0)),
        ("429 Slow\nRetry-After: 30", Outcome(429, "it answered 429", again=True, retry_after=30.0)),
        ("404 Gone", Outcome(404, "it answered 404")), ("204 None", Outcome(204)),
        (
            "302 Found\nLocation: http://127.0.0.1:1/elsewhere",
            Outcome(302, "it redirects (302), and redirects are not followed: give the URL it leads to"),
        ),
    ],
)  # fmt: skip
def test_answers(answer: str, outcome: Outcome) -> None:
    async def story() -> None:
        async with hook(answer) as there:
            assert await send(there) == outcome
            assert there.connections == 1  # No redirect was followed.

    play(story)


def test_a_server_that_never_answers_is_given_up() -> None:
    async def story() -> None:
        async with hook("") as there:
            outcome = await send(there, timeout_seconds=0.2)
            assert outcome == Outcome(problem="no answer within 0.2 s", again=True)
            assert len(there.got) == 1

    play(story)


def test_a_resolver_that_never_answers_is_given_up() -> None:
    async def forever(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    async def story() -> None:
        outcome = await post("https://a.example", BODY, {}, now=NOW, resolve=forever, timeout_seconds=0.1)
        assert outcome == Outcome(problem="no answer within 0.1 s", again=True)

    play(story)


def test_what_is_no_http_is_told() -> None:
    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(rude, "127.0.0.1", 0)
        there = Hook()
        there.port = server.sockets[0].getsockname()[1]
        outcome = await send(there)
        assert outcome == Outcome(problem="the connection broke, or the answer is no HTTP", again=True)
        server.close()

    play(story)


def test_nobody_there_is_told() -> None:
    async def story() -> None:
        async with hook() as there:
            pass
        assert await send(there) == Outcome(problem="nobody accepts a connection", again=True)

    play(story)


# Addresses.


def resolving(*answers: list[str]) -> tuple[Callable[[str, int], Awaitable[list[str]]], list[str]]:
    """A resolver that answers in turn, and what it was asked."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "[::1]", "127.1", "[::ffff:127.0.0.1]"]
)
def test_this_host_is_not_called_however_it_is_written(host: str) -> None:
    async def story() -> None:
        async with hook() as there:
            url = f"http://{host}:{there.port}/x"
            outcome = await send(there, url=url, allow_private=False)
            assert outcome.refused or outcome.problem == "its host has no address"
            assert there.connections == 0

    play(story)


def test_the_address_that_was_looked_at_is_the_one_that_is_called() -> None:
    """A name that changes between the look and the call (DNS rebinding) changes nothing: it is asked once."""

    async def story() -> None:
        async with hook() as there:
            resolve, asked = resolving(["127.0.0.1"], ["169.254.169.254"])
            outcome = await send(there, url=f"http://hook.example:{there.port}/x", resolve=resolve)
            assert outcome == Outcome(200)
            assert asked == ["hook.example"]
            assert there.got[0].headers["host"] == f"hook.example:{there.port}"

    play(story)


def test_one_forbidden_address_speaks_against_all() -> None:
    async def story() -> None:
        async with hook() as there:
            resolve, _ = resolving(["8.8.8.8", "127.0.0.1"])
            outcome = await send(there, url="https://hook.example/x", resolve=resolve, allow_private=False)
            assert outcome == Outcome(
                problem="its address is not allowed: loopback; set allow_private if that is meant", refused=True
            )
            resolve, _ = resolving(["169.254.169.254"])
            outcome = await send(there, url="http://hook.example/x", resolve=resolve)
            assert outcome.refused
            assert "link-local" in outcome.problem
            assert there.connections == 0

    play(story)


def test_the_next_address_is_tried_when_nobody_is_at_the_first() -> None:
    async def story() -> None:
        async with hook() as there:
            resolve, _ = resolving(["127.0.0.9", "127.0.0.1"])
            outcome = await send(there, url=f"http://hook.example:{there.port}/x", resolve=resolve)
            assert outcome == Outcome(200)

    play(story)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hook.example",
        "ftp://hook.example",
        "file:///etc/passwd",
        "https://",
        "https://user:pw@hook.example/",
        "http://[::1",
        "https://xn--/",
        "http://127.0.0.1:99999/",
    ],
)
def test_wrong_urls_are_refused_without_being_repeated(url: str) -> None:
    async def story() -> None:
        outcome = await post(url, BODY, {}, now=NOW)
        assert outcome.refused
        assert "URL" in outcome.problem
        assert "pw" not in outcome.problem

    play(story)


def test_plain_http_is_for_private_networks() -> None:
    async def story() -> None:
        resolve, _ = resolving(["8.8.8.8"])
        outcome = await post("http://hook.example/x", BODY, {}, now=NOW, allow_private=True, resolve=resolve)
        assert outcome.refused
        assert "use https://" in outcome.problem

    play(story)


def test_a_name_without_an_address_may_have_one_later() -> None:
    async def none(host: str, port: int) -> list[str]:
        raise OSError

    async def story() -> None:
        assert await post("https://a.example", BODY, {}, now=NOW, resolve=none) == Outcome(
            problem="its host has no address", again=True
        )
        assert "127.0.0.1" in await addresses_of("127.0.0.1", 80)

    play(story)


# Certificates.


@pytest.fixture(name="certificate", scope="module")
def certificate_of_a_name(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not here")
    at = tmp_path_factory.mktemp("tls")
    key, certificate = at / "key.pem", at / "cert.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=hook.example", "-addext",
            "subjectAltName=DNS:hook.example",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


def test_the_certificate_is_that_of_the_name_though_the_address_is_called(certificate: tuple[Path, Path]) -> None:
    key, file = certificate
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file, key)
    trusting = ssl.create_default_context(cafile=str(file))

    async def story() -> None:
        async with hook(tls=serving) as there:
            resolve, _ = resolving(["127.0.0.1"])

            async def to(host: str, context: ssl.SSLContext | None) -> Outcome:
                return await send(there, url=f"https://{host}:{there.port}/x", resolve=resolve, context=context)

            assert await to("hook.example", trusting) == Outcome(200)
            assert await to("other.example", trusting) == Outcome(problem="its certificate is not valid", again=True)
            assert await to("hook.example", None) == Outcome(problem="its certificate is not valid", again=True)
            assert len(there.got) == 1

    play(story)


# What answers mean.


@given(st.integers(100, 599), st.text(max_size=20))
def test_every_answer_means_one_thing(status: int, retry_after: str) -> None:
    outcome = judged(status, retry_after, NOW)
    assert (outcome.problem == "") == (200 <= status < 300)
    assert not (outcome.again and outcome.problem == "")
    assert outcome.retry_after >= 0
    assert outcome.again or outcome.retry_after == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0), (" 0 ", 0.0), ("", 0.0), ("-3", 0.0), ("soon", 0.0), ("1.5", 0.0), ("²", 0.0),
        ("Mon, 01 Jan 2020 00:00:00 +9999999999999999999999", 0.0), ("Mon, 01 Jan 2020 99999999999999999999:00:00 GMT", 0.0),
        (email.utils.formatdate(NOW + 90, usegmt=True), 90.0), (email.utils.formatdate(NOW - 90, usegmt=True), 0.0),
    ],
)  # fmt: skip
def test_retry_after(text: str, seconds: float) -> None:
    assert seconds_of(text, NOW) == seconds


# Secrets.


def test_no_log_of_any_level_holds_the_url(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def story() -> None:
        for answer in ("200 OK", "500 Oops", "302 Found\nLocation: /elsewhere"):
            async with hook(answer) as there:
                outcome = await send(there)
                assert "s3cr3t" not in repr(outcome)
        assert "s3cr3t" not in repr(await send(there))
        assert "s3cr3t" not in repr(await send(there, allow_private=False))

    play(story)
    assert "s3cr3t" not in caplog.text


@pytest.mark.parametrize("url", ["http://[::1]:{port}/x", "http://six.example:{port}/x"])
def test_addresses_of_either_kind_are_called(url: str) -> None:
    """The connection goes to `::1`, whatever the URL calls it."""

    async def story() -> None:
        there = Hook()
        try:
            server = await asyncio.start_server(there._serve, "::1", 0)
        except OSError:
            pytest.skip("this machine has no IPv6")
        there.port = server.sockets[0].getsockname()[1]
        resolve, _ = resolving(["::1"])
        assert await send(there, url=url.format(port=there.port), resolve=resolve) == Outcome(200)
        assert there.got[0].headers["host"] == url.format(port=there.port).split("/")[2]
        server.close()

    play(story)
