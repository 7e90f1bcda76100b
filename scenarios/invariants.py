"""What must be true of any run, whatever went wrong: checked on what the server stored, on a simulation and on a real server.

`broken` is safety: it must be empty at every moment. `unfinished` is liveness: it must be empty once the faults are over
and the time has passed that leases, sweeps and waits take. The names follow the executable specification of the rules.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from actors.guardrail.breaker import COUNTED
from actors.guardrail.limits import billed
from actors.rounds import OVER_BUDGET
from actors.settings import Budget
from actors.succession import corrected
from bus import codec
from bus.bus import Record
from messages import (
    Analyzed,
    Attempted,
    Breaker,
    Correction,
    DeadLetter,
    Decided,
    Done,
    Due,
    Granted,
    Held,
    JobSubmit,
    LedgerEntry,
    Message,
    Refused,
    Retry,
    Started,
    untoken,
)
from scenarios.backends import Call

M = TypeVar("M", bound=Message)
Key = tuple[str, str]
"""Tenant and job."""
Round = tuple[str, str, int]
"""Tenant, job and n."""

LOOKS_IN_A_WINDOW = 2
"""A job that waited for a window and found it full waits for the next; another look in it only after something else."""
WATCHERS = 2
"""So many processes of a run know who waits."""
AT_A_TIME_SECONDS = 0.2
LATE_SECONDS = 30.0
"""A deadline ends a job by then, whatever is in the way."""
RESUMED_SECONDS = 120.0
"""So long after a person's word a held job has gone on, whatever broke meanwhile."""
SUSPICION_SECONDS = 3.0
"""A process that could not be heard for so long may be taken for dead."""


class Outage(NamedTuple):
    """A process could not be heard: dead (for ever, as far as this boot is concerned), partitioned or frozen."""

    instance: str
    boot: str
    since: float
    until: float


AHEAD_SECONDS = 1.0
"""What an event says of its time may be ahead of the server's clock by this, and behind it by the time that storing it took."""
BEHIND_SECONDS = 300.0


class Life(NamedTuple):
    """An executor's process: which backends it served, and from when on."""

    instance: str
    boot: str
    backends: tuple[str, ...]
    since: float


class Stored(NamedTuple):
    """A message, its place in the stream and its time."""

    message: Any
    seq: int
    time: float
    writer: str = ""
    """The instance that said it."""


class Story(msgspec.Struct, kw_only=True):
    """The evidence of one run. Only `records` is always there; what is missing is not checked."""

    records: Mapping[str, Sequence[Record]]
    """By stream, in order."""
    calls: Sequence[Call] = ()
    """What the backends saw."""
    outages: Sequence[Outage] = ()
    """Which process could not be heard, and when."""
    lives: Sequence[Life] = ()
    """The executors."""
    signals_arrive: bool = True
    """Whether heartbeats arrive unless their process can't be heard; otherwise suspicions are never wrong."""
    budgets: Sequence[Budget] = ()
    changed: Sequence[str] = ()
    """Names of budgets whose limits were changed while running."""
    slots: Mapping[str, int] = {}
    """Attempts at once of each backend when all its executors are there; empty: not known."""
    healed_at: float = 0.0
    """When everything was well again; 0: never, or not known."""
    now: float = 0.0
    exact_calls: bool = True
    """Whether `calls` know their round, instance and boot."""


