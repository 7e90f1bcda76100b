"""A large result lies in the object store; everything else travels in its event."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from actors.executor.call import PIECE_CHARACTERS
from actors.executor.results import LARGE_RESULT_BYTES
from messages import Done
from tests.actors.executor.desk import answer, desk, item, saying
from tests.actors.rig import Rig, play


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
