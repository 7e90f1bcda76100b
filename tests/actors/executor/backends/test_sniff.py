import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.sniff import ENDINGS, media_type_of, size_of

SIZES = st.integers(1, 16_383)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"RIFF\0\0\0\0AVI ", ""),
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"\0\0\0\x14ftypqt  ", "video/quicktime"),
        (b"\0\0\0\x1cftypM4A ", "audio/mp4"),
        (b"\0\0\0\x1cftypavif", "image/avif"),
        (b"\0\0\0\x1cftypavis", "image/avif"),
        (b"\0\0\0\x1cftypheic", "image/heic"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "image/svg+xml"),
        (b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>\n<!-- by hand -->\n<svg\n', "image/svg+xml"),
        (b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x"><svg>', "image/svg+xml"),
        (b'<?xml version="1.0"?><Error><svg/></Error>', ""),
        (b"<svgx>", ""),
        (b"\xff\x0a\xfa", "image/jxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
        (b"BM6\0\x0c\0\0\0\0\0", "image/bmp"),
        (b"BMW is a car", ""),
        (b"II*\0", "image/tiff"),
        (b"\x1a\x45\xdf\xa3", "video/webm"),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x82\x88matroska", "video/x-matroska"),
        (b"fLaC", "audio/flac"),
        (b"OggS", "audio/ogg"),
        (b"ID3\x04", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"<html>", ""),
        (b"", ""),
        (b"\xff", ""),
    ],
)
def test_the_first_bytes_tell_what_it_is(head: bytes, kind: str) -> None:
    assert media_type_of(head) == kind
    assert not kind or kind in ENDINGS


@given(SIZES, SIZES)
def test_how_large_a_picture_is(width: int, height: int) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    gif = b"GIF89a" + struct.pack("<HH", width, height)
    riff = b"RIFF\0\0\0\0WEBP"
    large = riff + b"VP8X" + bytes(8) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    lossless = riff + b"VP8L" + bytes(4) + b"\x2f" + ((height - 1) << 14 | (width - 1)).to_bytes(4, "little") + bytes(9)
    lossy = riff + b"VP8 " + bytes(10) + struct.pack("<HH", width, height)
    app = b"\xff\xe0" + struct.pack(">H", 16) + bytes(14)
    jpeg = b"\xff\xd8" + app + b"\xff\xc0" + struct.pack(">HBHH", 17, 8, height, width)
    for picture in (png, gif, large, lossless, lossy, jpeg):
        assert size_of(picture) == (width, height)


@given(st.binary(max_size=80))
def test_what_is_no_picture_has_no_size_and_breaks_nothing(data: bytes) -> None:
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 ", b"\xff\xd8\xff"):
        width, height = size_of(head + data)
        assert width >= 0
        assert height >= 0
    assert size_of(b"ID3" + data) == (0, 0)
