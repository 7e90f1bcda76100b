"""The monitor: watches budgets, latencies and breakers, and says what a person should know.

Any number of monitors may run: one cause is one alert, whoever says it. Rows of late calls are facts with compare-and-set,
as breakers are. What is known of budgets is told once a minute as `Spending`, so that whoever starts goes on from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import NamedTuple

import msgspec

from actors.actor import Actor, Again, Heard, Says, Steps, Stored, every, hears, overhears
from actors.alert_settings import BILLING, LatencyTarget
from actors.bounded import Bounded
from actors.guardrail import burn, latency
from actors.guardrail.alarms import of_breaker, of_budget, of_held
from actors.guardrail.breaker import timed
from actors.guardrail.limits import billed
from actors.guardrail.state import holder_at
from actors.guardrail.wishes import targets_of
from messages import Alert, Attempted, Breaker, BudgetState, Held, LatencyRow, Message, Policy, Sample, Spending

log = logging.getLogger("turnout.guardrail")

TELL_SECONDS = 60.0
"""How a budget was used over time is told at most so often."""
DISCOUNT = 0.95
"""Weight of the past in the mean use of an attempt: the last 20 or so make up most of it."""
SAY_AGAIN_SECONDS = (0.0, 5.0, 30.0, 300.0, 1800.0, 7200.0)
"""An alert that is not heard is said again so long after it was said last. The waits grow, so that an outage of the bus loses
none; after the last one it is stored, or can't be."""
MOST_SAYINGS = len(SAY_AGAIN_SECONDS)
GAP_SECONDS = 2 * TELL_SECONDS
"""After a longer time without a monitor nobody knows when a budget was used."""
ALL_SECONDS = 900.0
"""Budgets that are not used are looked at so often: their rate goes down with time."""
MOST_BUDGETS = 2_000
"""Budgets and holders that are watched; beyond it those that were written to last."""
MOST_AHEAD = 10_000
"""Rows with breaches that no fact counts yet; beyond it those that were added to longest ago begin anew."""
MOST_KNOWN = 10_000
"""Causes that are remembered."""
MOST_SUBJECT = 1_200
"""Characters of an alert's subject, so that what became of it at a webhook of the longest name has one too."""
TRIES = 10
"""So often a row is folded anew on a fresher value before the attempt is heard again a second later."""

Key = tuple[str, str]
"""Budget and holder."""
Row = tuple[str, str, str, str]
"""Target, tenant, backend, model."""


class Ahead(NamedTuple):
    """A row with breaches that no fact counts yet, and the fact they follow. They are lost with the process."""

    stored: LatencyRow
    row: LatencyRow


class Said(NamedTuple):
    """How often an alert was said, and when last."""

    times: int
    """MOST_SAYINGS once it is stored."""
    at: float = 0.0


