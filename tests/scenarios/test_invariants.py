"""Every invariant can fail: a good story is clean, and each small forgery of it is reported by name."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from actors.settings import Budget
from bus import codec
from bus.bus import Record
from messages import (
    Analyzed,
    Attempted,
    Awaited,
    Breaker,
    DeadLetter,
    Decided,
    Done,
    Due,
    Granted,
    Held,
    JobSubmit,
    LedgerEntry,
    Message,
    Price,
    Problem,
    Refused,
    Reservation,
    Result,
    Retry,
    Started,
)
from scenarios import invariants
from scenarios.backends import Call
from scenarios.invariants import Life, Outage, Story, broken, unfinished
from tests.messages import samples

COUNTER = "ledger.tenant.acme.microdollars.total"
PROBLEM = Problem(reason="server_error", message="a: 500")
RESULT = Result(text="A haiku.")
HEARD = 5.0
"""Seconds between two records."""


class Said(msgspec.Struct):
    message: Message
    time: float
    writer: str = "node"


class Book:
    """The evidence of a run, still open to forgery. Sequences are places; `None` leaves a hole."""

    def __init__(self, limit: int = 300) -> None:
        self.budgets = [Budget(scope="tenant", window="total", limit=limit)]
        self.hold = Reservation(budget=self.budgets[0].name, subject=COUNTER, amount=100, unit="microdollars")
        self.inbox: list[bytes] = []
        self.resumes: list[tuple[str, float]] = []
        self.events: list[Said | None] = []
        self.ledger: list[tuple[LedgerEntry, int]] = []
        self.facts: list[Message] = []
        self.work: list[str] = []
        self.calls: list[Call] = []
        self.outages: list[Outage] = []
        self.lives: list[Life] = []
        self.exact_calls = self.signals_arrive = True
        self.now = 1000.0
        self.slots: dict[str, int] = {}
        self.healed_at = 0.0

    def say(self, message: Message, writer: str = "node") -> None:
        now = HEARD * len(self.events)
        if hasattr(message, "at"):
            message = msgspec.structs.replace(message, at=now)
        self.events.append(Said(message, now, writer))

    def submit(self, job: str, prompt: str = "Write") -> None:
        self.inbox.append(codec.encode(JobSubmit(tenant="acme", id=job, prompt=prompt)))

    def entry(self, step, job: str, n: int, amount: int, backend: str) -> None:
        made = LedgerEntry(
            step=step, budget=self.hold.budget, counter=COUNTER, amount=100, unit="microdollars", tenant="acme", job=job,
            n=n, backend=backend, model="m", limit=1000 if step == "reserve" else 0, at=0.0,
        )  # fmt: skip
        self.ledger.append((made, amount))

    def call(self, job: str, n: int, backend: str, instance: str, ended_at: float | None = None) -> None:
        """A call that begins with the last thing said."""
        began = HEARD * (len(self.events) - 1)
        self.calls.append(
            Call(
                tenant="acme", job=job, n=n, backend=backend, instance=instance, boot="b1", prompt="Write",
                began_at=began, ended_at=ended_at or began + 1.0,
            )
        )  # fmt: skip

    # -------------------------------------------------------------------------------------------- forgeries

    def place(self, kind: type[Message], job: str, n: int | None = None) -> int:
        for place, said in enumerate(self.events):
            message: Any = said.message if said else None
            about = (getattr(message, "job", None), getattr(message, "n", None) if n else None)
            if isinstance(message, kind) and about == (job, n):
                return place
        raise LookupError(kind, job, n)

    def drop(self, kind: type[Message], job: str, n: int | None = None) -> None:
        self.events[self.place(kind, job, n)] = None

    def late(self, kind: type[Message], job: str, n: int | None = None, *, again: bool = False) -> None:
        """Say it last: instead of where it was, or once more."""
        said = self.events[self.place(kind, job, n)]
        assert said is not None
        if not again:
            self.drop(kind, job, n)
        self.events.append(said)

    def change(self, kind: type[Message], job: str, n: int | None = None, **fields) -> None:
        said = self.events[self.place(kind, job, n)]
        assert said is not None
        said.message = msgspec.structs.replace(said.message, **fields)

    def change_call(self, job: str, n: int, **fields) -> None:
        place = next(i for i, call in enumerate(self.calls) if (call.job, call.n) == (job, n))
        self.calls[place] = msgspec.structs.replace(self.calls[place], **fields)

    def change_entries(self, job: str, n: int, *steps: str, amount: int | None = None, **fields) -> None:
        for place, (entry, by) in enumerate(self.ledger):
            if (entry.job, entry.n) == (job, n) and entry.step in steps:
                changed = msgspec.structs.replace(entry, **fields)
                self.ledger[place] = (changed, by if amount is None else amount)

    def drop_entry(self, job: str, n: int, step: str) -> None:
        self.ledger = [(e, by) for e, by in self.ledger if (e.job, e.n, e.step) != (job, n, step)]

    def story(self) -> Story:
        events = [
            Record(
                said.message.subject,
                seq,
                codec.encode(said.message),
                {"ce-source": f"turnout/{said.writer}"},
                said.time,
            )
            for seq, said in enumerate(self.events, 1)
            if said
        ]
        ledger: list[Record] = []
        total = 0
        for seq, (entry, by) in enumerate(self.ledger, 1):
            total += by
            headers = {"Nats-Incr": str(by), codec.LEDGER_HEADER: codec.encode(entry).decode()}
            ledger.append(Record(COUNTER, seq, b'{"val":"%d"}' % total, headers, 0.0))
        return Story(
            records={
                "IN": [Record("job.submit.acme", seq, data, {}, 0.0) for seq, data in enumerate(self.inbox, 1)]
                + [Record(f"job.resume.acme.{job}", 100 + seq, b"{}", {}, at) for seq, (job, at) in enumerate(self.resumes)],
                "EV": events,
                "KV_facts": [Record(fact.subject, seq, codec.encode(fact), {}, 0.0) for seq, fact in enumerate(self.facts, 1)],
                "LEDGER": ledger,
                "WORK": [Record(subject, seq, b"{}", {}, 0.0) for seq, subject in enumerate(self.work, 1)],
            },
            calls=self.calls, outages=self.outages, lives=self.lives, signals_arrive=self.signals_arrive,
            budgets=self.budgets, now=self.now, exact_calls=self.exact_calls, slots=self.slots, healed_at=self.healed_at,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------ the good story


def accepted(book: Book, job: str) -> None:
    book.submit(job)
    slip = samples.slip(job=job, input_seq=len(book.inbox))
    book.say(Analyzed(tenant="acme", job=job, fingerprint="f", slip=slip, at=0.0))


def decided(book: Book, job: str, n: int, *ranking: str, gave_up: Problem | None = None) -> None:
    ranked = tuple(samples.candidate(name) for name in ranking)
    book.say(samples.decided(job=job, n=n, ranking=ranked, gave_up=gave_up))


def granted(book: Book, job: str, n: int, backend: str) -> None:
    book.say(
        Granted(
            tenant="acme", job=job, n=n, verdict="candidate", backend=backend, model="m", reserved=(book.hold,), at=0.0
        )
    )
    book.entry("reserve", job, n, 100, backend)


def started(
    book: Book, job: str, n: int, backend: str, instance: str, purpose: Literal["run", "drain"] = "run"
) -> None:
    book.say(
        Started(
            tenant="acme", job=job, n=n, backend=backend, instance=instance, boot="b1", run="1", purpose=purpose, at=0.0
        )
    )


def attempted(book: Book, job: str, n: int, backend: str, outcome, billed: int, writer: str = "node") -> None:
    result = RESULT if outcome == "ok" else None
    book.say(
        samples.attempted(
            job=job, n=n, backend=backend, outcome=outcome, billed_microdollars=billed, reserved=(book.hold,),
            result=result,
        ),
        writer,
    )  # fmt: skip
    book.entry("settle", job, n, billed - 100, backend)


def retry(book: Book, job: str, n: int) -> None:
    book.say(Retry(tenant="acme", job=job, n=n, slip=samples.slip(job=job), cause=PROBLEM, at=0.0))


def done(book: Book, job: str, ending, *billed: int) -> None:
    attempts = tuple(
        msgspec.structs.replace(samples.ATTEMPT, n=n, billed_microdollars=cost) for n, cost in enumerate(billed, 1)
    )
    result = RESULT if ending == "succeeded" else None
    cost = sum(billed)
    book.say(
        Done(tenant="acme", job=job, ending=ending, result=result, attempts=attempts, cost_microdollars=cost, at=0.0)
    )


def rejected(book: Book, job: str) -> None:
    book.say(Analyzed(tenant="acme", job=job, fingerprint="f", rejected=PROBLEM, at=0.0))
    book.say(Done(tenant="acme", job=job, ending="rejected", problem=PROBLEM, cost_microdollars=0, at=0.0))


def good(limit: int = 300) -> Book:
    """Jobs that moved, lost their executor, were drained, gave up, were rejected, refused, or were no jobs at all."""
    book = Book(limit)
    book.lives = [Life("exec-a", "b1", ("a", "b"), 0.0), Life("exec-c", "b1", ("a",), 0.0)]
    # `moved` fails on a, is held back once, and succeeds on b.
    accepted(book, "moved")
    decided(book, "moved", 1, "a", "b")
    book.entry("reserve", "moved", 1, 100, "b")
    book.entry("release", "moved", 1, -100, "b")
    granted(book, "moved", 1, "a")
    started(book, "moved", 1, "a", "exec-a")
    book.call("moved", 1, "a", "exec-a")
    attempted(book, "moved", 1, "a", "server_error", 0)
    retry(book, "moved", 2)
    decided(book, "moved", 2, "b")
    book.say(Granted(tenant="acme", job="moved", n=2, verdict="refused", at=0.0))
    retry(book, "moved", 3)
    decided(book, "moved", 3, "b", "a")
    granted(book, "moved", 3, "b")
    started(book, "moved", 3, "b", "exec-a")
    book.call("moved", 3, "b", "exec-a")
    attempted(book, "moved", 3, "b", "ok", 40)
    done(book, "moved", "succeeded", 0, 40)
    # `lost` outlives its executor, which can't be heard and calls on; then it succeeds elsewhere.
    accepted(book, "lost")
    decided(book, "lost", 1, "a")
    granted(book, "lost", 1, "a")
    started(book, "lost", 1, "a", "exec-c")
    book.call("lost", 1, "a", "exec-c", ended_at=900.0)
    silent_since = HEARD * len(book.events)
    attempted(book, "lost", 1, "a", "executor_lost", 100)
    book.outages = [Outage("exec-c", "b1", silent_since - 4.0, 900.0)]
    retry(book, "lost", 2)
    decided(book, "lost", 2, "b")
    granted(book, "lost", 2, "b")
    started(book, "lost", 2, "b", "exec-a")
    book.call("lost", 2, "b", "exec-a")
    attempted(book, "lost", 2, "b", "ok", 40)
    done(book, "lost", "succeeded", 100, 40)
    # `drained` waited for a backend that nobody serves; `hopeless` found none at all.
    accepted(book, "drained")
    decided(book, "drained", 1, "c")
    granted(book, "drained", 1, "c")
    started(book, "drained", 1, "c", "registry", "drain")
    attempted(book, "drained", 1, "c", "not_started", 0)
    retry(book, "drained", 2)
    decided(book, "drained", 2, gave_up=PROBLEM)
    done(book, "drained", "failed", 0)
    accepted(book, "hopeless")
    decided(book, "hopeless", 1, gave_up=PROBLEM)
    done(book, "hopeless", "failed")
    # What can't be accepted, what is no job, and another body under a used id.
    book.submit("bad")
    rejected(book, "bad")
    book.inbox.append(b"nonsense")
    place = f"in-{len(book.inbox)}"
    rejected(book, place)
    book.say(
        DeadLetter(
            tenant="acme", job=place, stream="IN", seq=len(book.inbox), subject_heard="job.submit.acme",
            problem=PROBLEM, head="nonsense", at=0.0,
        )
    )  # fmt: skip
    book.submit("moved", "Something else")
    book.say(Refused(tenant="acme", job="moved", problem=PROBLEM, at=0.0))
    book.facts = [Breaker(backend="a", model="m", through_seq=10_000, failures_in_row=1)]
    return book


# ------------------------------------------------------------------------------------------------------ forgeries

Forgery = Callable[[Book], None]
UNSAFE: dict[str, tuple[Forgery, tuple[str, ...]]] = {}
UNENDED: dict[str, tuple[Forgery, tuple[str, ...]]] = {}


def unsafe(*texts: str) -> Callable[[Forgery], Forgery]:
    """A forgery that breaks exactly these safety rules."""
    return lambda forge: UNSAFE.setdefault(forge.__name__, (forge, texts))[0]


def unended(*texts: str) -> Callable[[Forgery], Forgery]:
    """A forgery that leaves exactly this open."""
    return lambda forge: UNENDED.setdefault(forge.__name__, (forge, texts))[0]


TWICE = [
    (Analyzed, "moved", None), (Decided, "moved", 1), (Granted, "moved", 1), (Started, "moved", 1),
    (Attempted, "moved", 1), (Retry, "moved", 2), (Done, "moved", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "job", "n"), TWICE)
def test_a_second_first_writer_is_reported(kind, job, n):
    book = good()
    book.late(kind, job, n, again=True)
    place = f"acme/{job}/{n}" if n else f"acme/{job}"
    assert broken(book.story()) == [f"two {kind.__name__.lower()} for {place}"]


@unsafe("an accepted job was rejected: acme/moved")
def rejected_after_all(book: Book) -> None:
    book.change(Done, "moved", ending="rejected")


@unsafe("succeeded without an attempt that did: acme/moved")
def success_from_nowhere(book: Book) -> None:
    book.change(Done, "moved", result=Result(text="Another."))


@unsafe(
    "billed 40 where the backend counted 50: acme/moved/3",
    "settled 40 microdollars where the backend counted 50: acme/moved/3",
)
def counted_for_less_than_the_backend_did(book: Book) -> None:
    said = book.events[book.place(Decided, "moved", 3)]
    assert said is not None
    ranking: Any = [
        msgspec.structs.replace(one, known=msgspec.structs.replace(one.known, price=Price(input_per_mtok=1_000_000)))
        for one in said.message.ranking  # pyright: ignore[reportAttributeAccessIssue]
    ]
    book.change(Decided, "moved", 3, ranking=tuple(ranking))
    book.change_call("moved", 3, read_tokens=50)


@unsafe("succeeded without an attempt that did: acme/moved")
def success_of_a_failure(book: Book) -> None:
    book.change(Attempted, "moved", 3, outcome="aborted")


@unsafe("failed while the granted attempt 2 was open: acme/lost")
def failed_too_early(book: Book) -> None:
    book.change(Done, "lost", ending="failed")
    book.late(Attempted, "lost", 2)


@unsafe("the cost of acme/moved is 41, its attempts add up to 40")
def costs_more_than_its_attempts(book: Book) -> None:
    book.change(Done, "moved", cost_microdollars=41)


@unsafe("granted without decided: acme/moved/3")
def nobody_decided(book: Book) -> None:
    book.drop(Decided, "moved", 3)


@unsafe("granted a backend that was not ranked: acme/moved/3")
def another_ranking(book: Book) -> None:
    book.change(Decided, "moved", 3, ranking=(samples.candidate("a"),))


@unsafe("retried without attempted or a refusal: acme/moved/3")
def retried_without_a_refusal(book: Book) -> None:
    book.drop(Granted, "moved", 2)


@unsafe("retried without attempted or a refusal: acme/moved/2")
def retried_before_the_attempt_ended(book: Book) -> None:
    book.late(Attempted, "moved", 1)


@unsafe("attempted without a grant: acme/moved/3")
def nobody_granted(book: Book) -> None:
    book.drop(Granted, "moved", 3)


@unsafe("attempted without a grant: acme/moved/3")
def granted_to_nobody(book: Book) -> None:
    book.change(Granted, "moved", 3, verdict="void")


@unsafe("attempted on another backend than granted: acme/moved/3")
def granted_elsewhere(book: Book) -> None:
    book.change(Granted, "moved", 3, backend="a")


@unsafe("attempted with other reservations than granted: acme/moved/3")
def granted_for_nothing(book: Book) -> None:
    book.change(Granted, "moved", 3, reserved=())


@unsafe("attempted without a claim: acme/drained/1")
def unclaimed(book: Book) -> None:
    book.drop(Started, "drained", 1)


@unsafe("claimed only to drain, but ended as aborted: acme/drained/1")
def drained_and_run(book: Book) -> None:
    book.change(Attempted, "drained", 1, outcome="aborted")


@unsafe("backend called twice for one n: acme/moved/1")
def called_twice(book: Book) -> None:
    book.calls.append(msgspec.structs.replace(book.calls[0]))


@unsafe("backend called twice for one n: acme/moved/1")
def called_three_times(book: Book) -> None:
    book.calls += [msgspec.structs.replace(book.calls[0]), msgspec.structs.replace(book.calls[0])]


@unsafe("called without a claim: acme/bad/1")
def called_for_a_rejected_job(book: Book) -> None:
    book.call("bad", 1, "a", "exec-a")


@unsafe("called by exec-b b1, claimed by exec-a: acme/moved/3")
def called_by_another(book: Book) -> None:
    book.change_call("moved", 3, instance="exec-b")


@unsafe("called by exec-a b2, claimed by exec-a: acme/moved/3")
def called_by_a_later_boot(book: Book) -> None:
    book.change_call("moved", 3, boot="b2")


@unsafe("called though done was there before the claim: acme/moved/3")
def claimed_after_done(book: Book) -> None:
    book.late(Started, "moved", 3)


@unsafe("call for a round decided on after done: acme/moved/3")
def decided_after_done(book: Book) -> None:
    book.late(Decided, "moved", 3)


@unsafe("called, but recorded as not started: acme/drained/1")
def called_and_denied(book: Book) -> None:
    book.call("drained", 1, "c", "registry")


@unsafe("served another body than the accepted one: acme/moved/1")
def another_body(book: Book) -> None:
    book.change_call("moved", 1, prompt="Something else")


@unsafe("two calls at once, and nobody could take the first for dead: acme/moved/1")
def overlapping(book: Book) -> None:
    book.change_call("moved", 1, ended_at=900.0)


@unsafe("two calls at once, and nobody could take the first for dead: acme/moved/1")
def overlapping_for_ever(book: Book) -> None:
    book.change_call("moved", 1, ended_at=None)


@unsafe("given up as lost while its executor lived and ran it: acme/lost/1")
def suspected_too_early(book: Book) -> None:
    first = book.outages[0]
    book.outages = [first._replace(since=first.since + 5.0)]  # Begins after the verdict, but before the second call.


@unsafe(
    "two calls at once, and nobody could take the first for dead: acme/lost/1",
    "given up as lost while its executor lived and ran it: acme/lost/1",
)
def suspected_for_a_blink(book: Book) -> None:
    first = book.outages[0]
    book.outages = [first._replace(until=first.since + 2.9)]


@unsafe("drained although exec-d lived and served c: acme/drained/1")
def drained_while_served(book: Book) -> None:
    book.lives.append(Life("exec-d", "b1", ("c",), 0.0))


@unsafe("refused although no job has that id: acme/nobody")
def refused_for_nothing(book: Book) -> None:
    book.say(Refused(tenant="acme", job="nobody", problem=PROBLEM, at=0.0))


@unsafe("counted twice: reserve acme/moved/3 on b for " + COUNTER)
def reserved_twice(book: Book) -> None:
    book.entry("reserve", "moved", 3, 100, "b")


@unsafe("counted twice: settle acme/moved/3 on b for " + COUNTER)
def settled_twice(book: Book) -> None:
    book.entry("settle", "moved", 3, -60, "b")


@unsafe(f"ledger below zero: {COUNTER} at -720")
def below_zero(book: Book) -> None:
    book.change_entries("drained", 1, "settle", amount=-1000)


@unsafe(f"settled what was not reserved: settle acme/lost/2 on b for {COUNTER}")
def settled_unreserved(book: Book) -> None:
    book.drop_entry("lost", 2, "reserve")


@unsafe(f"released what was not reserved: release acme/hopeless/1 on a for {COUNTER}")
def released_unreserved(book: Book) -> None:
    book.entry("release", "hopeless", 1, -100, "a")


@unsafe(f"released another amount than reserved: release acme/moved/1 on b for {COUNTER}")
def released_in_part(book: Book) -> None:
    book.change_entries("moved", 1, "release", amount=-90)


@unsafe(f"corrected, and nobody has told what is right: correct acme/lost/1 on a for {COUNTER}")
def corrected_unasked(book: Book) -> None:
    book.entry("correct", "lost", 1, -10, "a")


@unsafe(f"settled for another backend than attempted: settle acme/lost/2 on a for {COUNTER}")
def settled_elsewhere(book: Book) -> None:
    book.change_entries("lost", 2, "reserve", "settle", backend="a")


@unsafe(f"admitted at 100, over the limit of 99: reserve acme/moved/1 on a for {COUNTER}")
def admitted_over_the_limit(book: Book) -> None:
    book.change_entries("moved", 1, "reserve", limit=99)


@unsafe(f"admitted at 140, over the limit of 130: reserve acme/lost/1 on a for {COUNTER}")
def admitted_beside_what_is_spent(book: Book) -> None:
    book.change_entries("lost", 1, "reserve", limit=130)


def held(job: str, n: int, at: float = 0.0) -> Held:
    return Held(tenant="acme", job=job, n=n, problem=PROBLEM, until=900.0, at=at)


@unsafe("looked 3 times for the window at 600: acme/hopeless")
def looks_again_and_again(book: Book) -> None:
    cause = Problem(reason="over_budget", message="a: over budget")
    for n in range(5, 8):
        book.say(samples.decided(job="hopeless", n=n, cause=cause))
        book.say(
            Granted(tenant="acme", job="hopeless", n=n, verdict="refused", when_over="wait", room_at=600.0, at=0.0)
        )


@unsafe("held without a verdict that asks: acme/moved/2")
def held_unasked(book: Book) -> None:
    book.say(held("moved", 2))


@unsafe("held in two ways: acme/moved/2")
def held_twice(book: Book) -> None:
    book.change(Granted, "moved", 2, when_over="ask")
    book.say(held("moved", 2))
    book.say(held("moved", 2, at=1.0))


@unsafe("breaker a/m counts 2 failures of 1")
def breaker_overcounts(book: Book) -> None:
    book.facts = [msgspec.structs.replace(fact, failures_in_row=2) for fact in book.facts]


@unsafe("breaker a/m counts 1 failures of 0")
def breaker_counts_what_it_has_not_seen(book: Book) -> None:
    seen = book.place(Attempted, "moved", 1)  # The place before it, counted from 1.
    book.facts = [msgspec.structs.replace(fact, through_seq=seen) for fact in book.facts]


@unended("submission 8 was lost: acme/fresh")
def lost_submission(book: Book) -> None:
    book.submit("fresh")


@unended("submission 8 was lost: acme/in-8")
def lost_submission_without_an_id(book: Book) -> None:
    book.submit("")


@unended("the job never ended: acme/moved")
def never_ended(book: Book) -> None:
    book.drop(Done, "moved")


@unended("the job never ended: acme/bad")
def rejected_but_never_done(book: Book) -> None:
    book.drop(Done, "bad")


@unended("decided without a verdict for ever: acme/moved/2")
def without_a_verdict(book: Book) -> None:
    book.drop(Granted, "moved", 2)


@unended("given up and granted: acme/hopeless/1")
def given_up_and_granted(book: Book) -> None:
    book.say(Granted(tenant="acme", job="hopeless", n=1, verdict="void", at=0.0))


@unended("granted without attempted for ever: acme/moved/3", f"ledger {COUNTER} says 180, but 140 was billed")
def never_attempted(book: Book) -> None:
    book.drop(Attempted, "moved", 3)


@unended("work is left for ever: work.a.acme.moved.3")
def work_left(book: Book) -> None:
    book.work.append("work.a.acme.moved.3")


@unended(f"ledger {COUNTER} says 240, but 180 was billed")
def never_settled(book: Book) -> None:
    book.drop_entry("moved", 3, "settle")


@unended(f"ledger {COUNTER} says 280, but 180 was billed")
def never_released(book: Book) -> None:
    book.drop_entry("moved", 1, "release")


@unended("held, and neither resumed nor ended: acme/asked/1")
def held_for_ever(book: Book) -> None:
    book.say(held("asked", 1))


@unended("held, and went on though nobody said so: acme/moved/2")
def went_on_by_itself(book: Book) -> None:
    book.say(held("moved", 2))


@unended("resumed, and held on to its end: acme/hopeless/1")
def not_resumed(book: Book) -> None:
    book.events.insert(0, Said(held("hopeless", 1), 0.0))
    book.resumes = [("hopeless", 1.0)]


@unended("the probe lease on a/m never ends: moved")
def probe_lease_left(book: Book) -> None:
    book.facts = [msgspec.structs.replace(f, probe_job="moved", probe_until=book.now + 1.0) for f in book.facts]


@unended("no dead letter for what can't be decoded: IN 6 on job.submit.acme")
def no_dead_letter(book: Book) -> None:
    book.drop(DeadLetter, "in-6")


@unsafe("decided of acme/drained/1 was stored 400.0 s after the time it bears")
def said_by_a_slow_clock(book: Book) -> None:
    said = book.events[book.place(Decided, "drained", 1)]
    assert said is not None
    book.change(Decided, "drained", 1, at=said.time - 400.0)


@unsafe("acme/hopeless expired 60.0 s before its deadline")
def expired_before_its_time(book: Book) -> None:
    said = book.events[book.place(Done, "hopeless")]
    assert said is not None
    book.change(Analyzed, "hopeless", slip=samples.slip(job="hopeless", input_seq=4, deadline_at=said.time + 60.0))
    book.change(Done, "hopeless", ending="expired")


@unsafe("more than 6 were woken at a time for the 1 slots of a")
def woken_in_a_herd(book: Book) -> None:
    book.slots = {"a": 1}
    for number in range(7):
        slip = samples.slip(job=f"w-{number}")
        waiting = Retry(tenant="acme", job=f"w-{number}", n=2, slip=slip, cause=PROBLEM, at=0.0)
        by = Awaited(kind="backend", name="a")
        book.events.append(Said(Due(tenant="acme", job=f"w-{number}", n=2, retry=waiting, woken_by=by), 500.0))


@unended("ended 170 s after its deadline: acme/hopeless")
def ended_long_after_its_deadline(book: Book) -> None:
    said = book.events[book.place(Done, "hopeless")]
    assert said is not None
    book.healed_at = 1.0
    for told in book.events:
        message = told.message if told else None
        if told and isinstance(message, Analyzed) and message.slip is not None:
            told.message = msgspec.structs.replace(message, slip=msgspec.structs.replace(message.slip, deadline_at=1e9))
    book.change(Analyzed, "hopeless", slip=samples.slip(job="hopeless", input_seq=4, deadline_at=said.time - 170.0))


@pytest.mark.parametrize("name", UNSAFE)
def test_every_broken_rule_is_reported_by_name(name):
    forge, texts = UNSAFE[name]
    book = good()
    forge(book)
    assert broken(book.story()) == list(texts)


@pytest.mark.parametrize("name", UNENDED)
def test_whatever_is_left_open_is_reported_by_name(name):
    forge, texts = UNENDED[name]
    book = good()
    forge(book)
    assert unfinished(book.story()) == list(texts)


def test_the_good_story_is_clean():
    story = good().story()
    assert broken(story) == []
    assert unfinished(story, {}) == []
    assert all(story.records[name] for name in ("IN", "EV", "KV_facts", "LEDGER"))
    assert story.calls
    assert story.outages


def test_admitting_more_than_the_limit_is_reported():
    def told(limit: int) -> list[str]:
        return [text for text in broken(good(limit).story()) if "more than" in text]

    assert told(180) == []
    assert told(179) == [f"admitted 180 on {COUNTER}, more than the limit of 179"]


def test_what_is_admitted_and_still_runs_counts_in_full():
    book = good(limit=239)
    book.drop(Attempted, "moved", 3)
    assert f"admitted 240 on {COUNTER}, more than the limit of 239" in broken(book.story())


def test_a_limit_that_was_changed_is_judged_by_what_stood_at_each_event():
    book = good(limit=179)
    story = msgspec.structs.replace(book.story(), changed=[book.hold.budget])
    assert broken(story) == []


def test_a_held_job_may_go_on_or_end():
    book = good()
    book.events.insert(0, Said(held("moved", 2), 0.0))
    book.resumes = [("moved", 1.0)]
    assert unfinished(book.story()) == []
    late = good()
    late.events.insert(0, Said(held("hopeless", 1), 0.0))
    assert unfinished(late.story()) == []
    done = late.events[late.place(Done, "hopeless")]
    assert done is not None
    late.resumes = [("hopeless", done.time - 1.0)]
    assert unfinished(late.story()) == [], "its deadline came first"


def test_messages_left_in_a_consumer_are_reported():
    left = unfinished(good().story(), {"router": 2, "analyzer": 1})
    assert left == ["consumer analyzer still has 1 messages", "consumer router still has 2 messages"]


def test_whoever_heard_nobody_may_suspect_anybody():
    book = good()
    said = book.events[book.place(Attempted, "lost", 1)]
    assert said is not None
    said.writer = "guardrail-1"
    book.outages = [Outage("guardrail-1", "b9", said.time - 5.0, said.time)]
    assert broken(book.story()) == []
    book.outages = [Outage("another", "b9", said.time - 5.0, said.time)]
    assert broken(book.story())


def test_a_drain_is_right_before_the_executor_is_known_and_while_it_is_silent():
    at = HEARD * good().place(Started, "drained", 1)
    for life, outage in (
        (Life("exec-d", "b1", ("c",), at - 2.9), None),
        (Life("exec-d", "b1", ("b",), 0.0), None),
        (Life("exec-d", "b1", ("c",), 0.0), Outage("exec-d", "b1", at - 5.0, at + 9.0)),
    ):
        book = good()
        book.lives.append(life)
        book.outages += [outage] if outage else []
        assert broken(book.story()) == []


def test_evidence_that_is_not_there_is_not_held_against_a_run():
    book = good()
    book.outages = []
    book.signals_arrive = False
    assert broken(book.story()) == []
    called_twice(book)
    assert broken(book.story()) == ["backend called twice for one n: acme/moved/1"]
    book.exact_calls = False
    assert broken(book.story()) == []


def test_no_rule_is_without_a_forgery():
    """The sentences in the module's source are the rules: each has a forgery here that makes it be said."""
    said = [text for _, texts in (UNSAFE | UNENDED).values() for text in texts]
    said += [*broken(good(limit=1).story()), *unfinished(good().story(), {"router": 2})]
    said += [f"two {kind.__name__.lower()} for acme/{job}" for kind, job, _ in TWICE]
    rules = [
        node
        for node in ast.walk(ast.parse(Path(invariants.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.JoinedStr)
    ]
    assert len(rules) > 30
    for rule in rules:
        assert isinstance(rule.value, ast.JoinedStr)
        parts = [re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in rule.value.values]  # pyright: ignore[reportArgumentType]
        pattern = re.compile("".join(parts))
        assert any(map(pattern.fullmatch, said)), f"line {rule.lineno}: {pattern.pattern}"
