"""Exclusive groups and models in memory: who is active, when it is changed, and what the change costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import node
from actors.executor.actor import Executor
from actors.executor.backends import port
from actors.executor.claim import InHand
from actors.executor.script import ScriptFailed
from actors.executor.served import Served
from actors.executor.switch import active_of, command_for
from actors.journal import Journal
from actors.roster import Roster
from actors.settings import GroupingRules, GroupSettings
from bus import codec
from bus.bus import Delivery, Signal
from bus.topology import work_queue
from messages import Attempted, Done, ExecutorAlive, Model, Offer, Progress, Running, Started
from tests.actors.executor.desk import Adapter, answer, item
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0

GROUP = GroupSettings(
    name="gpu", switch=("switch", "{backend}", "{model}"), automatic=True, patience_seconds=2.0, min_active_seconds=20.0
)


@pytest.mark.parametrize(
    ("members", "wished", "active"),
    [
        ([("a", True), ("b", False)], "a", "a"),
        ([("a", True), ("b", True)], "a", "a"),
        ([("a", False), ("b", True)], "a", "b"),
        ([("a", False), ("b", False)], "a", "a"),
        ([("a", False), ("b", True), ("c", True)], "a", "a"),
        ([("a", False), ("b", True)], "", ""),
        ([], "", ""),
    ],
)
def test_who_answers_is_active_when_who_should_does_not(
    members: list[tuple[str, bool]], wished: str, active: str
) -> None:
    assert active_of(members, wished) == active


@given(st.dictionaries(st.sampled_from("abcd"), st.booleans()), st.sampled_from("abcd"))
def test_a_wish_that_answers_is_always_followed(members: dict[str, bool], wished: str) -> None:
    found = active_of(list(members.items()), wished)
    assert found == wished or (members[found] and not members[wished])


def test_the_program_learns_whom_it_is_run_for() -> None:
    command, variables = command_for(GROUP, "vllm-b", "org/m; rm -rf /")
    assert command == ["switch", "vllm-b", "org/m; rm -rf /"], "one argument, and no shell"
    assert variables == {"TURNOUT_GROUP": "gpu", "TURNOUT_BACKEND": "vllm-b", "TURNOUT_MODEL": "org/m; rm -rf /"}


class Machine:
    """A GPU with room for one server, and an executor that serves both."""

    def __init__(self, rig: Rig, group: GroupSettings) -> None:
        self.rig, self.group = rig, group
        self.up = "a"
        self.seconds = 5.0
        self.fails = ""
        self.switches: list[tuple[float, tuple[str, ...]]] = []
        self.ran: list[tuple[float, str]] = []
        self.beats: list[ExecutorAlive] = []
        self.progress: list[Progress] = []
        self.served = {
            name: Served(
                offer=Offer(
                    backend=name, protocol="vllm", local=True, slots=2, exclusive_group="gpu", active=name == "a",
                    models=(Model(name="m" if name == "a" else "n"),),
                ),
                adapter=self._adapter(name),
            )
            for name in "ab"
        }  # fmt: skip

    def _adapter(self, name: str) -> Adapter:
        async def run(call: port.Call) -> AsyncIterator[port.Item]:
            assert self.up == name, "a server that is down was called"
            self.ran.append((self.rig.bus.now() - T0, call.model))
            await asyncio.sleep(10.0)
            assert self.up == name, "it was evicted while it ran"
            yield answer("x")

        async def health() -> port.Vitals:
            if self.up != name:
                raise port.BackendError("connection_error", "nobody listens there")
            return port.Vitals(loaded=("m" if name == "a" else "n",))

        adapter = Adapter(run)
        adapter.health = health
        return adapter

    async def switch(self, command: Sequence[str], variables: Mapping[str, str], timeout_seconds: float) -> None:
        self.switches.append((self.rig.bus.now() - T0, tuple(command)))
        self.up = ""
        await asyncio.sleep(self.seconds)
        if self.fails:
            self.up = "a"
            raise ScriptFailed(self.fails)
        self.up = variables["TURNOUT_BACKEND"]

    async def open(self, **more: Any) -> Any:
        rig = self.rig
        self.in_hand = InHand()
        given: dict[str, Any] = {
            "journal": Journal(rig.bus), "roster": Roster(since=rig.bus.now()), "in_hand": self.in_hand,
            "clock": rig.bus.now, "served": self.served, "groups": (self.group,), "run_switch": self.switch, **more,
        }  # fmt: skip

        async def note(signal: Signal) -> None:
            kind = codec.type_at(signal.subject)
            assert kind is not None
            message = codec.decode(kind, signal.data, signal.headers)
            (self.beats if isinstance(message, ExecutorAlive) else self.progress).append(message)  # type: ignore[arg-type]

        for kind in (ExecutorAlive, Progress):
            await rig.bus.subscribe(kind.channel.public, note)
        for name in "ab":
            await rig.bus.set_up_queue(work_queue(name, 4))
        return await rig.host(room_of(lambda: Executor(**given)), instance="exec")

    async def job(self, job: str, backend: str, **more: Any) -> None:
        await self.rig.publish(item(job=job, backend=backend, model="m" if backend == "a" else "n", **more))

    def ends(self) -> list[tuple[str, str, bool]]:
        return [(end.job, end.outcome, end.switched) for end in self.rig.stored(Attempted)]

    def offers(self) -> dict[str, Offer]:
        return {offer.backend: offer for offer in self.beats[-1].offers}


def test_jobs_that_wait_for_another_member_switch_the_group_when_the_active_one_is_idle() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GROUP)
        await machine.open()
        await rig.settle(3)
        offers = machine.offers()
        assert (offers["b"].healthy, offers["b"].active, offers["b"].loaded) == (True, True, ("m",)), (
            "its time is counted"
        )
        await machine.job("long", "a")
        await rig.settle(1)
        await machine.job("other", "b")
        await rig.settle(8)
        assert machine.switches == [], "a long job is never evicted"
        assert [started.job for started in rig.stored(Started)] == ["long"], "claimed only when it runs"
        await rig.settle(30)
        assert [command for _, command in machine.switches] == [("switch", "b", "n")]
        assert machine.ends() == [("long", "ok", False), ("other", "ok", True)]
        other = rig.stored(Attempted)[1]
        assert other.latency_seconds is not None
        assert other.latency_seconds >= 15.0, "the time of the switch is part of the attempt's, as the averages expect"
        assert any(one.stage == "loading" and one.job == "other" for one in machine.progress)
        offers = machine.offers()
        assert (offers["b"].loaded, offers["a"].loaded, offers["a"].healthy) == (("n",), ("n",), True)

    play(story)


def test_a_group_is_not_switched_back_and_forth() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GROUP)
        await machine.open(grouping=GroupingRules(overtaken_jobs=3))
        await rig.settle(3)
        for number in range(4):
            await machine.job(f"a{number}", "a")
            await machine.job(f"b{number}", "b")
        await rig.settle(200)
        assert {outcome for _, outcome, _ in machine.ends()} == {"ok"}
        assert len(machine.ends()) == 8
        assert [command[1] for _, command in machine.switches] == ["b"]
        await machine.job("b4", "b")
        await rig.settle(1)
        await machine.job("a4", "a")
        await rig.settle(100)
        (first, _), (second, _) = machine.switches
        assert second - first >= 20.0 + machine.seconds, "whoever became active stays it for a while"

    play(story)


def test_a_group_that_is_not_automatic_is_never_switched_and_its_other_members_are_no_candidates() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GroupSettings(name="gpu", switch=("switch", "{backend}")))
        await machine.open()
        await rig.settle(60)
        offers = machine.offers()
        assert (offers["a"].active, offers["b"].active, offers["b"].healthy) == (True, False, False)
        assert machine.switches == []

    play(story)


def test_a_switch_by_hand_is_noticed_within_seconds() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GroupSettings(name="gpu", switch=("switch", "{backend}")))
        await machine.open()
        await rig.settle(10)
        machine.up = "b"
        await rig.settle(5)
        offers = machine.offers()
        assert (offers["a"].active, offers["b"].active, offers["b"].healthy) == (False, True, True)
        machine.up = "a"
        await rig.settle(5)
        offers = machine.offers()
        assert (offers["a"].active, offers["a"].healthy, offers["b"].active) == (True, True, False)

    play(story)


def test_a_switch_that_fails_fails_the_attempt_and_is_not_tried_again_at_once() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GROUP)
        machine.fails = "switch ended with exit code 3: no such model"
        await machine.open()
        await rig.settle(3)
        await machine.job("other", "b")
        await rig.settle(20)
        (end,) = rig.stored(Attempted)
        assert end.outcome == "overloaded"
        assert end.problem is not None
        assert end.problem.message == "b: group gpu: switch ended with exit code 3: no such model"
        offered = machine.offers()["b"]
        assert (offered.healthy, "could not be made active" in offered.health_reason) == (False, True)
        assert machine.offers()["a"].healthy
        await machine.job("own", "a")
        await rig.settle(30)
        assert ("own", "ok", False) in machine.ends()
        await rig.settle(60)
        assert machine.offers()["b"].healthy, "it may be tried again"

    play(story)


def test_jobs_of_a_member_that_could_not_be_made_active_go_elsewhere_at_once() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GROUP)
        machine.fails = "no such model"
        await machine.open()
        await rig.settle(3)
        for number in range(3):
            await machine.job(f"b{number}", "b")
        await rig.settle(12)
        await machine.job("b3", "b")
        await rig.settle(3)
        assert sorted(machine.ends()) == [(f"b{number}", "overloaded", True) for number in range(4)]
        assert len(machine.switches) == 1, "and the program is not run for each of them"
        assert await rig.unacknowledged(work_queue("b", 4)) == 0
        assert machine.ran == []

    play(story)


def test_a_switch_does_not_end_what_others_run_there() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GROUP)
        foreign = 1

        async def health() -> port.Vitals:
            if machine.up != "a":
                raise port.BackendError("connection_error", "nobody listens there")
            return port.Vitals(loaded=("m",), running=foreign)

        machine.served["a"].adapter.health = health  # type: ignore[method-assign]
        roster = Roster(since=rig.bus.now())
        await machine.open(roster=roster)
        await rig.settle(3)
        await machine.job("other", "b")
        await rig.settle(20)
        assert machine.switches == [], "somebody else's request runs on the active one"
        foreign = 0
        own = [Offer(backend=name, protocol="vllm", local=True, exclusive_group="gpu") for name in "ab"]
        running = Running(tenant="acme", job="theirs", n=1, run="7", backend="a", model="m")
        for number in range(10):
            alive = ExecutorAlive(
                instance="z", boot="b", number=number, at=rig.bus.now(), offers=tuple(own), running=(running,)
            )
            await rig.bus.signal(alive.subject, codec.encode(alive))
            await rig.settle(2)
        assert machine.switches == [], "another executor runs an attempt on the active one"
        await rig.settle(20)
        assert [command[1] for _, command in machine.switches] == ["b"]

    play(story)


def test_a_job_that_ends_while_it_waits_is_cleared_away_and_switches_nothing() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GROUP)
        await machine.open()
        await rig.settle(3)
        await machine.job("long", "a")
        await rig.settle(1)
        await machine.job("other", "b")
        await rig.settle(3)
        await rig.publish(Done(tenant="acme", job="other", ending="cancelled", at=rig.bus.now()))
        await rig.settle(1)
        assert machine.ends() == [("other", "not_started", False)]
        await rig.settle(30)
        assert machine.switches == []
        assert await rig.unacknowledged(work_queue("b", 4)) == 0

    play(story)


def test_what_is_held_is_kept_alive_and_given_back_at_once_by_who_leaves() -> None:
    async def story(rig: Rig) -> None:
        machine = Machine(rig, GROUP)
        host = await machine.open()
        await rig.settle(3)
        await machine.job("long", "a", seconds=4000.0)
        for number in range(3):
            await machine.job(f"b{number}", "b")
        await rig.settle(8)
        assert machine.in_hand.line is not None
        held = machine.in_hand.line.waiting
        assert held == 3
        await node.leave(host)
        await host.drain(1.0)
        assert machine.in_hand.line.waiting == 0
        taken: list[str] = []

        async def take(delivery: Delivery) -> None:
            taken.append(delivery.subject.split(".")[-2])

        await rig.bus.consume(work_queue("b", 4), take, slots=8)
        await rig.settle(0.1)
        assert sorted(taken) == ["b0", "b1", "b2"], "others have them at once"
        assert [started.job for started in rig.stored(Started)] == ["long"]

    play(story)


class Loader(Adapter):
    """A server that puts a model into memory on command."""

    def __init__(self, run: Any) -> None:
        super().__init__(run)
        self.memory = ("m",)
        self.loads: list[str] = []
        self.running = 0

    async def load(self, model: str) -> None:
        assert self.running == 0, "what runs would be evicted"
        self.loads.append(model)
        await asyncio.sleep(7.0)
        if model == "bad":
            raise port.BackendError("server_error", "out of memory")
        self.memory = (model,)

    async def unload(self, model: str) -> None:
        self.memory = ()


async def loader(rig: Rig, protocol: str = "x", **rules: Any) -> tuple[Loader, Any]:
    async def run(call: port.Call) -> AsyncIterator[port.Item]:
        if protocol == "ollama":
            assert adapter.running == 0 or adapter.memory == (call.model,), "its jobs would wait behind another model's"
            adapter.memory = (call.model,)
        assert adapter.memory == (call.model,)
        adapter.running += 1
        try:
            await asyncio.sleep(2.0)
            yield answer("x")
        finally:
            adapter.running -= 1

    adapter = Loader(run)

    async def health() -> port.Vitals:
        return port.Vitals(loaded=adapter.memory)

    adapter.health = health
    models = tuple(Model(name=name) for name in ("m", "n", "bad"))
    served = {
        "a": Served(offer=Offer(backend="a", protocol=protocol, local=True, slots=2, models=models), adapter=adapter)
    }
    in_hand = InHand()
    await rig.bus.set_up_queue(work_queue("a", 6))
    host = await rig.host(
        room_of(
            lambda: Executor(
                journal=Journal(rig.bus), roster=Roster(since=rig.bus.now()), in_hand=in_hand, clock=rig.bus.now,
                served=served, grouping=GroupingRules(**rules),
            )
        ),
        instance="exec",
    )  # fmt: skip
    return adapter, host


def test_a_model_that_is_not_in_memory_is_loaded_before_its_first_call_and_its_jobs_go_together() -> None:
    async def story(rig: Rig) -> None:
        adapter, _ = await loader(rig)
        await rig.settle(3)
        for number, model in enumerate("mnmnmn"):
            await rig.publish(item(job=f"{model}{number}", model=model))
        await rig.settle(60)
        assert adapter.loads == ["n"]
        ends = [(end.job, end.outcome, end.switched) for end in rig.stored(Attempted)]
        assert [job[0] for job, _, _ in ends] == ["m", "m", "m", "n", "n", "n"]
        assert {outcome for _, outcome, _ in ends} == {"ok"}
        assert [job for job, _, switched in ends if switched] == ["n1"]
        first = next(end for end in rig.stored(Attempted) if end.switched)
        assert first.latency_seconds is not None
        assert first.latency_seconds >= 9.0
        assert await rig.unacknowledged(work_queue("a", 6)) == 0

    play(story)


def test_first_come_first_served_loads_at_every_change() -> None:
    async def story(rig: Rig) -> None:
        adapter, _ = await loader(rig, ahead=0)
        await rig.settle(3)
        for number, model in enumerate("mnmn"):
            await rig.publish(item(job=f"{model}{number}", model=model))
            await rig.settle(15)
        assert adapter.loads == ["n", "m", "n"]

    play(story)


def test_a_model_that_cannot_be_loaded_fails_its_attempt_alone() -> None:
    async def story(rig: Rig) -> None:
        await loader(rig)
        await rig.settle(3)
        await rig.publish(item(job="bad", model="bad"))
        await rig.publish(item(job="good", model="m"))
        await rig.settle(60)
        assert sorted((end.job, end.outcome) for end in rig.stored(Attempted)) == [
            ("bad", "server_error"),
            ("good", "ok"),
        ]

    play(story)


def test_a_load_goes_on_though_the_job_that_asked_for_it_has_ended() -> None:
    async def story(rig: Rig) -> None:
        adapter, _ = await loader(rig)
        await rig.settle(3)
        await rig.publish(item(job="short", model="n", seconds=4.0))
        await rig.settle(5)
        assert [(end.job, end.outcome) for end in rig.stored(Attempted)] == [("short", "expired")]
        await rig.publish(item(job="next", model="n"))
        await rig.settle(20)
        assert adapter.loads == ["n"]
        assert adapter.memory == ("n",)
        assert [(end.job, end.outcome) for end in rig.stored(Attempted)][1:] == [("next", "ok")]

    play(story)


def test_an_attempt_that_starts_a_worker_tells_that_it_took_longer_for_that() -> None:
    async def story(rig: Rig) -> None:
        adapter, _ = await loader(rig)
        cold = True

        async def health() -> port.Vitals:
            return port.Vitals(loaded=adapter.memory, cold=cold)

        adapter.health = health
        await rig.settle(31)
        cold = False
        for job in ("first", "second"):
            await rig.publish(item(job=job, model="m"))
            await rig.settle(5)
        assert [(end.job, end.outcome, end.switched) for end in rig.stored(Attempted)] == [
            ("first", "ok", True), ("second", "ok", False)
        ]  # fmt: skip

    play(story)


def test_a_server_that_loads_with_its_first_call_is_not_made_to_load_twice() -> None:
    async def story(rig: Rig) -> None:
        adapter, _ = await loader(rig, "ollama")
        await rig.settle(3)
        for number, model in enumerate("mnmn"):
            await rig.publish(item(job=f"{model}{number}", model=model))
        await rig.settle(60)
        assert adapter.loads == []
        ends = rig.stored(Attempted)
        assert [end.model for end in ends] == ["m", "m", "n", "n"]
        assert sorted((end.job, end.outcome, end.switched) for end in ends) == [
            ("m0", "ok", False), ("m2", "ok", False), ("n1", "ok", True), ("n3", "ok", False),
        ]  # fmt: skip

    play(story)
