"""Counting over the bus: who serves the backend answers, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from actors.actor import Heard
from actors.counter import PATIENCE_SECONDS, BusCounter
from actors.executor.actor import Executor, Served
from actors.executor.backends import port
from actors.executor.claim import InHand
from actors.journal import Journal
from actors.roster import Roster
from messages import Counted, CountOf, JobSubmit, Model, Offer
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import slip

HEARD = Heard(now=0.0)


class Scale:
    """A backend that counts characters, or fails, or has no way to count."""

    def __init__(self, tokens: int | None = 7, error: Exception | None = None) -> None:
        self.tokens, self.error = tokens, error
        self.calls: list[port.Call] = []

    async def count(self, call: port.Call) -> int | None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return self.tokens

    async def run(self, call: port.Call) -> AsyncGenerator[port.Item]:
        raise AssertionError(call)
        yield

    async def health(self) -> port.Vitals:
        return port.Vitals()

    async def discover(self) -> tuple[port.Offer, ...]:
        return ()

    async def close(self) -> None: ...


class Mute(Scale):
    count = None  # type: ignore[assignment]


async def executor(rig: Rig, instance: str, **adapters: Scale) -> None:
    served = {
        name: Served(Offer(backend=name, protocol="vllm", local=True, models=(Model(name="m"),)), adapter)
        for name, adapter in adapters.items()
    }
    made = Executor(
        journal=Journal(rig.bus), roster=Roster(since=0.0), in_hand=InHand(), clock=rig.bus.now, served=served
    )
    await rig.host(room_of(lambda: made), instance=instance)


async def question(rig: Rig, backend: str) -> CountOf:
    stored = await rig.submit(prompt="how long is a train?")
    return CountOf(backend=backend, model="m", slip=slip(input_seq=stored.seq), max_output_tokens=9)


def test_who_serves_it_counts_the_very_request() -> None:
    async def story(rig: Rig) -> None:
        scale = Scale()
        await executor(rig, "x", a=scale)
        await executor(rig, "y", b=Scale(99))
        counter = BusCounter(rig.bus)
        assert await counter.count(await question(rig, "a")) == Counted(
            backend="a", model="m", tokens=7, by="counted by vllm"
        )
        (call,) = scale.calls
        assert (call.model, call.max_output_tokens) == ("m", 9)
        assert call.messages == JobSubmit(prompt="how long is a train?").conversation

    play(story)


@pytest.mark.parametrize(
    "adapter",
    [Scale(None), Scale(error=port.BackendError("server_error", "it broke")), Mute()],
    ids=["not", "ill", "mute"],
)
def test_what_can_not_be_counted_is_none(adapter: Scale) -> None:
    async def story(rig: Rig) -> None:
        await executor(rig, "x", a=adapter)
        assert await BusCounter(rig.bus).count(await question(rig, "a")) is None

    play(story)


def test_when_nobody_serves_it_nobody_answers() -> None:
    async def story(rig: Rig) -> None:
        await executor(rig, "x", a=Scale())
        began = rig.bus.now()
        assert await BusCounter(rig.bus).count(await question(rig, "gone")) is None
        assert rig.bus.now() - began == pytest.approx(PATIENCE_SECONDS, abs=0.1)

    play(story)
