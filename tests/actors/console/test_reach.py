"""Which bus a command means, and what it says when nobody is there."""

import asyncio

import pytest

from actors.console import reach as module
from actors.console.reach import (
    DEFAULT_URL,
    URL_FILE,
    Where,
    address,
    ask,
    check_room,
    checked,
    knock,
    reach_patiently,
    reach_url,
)
from actors.console.screen import Complaint, Unreachable, Wrong, complain
from bus import codec
from bus.bus import BusError, BusUnavailable
from bus.server import NatsServer
from messages import JobsAre, JobsOf


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("TURNOUT_NATS_URL", "TURNOUT_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def found(where: Where) -> tuple[str, str]:
    return address(where.settings(), where)


def test_the_flag_outweighs_the_environment_the_file_and_the_running_server(monkeypatch, tmp_path):
    assert found(Where()) == (DEFAULT_URL, "the default")
    (tmp_path / ".turnout").mkdir()
    (tmp_path / ".turnout" / URL_FILE).write_text("nats://127.0.0.1:5001\n")
    assert found(Where()) == ("nats://127.0.0.1:5001", ".turnout/" + URL_FILE)
    config = tmp_path / "turnout.toml"
    config.write_text('[nats]\nurl = "nats://from-file:1"\n')
    assert found(Where(config=config)) == ("nats://from-file:1", str(config))
    monkeypatch.setenv("TURNOUT_NATS_URL", "nats://from-environment:1")
    assert found(Where(config=config)) == ("nats://from-environment:1", "TURNOUT_NATS_URL")
    assert found(Where(nats="nats://from-flag:1", config=config)) == ("nats://from-flag:1", "--nats")


def test_an_empty_file_of_a_server_that_went_is_passed_over(tmp_path):
    (tmp_path / URL_FILE).write_text("\n")
    assert found(Where(data_dir=str(tmp_path))) == (DEFAULT_URL, "the default")


@pytest.mark.parametrize("url", ["http://host", "nats://a:1,http://b", "nats://a b", " ", "nats://a,,nats://b"])
def test_what_is_no_nats_url_is_refused(url):
    with pytest.raises(Wrong, match=r"^--nats is "):
        checked(url, "--nats")


@pytest.mark.parametrize("url", ["host", "host:4222", "nats://a:1,nats://b:2", "tls://a", "ws://a", "wss://u:p@a"])
def test_what_is_one_is_not(url):
    assert checked(url, "--nats") == url


def test_a_password_in_a_wrong_url_is_not_shown():
    with pytest.raises(Wrong) as caught:
        checked("http://me:secret@host", "--nats")
    assert "secret" not in str(caught.value)


def test_knocking_says_why_nobody_opens():
    assert asyncio.run(knock("nats://127.0.0.1:1")) == "nothing listens there"
    assert asyncio.run(knock("127.0.0.1:1")) == "nothing listens there"
    assert asyncio.run(knock("nats://host:port")).startswith("that is no URL")

    async def listening() -> str:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            return await knock(f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    assert asyncio.run(listening()) == ""


def test_nobody_on_the_bus_has_its_own_exit_code(capsys):
    async def reached() -> None:
        async with reach_url("nats://me:secret@127.0.0.1:1", "--nats"):
            pass

    with pytest.raises(Unreachable) as caught:
        asyncio.run(reached())
    assert complain(caught.value) == 3
    said = capsys.readouterr().err
    assert "no bus at nats://127.0.0.1:1 (from --nats): nothing listens there" in said
    assert "secret" not in said


class Answering:
    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    async def ask(self, subject, data, *, timeout_seconds) -> bytes:
        if self.answer is None:
            raise BusUnavailable(subject)
        return self.answer


def asked(answer: bytes | None) -> JobsAre:
    bus = Answering(answer)
    return asyncio.run(ask(bus, JobsOf(), JobsAre))  # pyright: ignore[reportArgumentType]


def test_a_silent_room_is_named_with_how_to_start_it():
    assert asked(codec.encode(JobsAre())) == JobsAre()
    with pytest.raises(Complaint, match="the room 'telemetry' does not answer") as silent:
        asked(None)
    assert (silent.value.code, "turnout run telemetry" in silent.value.hint) == (3, True)
    with pytest.raises(Complaint, match="telemetry answered something else than JobsAre"):
        asked(b"[]")
    with pytest.raises(Complaint, match="telemetry can't answer: the history can't be read"):
        asked(b'{"problem":{"reason":"unavailable","message":"the history can\'t be read: disk I/O error"}}')


# Waiting for a bus


@pytest.fixture(name="quick")
def _quick(monkeypatch):
    monkeypatch.setattr(module, "KNOCK_AGAIN_SECONDS", 0.05)


async def nothing(bus) -> None:
    """Nothing is to be set up."""


def patiently(url: str, *, wait: float, set_up=nothing, stopped: asyncio.Event | None = None):
    return reach_patiently(url, "--nats", set_up, name="x", wait_seconds=wait, stopped=stopped or asyncio.Event())


def test_rooms_wait_for_a_bus_and_say_so_once(tmp_path, quick, capsys):
    async def run() -> None:
        server = NatsServer(tmp_path)
        await server.start()
        await server.stop()  # Its port is known now.

        async def start_later() -> None:
            await asyncio.sleep(0.5)
            await server.start()

        starting = asyncio.create_task(start_later())
        async with patiently(server.url, wait=60.0) as bus:
            assert bus.max_payload > 0
        await starting
        await server.stop()

    asyncio.run(run())
    said = capsys.readouterr().err
    assert said.count("nothing listens there; waiting for it, 60 s at most") == 1
    assert "the bus is there" in said


@pytest.mark.parametrize("wait", [0.0, 0.3])
def test_after_its_time_the_wait_ends_with_the_reason(wait, quick, capsys):
    async def run() -> None:
        async with patiently("nats://127.0.0.1:1", wait=wait):
            pytest.fail("nobody is there")

    with pytest.raises(Unreachable, match="nothing listens there") as caught:
        asyncio.run(run())
    assert ("waited for 0.3 s" in caught.value.text) == bool(wait)
    assert ("waiting for it" in capsys.readouterr().err) == bool(wait)
    assert caught.value.code == 3


def test_a_stop_ends_the_wait(quick):
    async def run() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, stopped.set)
        async with patiently("nats://127.0.0.1:1", wait=1e6, stopped=stopped):
            pytest.fail("nobody is there")

    with pytest.raises(Complaint, match="stopped while waiting") as caught:
        asyncio.run(run())
    assert caught.value.code == 130


def test_a_server_that_is_not_ready_yet_is_waited_for_as_well(tmp_path, quick):
    tries = 0

    async def set_up(bus) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise BusUnavailable("no answer, for 30 s")

    async def run() -> None:
        async with NatsServer(tmp_path) as server, patiently(server.url, wait=60.0, set_up=set_up):
            assert tries == 3

    asyncio.run(run())


def test_what_waiting_can_t_mend_is_said_at_once(tmp_path, quick):
    async def set_up(bus) -> None:
        raise BusError("another version")

    async def run() -> None:
        async with NatsServer(tmp_path) as server, patiently(server.url, wait=1e6, set_up=set_up):
            pytest.fail("that is no server for us")

    with pytest.raises(BusError, match="another version"):
        asyncio.run(run())


def test_nothing_is_sent_to_a_server_here_whose_disk_is_full(tmp_path, monkeypatch):
    (tmp_path / URL_FILE).write_text("nats://127.0.0.1:1\n")
    here, there = Where(data_dir=str(tmp_path)), Where(data_dir=str(tmp_path), nats="nats://127.0.0.1:1")
    check_room(here)
    monkeypatch.setattr(module.Disk, "free", lambda _: 1000)
    check_room(there)
    with pytest.raises(Complaint, match=rf"nothing was sent: the disk of {tmp_path} is full \(0.0 MB free\)"):
        check_room(here)