class Log:
    """The records of a story, decoded once and sorted by type and job."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self._by_type: dict[type[Message], dict[tuple[Any, ...], list[Stored]]] = defaultdict(lambda: defaultdict(list))
        for stream in ("EV", "KV_facts"):
            for record in story.records.get(stream, ()):
                kind = codec.type_at(record.subject)
                if kind is None or record.subject.startswith("sched") or not record.data:  # Empty: about to be removed.
                    continue
                message = codec.decode(kind, record.data, record.headers)
                key = tuple(getattr(message, name) for name in kind.channel.keys)
                self._by_type[kind][key].append(
                    Stored(message, record.seq, record.time, record.headers.get("ce-source", "").rpartition("/")[2])
                )

    def of(self, kind: type[M]) -> dict[tuple[Any, ...], list[Stored]]:
        """All messages of a type, by their keys."""
        return self._by_type[kind]

    def first(self, kind: type[M], *key: Any) -> Stored | None:
        """The first message on an address."""
        found = self._by_type[kind].get(key)
        return found[0] if found else None


def broken(story: Story) -> list[str]:
    """Every safety rule that this run broke, in words."""
    log = Log(story)
    checks = (
        _first_writers, _ends, _rounds, _claims, _calls, _overlaps, _suspicions, _drains, _rejections, _ledger, _limits,
        _admissions, _waits, _herds, _breakers, _settled, _clocks, _early_ends,
    )  # fmt: skip
    return [text for check in checks for text in check(log)]


def unfinished(story: Story, pending: Mapping[str, int] | None = None) -> list[str]:
    """What is still open at the end of a run. `pending`: messages left in each durable consumer."""
    log = Log(story)
    checks = (
        _all_done,
        _all_granted,
        _all_attempted,
        _no_work,
        _ledger_settled,
        _no_lease,
        _all_dead_letters,
        _resumed,
        _late_ends,
    )
    found = [text for check in checks for text in check(log)]
    found.extend(f"consumer {name} still has {count} messages" for name, count in sorted((pending or {}).items()))
    return found


# ------------------------------------------------------------------------------------------------------------ safety


def _first_writers(log: Log) -> Iterator[str]:
    for kind in (Analyzed, Decided, Granted, Started, Attempted, Retry, Done):
        for key, stored in log.of(kind).items():
            if len(stored) > 1:
                yield f"two {kind.__name__.lower()} for {_name(key)}"


def _ends(log: Log) -> Iterator[str]:
    for key, (done, *_) in log.of(Done).items():
        analyzed = log.first(Analyzed, *key)
        accepted = analyzed is not None and analyzed.message.slip is not None
        end: Done = done.message
        if end.ending == "rejected" and accepted:
            yield f"an accepted job was rejected: {_name(key)}"
        if end.ending == "succeeded" and not any(
            a.outcome == "ok" and a.result == end.result for a in _of_job(log, Attempted, key)
        ):
            yield f"succeeded without an attempt that did: {_name(key)}"
        outside = end.problem is not None and end.problem.reason == "expired"  # The deadline comes whatever runs.
        if end.ending in ("failed", "expired") and not outside:
            for grant in _of_job(log, Granted, key):
                attempted = log.first(Attempted, *key, grant.n)
                if grant.verdict == "candidate" and (attempted is None or attempted.seq > done.seq):
                    yield f"failed while the granted attempt {grant.n} was open: {_name(key)}"
        spent = sum(a.billed_microdollars for a in end.attempts)
        if end.cost_microdollars is not None and end.ending != "rejected" and end.cost_microdollars != spent:
            yield f"the cost of {_name(key)} is {end.cost_microdollars}, its attempts add up to {spent}"


def _rounds(log: Log) -> Iterator[str]:
    for key, (granted, *_) in log.of(Granted).items():
        decided = log.first(Decided, *key)
        if decided is None:
            yield f"granted without decided: {_name(key)}"
        elif granted.message.backend and granted.message.backend not in [c.backend for c in decided.message.ranking]:
            yield f"granted a backend that was not ranked: {_name(key)}"
    for key, (retry, *_) in log.of(Retry).items():
        tenant, job, n = key
        before = log.first(Attempted, tenant, job, n - 1)
        granted = log.first(Granted, tenant, job, n - 1)
        refused = granted is not None and granted.message.verdict == "refused" and granted.seq < retry.seq
        if not refused and (before is None or before.seq > retry.seq):
            yield f"retried without attempted or a refusal: {_name(key)}"
    for key, (attempted, *_) in log.of(Attempted).items():
        granted = log.first(Granted, *key)
        if granted is None or granted.message.verdict != "candidate":
            yield f"attempted without a grant: {_name(key)}"
        elif granted.message.backend != attempted.message.backend:
            yield f"attempted on another backend than granted: {_name(key)}"
        elif granted.message.reserved != attempted.message.reserved:
            yield f"attempted with other reservations than granted: {_name(key)}"


def _claims(log: Log) -> Iterator[str]:
    for key, (attempted, *_) in log.of(Attempted).items():
        claim = log.first(Started, *key)
        if claim is None:
            yield f"attempted without a claim: {_name(key)}"
        elif claim.message.purpose == "drain" and attempted.message.outcome != "not_started":
            yield f"claimed only to drain, but ended as {attempted.message.outcome}: {_name(key)}"


def _calls(log: Log) -> Iterator[str]:
    if not log.story.exact_calls:
        return
    seen: Counter[Round] = Counter()
    prompts = _prompts(log)
    for call in log.story.calls:
        key: Round = (call.tenant, call.job, call.n)
        seen[key] += 1
        if seen[key] == 2:
            yield f"backend called twice for one n: {_name(key)}"
        claim, done = log.first(Started, *key), log.first(Done, call.tenant, call.job)
        if claim is None:
            yield f"called without a claim: {_name(key)}"
        elif (claim.message.instance, claim.message.boot) != (call.instance, call.boot):
            yield f"called by {call.instance} {call.boot}, claimed by {claim.message.instance}: {_name(key)}"
        elif done is not None and claim.seq > done.seq:
            yield f"called though done was there before the claim: {_name(key)}"
        decided = log.first(Decided, *key)
        if done is not None and decided is not None and decided.seq > done.seq:
            yield f"call for a round decided on after done: {_name(key)}"
        attempted = log.first(Attempted, *key)
        if attempted is not None and attempted.message.outcome == "not_started":
            yield f"called, but recorded as not started: {_name(key)}"
        prompt = prompts.get((call.tenant, call.job))
        if prompt is not None and call.prompt and call.prompt != prompt:
            yield f"served another body than the accepted one: {_name(key)}"


def _prompts(log: Log) -> dict[Key, str]:
    """The prompt of every accepted job."""
    stored = {record.seq: record for record in log.story.records.get("IN", ())}
    found: dict[Key, str] = {}
    for (tenant, job), (analyzed, *_) in log.of(Analyzed).items():
        slip = analyzed.message.slip
        record = stored.get(slip.input_seq) if slip else None
        if record is not None:
            found[tenant, job] = codec.decode(JobSubmit, record.data, record.headers).prompt
    return found


def _overlaps(log: Log) -> Iterator[str]:
    by_job: dict[Key, list[Call]] = defaultdict(list)
    if log.story.exact_calls and log.story.signals_arrive:
        for call in log.story.calls:
            by_job[call.tenant, call.job].append(call)
    lost = {key for key, (attempted, *_) in log.of(Attempted).items() if _was_deaf(log, attempted)}
    for key, calls in by_job.items():
        calls.sort(key=lambda call: call.began_at)
        for number, second in enumerate(calls):
            for first in calls[:number]:
                ended = first.ended_at if first.ended_at is not None else log.story.now
                if first.n == second.n or second.began_at >= ended or (*key, first.n) in lost:
                    continue
                if not _unheard(log, first, second.began_at):
                    yield f"two calls at once, and nobody could take the first for dead: {_name((*key, first.n))}"


def _unheard(log: Log, call: Call, at: float) -> bool:
    return _was_unheard(log, call.instance, call.boot, call.began_at - SUSPICION_SECONDS, at)


def _was_unheard(log: Log, instance: str, boot: str | None, since: float, until: float) -> bool:
    """Whether a process was silent (and deaf) long enough within a time to be taken for dead, or to take others for dead."""
    return any(
        outage.instance == instance
        and boot in (outage.boot, None)
        and outage.since <= until
        and outage.until >= since
        and outage.until - outage.since >= SUSPICION_SECONDS
        for outage in log.story.outages
    )


def _was_deaf(log: Log, said: Stored) -> bool:
    """Whether who said this had heard nobody for a while, and so could take anybody for dead."""
    return _was_unheard(log, said.writer, None, said.time - 4 * SUSPICION_SECONDS, said.time)


def _suspicions(log: Log) -> Iterator[str]:
    """An attempt is given up as lost only when its process died, could not be heard, or no longer ran it."""
    if not log.story.exact_calls or not log.story.signals_arrive:
        return
    running = {(c.tenant, c.job, c.n): c for c in log.story.calls}
    for key, (attempted, *_) in log.of(Attempted).items():
        call = running.get(key)
        if attempted.message.outcome != "executor_lost" or call is None:
            continue
        ended = call.ended_at if call.ended_at is not None else log.story.now
        if attempted.time >= ended or _was_deaf(log, attempted):
            continue
        if not _unheard(log, call, attempted.time):
            yield f"given up as lost while its executor lived and ran it: {_name(key)}"


def _drains(log: Log) -> Iterator[str]:
    """A queue is drained only when nobody who serves its backend can be heard."""
    if not log.story.signals_arrive:
        return
    for key, (claim, *_) in log.of(Started).items():
        started: Started = claim.message
        if started.purpose != "drain" or _was_deaf(log, claim):
            continue
        for life in log.story.lives:
            known = life.since + SUSPICION_SECONDS <= claim.time and started.backend in life.backends
            if known and not _was_unheard(
                log, life.instance, life.boot, claim.time - 2 * SUSPICION_SECONDS, claim.time
            ):
                yield f"drained although {life.instance} lived and served {started.backend}: {_name(key)}"


def _rejections(log: Log) -> Iterator[str]:
    """A submission is only refused where it meets another body under its id."""
    for key, stored in log.of(Refused).items():
        if log.first(Analyzed, *key) is None and any(one.message.word == "submit" for one in stored):
            yield f"refused although no job has that id: {_name(key)}"


class Entry(NamedTuple):
    """One increment of a counter."""

    entry: LedgerEntry
    amount: int
    total: int

    @property
    def what(self) -> tuple[Any, ...]:
        """What it counts for: two increments for the same thing would count it twice."""
        e = self.entry
        part = {"reserve": "hold", "correct": "correction"}.get(e.step, "end")
        return (part, e.tenant, e.job, e.n, e.backend, e.model, e.counter, e.amount, e.hold)


def _entries(log: Log) -> list[Entry]:
    found: list[Entry] = []
    for record in log.story.records.get("LEDGER", ()):
        body, headers = codec.body_of(record.data, record.headers)
        total = int(msgspec.json.decode(record.data)["val"])
        found.append(Entry(codec.decode(LedgerEntry, body, headers), int(record.headers["Nats-Incr"]), total))
    return found


def _right(log: Log) -> dict[tuple[str, str], dict[int, Correction]]:
    """What attempts turned out to have used, by job and round."""
    found: dict[tuple[str, str], dict[int, Correction]] = defaultdict(dict)
    for (tenant, job, _), (attempted, *_) in log.of(Attempted).items():
        found[tenant, job].update({one.n: one for one in attempted.message.corrections})
    return found


def _true_ends(log: Log) -> dict[Round, Attempted]:
    """How every attempt ended, with what it turned out to have used."""
    right = _right(log)
    return {
        (tenant, job, n): corrected(end.message, right[tenant, job][n]) if n in right[tenant, job] else end.message
        for (tenant, job, n), (end, *_) in log.of(Attempted).items()
    }


def _ledger(log: Log) -> Iterator[str]:
    seen: set[tuple[Any, ...]] = set()
    right = _right(log)
    held: dict[tuple[Any, ...], int] = {}
    for entry in _entries(log):
        if entry.what in seen:
            yield f"counted twice: {_entry(entry.entry)}"
        seen.add(entry.what)
        if entry.total < 0:
            yield f"ledger below zero: {entry.entry.counter} at {entry.total}"
        hold = entry.what[1:]
        if entry.entry.step == "reserve":
            held[hold] = entry.amount
        elif hold not in held:
            yield f"{entry.entry.step}d what was not reserved: {_entry(entry.entry)}"
        elif entry.entry.step == "release" and entry.amount != -held[hold]:
            yield f"released another amount than reserved: {_entry(entry.entry)}"
        elif entry.entry.step == "settle":
            attempted = log.first(Attempted, entry.entry.tenant, entry.entry.job, entry.entry.n)
            e, a = entry.entry, attempted.message if attempted else None
            if a is None or (a.backend, a.model) != (e.backend, e.model):
                yield f"settled for another backend than attempted: {_entry(entry.entry)}"
        elif entry.entry.step == "correct":
            e = entry.entry
            if e.n not in right.get((e.tenant, e.job), {}):
                yield f"corrected, and nobody has told what is right: {_entry(e)}"


def _limits(log: Log) -> Iterator[str]:
    """What verdicts admitted never exceeds a limit that was not changed."""
    limits = {budget.name: budget.limit for budget in log.story.budgets}
    admitted: Counter[tuple[str, str]] = Counter()
    ends = _true_ends(log)
    for key, (granted, *_) in log.of(Granted).items():
        for reservation in granted.message.reserved:
            used = billed(reservation, ends[key]) if key in ends else reservation.amount
            admitted[reservation.budget, reservation.subject] += used
    for (name, counter), amount in admitted.items():
        if name in limits and name not in log.story.changed and amount > limits[name]:
            yield f"admitted {amount} on {counter}, more than the limit of {limits[name]}"


def _settled(log: Log) -> Iterator[str]:
    """What an attempt counts for is never below what its backend counted, in any unit, however the call ended."""
    if not log.story.exact_calls:
        return
    for call in log.story.calls:
        key: Round = (call.tenant, call.job, call.n)
        attempted, decided = log.first(Attempted, *key), log.first(Decided, *key)
        if attempted is None or decided is None:
            continue
        end: Attempted = attempted.message
        chosen = next((c for c in decided.message.ranking if (c.backend, c.model) == (end.backend, end.model)), None)
        if chosen is None or chosen.known.price.unknown:
            continue
        used = {
            "microdollars": chosen.known.price.cost(call.read_tokens, call.made_tokens),
            "tokens": call.read_tokens + call.made_tokens,
            "gpu_milliseconds": int(1000 * call.seconds) if call.read_tokens else 0,
        }
        if end.billed_microdollars < used["microdollars"]:
            yield f"billed {end.billed_microdollars} where the backend counted {used['microdollars']}: {_name(key)}"
        for one in end.reserved:
            if (counted := billed(one, end)) < used.get(one.unit, 0):
                yield f"settled {counted} {one.unit} where the backend counted {used[one.unit]}: {_name(key)}"


def _admissions(log: Log) -> Iterator[str]:
    """Event by event: whenever something was admitted, spent and reserved together kept the limit in force.

    What is being refused counts in the ledger's own total until it is given back; it is admitted only when even with that
    there was room. So both are looked at: the total at that event, and the sum of what was admitted and what it became.
    """
    named = {
        (tenant, job, n, granted.message.backend, granted.message.model, reservation.subject, reservation.hold)
        for (tenant, job, n), (granted, *_) in log.of(Granted).items()
        for reservation in granted.message.reserved
    }
    limits = {budget.name: budget.limit for budget in log.story.budgets if budget.name not in log.story.changed}
    standing: Counter[str] = Counter()
    for entry in _entries(log):
        e = entry.entry
        if (e.tenant, e.job, e.n, e.backend, e.model, e.counter, e.hold) not in named:
            continue
        standing[e.counter] += entry.amount
        limit = min(e.limit, limits.get(e.budget, e.limit))
        if e.step == "reserve" and max(entry.total, standing[e.counter]) > limit:
            yield f"admitted at {entry.total}, over the limit of {limit}: {_entry(e)}"


def _waits(log: Log) -> Iterator[str]:
    """Who waits for a window looks again once in it, and nobody is held twice in a round or after the end."""
    looks: Counter[tuple[str, str, int]] = Counter()
    for (tenant, job, n), (granted, *_) in log.of(Granted).items():
        verdict: Granted = granted.message
        before = log.first(Decided, tenant, job, n)
        waited = before is not None and before.message.cause is not None and before.message.cause.reason == OVER_BUDGET
        due = log.first(Due, tenant, job, n)
        woken = due is not None and due.message.woken_by is not None
        softened = due is None and log.first(Due, tenant, job, n - 1) is not None  # At once after a look, for less.
        if verdict.when_over == "wait" and waited and not woken and not softened:
            looks[tenant, job, int(verdict.room_at)] += 1
    for (tenant, job, window), times in looks.items():
        if times > LOOKS_IN_A_WINDOW:
            yield f"looked {times} times for the window at {window}: {_name((tenant, job))}"
    for key, held in log.of(Held).items():
        if len({one.message.at for one in held}) > 1:
            yield f"held in two ways: {_name(key)}"
        granted = log.first(Granted, *key)
        if granted is None or granted.message.when_over != "ask":
            yield f"held without a verdict that asks: {_name(key)}"


def _herds(log: Log) -> Iterator[str]:
    """Of those who wait for a backend no more are woken at a time than twice its slots; several who watch may each do so at
    once when they can't know of each other.
    """
    wakes: dict[str, list[float]] = defaultdict(list)
    for stored in log.of(Due).values():
        for one in stored:
            by = one.message.woken_by
            if by is not None and by.kind in ("backend", "breaker"):
                wakes[by.name].append(one.time)
    for backend, times in wakes.items():
        slots = log.story.slots.get(backend, 0)
        most = WATCHERS * (2 * slots + 1)
        times.sort()
        for first, last in zip(times, times[most:], strict=False):
            if slots and last - first < AT_A_TIME_SECONDS:
                yield f"more than {most} were woken at a time for the {slots} slots of {backend}"
                break


def _late_ends(log: Log) -> Iterator[str]:
    """Whatever a job waits for, it has ended soon after its deadline."""
    for key, (analyzed, *_) in log.of(Analyzed).items():
        slip, done = analyzed.message.slip, log.first(Done, *key)
        if slip is None or not log.story.healed_at:
            continue
        ended = done.time if done is not None else log.story.now
        if ended > max(slip.deadline_at, log.story.healed_at) + LATE_SECONDS:
            yield f"ended {ended - slip.deadline_at:.0f} s after its deadline: {_name(key)}"


def _resumed(log: Log) -> Iterator[str]:
    """A held job ends by its deadline, or goes on because a person said so; then it goes on soon."""
    asked: dict[Key, list[float]] = defaultdict(list)
    for record in log.story.records.get("IN", ()):
        tokens = record.subject.split(".")
        if tokens[1] == "resume":
            asked[untoken(tokens[2]), untoken(tokens[3])].append(record.time)
    for (tenant, job, n), (held, *_) in log.of(Held).items():
        retry, done = log.first(Retry, tenant, job, n + 1), log.first(Done, tenant, job)
        if retry is None and done is None:
            yield f"held, and neither resumed nor ended: {_name((tenant, job, n))}"
        later = [at for at in asked[tenant, job] if at > held.time]
        if retry is not None and not later:
            yield f"held, and went on though nobody said so: {_name((tenant, job, n))}"
        if retry is None and done is not None and any(done.time - at > RESUMED_SECONDS for at in later):
            yield f"resumed, and held on to its end: {_name((tenant, job, n))}"


def _clocks(log: Log) -> Iterator[str]:
    """Whatever the wall clocks of the processes show, what they say bears the server's time."""
    for kind in (Analyzed, Decided, Granted, Started, Attempted, Done):
        for key, found in log.of(kind).items():
            for stored in found:
                late = stored.time - stored.message.at
                if not -AHEAD_SECONDS <= late <= BEHIND_SECONDS:
                    yield f"{kind.__name__.lower()} of {_name(key)} was stored {late:.1f} s after the time it bears"


