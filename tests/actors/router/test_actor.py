"""The router's handlers: what they hear, and what they say."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, ClassVar

import msgspec
import pytest

from actors.actor import Actor, Heard, Later, Steps, hears
from actors.course import Course
from actors.router.actor import PREVIEW_SECONDS, Router
from actors.router.case import Scored, Strategy
from actors.router.shipped import shipped_policies
from actors.router.strategies import STRATEGIES
from actors.router.verify import check
from bus.memory import Faults
from bus.topology import ROUTER_CANCEL, Queue
from messages import (
    Analyzed,
    Attempt,
    Bound,
    Breaker,
    Candidate,
    Counted,
    CountOf,
    DeadLetter,
    Decided,
    Done,
    Due,
    Epoch,
    Expired,
    JobCancel,
    Load,
    Model,
    PoliciesOf,
    Policy,
    PreviewOf,
    Price,
    Queued,
    Refused,
    Retry,
    Room,
    Stats,
)
from tests.actors.rig import Rig, play, room_of
from tests.messages.samples import PROBLEM, T0, backend, decided, needs, slip

NOW = Heard(now=T0)


class Shelf:
    """Keeps what is put there, in order."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def keep_once(self, key: str, data: bytes) -> None:
        self.kept[key] = data

    async def course(self, tenant: str, job: str) -> Course:
        return Course()


class Tally:
    """Answers with what it was told, and remembers what it was asked."""

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self.counts, self.asked = counts or {}, list[str]()

    async def count(self, question: CountOf) -> Counted | None:
        self.asked.append(question.backend)
        tokens = self.counts.get(question.backend)
        if tokens is None:
            return None
        return Counted(backend=question.backend, model=question.model, tokens=tokens, by="a test")


def router(*, fleet: int = 0, **given: Any) -> Router:
    made = Router(keeper=Shelf(), counter=given.pop("counter", Tally()), **given)
    made.backend(backend("a"), NOW)
    made.backend(backend("b", priority=2, models=(Model(name="n"),)), NOW)
    for number in range(fleet):
        made.backend(backend(f"c{number:02}", priority=3), NOW)
    return made


def retry(**changes: Any) -> Retry:
    given: dict[str, Any] = {
        "tenant": "acme", "job": "j-1", "n": 2, "slip": slip(), "cause": PROBLEM, "at": T0,
    }  # fmt: skip
    return Retry(**{**given, **changes})


def analyzed(**changes: Any) -> Analyzed:
    given: dict[str, Any] = {"tenant": "acme", "job": "j-1", "fingerprint": "f", "slip": slip(), "at": T0}
    return Analyzed(**{**given, **changes})


def said(answer: Any) -> Any:
    """The one thing a handler says."""
    (message,) = all_said(answer)
    return message


def all_said(answer: Any) -> list[Any]:
    """Everything that a handler says, with nothing in its way."""

    async def listen() -> list[Any]:
        return [one async for one in answer]

    return asyncio.run(listen())


def test_facts_fill_the_view() -> None:
    made = router()
    load = Load(backend="a", waiting=1, running=2, at=T0)
    breaker = Breaker(backend="a", model="m")
    stats = Stats(backend="a", model="m", scope="-", epoch=3, attempts=1, successes=1, at=T0)
    policy, epoch = Policy(policy="thrifty", strategy="cost_first"), Epoch(epoch=3, by="ada", at=T0)
    made.load(load, NOW)
    made.breaker(breaker, NOW)
    made.stats(stats, NOW)
    made.policy(policy, NOW)
    made.epoch(epoch, NOW)
    view = made.view
    first = view.entries[0]
    assert (first.there.load, first.breaker, first.stats) == (load, breaker, stats)
    assert (view.policies["thrifty"], view.rulebook.strategy, view.epoch) == (policy, "cost_first", epoch)


def test_an_analyzed_job_is_decided() -> None:
    made = said(router().analyzed(analyzed(), NOW))
    assert isinstance(made, Decided)
    assert (made.n, made.ranking[0].backend, made.at, made.everything) == (1, "a", T0, None)


