"""What a guardrail asks before a call: whether breakers let it through, as a trial call or not, and the retry budget."""

from __future__ import annotations

from typing import NamedTuple

from actors.guardrail import breaker as breakers
from actors.guardrail.repeats import Repeats, is_repeat
from actors.journal import Journal
from actors.settings import BreakerRules
from messages import Awaited, Breaker, Candidate, Decided, Granted
from messages.fleet import ALL_MODELS

FOLDED_SECONDS = 2.0
"""An attempt that ended so long ago is folded, or its breaker's room is down."""


class Look(NamedTuple):
    """How the breakers of one candidate stand."""

    why: str = ""
    """Why it may not be called; empty: it may."""
    until: float = 0.0
    """It stays excluded until then; 0: for this round only."""
    awaits: Awaited | None = None
    """The breaker that must change first; None: time alone keeps it away."""
    lease: Breaker | None = None
    """The breaker with the lease that has to be taken first."""


class Gate:
    """The breakers as the facts tell them, and what was granted lately."""

    def __init__(self, rules: BreakerRules, journal: Journal) -> None:
        self.rules, self.journal = rules, journal
        self.repeats = Repeats(rules)
        self._breakers: dict[tuple[str, str], Breaker] = {}

    def learn(self, breaker: Breaker) -> None:
        """A breaker opened, closed, was probed, or counted calls."""
        self._breakers[breaker.backend, breaker.model] = breaker

    def forget(self, breaker: Breaker) -> None:
        """Its fact is deleted."""
        key = breaker.backend, breaker.model
        if self._breakers.get(key) == breaker:
            del self._breakers[key]

    async def look(self, candidate: Candidate, decided: Decided, now: float) -> Look:
        """Whether the candidate may be called now. Its account is looked at first, then its model.

        A candidate in panic passes a breaker that failures or a rate limit have opened, since all others are open as well;
        what only a person can change stays shut.
        """
        lease: Breaker | None = None
        for fact in self._standing(candidate):
            if breakers.holds_lease(fact, decided.tenant, decided.job, decided.n):
                continue
            if breakers.is_open(fact, now):
                if candidate.panic and fact.cause not in breakers.ONLY_CHANGED:
                    continue
                return Look(f"its breaker is open: {fact.reason}", awaits=_awaits(fact))
            if not breakers.is_half_open(fact, now):
                continue
            if await self._is_probed(fact, now):
                return Look("its breaker is half-open and another job probes it", awaits=_awaits(fact))
            if lease is None:
                lease = breakers.with_lease(fact, self.rules, decided.tenant, decided.job, decided.n, now)
        if is_repeat(candidate, decided):
            pace = self.repeats.pace(candidate.backend, candidate.model, now)
            if pace:
                share = f"{100 * self.rules.repeat_share:g} %"
                return Look(
                    f"it failed this job before, and its repeats are used up ({share} of recent calls)", now + pace
                )
        return Look(lease=lease)

    def probes(self, candidate: Candidate, decided: Decided) -> bool:
        """Whether the attempt is the trial call of one of the candidate's breakers."""
        return any(
            breakers.holds_lease(fact, decided.tenant, decided.job, decided.n) for fact in self._standing(candidate)
        )

    def granted(self, decided: Decided, granted: Granted) -> None:
        """A call was granted by us: it counts as recent traffic, and as a repeat where it is one."""
        chosen = next(c for c in decided.ranking if (c.backend, c.model) == (granted.backend, granted.model))
        repeat = is_repeat(chosen, decided)
        self.repeats.count(chosen.backend, chosen.model, granted.at, repeat=repeat)

    def _standing(self, candidate: Candidate) -> list[Breaker]:
        """The breakers that are not closed: its account's, its model's."""
        found = (self._breakers.get((candidate.backend, model)) for model in (ALL_MODELS, candidate.model))
        return [fact for fact in found if fact is not None and (fact.times_opened > 0 or fact.open_until > 0)]

    async def _is_probed(self, fact: Breaker, now: float) -> bool:
        """Whether the attempt that holds the lease may still be at work.

        Its verdict tells: one that sent the job elsewhere has given the lease up. An attempt that was granted here probes
        until it ends, however long that takes; every granted attempt ends, at its job's deadline at the latest.
        """
        if not fact.probe_job:
            return False
        whose = fact.probe_tenant, fact.probe_job, fact.probe_n
        granted = await self.journal.granted(*whose)
        if granted is None:
            return breakers.lease_is_taken(fact, now)
        if granted.backend != fact.backend or fact.model not in (ALL_MODELS, granted.model):
            return False
        ended = await self.journal.attempted(*whose)
        if ended is not None:
            return now < ended.at + FOLDED_SECONDS
        return await self.journal.done(fact.probe_tenant, fact.probe_job) is None


def _awaits(fact: Breaker) -> Awaited:
    return Awaited(kind="breaker", name=fact.backend, model=fact.model)