def _early_ends(log: Log) -> Iterator[str]:
    """No job expires before its deadline."""
    for key, (done, *_) in log.of(Done).items():
        analyzed = log.first(Analyzed, *key)
        slip = analyzed.message.slip if analyzed else None
        if done.message.ending == "expired" and slip is not None and done.time < slip.deadline_at - AHEAD_SECONDS:
            yield f"{_name(key)} expired {slip.deadline_at - done.time:.1f} s before its deadline"


def _breakers(log: Log) -> Iterator[str]:
    for (backend, model), (stored, *_) in log.of(Breaker).items():
        breaker: Breaker = stored.message
        failures = sum(
            a.message.outcome in COUNTED and (a.message.backend, a.message.model) == (backend, model)
            for (a, *_) in log.of(Attempted).values()
            if a.seq <= breaker.through_seq
        )
        if breaker.failures_in_row > failures:
            yield f"breaker {backend}/{model} counts {breaker.failures_in_row} failures of {failures}"


# ---------------------------------------------------------------------------------------------------------- liveness


def _all_done(log: Log) -> Iterator[str]:
    """Every submission that is stored has led to a job, and every job has ended."""
    known: set[Key] = {(tenant, job) for tenant, job in log.of(Analyzed)}
    seqs = {stored[0].message.slip.input_seq for stored in log.of(Analyzed).values() if stored[0].message.slip}
    refused = {
        (tenant, job)
        for (tenant, job), stored in log.of(Refused).items()
        if any(one.message.word == "submit" for one in stored)
    }
    for record in log.story.records.get("IN", ()):
        tokens = record.subject.split(".")
        if tokens[1] != "submit" or record.seq in seqs:
            continue
        try:
            submit = codec.decode(JobSubmit, record.data, record.headers)
        except codec.Undecodable:
            continue
        key = (untoken(tokens[2]), submit.id or f"in-{record.seq}")
        if key not in known and key not in refused and (key[0], f"in-{record.seq}") not in known:
            yield f"submission {record.seq} was lost: {_name(key)}"
    for key in sorted(known):
        if log.first(Done, *key) is None:
            yield f"the job never ended: {_name(key)}"