def test_a_rejected_job_is_left_to_the_analyzer() -> None:
    assert all_said(router().analyzed(analyzed(slip=None, rejected=PROBLEM), NOW)) == []


def test_shipped_policies_hold_until_a_fact_replaces_them() -> None:
    made = router(policies=shipped_policies())
    draft = analyzed(slip=slip(needs={"quality": "draft"}))
    assert said(made.analyzed(draft, NOW)).policy == "quality@0 draft"
    made.policy(Policy(policy="quality", version=2, order=60, removed=True), NOW)
    assert said(made.analyzed(draft, NOW)).policy != "quality@0 draft"


def test_a_users_strategy_is_used() -> None:
    own = Strategy(name="by_letter", score=lambda rows, case: Scored([float(ord(row.backend)) for row in rows]))
    made = router(strategies={**STRATEGIES, "by_letter": own})
    job = analyzed(slip=slip(needs={"strategy": "by_letter"}))
    assert [c.backend for c in said(made.analyzed(job, NOW)).ranking] == ["b", "a"]


# ------------------------------------------------------------------------------------------------- large fleets


def test_what_the_event_leaves_out_is_kept_before_the_event_is_said() -> None:
    made = router(fleet=30)
    event = said(made.analyzed(analyzed(tenant="a.b", slip=slip(tenant="a.b")), NOW))
    assert isinstance(made.keeper, Shelf)
    ((key, data),) = made.keeper.kept.items()
    assert event.everything is not None
    assert key == event.everything.key
    assert key.startswith("a%2Eb/j-1/1-")
    assert (event.everything.size_bytes, event.everything.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    kept = msgspec.json.decode(data, type=tuple[Candidate, ...])
    assert (len(kept), event.omitted) == (32, 16)
    assert kept[:16] == tuple(msgspec.json.decode(msgspec.json.encode(event.ranking), type=tuple[Candidate, ...]))


def test_routers_that_decide_otherwise_keep_theirs_apart() -> None:
    one, other = router(fleet=30), router(fleet=31)
    keys = {said(made.analyzed(analyzed(), NOW)).everything.key for made in (one, one, other)}
    assert len(keys) == 2


def test_when_it_can_not_be_kept_nothing_is_said() -> None:
    class Broken(Shelf):
        async def keep_once(self, key: str, data: bytes) -> None:
            raise OSError("no space left")

    made = router(fleet=30)
    made.keeper = Broken()
    with pytest.raises(OSError, match="no space"):
        said(made.analyzed(analyzed(), NOW))


# ------------------------------------------------------------------------------------------------------ rounds


def test_a_retry_waits_for_its_time() -> None:
    later = retry(not_before=T0 + 3)
    assert said(router().retry(later, NOW)) == Later(Due(tenant="acme", job="j-1", n=2, retry=later), at=T0 + 3)
    again = said(router().due(Due(tenant="acme", job="j-1", n=2, retry=later), Heard(now=T0 + 3)))
    assert isinstance(again, Decided)
    assert (again.n, again.at) == (2, T0 + 3)


@pytest.mark.parametrize("not_before", [0.0, T0 - 1, T0])
def test_a_retry_whose_time_has_come_is_decided(not_before: float) -> None:
    past = (Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=5),)
    made = said(router().retry(retry(not_before=not_before, attempts=past), NOW))
    assert isinstance(made, Decided)
    assert (made.attempts, made.cause) == (past, PROBLEM)


def test_a_stored_decision_counts_as_load() -> None:
    made = router()
    assert made.decided(decided(at=T0), NOW) == []
    first = made.view.entries[0]
    assert (first.there.own, first.uses.since(T0 - 1)) == (1, 1)


def test_a_decision_that_waits_says_nothing() -> None:
    assert router().decided(decided(ranking=(), wait_seconds=0.5), NOW) == []


