"""Calls that a backend is still at work for: who goes on with them, and who stops them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from actors.executor.backends import port
from actors.executor.call import call_key
from actors.executor.orphans import LOOK_SECONDS
from actors.roster import DEAD_AFTER_SECONDS
from messages import Attempt, Attempted, Correction, Done, Granted, Price, Progress, Retry, Started
from messages.message import Message
from tests.actors.executor.desk import Adapter, Desk, answer, desk, item
from tests.actors.rig import Rig, play
from tests.messages.samples import T0, attempted, work

KEY = call_key("acme", "j-1", 1, "b9")
"""Of the first attempt, whose process has died."""
BY_TIME = Price(per_gpu_second=1_000)


class Keeper(Adapter):
    """A server that goes on with what was asked of it, whoever has died."""

    def __init__(self, run: Any, health: Any = None) -> None:
        super().__init__(run, health)
        self.there: dict[str, Any] = {}
        """Keys of what runs there."""
        self.stopped: list[str] = []
        self.looks = 0
        self.away = False

    async def left(self) -> tuple[str, ...]:
        self.looks += 1
        if self.away:
            raise port.BackendError("connection_error", "it is not there")
        return tuple(self.there)

    async def stop(self, key: str) -> None:
        if self.away:
            raise port.BackendError("connection_error", "it is not there")
        self.stopped.append(key)
        self.there.pop(key, None)


def claim(n: int = 1, boot: str = "b9", backend: str = "a", at: float = T0 - 100) -> Started:
    return Started(
        tenant="acme", job="j-1", n=n, backend=backend, instance="exec-z", boot=boot, run="r1", at=at
    )  # fmt: skip


def granted(n: int, backend: str = "", verdict: Any = "candidate") -> Granted:
    return Granted(tenant="acme", job="j-1", n=n, verdict=verdict, backend=backend, model="m", at=T0)


def lost(n: int = 1, outcome: Any = "executor_lost", backend: str = "a") -> Attempted:
    return attempted(n=n, outcome=outcome, backend=backend, billed_microdollars=60)


async def opened(rig: Rig, *there: str) -> tuple[Desk, Keeper]:
    async def run(_: port.Call) -> AsyncIterator[port.Item]:
        yield answer("done")

    here = await desk(rig, run, tells=Keeper)
    keeper = here.adapter
    assert isinstance(keeper, Keeper)
    keeper.there = dict.fromkeys(there)
    return here, keeper


ENDED = Done(tenant="acme", job="j-1", ending="cancelled", at=T0)


@pytest.mark.parametrize(
    ("said", "stops"),
    [
        ((), False),  # Nothing is known of it: another deployment's.
        ((claim(),), False),  # Its end is still to be recorded.
        ((claim(), lost()), False),  # The job may come back.
        ((claim(), lost(), ENDED), True),
        ((claim(boot="b8"), lost(), ENDED), False),  # Another deployment's, with a job of the same name.
        ((claim(backend="b"), lost(), ENDED), False),
        ((claim(), ENDED), False),
        ((claim(), lost(), granted(2, "b")), True),  # It has moved.
        ((claim(), lost(), granted(2, "a")), False),  # That attempt looks for it itself.
        ((claim(), lost(), granted(2, "a"), lost(2)), False),  # So does the next one.
        ((claim(), lost(), granted(2, "a"), lost(2), granted(3, "b")), True),
        ((claim(), lost(), granted(2, verdict="refused")), False),  # It waits.
        ((claim(), lost(), granted(2, verdict="refused"), granted(3, "b")), True),
        ((claim(), lost(), granted(2, verdict="refused"), granted(3, "a")), False),
        ((claim(), lost(outcome="connection_error"), granted(2, "b")), True),
    ],
)  # fmt: skip
def test_what_a_job_left_is_stopped_once_it_has_ended_or_moved(said: tuple[Message, ...], *, stops: bool) -> None:
    async def story(rig: Rig) -> None:
        for one in said:
            await rig.publish(one)
        _, keeper = await opened(rig, KEY, "somebody's", "acme/j-1/x/b9")
        await rig.settle(DEAD_AFTER_SECONDS + 5)
        assert keeper.stopped == ([KEY] if stops else [])

    play(story)


def test_what_is_left_is_watched_until_its_job_ends() -> None:
    async def story(rig: Rig) -> None:
        await rig.publish(claim())
        await rig.publish(lost())
        _, keeper = await opened(rig, KEY)
        await rig.settle(30)
        assert (keeper.stopped, keeper.looks) == ([], 1)
        await rig.publish(ENDED)
        await rig.settle(3)
        assert keeper.stopped == [KEY]
        await rig.settle(30)
        assert keeper.stopped == [KEY]

    play(story)


def test_a_living_owner_is_left_alone() -> None:
    async def story(rig: Rig) -> None:
        at = rig.bus.now()
        await rig.publish(claim(at=at))
        await rig.publish(lost())
        await rig.publish(ENDED)
        _, keeper = await opened(rig, KEY)
        await rig.settle(DEAD_AFTER_SECONDS - 1)
        assert keeper.stopped == []
        await rig.settle(3)
        assert keeper.stopped == [KEY]

    play(story)


def test_a_server_that_is_away_is_asked_again() -> None:
    async def story(rig: Rig) -> None:
        for one in (claim(), lost(), ENDED):
            await rig.publish(one)
        _, keeper = await opened(rig, KEY)
        keeper.away = True
        await rig.settle(DEAD_AFTER_SECONDS + 5)
        assert keeper.stopped == []
        keeper.away = False
        await rig.settle(3)
        assert keeper.stopped == [KEY]

    play(story)


def test_whoever_records_an_attempt_as_lost_watches_what_it_left() -> None:
    async def story(rig: Rig) -> None:
        _, keeper = await opened(rig)
        await rig.settle(5)
        await rig.publish(claim())
        await rig.publish(work())
        keeper.there[KEY] = None  # Nobody asks the server: it was asked before.
        await rig.settle(DEAD_AFTER_SECONDS + 3)
        [end] = rig.stored(Attempted)
        assert (end.outcome, keeper.stopped, keeper.looks) == ("executor_lost", [], 1)
        await rig.publish(granted(2, "b"))
        await rig.settle(3)
        assert keeper.stopped == [KEY]

    play(story)


def test_a_server_with_strange_calls_is_asked_now_and_then() -> None:
    async def story(rig: Rig) -> None:
        here, keeper = await opened(rig)
        keeper.health = busy  # type: ignore[method-assign]
        await rig.settle(LOOK_SECONDS * 3 + 10)
        assert 2 <= keeper.looks <= 5
        del here

    play(story)


async def busy() -> port.Vitals:
    return port.Vitals(waiting=3, running=1)


# Going on with it.


def taking(*items: port.Item, seen: list[port.Call]) -> Any:
    async def run(call: port.Call) -> AsyncIterator[port.Item]:
        seen.append(call)
        for one in items:
            yield one

    return run


def again(n: int, *outcomes: tuple[str, str], **more: Any) -> Any:
    """Round `n` of a job whose earlier attempts ended so, each at a backend."""
    history = tuple(
        Attempt(n=at, backend=where, model="m", outcome=outcome, billed_microdollars=9_000)  # type: ignore[arg-type]
        for at, (where, outcome) in enumerate(outcomes, 1)
    )
    return item(n=n, attempts=history, **more)


LOST = ("a", "executor_lost")


@pytest.mark.parametrize(
    ("outcomes", "earlier"),
    [
        ((LOST,), (1,)),
        ((LOST, LOST), (1, 2)),
        ((LOST, ("b", "server_error")), (1,)),
        ((("a", "connection_error"), ("a", "timeout")), (1, 2)),
        ((LOST, ("a", "server_error")), ()),  # It had an answer since: that is what it made of it.
        ((LOST, ("a", "server_error"), LOST), (3,)),
        ((LOST, ("a", "not_started")), (1,)),
        ((("b", "executor_lost"),), ()),
    ],
)
def test_an_attempt_knows_what_earlier_ones_may_have_left_there(
    outcomes: tuple[tuple[str, str], ...], earlier: tuple[int, ...]
) -> None:
    seen: list[port.Call] = []

    async def story(rig: Rig) -> None:
        for n in range(1, len(outcomes) + 1):
            await rig.publish(claim(n, boot=f"boot-{n}"))
        here = await desk(rig, taking(answer("done"), seen=seen), tells=Keeper)
        n = len(outcomes) + 1
        await here.end(again(n, *outcomes))
        [call] = seen
        assert call.key == call_key("acme", "j-1", n, "b1")
        assert call.earlier == tuple(call_key("acme", "j-1", m, f"boot-{m}") for m in earlier)

    play(story)


def test_one_who_only_drained_has_left_nothing_and_most_servers_keep_nothing() -> None:
    seen: list[port.Call] = []

    async def story(rig: Rig) -> None:
        await rig.publish(msgspec.structs.replace(claim(), purpose="drain"))
        here = await desk(rig, taking(answer("done"), seen=seen), tells=Keeper)
        await here.end(again(2, LOST))
        assert seen[-1].earlier == ()

    async def other(rig: Rig) -> None:
        await rig.publish(claim())
        await (await desk(rig, taking(answer("done"), seen=seen))).end(again(2, LOST))
        assert seen[-1].earlier == ()

    play(story)
    play(other)
    assert len(seen) == 2


def test_what_is_gone_on_with_is_billed_once_and_told() -> None:
    seen: list[port.Call] = []
    took = port.TookUp(call_key("acme", "j-1", 2, "boot-2"))

    async def story(rig: Rig) -> None:
        for n in (1, 2, 3):
            await rig.publish(claim(n, boot=f"boot-{n}"))
        made = answer("done", usage=port.Usage(input_tokens=3, output_tokens=4, gpu_seconds=90.0))

        async def run(call: port.Call) -> AsyncIterator[port.Item]:
            seen.append(call)
            yield took
            for _ in range(3):
                await rig.settle(10.0)
                yield port.Step(stage="working")
            yield made

        here = await desk(rig, run, tells=Keeper)
        end = await here.end(again(4, LOST, LOST, LOST, price=BY_TIME, worst_case_microdollars=200_000))
        assert (end.outcome, end.took_up, end.billed_microdollars, end.counted_gpu_milliseconds) == (
            "ok", 2, 30_000, 30_000,
        )  # fmt: skip
        assert end.corrections == (
            Correction(n=2, billed_microdollars=60_000, counted_gpu_milliseconds=60_000), Correction(n=3),
        )  # fmt: skip
        [done] = rig.stored(Done)
        assert [one.billed_microdollars for one in done.attempts] == [9_000, 60_000, 0, 30_000]
        assert done.cost_microdollars == 99_000
        assert "it goes on with what attempt 2 had begun" in [one.text for one in here.heard(Progress)]

    play(story)


def test_what_is_gone_on_with_and_fails_corrects_nothing() -> None:
    async def story(rig: Rig) -> None:
        await rig.publish(claim(1, boot="boot-1"))

        async def run(_: port.Call) -> AsyncIterator[port.Item]:
            yield port.TookUp(call_key("acme", "j-1", 1, "boot-1"))
            raise port.BackendError("server_error", "it broke", status=200)

        end = await (await desk(rig, run, tells=Keeper)).end(again(2, LOST))
        assert (end.outcome, end.took_up, end.corrections) == ("server_error", 1, ())
        [retry] = rig.stored(Retry)
        assert retry.attempts[0].billed_microdollars == 9_000

    play(story)
