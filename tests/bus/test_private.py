"""What is kept on a machine is for its owner alone, whatever the umask and whatever lay there before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.private import make_private, private_directory, write_private


@pytest.fixture(params=[0o000, 0o022, 0o077], autouse=True)
def mask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_directory_that_is_new_and_one_that_was_open(tmp_path: Path) -> None:
    assert mode(private_directory(tmp_path / "a" / "b")) == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    assert mode(private_directory(tmp_path / "open")) == 0o700


def test_a_file_is_written_whole_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    path.chmod(0o644)
    write_private(path, "after")
    assert (path.read_text(), mode(path)) == ("after", 0o600)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("untouched")
    (tmp_path / "file").symlink_to(tmp_path / "theirs")
    write_private(tmp_path / "file", "ours")
    assert (tmp_path / "theirs").read_text() == "untouched"
    assert not (tmp_path / "file").is_symlink()


def test_nothing_half_done_stays_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        write_private(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "history"
    make_private(path)
    assert (path.read_bytes(), mode(path)) == (b"", 0o600)
    path.write_bytes(b"kept")
    path.chmod(0o644)
    make_private(path)
    assert (path.read_bytes(), mode(path)) == (b"kept", 0o600)