@pytest.mark.parametrize(("now", "ending"), [(T0, "failed"), (T0 + 600, "expired")])
def test_giving_up_ends_the_job(now: float, ending: str) -> None:
    past = (Attempt(n=1, backend="a", model="m", outcome="timeout", billed_microdollars=5),)
    (end,) = router().decided(decided(n=2, attempts=past, ranking=(), gave_up=PROBLEM), Heard(now=now))
    assert isinstance(end, Done)
    assert (end.ending, end.problem, end.attempts, end.cost_microdollars) == (ending, PROBLEM, past, 5)


def test_the_deadline_ends_the_job() -> None:
    (end,) = asyncio.run(router().expired(Expired(tenant="acme", job="j-1", at=T0), NOW))
    assert isinstance(end, Done)
    assert (end.ending, end.cost_microdollars, end.attempts) == ("expired", 0, ())


def test_a_cancel_that_can_change_nothing_is_refused_and_one_that_comes_again_is_not() -> None:
    async def story(rig: Rig) -> None:
        await rig.host(room_of(router, ROUTER_CANCEL))
        await rig.publish(Done(tenant="acme", job="j-1", ending="succeeded", at=T0))
        bodies = {
            "j-1": b"",
            "j-2": b'{"reason": "' + b"x" * 2001 + b'"}',
            "j-3": b'{"job": "j-2"}',
            "j-4": b'{"why": 1}',
        }
        for job, body in bodies.items():
            await rig.raw(f"job.cancel.acme.{job}", body)
        rig.server.faults = Faults(ack_lost=1.0)
        await rig.raw("job.cancel.acme.j-5", b"")
        await rig.settle(60.0)
        rig.server.faults = Faults()
        await rig.settle(60.0)
        assert {(one.job, one.word, one.problem.field): one.problem.message for one in rig.stored(Refused)} == {
            ("j-1", "cancel", "job"): "job is 'j-1': it has ended (succeeded): nothing is left to cancel.",
            (
                "j-2",
                "cancel",
                "reason",
            ): f"reason is {repr('x' * 100)[:80]}: use at most 2,000 characters; these are 2,001.",
            ("j-3", "cancel", "job"): "job is 'j-2': the subject says 'j-3'; they must be equal, or leave job out.",
        }
        (letter,) = rig.stored(DeadLetter)
        assert (letter.job, letter.problem.field) == ("j-4", "why")
        assert "Known: job, reason" in letter.problem.message
        assert [(done.job, done.ending) for done in rig.stored(Done)] == [("j-1", "succeeded"), ("j-5", "cancelled")]
        assert await rig.unacknowledged(ROUTER_CANCEL) == 0

    play(story)


@pytest.mark.parametrize(("reason", "words"), [("changed my mind", "changed my mind"), ("", "cancelled by the client")])
def test_a_cancel_ends_the_job_its_subject_names(reason: str, words: str) -> None:
    heard = Heard(now=T0, subject="job.cancel.a%2Eb.j%2E1")

    async def first_word() -> Any:
        return await anext(router().job_cancel(JobCancel(reason=reason), heard))

    end = asyncio.run(first_word())
    assert isinstance(end, Done)
    assert (end.tenant, end.job, end.ending) == ("a.b", "j.1", "cancelled")
    assert end.problem is not None
    assert end.problem.message == words


# --------------------------------------------------------------------------------------------------- in flight


class Counting(Tally):
    """Answers late, and lets others decide meanwhile."""

    async def count(self, question: CountOf) -> Counted | None:
        await asyncio.sleep(1.0)
        return await super().count(question)


def equal(*names: str, counter: Tally | None = None) -> Router:
    made = Router(keeper=Shelf(), counter=counter or Tally())
    for name in names:
        made.backend(backend(name, slots=1), NOW)
    return made


def own(made: Router) -> list[int]:
    """What is in flight to each backend, by name."""
    return [entry.there.own for entry in made.view.entries]


