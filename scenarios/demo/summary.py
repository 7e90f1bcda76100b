"""What came of the jobs, counted from the records in the stream. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from messages import Attempted, Done

NO_CALL = ("not_started",)
"""Outcomes without a call to the backend."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one backend did."""

    backend: str
    jobs: int
    """Jobs that succeeded there."""
    calls: int
    failed: int
    cost_microdollars: int
    """Billed for all its calls, failed ones included."""
    p50: float | None
    """Seconds from submission to end of the jobs that succeeded there."""
    p95: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the jobs."""

    submitted: int
    endings: Mapping[str, int]
    lost: tuple[str, ...]
    """Jobs without an end."""
    twice: tuple[str, ...]
    """Jobs with more than one end."""
    rows: tuple[Row, ...]
    total: Row
    failovers: int
    """Times that a job went on at another backend after a call had failed."""
    moved: tuple[str, ...]
    """The jobs with a failover, in the order of their ends."""

    @property
    def exit_code(self) -> int:
        """1 when a job was lost or ended twice."""
        return 1 if self.lost or self.twice else 0


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of all do not exceed; None when there is none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else None


def failovers_of(done: Done) -> int:
    """How often a job went on at another backend after a call had failed."""
    called = [attempt for attempt in done.attempts if attempt.outcome not in NO_CALL]
    return sum(a.outcome != "ok" and a.backend != b.backend for a, b in pairwise(called))


def summarize(
    submitted: Iterable[str], dones: Iterable[Done], attempts: Iterable[Attempted], *, backends: Iterable[str] = ()
) -> Summary:
    """Compare what was submitted with every `done` and `attempted` in the stream, in stream order."""
    jobs = list(dict.fromkeys(submitted))
    ends = Counter[str]()
    first: dict[str, Done] = {}
    for done in dones:
        ends[done.job] += 1
        first.setdefault(done.job, done)
    tried = list(attempts)
    names = list(dict.fromkeys([*backends, *sorted(attempt.backend for attempt in tried)]))
    good = [done for done in first.values() if done.ending == "succeeded"]
    return Summary(
        submitted=len(jobs),
        endings=Counter(first[job].ending for job in jobs if job in first),
        lost=tuple(job for job in jobs if job not in first),
        twice=tuple(job for job, count in ends.items() if count > 1),
        rows=tuple(
            _row(name, [d for d in good if d.backend == name], [a for a in tried if a.backend == name])
            for name in names
        ),
        total=_row("all", good, tried),
        failovers=sum(map(failovers_of, first.values())),
        moved=tuple(job for job, done in first.items() if failovers_of(done)),
    )


def _row(name: str, dones: Sequence[Done], attempts: Sequence[Attempted]) -> Row:
    calls = [attempt for attempt in attempts if attempt.outcome not in NO_CALL]
    seconds = [done.at - done.submitted_at for done in dones if done.submitted_at is not None]
    return Row(
        backend=name,
        jobs=len(dones),
        calls=len(calls),
        failed=sum(attempt.outcome != "ok" for attempt in calls),
        cost_microdollars=sum(attempt.billed_microdollars for attempt in attempts),
        p50=percentile(seconds, 0.5),
        p95=percentile(seconds, 0.95),
    )