def _all_granted(log: Log) -> Iterator[str]:
    for key, (decided, *_) in log.of(Decided).items():
        if decided.message.gave_up is None and log.first(Granted, *key) is None:
            yield f"decided without a verdict for ever: {_name(key)}"
        elif decided.message.gave_up is not None and log.first(Granted, *key) is not None:
            yield f"given up and granted: {_name(key)}"


def _all_attempted(log: Log) -> Iterator[str]:
    for key, (granted, *_) in log.of(Granted).items():
        if granted.message.verdict == "candidate" and log.first(Attempted, *key) is None:
            yield f"granted without attempted for ever: {_name(key)}"


def _no_work(log: Log) -> Iterator[str]:
    for record in log.story.records.get("WORK", ()):
        yield f"work is left for ever: {record.subject}"


def _ledger_settled(log: Log) -> Iterator[str]:
    """Each counter holds exactly what the attempts were billed."""
    totals: Counter[str] = Counter()
    for entry in _entries(log):
        totals[entry.entry.counter] += entry.amount
    spent: Counter[str] = Counter()
    for attempted in _true_ends(log).values():
        for reservation in attempted.reserved:
            spent[reservation.subject] += billed(reservation, attempted)
    for counter in sorted({*totals, *spent}):
        if totals[counter] != spent[counter]:
            yield f"ledger {counter} says {totals[counter]}, but {spent[counter]} was billed"


