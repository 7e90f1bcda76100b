"""Telemetry: counts, averages, history."""

from __future__ import annotations

from actors.actor import Actor, Heard, Says, answers, every, hears
from actors.telemetry.averages import after, keys_of
from actors.telemetry.history import History, analyzed_row, attempted_row, done_row, rated_row
from messages import (
    Analyzed,
    Attempted,
    AttemptsAre,
    AttemptsOf,
    Done,
    JobRate,
    JobsAre,
    JobsOf,
    Stats,
    untoken,
)

DAY_SECONDS = 86_400.0
MOST_AVERAGES = 2_000
"""Averages kept at once; beyond it new workflows count only for their models."""


class Telemetry(Actor):
    """Writes down what happened and says how the backends do on average."""

    room = "telemetry"
    stats_seconds = 1.0
    forget_seconds = 3600.0

    def __init__(self, *, history: History) -> None:
        self.history = history
        self._stats: dict[tuple[str, str, str], Stats] = {}
        self._changed: set[tuple[str, str, str]] = set()

    @hears
    def stats(self, stats: Stats, heard: Heard) -> None:
        """What an earlier run had measured; our own figures are not replaced."""
        self._stats.setdefault((stats.backend, stats.model, stats.workflow), stats)

    @hears
    async def analyzed(self, analyzed: Analyzed, heard: Heard) -> None:
        await self.history.write(analyzed_row(analyzed))

    @hears
    async def attempted(self, attempted: Attempted, heard: Heard) -> None:
        if heard.deliveries == 1:
            for key in keys_of(attempted):
                if key not in self._stats and len(self._stats) >= MOST_AVERAGES and key[2] != "-":
                    continue  # Workflows are named by clients; a name per run must not grow without end.
                self._stats[key] = after(self._stats.get(key), attempted, key)
                self._changed.add(key)
        await self.history.write(attempted_row(attempted))

    @hears
    async def done(self, done: Done, heard: Heard) -> None:
        await self.history.write(done_row(done))

    @hears
    async def job_rate(self, rate: JobRate, heard: Heard) -> None:
        tokens = heard.subject.split(".")
        row = rated_row(untoken(tokens[2]), untoken(tokens[3]), heard.seq, rate.score, rate.rater)
        await self.history.write(row)

    @every("stats_seconds")
    def tell(self, heard: Heard) -> Says[Stats]:
        """The averages that changed, at most once a second each."""
        said = [self._stats[key] for key in sorted(self._changed)]
        self._changed.clear()
        return said

    @every("forget_seconds")
    async def forget(self, heard: Heard) -> None:
        await self.history.forget(heard.now - self.history.keep_days * DAY_SECONDS)

    @answers
    async def jobs(self, question: JobsOf, heard: Heard) -> JobsAre:
        return JobsAre(jobs=await self.history.jobs(question))

    @answers
    async def attempts(self, question: AttemptsOf, heard: Heard) -> AttemptsAre:
        return AttemptsAre(attempts=await self.history.attempts(question.tenant, question.job))

    async def closing(self) -> None:
        """Close the file."""
        self.history.close()
