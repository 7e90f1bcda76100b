"""The explainer: why did this job go where it went?"""

from __future__ import annotations

from actors.actor import Actor, Heard, Says, hears
from actors.bounded import Bounded
from actors.explainer.explain import explain
from actors.explainer.memory import Memory
from actors.explainer.verdict import as_granted
from messages import Decided, Done, Explained, Granted

MOST_OPEN = 1_000
"""Decisions kept until their verdict; beyond it the oldest stay explained as they were decided."""


class Explainer(Actor):
    """Turns every decision into words a person can use, and keeps in mind how jobs of each kind ended."""

    room = "explainer"

    def __init__(self) -> None:
        self._memory = Memory()
        self._open = Bounded[tuple[str, str, int], Decided](MOST_OPEN)
        """Rounds whose verdict is waited for."""

    @hears
    def decided(self, decided: Decided, heard: Heard) -> Says[Explained]:
        self._memory.decided(decided)
        if decided.ranking:
            self._open[decided.tenant, decided.job, decided.n] = decided
        return [explain(decided, self._memory)]

    @hears
    def granted(self, granted: Granted, heard: Heard) -> Says[Explained]:
        """The verdict passed over who led: the round is explained anew, by who runs."""
        decided = self._open.pop((granted.tenant, granted.job, granted.n), None)
        if decided is None or granted.verdict != "candidate":
            return []
        leader = decided.ranking[0]
        if (leader.backend, leader.model) == (granted.backend, granted.model):
            return []
        return [explain(as_granted(decided, granted), self._memory)]

    @hears
    def done(self, done: Done, heard: Heard) -> None:
        self._memory.done(done)
