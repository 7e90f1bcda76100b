"""A large result lies in the object store; everything else travels in its event."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor import results
from actors.executor.backends import port
from actors.executor.backends.files import File
from actors.executor.call import PIECE_CHARACTERS
from actors.executor.results import LARGE_RESULT_BYTES, Shelf
from actors.journal import Journal
from bus.objects import KEPT_SECONDS
from messages import Done, Origin, Parameters
from tests.actors.executor.desk import answer, desk, item, saying
from tests.actors.executor.test_checks import TOOL_CALL
from tests.actors.executor.test_checks import answer as said
from tests.actors.executor.test_json_answer import json_values
from tests.actors.rig import Rig, play
from tests.messages.samples import slip, work

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (64).to_bytes(4, "big") + (48).to_bytes(4, "big") + b"rest"


@pytest.mark.parametrize("text", ["x" * (LARGE_RESULT_BYTES + 1), "\x01" * 100_000, "\u00e4\U0001f600" * 50_000])
def test_a_large_result_lies_in_the_object_store_and_the_end_of_the_job_carries_the_reference(text: str) -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying(text, answer(text)))).end(item())
        assert end.result is not None
        ref = end.result.ref
        assert ref is not None
        assert (end.result.text, end.result.finish_reason) == (None, "stop")
        data = text.encode()
        assert await rig.bus.get_object(ref.key) == data
        assert (ref.size_bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert ref.media_type == "text/plain; charset=utf-8"
        [done] = rig.stored(Done)
        assert (done.ending, done.result) == ("succeeded", end.result)

    play(story)


@pytest.mark.parametrize("size", [LARGE_RESULT_BYTES // 6 + 1, LARGE_RESULT_BYTES - 1_000])
def test_a_result_that_fits_travels_in_the_event(size: int) -> None:
    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying(answer("x" * size)))).end(item())
        assert end.result is not None
        assert (end.result.text, end.result.ref) == ("x" * size, None)

    play(story)


def test_one_huge_piece_is_said_in_parts_that_fit() -> None:
    async def story(rig: Rig) -> None:
        text = "\x01" * 1_000_000 + "end"
        here = await desk(rig, saying(text, answer(text)))
        end = await here.end(item())
        said = here.chunks()
        assert [number for number, _ in said] == list(range(len(said)))
        assert "".join(piece for _, piece in said) == text
        assert max(len(piece) for _, piece in said) <= PIECE_CHARACTERS
        assert end.result is not None
        assert end.result.ref is not None
        assert end.result.ref.size_bytes == len(text)

    play(story)


def test_large_tool_calls_lie_in_the_object_store_with_the_text() -> None:
    async def story(rig: Rig) -> None:
        call = {"id": "c1", "function": {"name": "write", "arguments": "y" * LARGE_RESULT_BYTES}}
        end = await (await desk(rig, saying(answer("see", tool_calls=(call,))))).end(item())
        assert end.result is not None
        ref = end.result.ref
        assert ref is not None
        assert (ref.media_type, end.result.tool_calls, end.result.text) == ("application/json", (), None)
        data = await rig.bus.get_object(ref.key)
        assert data is not None
        assert (ref.size_bytes, ref.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        kept = msgspec.json.decode(data)
        assert (kept["text"], kept["tool_calls"], kept["finish_reason"]) == ("see", [call], "stop")

    play(story)


# What a result weighs.


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values(), max_size=3), max_size=3),
)
def test_no_result_is_larger_as_json_than_six_times_its_weight(text: str, tools: list[dict[str, Any]]) -> None:
    given_answer = said(text, *tools)
    frame = len(msgspec.json.encode(results.result_of(said("", {}))))
    assert len(msgspec.json.encode(results.result_of(given_answer))) <= frame + 6 * results.weight(given_answer)


@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5), max_size=5))
def test_nor_with_embeddings(vectors: list[list[float]]) -> None:
    given_answer = said("", embeddings=tuple(map(tuple, vectors)))
    frame = len(msgspec.json.encode(results.result_of(said("", embeddings=((0.0,),)))))
    assert len(msgspec.json.encode(results.result_of(given_answer))) <= frame + 6 * results.weight(given_answer)


def test_tool_calls_weigh_too() -> None:
    assert results.weight(said("four")) == 4
    assert results.weight(said("four", TOOL_CALL)) > 4 + len("function")


def test_a_result_carries_tool_calls_untouched() -> None:
    result = results.result_of(said("t", TOOL_CALL, finish_reason="tool_calls"))
    assert (result.text, result.finish_reason, result.ref) == ("t", "tool_calls", None)
    assert [msgspec.json.decode(call) for call in result.tool_calls] == [TOOL_CALL]


def test_large_embeddings_lie_in_the_object_store_as_a_list_of_lists() -> None:
    many = tuple(tuple(n + k / 7 for k in range(1_000)) for n in range(30))
    embeds = slip(input=msgspec.Raw(msgspec.json.encode({"texts": ["t"] * 30})), needs={"asset": "embedding"})

    async def story(rig: Rig) -> None:
        end = await (await desk(rig, saying(answer("", embeddings=many)))).end(item(slip=embeds))
        assert end.result is not None
        assert (end.result.text, end.result.embeddings) == (None, ())
        ref = end.result.ref
        assert ref is not None
        data = await rig.bus.get_object(ref.key)
        assert data is not None
        assert msgspec.json.decode(data, type=tuple[tuple[float, ...], ...]) == many
        assert (ref.media_type, ref.size_bytes) == ("application/json", len(data))

    play(story)


# Files.


def made(data: bytes, name: str = "a.png", media_type: str = "image/png", **more: Any) -> port.Artifact:
    return port.Artifact(name=name, media_type=media_type, file=File(data), **more)


def test_a_file_is_kept_with_what_is_known_of_it_and_closed() -> None:
    async def story(rig: Rig) -> None:
        wanted = work(parameters=Parameters(model="m-q4"), slip=slip(needs={"asset": "image", "recipe": "upscale"}))
        shelf = Shelf(Journal(rig.bus), wanted, lambda: 100.0)
        file = made(PNG)
        await shelf.put(file)
        [one] = shelf.artifacts(seed=7)
        assert one.ref.key == "acme/j-1/1/0"
        assert await rig.bus.get_object(one.ref.key) == PNG
        assert (one.ref.size_bytes, one.ref.sha256) == (len(PNG), hashlib.sha256(PNG).hexdigest())
        assert (one.ref.media_type, one.width, one.height) == ("image/png", 64, 48)
        assert one.origin == Origin(backend="a", model="m-q4", recipe="upscale", seed=7)
        assert one.expires_at == 100.0 + KEPT_SECONDS
        with pytest.raises(ValueError, match="closed"):
            file.file.read()

    play(story)


def test_a_repeated_run_replaces_what_the_first_one_made_and_a_failed_one_leaves_nothing() -> None:
    async def story(rig: Rig) -> None:
        for data in (b"first", b"second"):
            shelf = Shelf(Journal(rig.bus), work(), rig.bus.now)
            await shelf.put(made(data))
        assert rig.server.object_keys("RESULTS") == ["acme/j-1/1/0"]
        assert await rig.bus.get_object("acme/j-1/1/0") == b"second"
        await shelf.put(made(b"third"))
        await shelf.clear()
        assert rig.server.object_keys("RESULTS") == []

    play(story)


def test_names_are_of_one_part_and_differ() -> None:
    names = [
        "a.png",
        "a.png",
        "../../etc/a.png",
        "c:\\x\\b.png",
        "",
        "..",
        "plain",
        "plain",
        "x" * 300,
        ".hidden",
        ".hidden",
    ]

    async def story(rig: Rig) -> None:
        shelf = Shelf(Journal(rig.bus), work(), rig.bus.now)
        for name in names:
            await shelf.put(made(b"x", name))
        found = [one.name for one in shelf.artifacts(None)]
        assert found == [
            "a.png", "a-2.png", "a-3.png", "b.png", "file", "file-2", "plain", "plain-2", "x" * 128, ".hidden",
            ".hidden-2",
        ]  # fmt: skip

    play(story)


@pytest.mark.parametrize(
    ("declared", "data", "kept"),
    [
        ("image/jpeg", PNG, "image/png"),
        ("", PNG, "image/png"),
        ("", b"?", "application/octet-stream"),
        ("audio/mp4", b"\0\0\0\x18ftypM4A ", "audio/mp4"),
        ("video/x-odd", b"\0\1\2", "video/x-odd"),
    ],
)
def test_the_bytes_know_better_what_a_file_is(declared: str, data: bytes, kept: str) -> None:
    async def story(rig: Rig) -> None:
        shelf = Shelf(Journal(rig.bus), work(), rig.bus.now)
        await shelf.put(made(data, media_type=declared))
        assert shelf.artifacts(None)[0].ref.media_type == kept

    play(story)


def test_too_many_files_are_a_fault_and_the_last_is_closed_too() -> None:
    async def story(rig: Rig) -> None:
        shelf = Shelf(Journal(rig.bus), work(), rig.bus.now)
        for _ in range(results.MOST_FILES):
            await shelf.put(made(b"x"))
        last = made(b"x")
        with pytest.raises(port.BackendError, match="more than 500 files"):
            await shelf.put(last)
        with pytest.raises(ValueError, match="closed"):
            last.file.read()

    play(story)