def test_those_who_decide_at_once_know_of_each_other_before_anything_is_stored() -> None:
    made = equal("a", "b")
    sent: list[str] = []

    async def decide(job: str) -> None:
        given_slip = slip(job=job)
        async with aclosing(made.analyzed(analyzed(job=job, slip=given_slip), NOW)) as steps:
            event = await anext(steps)
            assert isinstance(event, Decided)
            assert check(event) == ""
            sent.append(event.ranking[0].backend)
            await asyncio.sleep(1.0)  # While it is published.

    async def all_at_once() -> None:
        await asyncio.gather(*(decide(f"j-{number}") for number in range(9)))

    asyncio.run(all_at_once())
    assert sorted(sent) == ["a"] * 5 + ["b"] * 4
    assert own(made) == [0, 0], "none was said to the end"


def test_a_job_does_not_stand_in_its_own_way_while_it_is_counted() -> None:
    tight = Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)
    made = Router(keeper=Shelf(), counter=Counting({"a": 20}))
    made.backend(backend("a", slots=1, models=(Model(name="m", price=tight),)), NOW)
    job = slip(needs={"bound": Bound(tokens=400, messages=1), "max_cost_microdollars": 150})
    event = said(made.analyzed(analyzed(slip=job), NOW))
    assert (event.ranking[0].features.own, event.ranking[0].features.ahead, own(made)) == (0, 0, [1])


def test_the_stored_decision_takes_the_place_of_ours() -> None:
    made = equal("a", "b")
    theirs = said(equal("b").analyzed(analyzed(), NOW))

    async def lose() -> None:
        async with aclosing(made.analyzed(analyzed(), NOW)) as steps:
            ours = await anext(steps)
            assert isinstance(ours, Decided)
            assert (ours.ranking[0].backend, own(made)) == ("a", [1, 0])
            made.decided(theirs, NOW)
            assert own(made) == [0, 1]

    asyncio.run(lose())
    made.decided(decided(ranking=(), gave_up=PROBLEM), NOW)
    assert own(made) == [0, 0]


def test_two_fronts_count_the_same_stored_decisions_whoever_was_first() -> None:
    one, two = (Queue(stream="EV", name=name, filters=(Analyzed.channel.pattern,)) for name in ("one", "two"))
    jobs = [f"j-{number}" for number in range(24)]

    async def story(rig: Rig) -> None:
        rig.server.faults = Faults(delay_seconds=(0.0, 0.02), reordered=0.3)
        routers: list[Router] = []
        for queue in (one, two):
            await rig.bus.set_up_queue(queue)
            room = room_of(lambda: equal("a", "b", "c"), queue, slots=64)
            await rig.host(room, instance=queue.name)
            assert isinstance(room.actor, Router)
            routers.append(room.actor)
        await asyncio.gather(*(rig.publish(analyzed(job=job, slip=slip(job=job))) for job in jobs))
        await rig.settle(5.0)
        stored = rig.stored(Decided)
        assert sorted(event.job for event in stored) == sorted(jobs)
        assert {check(event) for event in stored} == {""}
        went = Counter(event.ranking[0].backend for event in stored)
        assert own(routers[0]) == own(routers[1]) == [went[name] for name in ("a", "b", "c")]
        writers = Counter(record.headers["ce-source"] for record in rig.records(Decided))
        assert len(writers) == 2, "each was first sometimes"
        assert max(went.values()) - min(went.values()) <= 2

    play(story)


def test_what_another_room_can_not_take_is_in_flight_no_more_until_it_is_decided_again() -> None:
    class Cross(Actor):
        """Crashes at what it hears first, and queues the rest."""

        room = "guardrail"
        heard: ClassVar[list[str]] = []

        @hears
        async def decided(self, decided: Decided, heard: Heard) -> Steps[Queued]:
            self.heard.append(decided.job)
            assert made is not None
            before.append(own(made))
            if len(self.heard) == 1:
                raise RuntimeError("a bug")
            yield Queued(tenant=decided.tenant, job=decided.job, n=decided.n, backend="b", seq=3)

    queue = Queue(stream="EV", name="one", filters=(Analyzed.channel.pattern,))
    before: list[list[int]] = []
    made: Router | None = None

    async def story(rig: Rig) -> None:
        nonlocal made
        await rig.bus.set_up_queue(queue)
        room = room_of(lambda: equal("a", "b"), queue)
        await rig.host(room, room_of(Cross))
        assert isinstance(room.actor, Router)
        made = room.actor
        await rig.publish(analyzed())
        await rig.settle(0.05)
        assert (before, own(made)) == ([[1, 0]], [0, 0])
        await rig.settle(5.0)
        assert (before, own(made)) == ([[1, 0], [1, 0]], [0, 1]), "it lies in the queue of b"
        made.load(Load(backend="b", waiting=1, running=0, through_seq=3, at=T0), NOW)
        assert own(made) == [0, 0]
        await rig.settle(5.0)
        assert own(made) == [0, 0]

    play(story)