def _no_lease(log: Log) -> Iterator[str]:
    for (backend, model), (stored, *_) in log.of(Breaker).items():
        if stored.message.probe_job and stored.message.probe_until > log.story.now:
            yield f"the probe lease on {backend}/{model} never ends: {stored.message.probe_job}"


def _all_dead_letters(log: Log) -> Iterator[str]:
    """What can't be decoded has a dead letter, and ends or joins a job."""
    letters = {(s.message.stream, s.message.seq) for stored in log.of(DeadLetter).values() for s in stored}
    for record in log.story.records.get("IN", ()):
        kind = codec.type_at(record.subject)
        assert kind is not None
        try:
            codec.decode(kind, record.data, record.headers)
        except codec.Undecodable:
            if ("IN", record.seq) not in letters:
                yield f"no dead letter for what can't be decoded: IN {record.seq} on {record.subject}"


# ------------------------------------------------------------------------------------------------------------- words


def _of_job(log: Log, kind: type[M], key: tuple[Any, ...]) -> list[M]:
    return [stored[0].message for k, stored in log.of(kind).items() if k[:2] == key[:2]]


def _name(key: tuple[Any, ...]) -> str:
    return "/".join(str(part) for part in key)


def _entry(entry: LedgerEntry) -> str:
    return f"{entry.step} {entry.tenant}/{entry.job}/{entry.n} on {entry.backend} for {entry.counter}"
