from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from bus import server_disk
from bus.server_disk import FULL_BYTES, ROOM_BYTES, Disk


class Usage(NamedTuple):
    total: int
    used: int
    free: int


STORED = "[1] 2026/12/01 10:48:42.1 [INF]   Restored 490 messages for stream '$G > EV' in 5ms\n"
HEAD = "[1] 2026/12/01 10:48:42.1 [ERR] "
SAID = {
    f"{HEAD}Filestore [IN] Critical write error: write /x/IN/msgs/1.blk: no space left on device\n": {"IN"},
    f"{HEAD}JetStream failed to store a msg on stream '$G > KV_facts': write /x/1.blk: file too large\n": {"KV_facts"},
    f"{HEAD}JetStream stream 'A > EV' critical write error: write /x/1.blk: input/output error\n": {"EV"},
    f"{HEAD}JetStream consumer '$G > WORK > exec-a' critical write error: disk quota exceeded\n": {"WORK"},
    f"{HEAD}JetStream out of file resources, will be DISABLED\n": set[str](),
}


@pytest.fixture(name="room")
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    room = [10 * ROOM_BYTES]
    monkeypatch.setattr(server_disk.shutil, "disk_usage", lambda _: Usage(0, 0, room[0]))
    return room


@pytest.fixture(name="disk")
def made(tmp_path: Path, room: list[int]) -> Disk:
    return Disk(tmp_path, tmp_path / "server.log")


@pytest.mark.parametrize(("line", "streams"), SAID.items())
def test_what_the_server_says_of_failed_writes_is_heard(disk: Disk, line: str, streams: set[str]) -> None:
    log = disk.directory / "server.log"
    assert not disk.look(), "there is no log yet"
    log.write_text(STORED * 3)
    assert not disk.look()
    with log.open("a") as file:
        file.write(line[:40])
        file.flush()
        assert not disk.look(), "half a line"
        file.write(line[40:] + STORED)
    assert disk.look()
    assert disk.look(), "and it holds"
    assert disk.streams == streams
    assert all(name in disk.trouble for name in streams)
    assert str(disk.directory) in disk.trouble
    disk.begin(log.stat().st_size)
    assert not disk.look()
    assert disk.trouble == ""


def test_what_an_earlier_run_of_the_server_said_does_not_count(disk: Disk) -> None:
    log = disk.directory / "server.log"
    log.write_text("".join(SAID))
    disk.begin(log.stat().st_size)
    assert not disk.look()


def test_a_log_that_was_cut_is_read_on(disk: Disk) -> None:
    log = disk.directory / "server.log"
    log.write_text(STORED * 100)
    assert not disk.look()
    log.write_text(next(iter(SAID)))
    assert not disk.look()
    with log.open("a") as file:
        file.write(next(iter(SAID)))
    assert disk.look()


def test_a_disk_that_was_full_is_trouble_until_the_server_is_started_anew(disk: Disk, room: list[int]) -> None:
    """It could not even write that into its log."""
    room[0] = FULL_BYTES - 1
    assert disk.look()
    assert disk.full
    assert "is full (0.5 MB free)" in disk.trouble
    assert not disk.has_room()
    room[0] = FULL_BYTES
    assert disk.look()
    assert not disk.full
    assert not disk.has_room(), "too little for a new start"
    room[0] = ROOM_BYTES
    assert disk.look()
    assert disk.has_room()
    assert "4.2 MB are free there now" in disk.trouble
    disk.begin(0)
    assert not disk.look()


def test_room_that_can_t_be_written_is_none(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.has_room()

    def refuse(_: int) -> None:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(server_disk.os, "fsync", refuse)
    assert not disk.has_room()


def test_a_directory_that_is_gone_has_no_room(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "gone", tmp_path / "gone" / "log")
    assert disk.free() == 0
    assert not disk.has_room()
    assert disk.look()
