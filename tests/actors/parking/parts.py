"""Jobs that wait, backends, breakers and budgets for the tests of the parking."""

from __future__ import annotations

from typing import Any

from actors.parking.choice import Chooser, Wake
from actors.parking.gauge import Gauge
from actors.parking.index import Index, Parked
from messages import Awaited, Backend, Breaker, BudgetState, Load, Model, Problem, Retry
from tests.messages.samples import T0, backend, slip

COUNTER = "ledger.tenant.acme.microdollars.day-1"
CAUSE = Problem(reason="refused", message="x")


def on_backend(name: str = "a") -> Awaited:
    return Awaited(kind="backend", name=name)


def on_breaker(name: str = "a", model: str = "m") -> Awaited:
    return Awaited(kind="breaker", name=name, model=model)


def on_budget(amount: int = 10, *, kind: Any = "settlement", counter: str = COUNTER) -> Awaited:
    return Awaited(kind=kind, name=counter, budget="team", amount=amount)


def parked(
    number: int, *awaiting: Awaited, n: int = 2, until: float = T0 + 600, called: tuple[tuple[str, str], ...] = ()
) -> Parked:
    """Job `j-<number>`, submitted so many seconds after the beginning."""
    return Parked("acme", f"j-{number}", n, T0 + number, until, T0, awaiting or (on_backend(),), frozenset(called))


def retry(number: int, *awaiting: Awaited, n: int = 2, not_before: float = T0 + 600, **changes: Any) -> Retry:
    job = f"j-{number}"
    made = slip(job=job, submitted_at=T0 + number, deadline_at=T0 + 3600)
    return Retry(
        tenant="acme", job=job, n=n, slip=made, not_before=not_before, awaiting=awaiting, cause=CAUSE, at=T0 + number,
        **changes,
    )  # fmt: skip


def there(name: str = "a", slots: int = 2, models: tuple[str, ...] = ("m",), **changes: Any) -> Backend:
    return backend(name, slots=slots, models=tuple(Model(name=model) for model in models), **changes)


def load(waiting: int = 0, running: int = 0, *, name: str = "a", at: float = T0) -> Load:
    return Load(backend=name, waiting=waiting, running=running, at=at)


def breaker(until: float, *, probe: str = "", model: str = "m", times: int = 1) -> Breaker:
    return Breaker(
        backend="a", model=model, times_opened=times, opened_at=T0 - 30, open_until=until, cause="failures",
        probe_tenant="acme" if probe else "", probe_job=probe, probe_n=int(bool(probe)), probe_until=T0 + 400 if probe else 0.0,
    )  # fmt: skip


def used(spent: int, reserved: int, *, limit: int = 100, at: float = T0, counter: str = COUNTER) -> BudgetState:
    return BudgetState(
        budget="team", holder="acme", counter=counter, unit="microdollars", window="day", spent=spent, reserved=reserved,
        limit=limit, at=at,
    )  # fmt: skip


class Lot:
    """Index, gauge and chooser together, fed by hand."""

    def __init__(self, *facts: Any) -> None:
        self.index, self.gauge = Index(), Gauge()
        self.chooser = Chooser(self.index, self.gauge)
        for fact in facts:
            self.learn(fact)

    def learn(self, fact: Any) -> None:
        if isinstance(fact, Backend):
            self.gauge.learn_backend(fact)
        elif isinstance(fact, Load):
            self.gauge.learn_load(fact)
        elif isinstance(fact, Breaker):
            self.gauge.learn_breaker(fact)
        else:
            self.gauge.learn_budget(fact)
            self.chooser.dirty.add(fact.counter)

    def park(self, *jobs: Parked, now: float = T0) -> None:
        for job in jobs:
            assert self.index.add(job, now)
            self.gauge.back(job.key)

    def wake(self, now: float = T0) -> list[str]:
        return [wake.parked.job for wake in self.wakes(now)]

    def wakes(self, now: float = T0) -> list[Wake]:
        return self.chooser.choose(now)
