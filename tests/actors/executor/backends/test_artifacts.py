import pytest

from actors.executor.backends.artifacts import artifact_of, collected, file_name, handed
from actors.executor.backends.files import File

GIF = b"GIF89a\x02\x00\x03\x00"


@pytest.mark.parametrize(
    ("data", "name", "told", "expected"),
    [
        (GIF, "a", "", ("a.gif", "image/gif", 2, 3)),
        (GIF, "a.png", "image/png", ("a.png", "image/gif", 2, 3)),
        (b"what is it", "a", "video/mp4", ("a.mp4", "video/mp4", 0, 0)),
        (b"what is it", "a", "", ("a", "application/octet-stream", 0, 0)),
        (b"", "a", "text/plain", ("a.txt", "text/plain", 0, 0)),
        (GIF, "../../etc/a.gif", "", ("a.gif", "image/gif", 2, 3)),
    ],
)
def test_a_file_tells_what_it_is(data: bytes, name: str, told: str, expected: tuple[str, str, int, int]) -> None:
    made = artifact_of(File(data), name, told)
    assert (made.name, made.media_type, made.width, made.height) == expected
    assert made.file.read() == data
    made.file.close()


def test_what_nobody_will_take_is_closed() -> None:
    kept = File(GIF)
    with collected() as made:
        made.append(artifact_of(kept, "a"))
    assert kept.read() == GIF

    def failing() -> None:
        with collected() as made:
            made.append(artifact_of(kept, "a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    with pytest.raises(ValueError, match="closed"):
        kept.read()


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("a.png", "a.png"), ("x/..\\a:b.png", "a_b.png"), ("x/", "file"), ("", "file"), ("..", "file"), ("a/..", "file"),
        (r"C:\x\a.png", "a.png"), ("a\0b.png", "a_b.png"), ("é 🚂.mp4", "é 🚂.mp4"), ("x" * 500 + ".mp4", "x" * 124 + ".mp4"),
    ],
)  # fmt: skip
def test_names_have_no_folders(said: str, name: str) -> None:
    assert file_name(said) == name


def test_what_was_not_taken_is_closed_and_what_was_is_not() -> None:
    files = [File(GIF) for _ in range(3)]
    with handed([artifact_of(file, "a") for file in files]) as made:
        assert next(made).file is files[0]
    assert files[0].read() == GIF
    files[0].close()
    for file in files[1:]:
        with pytest.raises(ValueError, match="closed"):
            file.read()
    with handed([artifact_of(File(GIF), "a") for _ in range(2)]) as made:
        for one in made:
            assert one.file.read() == GIF
            one.file.close()
