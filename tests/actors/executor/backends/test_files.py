import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.files import HEAD_BYTES, MEMORY_BYTES, File, TooLarge


@given(st.lists(st.binary(max_size=300)), st.integers(1, 100))
def test_what_was_written_is_read_however_it_is_cut(pieces: list[bytes], size: int) -> None:
    whole = b"".join(pieces)
    file = File(pieces[0] if pieces else b"")
    for piece in pieces[1:]:
        file.write(piece)
    assert (file.size_bytes, file.sha256) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert file.head == whole[:HEAD_BYTES]
    read = list(file.pieces(size))
    assert b"".join(read) == whole
    assert all(len(piece) == size for piece in read[:-1])
    next(file.pieces(size), b"")  # Who looks at its head alone leaves it as it is.
    file.write(b"more")
    assert file.read() == whole + b"more"
    file.close()
    file.close()


def test_a_large_file_goes_to_disk_and_comes_back() -> None:
    file = File()
    for number in range(9):
        file.write(bytes([number]) * (MEMORY_BYTES // 8))
    assert file.size_bytes > MEMORY_BYTES
    assert [piece[0] for piece in file.pieces(MEMORY_BYTES // 8)] == list(range(9))
    file.close()


def test_what_is_too_large_is_refused_before_it_is_kept() -> None:
    file = File(b"12345", limit_bytes=8)
    with pytest.raises(TooLarge, match="larger than 8 bytes"):
        file.write(b"6789")
    assert file.read() == b"12345"
    file.close()
