"""What the common invariants leave open and real processes let us see: successors, histories, runs, open holds. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from bus import codec
from bus.bus import Record
from messages import Analyzed, Attempted, Decided, Done, Granted, Held, LedgerEntry, Retry, Started
from scenarios.invariants import Log, Story
from tests.chaos.process import Called

FROM_INSIDE = ("succeeded", "failed")
"""Ends that follow from the job's own chain; a cancellation or the deadline can overtake it."""


def more_violations(story: Story, calls: Sequence[Called], accepted: Iterable[tuple[str, str]]) -> list[str]:
    """All that is wrong, in words."""
    log = Log(story)
    checks = (_all_ended(log, accepted), _end_is_last(log), _successors(log), _histories(log), _runs(log, calls),
              _holds(story))  # fmt: skip
    return [wrong for check in checks for wrong in check]


def _all_ended(log: Log, accepted: Iterable[tuple[str, str]]) -> Iterator[str]:
    done = log.of(Done)
    for key in accepted:
        if key not in done:
            yield f"accepted, and lost: {name(*key)}"


def _end_is_last(log: Log) -> Iterator[str]:
    last: Counter[tuple[str, str]] = Counter()
    for kind in (Analyzed, Decided, Granted, Started, Attempted, Retry):
        for key, found in log.of(kind).items():
            last[key[:2]] = max(last[key[:2]], found[-1].seq)
    for key, (done, *_) in log.of(Done).items():
        if done.message.ending in FROM_INSIDE and last[key[:2]] > done.seq:
            yield f"it went on after it had {done.message.ending}: {name(*key)}"


def _successors(log: Log) -> Iterator[str]:
    """Every step leads to the next."""
    done, decided, granted, retry = log.of(Done), log.of(Decided), log.of(Granted), log.of(Retry)
    held = log.of(Held)
    for (tenant, job), (analyzed, *_) in log.of(Analyzed).items():
        if analyzed.message.slip is not None and (tenant, job, 1) not in decided:
            yield f"analyzed and never decided: {name(tenant, job)}"
    for key, (verdict, *_) in granted.items():
        ends = key in held or key[:2] in done  # Because of budgets.
        if verdict.message.verdict == "refused" and after(*key) not in retry and not ends:
            yield f"refused without a successor: {name(*key)}"
    for key, (attempted, *_) in log.of(Attempted).items():
        if after(*key) not in retry and key[:2] not in done:
            yield f"attempted ({attempted.message.outcome}) without a successor: {name(*key)}"
    for key in retry:
        outside = key[:2] in done and done[key[:2]][0].message.ending not in FROM_INSIDE
        if key not in decided and not outside:  # Who was waiting when it was cancelled waits on, for nothing.
            yield f"announced and never decided: {name(*key)}"


def _histories(log: Log) -> Iterator[str]:
    """The end of a job tells of every attempt."""
    there: dict[tuple[str, str], list[int]] = {}
    for tenant, job, n in sorted(log.of(Attempted)):
        there.setdefault((tenant, job), []).append(n)
    for (tenant, job), (done, *_) in log.of(Done).items():
        told = [attempt.n for attempt in done.message.attempts]
        if done.message.ending in FROM_INSIDE and told != there.get((tenant, job), []):
            yield f"its end tells of attempts {told}, but there were {there.get((tenant, job))}: {name(tenant, job)}"


def _runs(log: Log, calls: Sequence[Called]) -> Iterator[str]:
    """A claim is a win only for the run that wrote it."""
    for call in calls:
        claim = log.first(Started, call.tenant, call.job, call.n)
        if claim is not None and claim.message.run != call.run:
            yield f"run {call.run} called, but {claim.message.run} had the claim: {name(call.tenant, call.job, call.n)}"


def _holds(story: Story) -> Iterator[str]:
    """What was held on a counter has been given back or settled once."""
    held: Counter[tuple[str, str, int, str, str, str]] = Counter()
    for record in story.records["LEDGER"]:
        entry = entry_of(record)
        key = (entry.tenant, entry.job, entry.n, entry.backend, getattr(entry, "model", ""), entry.counter)
        held[key] += {"reserve": 1, "correct": 0}.get(entry.step, -1)
    for (*key, counter), times in held.items():
        if times:
            what = "is still held" if times > 0 else "was given back more often than it was held"
            yield f"{counter} {what} for {name(*key)}"


def entry_of(record: Record) -> LedgerEntry:
    """The ledger entry of a counter's increment."""
    return codec.decode(LedgerEntry, *codec.body_of(record.data, record.headers))


def after(tenant: str, job: str, n: int) -> tuple[str, str, int]:
    """The round after."""
    return (tenant, job, n + 1)


def name(*parts: object) -> str:
    """A job or a round as people see it."""
    return "/".join(str(part) for part in parts)
