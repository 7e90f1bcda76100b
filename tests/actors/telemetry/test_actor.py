from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.host import Host
from actors.telemetry.actor import DAY_SECONDS, Telemetry
from actors.telemetry.history import History
from bus import codec
from bus.memory import Faults
from bus.topology import TELEMETRY, TELEMETRY_RATE
from messages import Analyzed, AttemptsAre, AttemptsOf, Done, JobRate, JobsAre, JobsOf, Stats
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import T0, attempted, slip


async def here(call: Any) -> Any:
    return call()


@pytest.fixture(name="file")
def database(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


async def telemetry(rig: Rig, file: Path, **changes: Any) -> tuple[Host, History]:
    history = History(file, offload=here, keep_days=30.0)
    room = room_of(lambda: Telemetry(history=history), TELEMETRY, TELEMETRY_RATE, slots=64)
    return await rig.host(room, **changes), history


async def jobs(rig: Rig) -> JobsAre:
    answer = await rig.bus.ask("ask.telemetry.jobs", codec.encode(JobsOf()), timeout_seconds=2.0)
    return codec.decode(JobsAre, answer)


def test_what_happened_is_written_down_and_told(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await rig.publish(Analyzed(tenant="acme", job="j-1", fingerprint="f", slip=slip(), at=T0))
        await rig.publish(attempted(latency_seconds=2.0))
        await rig.publish(Done(tenant="acme", job="j-1", ending="succeeded", submitted_at=T0, at=T0 + 3))
        await rig.publish(JobRate(score=5.0, rater="ada"), subject="job.rate.acme.j-1")
        await rig.settle()
        (row,) = (await jobs(rig)).jobs
        assert (row.job, row.ending, row.latency_seconds) == ("j-1", "succeeded", 3.0)
        answer = await rig.bus.ask(
            "ask.telemetry.attempts", codec.encode(AttemptsOf(tenant="acme", job="j-1")), timeout_seconds=2.0
        )
        assert codec.decode(AttemptsAre, answer).attempts == (attempted(latency_seconds=2.0),)
        for queue in (TELEMETRY, TELEMETRY_RATE):
            assert await rig.unacknowledged(queue) == 0

    play(story)


def test_averages_are_told_once_a_second_and_only_when_they_change(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        for number in range(20):
            await rig.publish(attempted(job=f"j-{number}", workflow="site", latency_seconds=2.0))
        await rig.settle(5.0)
        facts = rig.stored(Stats)
        assert sorted(fact.workflow for fact in facts) == ["-", "acme/site"]
        assert {(fact.attempts, fact.latency_seconds) for fact in facts} == {(20, 2.0)}
        before = rig.server.log("KV_facts")[-1].seq
        await rig.settle(5.0)
        assert rig.server.log("KV_facts")[-1].seq == before

    play(story)


def test_a_redelivered_attempt_counts_once(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await rig.publish(attempted(latency_seconds=2.0))
        await rig.settle(60.0)
        rig.server.faults = Faults()
        await rig.settle(60.0)
        (fact,) = rig.stored(Stats)
        assert fact.attempts == 1

    assert play(story, faults=Faults(ack_lost=1.0)).events["delivered"] > 1


def test_a_later_run_goes_on_from_what_an_earlier_one_measured(file: Path) -> None:
    async def story(rig: Rig) -> None:
        earlier = Stats(backend="a", model="m", workflow="-", attempts=40, successes=40, latency_seconds=8.0, at=T0)
        await rig.bus.put_fact(earlier.subject, codec.encode(earlier))
        await telemetry(rig, file)
        await rig.publish(attempted(latency_seconds=2.0))
        await rig.settle(3.0)
        (fact,) = rig.stored(Stats)
        assert fact.attempts == 41
        assert fact.latency_seconds is not None
        assert 7.0 < fact.latency_seconds < 8.0

    play(story)


def test_old_history_is_forgotten(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await rig.publish(Done(tenant="acme", job="old", ending="failed", at=T0 - 31 * DAY_SECONDS))
        await rig.publish(Done(tenant="acme", job="new", ending="failed", at=T0))
        await rig.settle()
        assert len((await jobs(rig)).jobs) == 2
        await rig.settle(3600.0)
        assert [row.job for row in (await jobs(rig)).jobs] == ["new"]

    play(story)


def test_a_stop_closes_the_file(file: Path) -> None:
    async def story(rig: Rig) -> None:
        host, history = await telemetry(rig, file)
        await host.close()
        with pytest.raises(Exception, match="closed"):
            await history.jobs(JobsOf())

    play(story)