class Turn:
    """Whose turn it is at one place."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0
        """How many have it or wait for it."""


class Monitor(Actor):
    """Says alerts about budgets, late calls and breakers."""

    room = "monitor"
    look_seconds = 5.0

    def __init__(
        self, *, targets: tuple[LatencyTarget, ...] = (), thresholds: Mapping[str, int] | None = None,
        policies: tuple[Policy, ...] = (),
    ) -> None:  # fmt: skip
        self.targets = self._configured = targets
        self._policies = {policy.policy: policy for policy in policies}
        self.thresholds = {f"{BILLING}{provider}": amount for provider, amount in (thresholds or {}).items()}
        self._rows: dict[Row, LatencyRow] = {}
        self._ahead = Bounded[Row, Ahead](MOST_AHEAD)
        self._turns: dict[tuple[str, str, str], Turn] = {}
        """Target, backend, model: whose turn it is, while somebody has it."""
        self._states = Bounded[Key, BudgetState](MOST_BUDGETS, self._dropped)
        self._spending: dict[Key, Spending] = {}
        self._breakers: dict[Key, Breaker] = {}
        self._changed: set[Key] = set()
        """Budgets that were used since they were told."""
        self._looked_at = 0.0
        """When all of them were looked at."""
        self._said = Bounded[str, Said](MOST_KNOWN)
        """Alerts by subject."""

    # ------------------------------------------------------------------------------------------------ facts

    @hears
    def latency_row(self, row: LatencyRow, heard: Heard) -> None:
        """A row as it is stored, by us or by another monitor."""
        self._rows[row.target, row.tenant, row.backend, row.model] = row

    @hears
    def policy(self, policy: Policy, heard: Heard) -> None:
        """Its guardrails may wish how long calls take."""
        self._policies[policy.policy] = policy
        self.targets = (*self._configured, *targets_of(self._policies.values(), self._configured))

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> None:
        """How a breaker stands."""
        self._breakers[breaker.backend, breaker.model] = breaker

    @hears
    def spending(self, spending: Spending, heard: Heard) -> None:
        """What a monitor has seen, ourselves included: taken up where it reaches farther back than we do."""
        key = spending.budget, spending.holder
        mine = self._spending.get(key)
        if mine is None:
            self._spending[key] = spending
            return
        if mine.per_job is None and spending.per_job is not None:
            mine = msgspec.structs.replace(mine, per_job=spending.per_job, per_hold=spending.per_hold)
        theirs = spending.samples
        if spending.counter == mine.counter and theirs and mine.samples and theirs[0].at < mine.samples[0].at:
            first = mine.samples[0]
            if first.spent == theirs[-1].spent or first.at - spending.at <= GAP_SECONDS:
                newer = (one for one in mine.samples if one.at > theirs[-1].at)
                mine = msgspec.structs.replace(mine, samples=(*theirs, *newer))
        self._spending[key] = mine

    @hears
    def budget_state(self, state: BudgetState, heard: Heard) -> None:
        """How far a budget is used now. Limits per minute only pace the traffic: nobody is told of those."""
        if state.window == "minute":
            return
        key = state.budget, state.holder
        before = self._states.get(key)
        self._states[key] = state
        self._changed.add(key)
        known = self._spending.get(key)
        samples = burn.sampled(
            _seen(known, before, state), state.at, state.spent, burn.spacing(state), burn.reach(state)
        )
        self._spending[key] = Spending(
            budget=state.budget, holder=state.holder, counter=state.counter, samples=samples,
            per_job=known.per_job if known is not None else None,
            per_hold=known.per_hold if known is not None else None, at=known.at if known is not None else 0.0,
        )  # fmt: skip

    def _dropped(self, key: Key, _: BudgetState) -> None:
        self._spending.pop(key, None)
        self._changed.discard(key)

    def forget(self, message: Message) -> None:
        """A fact is deleted: what is known of it goes too, unless that is newer. They are named by clients."""
        if isinstance(message, Breaker):
            if self._breakers.get((message.backend, message.model)) == message:
                del self._breakers[message.backend, message.model]
        elif isinstance(message, LatencyRow):
            row = message.target, message.tenant, message.backend, message.model
            if self._rows.get(row) == message:
                del self._rows[row]
                self._ahead.pop(row, None)
        elif isinstance(message, Spending):
            key = message.budget, message.holder
            known, state = self._spending.get(key), self._states.get(key)
            if known is not None and known.counter == message.counter:
                del self._spending[key]
                if state is not None:
                    del self._states[key]
                    self._changed.discard(key)

    # ------------------------------------------------------------------------------------------------ events

    @overhears
    def alert(self, alert: Alert, heard: Heard) -> None:
        """It is stored: nobody needs to say it again."""
        self._remember(alert, Said(MOST_SAYINGS))

    @hears
    async def attempted(self, attempted: Attempted, heard: Heard) -> Steps[LatencyRow | Alert]:
        """Which targets it missed, and what it used of each budget."""
        if heard.deliveries == 1:
            self._count(attempted)
        ended = timed(attempted, heard.stored_at)
        for target in self.targets:
            if not latency.fits(target, ended):
                continue
            # Calls reach us in stream order and are folded in it: each waits until the row before it is stored.
            async with self._turn(target.name, ended.backend, ended.model):
                for _ in range(TRIES):
                    stored, after = self._fold(target, ended, heard.seq)
                    if after is None:
                        told = latency.alert_of(stored)
                        if told is not None and stored.through_seq == heard.seq:
                            yield told  # Heard again: whoever stored the row may have died before the alert.
                        break
                    told = latency.alert_of(stored)
                    if told is not None and told.subject not in self._said:
                        yield told  # As above, before the row that tells it is replaced.
                        self._remember(told, Said(MOST_SAYINGS))
                    word: Stored = yield after
                    if word.ours:
                        told = latency.alert_of(after)
                        if told is not None:
                            yield told
                            self._remember(told, Said(MOST_SAYINGS))
                        break
                else:
                    yield Again(1.0)

    @hears
    def held(self, held: Held, heard: Heard) -> Says[Alert]:
        """A job waits for a person."""
        return self._new([of_held(held)], heard.now)

    @contextlib.asynccontextmanager
    async def _turn(self, *place: str) -> AsyncGenerator[None]:
        """One after the other at each place, in the order in which they came."""
        target, backend, model = place
        turn = self._turns.setdefault((target, backend, model), Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[target, backend, model]

    def _fold(self, target: LatencyTarget, ended: Attempted, seq: int) -> tuple[LatencyRow, LatencyRow | None]:
        """The row as it is stored, and as it is to be stored now; None when nothing is."""
        empty = latency.row_of(target, ended)
        key = empty.target, empty.tenant, empty.backend, empty.model
        stored = self._rows.get(key, empty)
        if seq <= stored.through_seq:
            return stored, None
        ahead = self._ahead.get(key)
        before = ahead.row if ahead is not None and ahead.stored == stored else stored
        after = latency.fold(before, target, ended, seq)
        if after == before:
            return stored, None
        if not latency.worth_storing(stored, after):
            self._ahead[key] = Ahead(stored, after)
            return stored, None
        return stored, after

    def _count(self, attempted: Attempted) -> None:
        """The mean use of an attempt, per budget; what used nothing, or failed, says nothing about the next one."""
        for reservation in attempted.reserved if attempted.outcome == "ok" else ():
            key = reservation.budget, holder_at(reservation.subject)
            used, known = billed(reservation, attempted), self._spending.get(key)
            if used > 0 and known is not None:
                self._spending[key] = msgspec.structs.replace(
                    known, per_job=_mean(known.per_job, used), per_hold=_mean(known.per_hold, reservation.amount)
                )
                if key in self._states:
                    self._changed.add(key)

    # ------------------------------------------------------------------------------------------------ timer

    @every("look_seconds")
    def look(self, heard: Heard) -> Says[Alert | Spending]:
        """What is to be said of budgets and breakers now. Only use makes it worse, so what is not used is looked at seldom."""
        now = heard.now
        if now - self._looked_at >= ALL_SECONDS:
            self._looked_at = now
            self._changed.update(self._states)
        said: list[Alert | Spending] = []
        for key in sorted(self._changed):
            new, told = self._of_budget(key, now)
            said += [*new, *told]
            if told and not new:
                self._changed.discard(key)
        alerts = [alert for one in self._breakers.values() if (alert := of_breaker(one, now))]
        return [*said, *self._new(alerts, now)]

    def _of_budget(self, key: Key, now: float) -> tuple[list[Alert], list[Spending]]:
        """What is new about one budget, and where it is going, once a minute."""
        state, known = self._states[key], self._spending[key]
        if 0 < state.ends_at <= now:
            self._changed.discard(key)
            return [], []
        where, left = burn.outlook(state, known.samples, now), burn.jobs_left(state, known.per_job, known.per_hold)
        new = self._new(of_budget(state, where, left, self.thresholds.get(state.budget), now), now)
        if 0 <= now - known.at < TELL_SECONDS:
            return new, []
        spending = msgspec.structs.replace(
            known, per_hour=where.per_second * 3600 if where.per_second is not None else None,
            projected=round(where.projected) if where.projected is not None else None, breach_at=where.breach_at,
            jobs_left=left, at=now,
        )  # fmt: skip
        self._spending[key] = spending
        return new, [spending]

    def _new(self, alerts: Iterable[Alert], now: float) -> list[Alert]:
        """Those that were not said yet, or are not heard for a while."""
        new = [alert for alert in alerts if self._is_due(alert, now)]
        for alert in new:
            before = self._said.get(alert.subject)
            self._remember(alert, Said(before.times + 1 if before is not None else 1, now))
        return new

    def _is_due(self, alert: Alert, now: float) -> bool:
        said = self._said.get(alert.subject)
        if said is None and len(alert.subject) > MOST_SUBJECT:  # It would keep those that are said with it.
            log.warning("an alert can't be told, its tenant's name is too long: %.300s", alert.text)
            self._remember(alert, Said(MOST_SAYINGS))
            return False
        return said is None or (said.times < MOST_SAYINGS and now - said.at >= SAY_AGAIN_SECONDS[said.times])

    def _remember(self, alert: Alert, said: Said) -> None:
        self._said[alert.subject] = said


def _mean(before: float | None, value: int) -> float:
    return value if before is None else DISCOUNT * before + (1 - DISCOUNT) * value


def _seen(known: Spending | None, before: BudgetState | None, state: BudgetState) -> tuple[Sample, ...]:
    """The samples that a new state continues: those of its window, unless nobody looked for a while and it was used then.

    When we saw the window before this one, all of this was spent since this one began.
    """
    if known is None or known.counter != state.counter:
        return (Sample(at=state.began_at, spent=0),) if before is not None and state.began_at else ()
    looked_on = before is not None or not known.samples or state.at - known.at <= GAP_SECONDS
    return known.samples if looked_on or known.samples[-1].spent == state.spent else ()
