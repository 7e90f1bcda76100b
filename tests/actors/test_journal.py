from __future__ import annotations

import hashlib

import msgspec
import pytest

from actors.journal import Journal, empty
from bus import codec
from bus.topology import INPUTS
from messages import Done, Granted, Held, Problem, Work
from tests.actors.rig import Rig, play
from tests.messages.samples import T0, attempted


def test_it_reads_the_one_stored_event() -> None:
    async def story(rig: Rig) -> None:
        journal = Journal(rig.bus)
        assert await journal.done("acme", "j-1") is None
        assert await journal.attempted("acme", "j-1", 1) is None
        assert await journal.granted("acme", "j-1", 1) is None
        done = Done(tenant="acme", job="j-1", ending="succeeded", at=T0)
        verdict = Granted(tenant="a.b", job="j-1", n=2, verdict="void", at=T0)
        for event in (done, attempted(n=1), attempted(n=2, outcome="timeout"), verdict):
            await rig.publish(event)
        assert await journal.done("acme", "j-1") == done
        assert await journal.attempted("acme", "j-1", 2) == attempted(n=2, outcome="timeout")
        assert await journal.granted("a.b", "j-1", 2) == verdict
        assert await journal.granted("a.b", "j-1", 1) is None
        assert await journal.read(Work, backend="a", tenant="acme", job="j-1", n=1) is None

    play(story)


def test_a_hold_that_came_later_is_not_the_one_that_is_asked_for() -> None:
    async def story(rig: Rig) -> None:
        journal = Journal(rig.bus)
        holds = [
            Held(tenant="acme", job="j-1", n=n, problem=Problem(reason="over_budget", message="x"), until=T0 + 9, at=T0)
            for n in (2, 4)
        ]
        await rig.publish(holds[0])
        await rig.settle(1.0)
        between = rig.bus.now()
        await rig.settle(1.0)
        assert await journal.held("acme", "j-1", between - 1.5) is None
        await rig.publish(holds[1])
        assert await journal.held("acme", "j-1", between) == holds[0]
        assert await journal.held("acme", "j-1", rig.bus.now()) == holds[1]

    play(story)


def test_what_is_stored_and_not_understood_is_told() -> None:
    async def story(rig: Rig) -> None:
        await rig.raw("ev.done.acme.j-1", b"{}")
        with pytest.raises(codec.Undecodable):
            await Journal(rig.bus).done("acme", "j-1")

    play(story)


def test_a_submission_is_read_as_json() -> None:
    async def story(rig: Rig) -> None:
        journal = Journal(rig.bus)
        body = {"prompt": "hi"}
        plain = await rig.raw("job.submit.acme", msgspec.json.encode(body))
        packed = await rig.raw(
            "job.submit.acme", msgspec.msgpack.encode(body), headers={"Content-Type": "application/msgpack"}
        )
        assert await journal.submission(plain.seq) == await journal.submission(packed.seq) == msgspec.json.encode(body)
        assert await journal.submission(99) is None

    play(story)


def test_large_results_are_kept_apart() -> None:
    async def story(rig: Rig) -> None:
        await Journal(rig.bus).keep("acme/j-1/1", b"x" * 300_000)
        await Journal(rig.bus).keep_once("acme/j-1/2", b"y")
        assert await rig.bus.get_object("acme/j-1/1") == b"x" * 300_000
        assert await rig.bus.get_object("acme/j-1/2") == b"y"

    play(story)


def test_files_are_kept_in_pieces_found_in_both_stores_and_forgotten() -> None:
    async def story(rig: Rig) -> None:
        journal = Journal(rig.bus)
        kept = await journal.keep_file("acme/j-1/1/0", iter([b"ab", b"c"]))
        assert (kept.size_bytes, kept.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
        await rig.bus.put_object("acme/in/1", b"brought", bucket=INPUTS)
        for key, data in (("acme/j-1/1/0", b"abc"), ("acme/in/1", b"brought")):
            found = await journal.open(key)
            assert found is not None
            assert b"".join([piece async for piece in found.pieces]) == data
        await journal.forget("acme/j-1/1/0")
        assert await journal.open("acme/j-1/1/0") is None
        assert await journal.open("acme/none") is None

    play(story)


def test_an_absent_body_is_empty() -> None:
    assert empty(msgspec.Raw(b"null"))
    assert not empty(msgspec.Raw(b"{}"))