# --------------------------------------------------------------------------------------------------- questions


def test_a_preview_is_the_decision_and_leaves_no_trace() -> None:
    made = router(fleet=30)
    answer = made.preview(PreviewOf(tenant="acme", job="j-1", needs=needs()), NOW)
    assert answer.decided is not None
    assert answer.decided.slip.deadline_at == T0 + PREVIEW_SECONDS
    assert len(made.view.in_flight) == 0
    assert all(not entry.uses.since(0.0) for entry in made.view.entries)
    event = said(made.analyzed(analyzed(slip=slip(deadline_at=T0 + PREVIEW_SECONDS)), NOW))
    assert answer.decided.ranking == event.ranking
    assert isinstance(made.keeper, Shelf)
    assert len(made.keeper.kept) == 1


def test_the_policies_in_force_are_told_in_the_order_they_speak() -> None:
    made = router(policies=(Policy(policy="b", order=60), Policy(policy="a", order=70)))
    made.policy(Policy(policy="mine"), NOW)
    made.policy(Policy(policy="gone", removed=True), NOW)
    assert [policy.policy for policy in made.policies(PoliciesOf(), NOW).policies] == ["mine", "b", "a"]
    assert [policy.policy for policy in made.policies(PoliciesOf(name="b"), NOW).policies] == ["b"]
    assert made.policies(PoliciesOf(name="gone"), NOW).policies == ()


def test_what_a_job_reads_is_counted_before_it_is_refused() -> None:
    tight = Price(input_per_mtok=1_000_000, output_per_mtok=1_000_000)
    paid = backend("a", models=(Model(name="m", price=tight),))
    job = slip(needs={"bound": Bound(tokens=400, messages=1), "max_cost_microdollars": 150})
    analyzed = Analyzed(tenant="acme", job="j-1", fingerprint="f", slip=job, at=T0)
    for counts, permitted in (({"a": 20}, True), ({"a": 140}, False), ({}, False)):
        tally = Tally(counts)
        made = Router(keeper=Shelf(), counter=tally)
        made.backend(paid, NOW)
        (said,) = all_said(made.analyzed(analyzed, NOW))
        assert isinstance(said, Decided)
        assert (tally.asked, bool(said.ranking)) == (["a"], permitted)
        assert [one.tokens for one in said.counted] == list(counts.values())
        assert check(said) == "", "the count stands in the event"
    silent = Tally({"a": 20})
    made = Router(keeper=Shelf(), counter=silent)
    made.backend(paid, NOW)
    rich = msgspec.structs.replace(job, needs=msgspec.structs.replace(job.needs, max_cost_microdollars=10_000))
    all_said(made.analyzed(msgspec.structs.replace(analyzed, slip=rich), NOW))
    assert silent.asked == [], "what fits is not counted"
    again = retry(
        slip=rich, rooms=(Room(backend="a", model="m", budget="b", unit="tokens", left=90, limit=90),), not_before=0.0
    )
    (said,) = all_said(made.retry(again, NOW))
    assert isinstance(said, Decided)
    assert (said.ranking[0].worst_case_input_tokens, said.ranking[0].max_output_tokens) == (20, 70)
    assert (said.rooms, silent.asked, check(said)) == (again.rooms, ["a"], "")
