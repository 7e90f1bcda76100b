from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.host import Host
from actors.journal import Journal
from actors.telemetry.actor import DAY_SECONDS, Telemetry
from actors.telemetry.history import History
from actors.telemetry.rows import placed_row, rated_row
from bus import codec
from bus.bus import BusUnavailable, Signal
from bus.memory import Faults
from bus.topology import TELEMETRY, TELEMETRY_RATE
from messages import (
    Analyzed,
    AttemptsAre,
    AttemptsOf,
    DeadLetter,
    Done,
    Epoch,
    JobRate,
    JobsAre,
    JobsOf,
    Message,
    Rebalance,
    Rebalanced,
    Refused,
    Stats,
    StatsReset,
)
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import PROBLEM, T0, attempted, slip


async def here(call: Any) -> Any:
    return call()


@pytest.fixture(name="file")
def database(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


async def telemetry(rig: Rig, file: Path, **changes: Any) -> tuple[Host, History]:
    history = History(file, offload=here, keep_days=30.0)
    room = room_of(lambda: Telemetry(history=history, journal=Journal(rig.bus)), TELEMETRY, TELEMETRY_RATE, slots=64)
    return await rig.host(room, **changes), history


def measured(**changes: Any) -> Stats:
    given: dict[str, Any] = {
        "backend": "a", "model": "m", "scope": "-", "attempts": 20, "successes": 20, "weight": 17.0,
        "latency_seconds": 8.0, "at": T0,
    }  # fmt: skip
    return Stats(**{**given, **changes})


async def put(rig: Rig, fact: Message) -> None:
    await rig.bus.put_fact(fact.subject, codec.encode(fact))


def latest(rig: Rig) -> dict[str, Stats]:
    """The figures of backend `a` and model `m` by scope."""
    return {fact.scope: fact for fact in rig.stored(Stats) if fact.model == "m"}


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
        assert sorted(fact.scope for fact in facts) == ["-", "acme/site", "task:chat"]
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
        assert {fact.attempts for fact in rig.stored(Stats)} == {1}

    assert play(story, faults=Faults(ack_lost=1.0)).events["delivered"] > 1


def test_a_later_run_goes_on_from_what_an_earlier_one_measured(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await put(rig, measured(attempts=40))
        await telemetry(rig, file)
        await rig.publish(attempted(latency_seconds=2.0))
        await rig.settle(3.0)
        fact = latest(rig)["-"]
        assert fact.attempts == 41
        assert fact.latency_seconds is not None
        assert 7.0 < fact.latency_seconds < 8.0

    play(story)


def test_what_says_nothing_about_a_backend_is_not_told(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await rig.publish(attempted(outcome="aborted"))
        await rig.settle(3.0)
        assert rig.stored(Stats) == []

    play(story)


def test_names_without_end_do_not_fill_the_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.telemetry.actor.MOST_NAMED", 6)
    monkeypatch.setattr("actors.telemetry.actor.MOST_OF_ONE", 4)

    async def story(rig: Rig) -> None:
        host, _ = await telemetry(rig, file)
        actor: Any = host.rooms[0].actor
        await rig.publish(attempted(tenant="other", workflow="own"))
        for number in range(10):
            await rig.publish(attempted(job=f"j-{number}", workflow=f"run-{number}"))
            await rig.settle()
        named = [scope for _, _, scope in actor._stats if "/" in scope]
        assert named == ["other/own", *(f"acme/run-{number}" for number in range(6, 10))], "its tenant's oldest went"
        for number in range(3):
            await rig.publish(attempted(tenant=f"t{number}", workflow="w"))
            await rig.settle()
        named = [scope for _, _, scope in actor._stats if "/" in scope]
        assert named == ["acme/run-7", "acme/run-8", "acme/run-9", "t0/w", "t1/w", "t2/w"], (
            "whoever's was the oldest went"
        )
        assert actor._stats["a", "m", "-"].attempts == actor._stats["a", "m", "task:chat"].attempts == 14
        for fact in rig.stored(Stats):
            if fact.scope == "t0/w":
                actor.forget(fact)
        assert "t0" not in actor._tenants
        assert sum(map(len, actor._tenants.values())) == len(actor._named) == 5

    play(story)


def test_what_could_not_be_said_is_said_later(file: Path) -> None:
    async def story(rig: Rig) -> None:
        host, _ = await telemetry(rig, file)
        put_fact, refused = host.bus.put_fact, 0

        async def lossy(subject: str, data: bytes, **more: Any) -> int:
            nonlocal refused
            if refused < 5:
                refused += 1
                raise BusUnavailable("gone for a moment")
            return await put_fact(subject, data, **more)

        host.bus.put_fact = lossy  # type: ignore[method-assign]
        await rig.publish(attempted())
        await rig.settle(10.0)
        assert refused == 5
        assert sorted(latest(rig)) == ["-", "task:chat"]

    play(story)


# Several processes.


def test_two_processes_go_on_from_whoever_has_counted_furthest(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file, instance="one")
        await telemetry(rig, file.with_name("two.db"), instance="two")
        for number in range(30):
            await rig.publish(attempted(job=f"j-{number}", latency_seconds=2.0))
            await rig.settle(2.0)  # One at a time, so that nothing is counted in the same second.
        facts = [fact for fact in rig.stored(Stats) if fact.scope == "-"]
        assert [fact.attempts for fact in facts] == sorted(fact.attempts for fact in facts)
        assert latest(rig)["-"].attempts == 30
        before = len(rig.records(Stats))
        await rig.settle(5.0)
        assert len(rig.records(Stats)) == before, "they do not answer each other for ever"

    play(story)


def test_figures_of_the_same_second_meet_and_rest(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file, instance="one")
        await telemetry(rig, file.with_name("two.db"), instance="two")
        for number in range(200):
            await rig.publish(attempted(job=f"j-{number}", latency_seconds=2.0))
        await rig.settle(5.0)
        assert 100 <= latest(rig)["-"].attempts <= 200
        before = len(rig.records(Stats))
        await rig.settle(10.0)
        assert len(rig.records(Stats)) == before

    play(story)


# Ratings.


async def rate(rig: Rig, score: float, rater: str = "ada", job: str = "j-1") -> None:
    body = codec.encode(JobRate(score=score, rater=rater))
    await rig.raw(f"job.rate.acme.{job}", body)
    await rig.settle(2.0)


async def finish(rig: Rig, job: str = "j-1", ending: Any = "succeeded") -> None:
    await rig.publish(Analyzed(tenant="acme", job=job, fingerprint="f", slip=slip(job=job), at=T0))
    await rig.publish(Done(tenant="acme", job=job, ending=ending, backend="a", model="m", submitted_at=T0, at=T0 + 3))
    await rig.settle(2.0)


def ratings(rig: Rig) -> dict[str, tuple[float | None, int]]:
    return {scope: (fact.rating, fact.ratings) for scope, fact in latest(rig).items()}


def test_ratings_count_for_what_made_the_result(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await finish(rig)
        await rate(rig, 5.0)
        assert ratings(rig) == {"-": (5.0, 1), "task:chat": (5.0, 1)}
        await rate(rig, 1.0)
        assert ratings(rig)["-"] == (1.0, 1), "the last word of a rater counts"
        await rate(rig, 3.0, rater="bob")
        mean, number = ratings(rig)["task:chat"]
        assert mean == pytest.approx((0.95 * 1.0 + 3.0) / 1.95)
        assert number == 2

    play(story)


def test_a_rating_may_come_before_its_job_has_ended_and_before_a_restart(file: Path) -> None:
    async def story(rig: Rig) -> None:
        host, _ = await telemetry(rig, file)
        await rig.publish(Analyzed(tenant="acme", job="j-1", fingerprint="f", slip=slip(), at=T0))
        await rate(rig, 4.0)
        assert rig.stored(Stats) == []
        await host.close()
        await telemetry(rig, file, boot="b2")
        await finish(rig)
        assert ratings(rig) == {"-": (4.0, 1), "task:chat": (4.0, 1)}

    play(story)


def test_a_start_counts_what_an_earlier_run_did_not_tell(file: Path) -> None:
    async def story(rig: Rig) -> None:
        host, history = await telemetry(rig, file)
        await finish(rig)
        history.put(rated_row("acme", "j-1", rater="ada", score=2.0, seq=1, at=T0), placed_row("acme", "j-1"))
        assert await history.kept(0)
        await host.close()
        assert rig.stored(Stats) == []
        await telemetry(rig, file, boot="b2")
        await rig.settle(2.0)
        assert ratings(rig)["-"] == (2.0, 1)

    play(story)


@pytest.mark.parametrize("score", [0.0, 0.99, 5.01, -3.0, 99, 1e300])
def test_a_rating_outside_of_its_range_is_refused_where_its_client_listens(file: Path, score: float) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        heard: list[Refused] = []

        async def on_signal(signal: Signal) -> None:
            heard.append(codec.decode(Refused, signal.data, signal.headers))

        await rig.bus.subscribe("job.refused.acme.j-1", on_signal)
        await finish(rig)
        await rate(rig, score)
        assert rig.stored(Stats) == []
        assert await rig.unacknowledged(TELEMETRY_RATE) == 0
        (refused,) = heard
        assert (refused.word, refused.problem.field, float(refused.problem.value)) == ("rate", "score", score)
        assert "use 1 (useless) to 5 (excellent)" in refused.problem.message

    play(story)


def test_what_made_no_result_has_nothing_to_rate_and_what_is_nobodys_job_neither(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await finish(rig, ending="failed")
        await rate(rig, 1.0)
        await finish(rig, "j-2")
        await rig.raw("job.rate.other.j-2", codec.encode(JobRate(score=5.0)))
        await rate(rig, 2.0, job="ghost")
        await rig.raw("job.rate.acme.j-2", codec.encode(JobRate(score=5.0, tenant="other")))
        await rig.settle()
        assert rig.stored(Stats) == []
        told = {(one.tenant, one.job, one.problem.field): one.problem.message for one in rig.stored(Refused)}
        assert told == {
            ("acme", "j-1", "job"): "job is 'j-1': it has ended (failed): only a result can be rated.",
            ("other", "j-2", "job"): (
                "job is 'j-2': tenant 'other' has no job of this id; the id is the one its events carry."
            ),
            ("acme", "ghost", "job"): (
                "job is 'ghost': tenant 'acme' has no job of this id; the id is the one its events carry."
            ),
            ("acme", "j-2", "tenant"): (
                "tenant is 'other': the subject says 'acme'; they must be equal, or leave tenant out."
            ),
        }
        assert await rig.unacknowledged(TELEMETRY_RATE) == 0

    play(story)


def test_a_job_whose_events_are_gone_is_rated_by_the_history(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await finish(rig)
        await finish(rig, "j-2", ending="cancelled")
        for kind in (Analyzed, Done):
            for job in ("j-1", "j-2"):
                await rig.bus.purge("EV", kind.channel.key_of(tenant="acme", job=job))
        await rate(rig, 4.0)
        await rate(rig, 4.0, job="j-2")
        assert ratings(rig)["-"] == (4.0, 1)
        (refused,) = rig.stored(Refused)
        assert refused.problem.message == "job is 'j-2': it has ended (cancelled): only a result can be rated."

    play(story)


@pytest.mark.parametrize(
    ("body", "field"),
    [(b"hello", ""), (b"{}", "score"), (b'{"score": "many"}', "score"), (b'{"score": 4, "ratre": "ada"}', "ratre")],
)
def test_what_is_no_rating_is_a_dead_letter_that_names_the_field(file: Path, body: bytes, field: str) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await rig.raw("job.rate.acme.j-1", body)
        await rig.settle()
        (letter,) = rig.stored(DeadLetter)
        assert (letter.tenant, letter.job, letter.problem.field) == ("acme", "j-1", field)
        assert letter.head == body.decode()
        assert letter.problem.message

    play(story)


def test_a_failed_job_has_nothing_to_rate(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await finish(rig, ending="failed")
        await rate(rig, 1.0)
        assert rig.stored(Stats) == []

    play(story)


# Epochs.


async def rebalance(rig: Rig, by: str = "ada") -> Rebalanced:
    answer = await rig.bus.ask("ask.telemetry.rebalance", codec.encode(Rebalance(by=by)), timeout_seconds=2.0)
    return codec.decode(Rebalanced, answer)


def test_a_reset_forgets_everything_and_says_who_did_it(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await finish(rig)
        await rate(rig, 5.0)
        await rig.publish(attempted(latency_seconds=9.0))
        await rig.settle(2.0)
        assert await rebalance(rig) == Rebalanced(epoch=1, forgotten=2)
        await rig.settle(2.0)
        (epoch,), (reset,) = rig.stored(Epoch), rig.stored(StatsReset)
        assert (epoch.of, epoch.epoch, epoch.by) == ("stats", 1, "ada")
        assert (reset.epoch, reset.by, reset.forgotten, reset.at) == (1, "ada", 2, epoch.at)
        assert {fact.epoch for fact in latest(rig).values()} == {0}
        await rig.publish(attempted(job="j-2", latency_seconds=2.0))
        await rate(rig, 1.0, rater="bob")
        fact = latest(rig)["-"]
        assert (fact.epoch, fact.attempts, fact.latency_seconds) == (1, 1, 2.0)
        assert (fact.rating, fact.ratings) == (1.0, 1), "what was rated before is forgotten as well"
        assert (await rebalance(rig)).epoch == 2

    play(story)


def test_two_who_ask_in_the_same_second_make_one_reset(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await rig.settle(0.1)
        assert (await rebalance(rig)).epoch == (await rebalance(rig, "bob")).epoch == 1
        await rig.settle(5.0)
        assert [epoch.by for epoch in rig.stored(Epoch)] == [reset.by for reset in rig.stored(StatsReset)] == ["ada"]

    play(story)


def test_a_reset_that_could_not_be_said_is_said_again(file: Path) -> None:
    async def story(rig: Rig) -> None:
        host, _ = await telemetry(rig, file)
        await rig.settle(0.1)
        put_fact, publish, refused = host.bus.put_fact, host.bus.publish, 0

        async def lossy(*given: Any, **more: Any) -> Any:
            nonlocal refused
            if refused < 3:
                refused += 1
                raise BusUnavailable("gone for a moment")
            return await (put_fact if len(given) == 2 and "msg_id" not in more else publish)(*given, **more)

        host.bus.put_fact = host.bus.publish = lossy  # type: ignore[method-assign]
        await rebalance(rig)
        await rig.settle(5.0)
        assert refused == 3
        assert len(rig.stored(Epoch)) == len(rig.stored(StatsReset)) == 1

    play(story)


def test_figures_of_an_older_epoch_do_not_come_back(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await put(rig, measured(attempts=40, epoch=2))
        await put(rig, Epoch(epoch=3, by="ada", at=T0))
        await put(rig, measured(scope="task:chat", attempts=40, epoch=2))
        await telemetry(rig, file)
        await rig.publish(attempted(latency_seconds=2.0))
        await rig.settle(2.0)
        await put(rig, measured(attempts=41, epoch=2))
        await rig.publish(attempted(job="j-2", latency_seconds=2.0))
        await rig.settle(2.0)
        assert {scope: (fact.epoch, fact.attempts) for scope, fact in latest(rig).items()} == {
            "-": (3, 2),
            "task:chat": (3, 2),
        }
        assert (await rebalance(rig)).epoch == 4

    play(story)


def test_a_reset_of_another_process_holds_here(file: Path) -> None:
    async def story(rig: Rig) -> None:
        await telemetry(rig, file)
        await rig.publish(attempted(latency_seconds=9.0))
        await rig.settle(2.0)
        await put(rig, Epoch(epoch=1, by="bob", at=T0))
        await rig.publish(attempted(job="j-2", latency_seconds=2.0))
        await rig.settle(2.0)
        fact = latest(rig)["-"]
        assert (fact.epoch, fact.attempts, fact.latency_seconds) == (1, 1, 2.0)
        assert rig.stored(StatsReset) == []

    play(story)


# The history.


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


def test_history_that_is_too_large_is_cut_soon(file: Path) -> None:
    async def story(rig: Rig) -> None:
        _, history = await telemetry(rig, file)
        history.max_mb = 0.0
        await finish(rig)
        assert len((await jobs(rig)).jobs) == 1
        await rig.settle(60.0)
        assert (await jobs(rig)).jobs == ()

    play(story)


def test_a_stop_closes_the_file(file: Path) -> None:
    async def story(rig: Rig) -> None:
        host, history = await telemetry(rig, file)
        await host.close()
        with pytest.raises(Exception, match="closed"):
            await history.listed(JobsOf(), "", 5)

    play(story)


# A file that can't be written or read.


def fill_up(history: History) -> None:
    """The file may not grow any more, as on a full disk."""
    pages = history._db.execute("PRAGMA page_count").fetchone()[0]
    history._db.execute(f"PRAGMA max_page_count = {pages}")


def make_room(history: History) -> None:
    history._db.execute("PRAGMA max_page_count = 1000000")


@pytest.mark.parametrize("restarts", [False, True])
def test_a_full_disk_stops_nobody_and_loses_nothing(
    file: Path, caplog: pytest.LogCaptureFixture, *, restarts: bool
) -> None:
    names = {f"j-{number}" for number in range(100)}

    async def story(rig: Rig) -> None:
        host, history = await telemetry(rig, file)
        fill_up(history)
        for name in sorted(names):
            await rig.publish(attempted(job=name, latency_seconds=2.0, problem=PROBLEM))
            await rig.publish(Done(tenant="acme", job=name, ending="succeeded", submitted_at=T0, at=T0 + 3))
            await rig.publish(JobRate(score=5.0, rater="ada"), subject=f"job.rate.acme.{name}")
        await rig.settle(100.0)
        assert latest(rig)["-"].attempts == 100, "averages go on"
        assert await rig.unacknowledged(TELEMETRY) > 50, "what is not in the file is not acknowledged"
        assert host.counts["telemetry crashes"] == 0
        said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert len(said) == 1
        assert str(file) in said[0]
        assert "MB are free there" in said[0]
        if restarts:
            await host.close()
            host, history = await telemetry(rig, file, boot="b2")
        make_room(history)
        await rig.settle(31.0)
        for queue in (TELEMETRY, TELEMETRY_RATE):
            assert await rig.unacknowledged(queue) == 0
        assert history.trouble == ""
        assert {name for name in names if await history.attempts("acme", name)} == names
        assert {row[0] for row in history._db.execute("SELECT job FROM ratings")} == names
        assert latest(rig)["-"].attempts == 100, "and count nothing twice"

    play(story)


def test_a_file_that_can_t_be_read_stops_nobody(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(rig: Rig) -> None:
        host, history = await telemetry(rig, file)
        await finish(rig)
        await rate(rig, 4.0)
        history._db.execute("ALTER TABLE ratings RENAME TO away")
        history._db.execute("ALTER TABLE jobs RENAME TO gone")
        history.fresh.add(("a", "m", "chat"))
        await rig.settle(60.0)
        answer = await rig.bus.ask("ask.telemetry.jobs", codec.encode(JobsOf()), timeout_seconds=2.0)
        problem = msgspec.json.decode(answer)["problem"]
        assert problem["reason"] == "unavailable"
        assert "the history can't be read" in problem["message"]
        assert host.counts["telemetry crashes"] == 0
        assert len([record for record in caplog.records if "ratings do not count" in record.getMessage()]) == 1
        history._db.execute("ALTER TABLE away RENAME TO ratings")
        history._db.execute("ALTER TABLE gone RENAME TO jobs")
        await rig.settle(2.0)
        assert ratings(rig)["-"] == (4.0, 1)
        assert len((await jobs(rig)).jobs) == 1

    play(story)
