"""`turnout get` and the files of `turnout submit`, against a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.console import files
from actors.console.files import INLINE_BYTES, SHOWN_BYTES, Shown, input_of, upload
from actors.console.screen import Wrong
from bus import codec
from bus.topology import INPUTS
from messages import Analyzed, Artifact, Check, Done, JobSubmit, ObjectRef, Origin, Problem, Result
from tests.actors.console.live import Live, live, run

PNG = b"\x89PNG\r\n\x1a\nrest"
BIG = bytes(range(256)) * 2_000


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("nats")) as made:
        yield made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(there: Live, key: str, data: bytes, media_type: str = "image/png") -> ObjectRef:
    there.do(there.bus.put_object(key, data))
    return ObjectRef(key=key, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), media_type=media_type)


def made(there: Live, job: str, name: str, data: bytes, number: int = 0) -> Artifact:
    ref = kept(there, f"default/{job}/1/{number}", data)
    origin = Origin(backend="a", model="m")
    return Artifact(name=name, ref=ref, origin=origin, width=64, height=48, expires_at=2e9)


def ended(there: Live, job: str, result: Result | None = None, **more: Any) -> str:
    given: dict[str, Any] = {"ending": "succeeded", "result": result}
    done = Done(tenant="default", job=job, at=1.0, **{**given, **more})
    there.do(there.bus.publish(done.subject, codec.encode(done), msg_id=f"done {job}"))
    return job


def get(there: Live, *words: str) -> int:
    return run("get", *words, url=there.server.url)


# Texts.


def test_a_text_goes_to_the_standard_output(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(there, ended(there, "text", Result(text="An answer.\n\x1b[31m"))) == 0
    assert capsys.readouterr().out == "An answer.\n\x1b[31m\n"


def test_a_large_text_is_fetched_and_written(
    there: Live, here: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    ref = kept(there, "default/large/1", BIG, "text/plain; charset=utf-8")
    job = ended(there, "large", Result(ref=ref))
    assert get(there, job) == 0
    assert capsysbinary.readouterr().out == BIG + b"\n"
    assert get(there, job, "-o", "answer.txt") == 0
    assert (here / "answer.txt").read_bytes() == BIG
    assert [path.name for path in here.iterdir()] == ["answer.txt"]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Result(text="", embeddings=((0.5, 1.0), (2.0, 3.0))), "[[0.5,1.0],[2.0,3.0]]\n"),
        (Result(text="", tool_calls=(msgspec.Raw(b'{"id":1}'), msgspec.Raw(b'{"id":2}'))), '{"id":1}\n{"id":2}\n'),
    ],
)
def test_embeddings_and_tool_calls_are_json(
    there: Live, result: Result, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get(there, ended(there, f"json-{len(said)}", result)) == 0
    assert capsys.readouterr().out == said


def test_what_is_to_be_known_of_an_answer_does_not_mix_with_it(there: Live, capsys: pytest.CaptureFixture[str]) -> None:
    call = msgspec.Raw(b'{"id":"c","function":{"name":"weather","arguments":"{}"}}')
    job = ended(there, "noted", Result(text="Half", finish_reason="length", tool_calls=(call,), refusal="Not that."))
    assert get(there, job) == 0
    shown = capsys.readouterr()
    assert shown.out == "Half\n"
    for words in ("finish reason length", "calls weather({})", "refused: Not that."):
        assert words in shown.err
    assert get(there, job, "--quiet") == 0
    assert capsys.readouterr().err == ""


# Files.


def test_a_file_is_written_under_its_own_name_and_never_over_another(
    there: Live, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = ended(there, "one", Result(text="see the picture", artifacts=(made(there, "one", "out.png", PNG),)))
    assert get(there, job) == 0
    assert (here / "out.png").read_bytes() == PNG
    shown = capsys.readouterr()
    assert (shown.out, "out.png  image/png, 12 bytes" in shown.err) == ("see the picture\n", True)
    (here / "out.png").write_bytes(b"mine")
    assert get(there, job) == 1
    assert "out.png is there already" in capsys.readouterr().err
    assert (here / "out.png").read_bytes() == b"mine"
    assert get(there, job, "--force", "--quiet") == 0
    assert (here / "out.png").read_bytes() == PNG
    assert get(there, job, "-o", "other.png") == 0
    assert sorted(path.name for path in here.iterdir()) == ["other.png", "out.png"]


def test_one_file_can_go_to_the_standard_output(there: Live, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    job = ended(there, "pipe", Result(artifacts=(made(there, "pipe", "out.png", PNG),)))
    assert get(there, job, "-o", "-") == 0
    assert capsysbinary.readouterr().out == PNG


def test_several_files_are_written_all_or_none(there: Live, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("a.png", "b.png", "c.png")
    files = tuple(made(there, "many", name, name.encode(), number) for number, name in enumerate(names))
    job = ended(there, "many", Result(artifacts=files))
    assert get(there, job) == 2
    assert "the job made 3 files: a.png, b.png, c.png" in capsys.readouterr().err
    assert get(there, job, "--all", "-o", "one.png") == 2
    assert get(there, job, "--all", "-o", "none/") == 2
    (here / "dir").mkdir()
    (here / "dir" / "c.png").write_bytes(b"mine")
    assert get(there, job, "--all", "-o", "dir") == 1
    assert [path.name for path in (here / "dir").iterdir()] == ["c.png"]
    assert get(there, job, "--all", "-o", "dir", "--force") == 0
    assert [(here / "dir" / name).read_bytes() for name in names] == [name.encode() for name in names]


def test_a_name_does_not_lead_out_of_the_directory(there: Live, here: Path) -> None:
    (here / "in").mkdir()
    for number, name in enumerate(("../up.png", "/etc/up2.png", "..\\up3.png", "..")):
        job = ended(there, f"out-{number}", Result(artifacts=(made(there, f"out-{number}", name, PNG),)))
        assert get(there, job, "-o", "in") == 0
    assert sorted(path.name for path in (here / "in").iterdir()) == ["file", "up.png", "up2.png", "up3.png"]
    assert [path.name for path in here.iterdir()] == ["in"]


def test_names_that_become_the_same_do_not_overwrite_each_other(there: Live, here: Path) -> None:
    names = (".out.png", "out.png", "OUT.png", "../out.png", "o\0ut.png", ".", "..")
    files = tuple(made(there, "same", name, name.encode(), number) for number, name in enumerate(names))
    assert get(there, ended(there, "same", Result(artifacts=files)), "--all") == 0
    assert sorted(path.read_bytes() for path in here.iterdir()) == sorted(name.encode() for name in names)


def test_a_list_shows_what_there_is_and_writes_nothing(
    there: Live, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = (Check(name="size", verdict="soft_fail", message="another size"), Check(name="v", verdict="pass"))
    result = Result(text="hi", artifacts=(made(there, "list", "out.png", PNG),), checks=checks)
    assert get(there, ended(there, "list", result), "--list") == 0
    shown = capsys.readouterr()
    [head, first, second] = shown.out.splitlines()
    assert head.split()[:3] == ["name", "type", "bytes"]
    assert first.split()[:6] == ["out.png", "image/png", "12", "64", "x", "48"]
    assert second.split() == ["(answer)", "text/plain", "2"]
    assert "size: another size" in shown.err
    assert list(here.iterdir()) == []


def test_nothing_that_comes_from_elsewhere_moves_the_cursor(
    there: Live, here: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = made(there, "evil", "out\x1b[2J.png", PNG)
    evil = msgspec.structs.replace(evil, ref=msgspec.structs.replace(evil.ref, media_type="image/\x1b[2Jpng"))
    job = ended(there, "evil", Result(artifacts=(evil,)))
    assert get(there, job, "--list") == 0
    assert get(there, job) == 0
    text = ("é\x1b[2J\r\n" * 100_000).encode()
    large = ended(there, "evil-text", Result(ref=kept(there, "default/evil-text/1", text, "text/plain; charset=utf-8")))
    monkeypatch.setattr(files, "to_terminal", lambda: True)
    assert get(there, large) == 0
    shown = capsysbinary.readouterr()
    assert b"\x1b[2J" not in shown.out + shown.err
    assert shown.out.count("é".encode()) == 100_000


# What is not there.


def test_what_is_not_there_says_why(there: Live, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert get(there, "nobody") == 1
    assert "there is no job 'nobody'" in capsys.readouterr().err
    analyzed = Analyzed(tenant="default", job="running", fingerprint="f", at=0.0)
    there.do(there.bus.publish(analyzed.subject, codec.encode(analyzed), msg_id="running"))
    assert get(there, "running") == 1
    assert "running has not ended yet" in capsys.readouterr().err
    problem = Problem(reason="timeout", message="silent")
    assert get(there, ended(there, "failed", ending="failed", problem=problem)) == 1
    assert "failed made nothing, it failed: silent" in capsys.readouterr().err
    gone = made(there, "gone", "out.png", PNG)
    there.do(there.bus.remove_object(gone.ref.key))
    assert get(there, ended(there, "gone", Result(artifacts=(gone,)))) == 1
    assert "is no longer kept: it was kept until 2033" in capsys.readouterr().err
    other = made(there, "other", "out.png", PNG)
    there.do(there.bus.put_object(other.ref.key, b"another"))
    assert get(there, ended(there, "other", Result(artifacts=(other,)))) == 1
    assert "is not what the job made" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_without_a_bus_it_says_so() -> None:
    assert run("get", "job") == 3


# What a job brings along.


def test_small_files_travel_in_the_job_and_large_ones_before_it(there: Live, here: Path) -> None:
    (here / "small.png").write_bytes(PNG)
    (here / "large.mp4").write_bytes(BIG)
    words = ("submit", "--no-follow", "--recipe", "image-to-video", "--negative", "fog", "--id", "with-files", "-q")
    files = ("--input", "image=small.png", "--input", "video=large.mp4")
    assert run(*words, *files, "it runs", url=there.server.url) == 0
    records = there.do(submissions(there))
    [job] = [msgspec.json.decode(data, type=JobSubmit) for data in records if b"with-files" in data]
    assert (job.recipe, job.negative_prompt, job.prompt) == ("image-to-video", "fog", "it runs")
    small, large = job.inputs
    assert (small.name, small.media_type, small.key, small.data != "") == ("image", "image/png", "", True)
    digest = hashlib.sha256(BIG).hexdigest()
    assert (large.name, large.media_type, large.data, large.sha256) == ("video", "video/mp4", "", digest)
    assert large.key == f"default/in/{digest}"
    assert there.do(there.bus.get_object(large.key, bucket=INPUTS)) == BIG


async def submissions(there: Live) -> list[bytes]:
    return [record.data async for record in there.bus.read("IN", "job.submit.*")]


@pytest.mark.parametrize("given", ["image", "=a.png", "image=", "image=nowhere.png"])
def test_a_wrong_input_says_what_would_be_right(given: str) -> None:
    with pytest.raises(Wrong, match=r"--input is|nowhere.png: No such file"):
        input_of(given, "acme")


def test_a_tenants_name_is_encoded_and_the_limit_is_exact(here: Path) -> None:
    (here / "a").write_bytes(b"x" * INLINE_BYTES)
    (here / "b").write_bytes(b"x" * (INLINE_BYTES + 1))
    assert input_of("image=a", "a/b")[1] is None
    found, wanted = input_of("image=b", "a/b")
    assert wanted is not None
    assert wanted.key == found.key
    assert found.key.startswith("a%2Fb/in/")
    assert found.media_type == "application/octet-stream"


def test_a_file_that_changes_while_it_is_sent_is_not_sent(there: Live, here: Path) -> None:
    (here / "b").write_bytes(b"x" * (INLINE_BYTES + 1))
    _, wanted = input_of("image=b", "default")
    assert wanted is not None
    (here / "b").write_bytes(b"y" * (INLINE_BYTES + 1))
    with pytest.raises(Wrong, match="it was changed while it was sent"):
        there.do(upload(there.bus, [wanted], quiet=True))
    (here / "b").unlink()
    with pytest.raises(Wrong, match="No such file"):
        there.do(upload(there.bus, [wanted], quiet=True))


def test_only_large_files_have_a_bar() -> None:
    class Bar:
        def __init__(self) -> None:
            self.said: list[Any] = []

        def add_task(self, text: str, total: int) -> int:
            self.said.append((text, total))
            return 1

        def advance(self, task: int, size: int) -> None:
            self.said.append(size)

    bar = Bar()
    shown = Shown(bar)  # type: ignore[arg-type]
    assert list(shown.watch("small", 3, iter([b"abc"]))) == [b"abc"]
    assert bar.said == []
    assert list(shown.watch("large", SHOWN_BYTES, iter([b"ab", b"c"]))) == [b"ab", b"c"]
    assert bar.said == [("large", SHOWN_BYTES), 2, 1]
    assert list(Shown(None).watch("x", SHOWN_BYTES, iter([b"ab"]))) == [b"ab"]
