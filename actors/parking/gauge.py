"""How what jobs wait for stands: backends and their free slots, breakers and trial calls, room on budgets. Pure but for what it
remembers of facts, and of who was woken a moment ago.
"""

from __future__ import annotations

from messages import Backend, Breaker, BudgetState, Limit, Load
from messages.fleet import ALL_MODELS

ON_THE_WAY_SECONDS = 2.0
"""A job that was woken counts as one that comes for so long, unless the load or the counter was told since."""
LOAD_LAG_SECONDS = 0.3
"""A load that was told so long after a job was woken has it."""
TRIAL_SECONDS = 3.0
"""Whoever was woken to be a trial call has taken the lease by then, or another is woken."""
OVERDUE_SECONDS = 15.0
"""A trial call whose lease is over may still run: one who waits looks this often."""
UNKNOWN = 1 << 62
"""The room on a counter that limits nothing, as far as is known."""

Key = tuple[str, str]


class Gauge:
    """What the facts tell, and what is on its way."""

    def __init__(self) -> None:
        self._backends: dict[str, Backend] = {}
        self._loads: dict[str, Load] = {}
        self._breakers: dict[tuple[str, str], Breaker] = {}
        self._budgets: dict[tuple[str, str], BudgetState] = {}
        """By budget and holder, in its present window."""
        self._counters: dict[str, BudgetState] = {}
        self._limits: dict[str, Limit] = {}
        self._coming: dict[str, dict[Key, float]] = {}
        """Who was woken for which backend, and when."""
        self._trials: dict[tuple[str, str], tuple[Key, float]] = {}
        self._taking: dict[str, dict[Key, tuple[int, float]]] = {}
        """Who was woken for which counter, for how much of it, and when."""

    # ---------------------------------------------------------------------------------------------------- facts

    def learn_backend(self, backend: Backend) -> tuple[bool, bool]:
        """A backend as it is now: whether it takes work and did not before, and whether it offers what it did not before."""
        before = self._backends.get(backend.backend)
        self._backends[backend.backend] = backend
        offered = {model.name for model in before.models} if before is not None else set[str]()
        better = _takes(backend) and not (before is not None and _takes(before))
        return better, not offered.issuperset(model.name for model in backend.models)

    def learn_load(self, load: Load) -> None:
        """How much lies before a backend."""
        self._loads[load.backend] = load

    def learn_breaker(self, breaker: Breaker) -> bool:
        """A breaker as it is now; whether it lets somebody through that it did not before."""
        key = breaker.backend, breaker.model
        before = self._breakers.get(key)
        self._breakers[key] = breaker
        if breaker.probe_job or (before is not None and before.probe_job):
            self._trials.pop(key, None)  # Whoever was to be the trial call is it by now, or has been.
        return before is not None and (before.open_until > breaker.open_until or bool(before.probe_job))

    def learn_budget(self, state: BudgetState) -> None:
        """How far a budget is used."""
        key = state.budget, state.holder
        before = self._budgets.get(key)
        if before is not None and before.counter != state.counter:
            self._drop_counter(before.counter)
        self._budgets[key] = self._counters[state.counter] = state

    def learn_limit(self, limit: Limit) -> None:
        """A budget was set, raised or removed."""
        self._limits[limit.name] = limit

    def forget(self, fact: object) -> None:
        """A fact was deleted."""
        if isinstance(fact, BudgetState):
            self._budgets.pop((fact.budget, fact.holder), None)
            self._drop_counter(fact.counter)
        elif isinstance(fact, Backend):
            self._backends.pop(fact.backend, None)
            self._coming.pop(fact.backend, None)
        elif isinstance(fact, Load):
            self._loads.pop(fact.backend, None)
        elif isinstance(fact, Breaker):
            self._breakers.pop((fact.backend, fact.model), None)
            self._trials.pop((fact.backend, fact.model), None)
        elif isinstance(fact, Limit):
            self._limits.pop(fact.name, None)

    @property
    def counters(self) -> dict[str, BudgetState]:
        """Every counter that was told."""
        return self._counters

    def _drop_counter(self, counter: str) -> None:
        self._counters.pop(counter, None)
        self._taking.pop(counter, None)

    # ------------------------------------------------------------------------------------------------- backends

    @property
    def taking_work(self) -> list[str]:
        """Backends that take work now, by name."""
        return sorted(name for name, backend in self._backends.items() if _takes(backend))

    def changed_at(self, backend: str) -> float:
        """When its fact was said last, in seconds since the epoch."""
        return self._backends[backend].at

    def free(self, backend: str) -> int:
        """Slots in which nothing runs, and for which nothing waits."""
        slots = self._backends[backend].slots
        load = self._loads.get(backend)
        return max(0, slots - load.waiting - load.running) if load is not None else slots

    def coming(self, backend: str, now: float) -> int:
        """How many were woken for it whom its load does not show yet."""
        load = self._loads.get(backend)
        there = self._coming.get(backend, {})
        for key, at in list(there.items()):
            if at <= now - ON_THE_WAY_SECONDS or (load is not None and load.at >= at + LOAD_LAG_SECONDS):
                del there[key]
        return len(there)

    def models(self, backend: str) -> list[str]:
        """The models it serves."""
        return [model.name for model in self._backends[backend].models]

    def passes(self, backend: str, model: str, now: float) -> str:
        """How the breakers of a backend's model stand: `closed`, `half-open` (one may try), or `shut`."""
        found = "closed"
        for name in dict.fromkeys((ALL_MODELS, model)):
            breaker = self._breakers.get((backend, name))
            if breaker is None or (breaker.times_opened == 0 and breaker.open_until <= 0):
                continue
            if now < breaker.open_until or self._is_tried(breaker, now):
                return "shut"
            found = "half-open"
        return found

    def _is_tried(self, breaker: Breaker, now: float) -> bool:
        """Whether somebody is the trial call, or was woken to be it."""
        if breaker.probe_job and now < breaker.probe_until:
            return True
        trial = self._trials.get((breaker.backend, breaker.model))
        patience = OVERDUE_SECONDS if breaker.probe_job else TRIAL_SECONDS
        return trial is not None and now < trial[1] + patience

    def sends(self, key: Key, backend: str, model: str, now: float, *, trial: bool) -> None:
        """A job was woken for a backend, as a trial call or not."""
        self._coming.setdefault(backend, {})[key] = now
        if trial:
            for name in dict.fromkeys((ALL_MODELS, model)):
                self._trials[backend, name] = key, now

    def back(self, key: Key) -> None:
        """A job that was woken waits again: it takes nothing."""
        for there in self._coming.values():
            there.pop(key, None)
        for taking in self._taking.values():
            taking.pop(key, None)
        for name, (whose, _) in list(self._trials.items()):
            breaker = self._breakers.get(name)
            if whose == key and not (breaker is not None and breaker.probe_job):
                del self._trials[name]

    # -------------------------------------------------------------------------------------------------- budgets

    def room(self, counter: str, now: float) -> int:
        """What is left on a counter for those who wait; 0 when nothing was told of it."""
        state = self._counters.get(counter)
        if state is None:
            return 0
        limit = self._limits.get(state.budget)
        if limit is not None and limit.removed:
            return UNKNOWN
        taking = self._taking.get(counter, {})
        for key, (_, at) in list(taking.items()):
            if state.at > at or at <= now - ON_THE_WAY_SECONDS:
                del taking[key]
        most = state.limit if limit is None else limit.limit
        return most - state.spent - state.reserved - sum(amount for amount, _ in taking.values())

    def left(self, counter: str) -> int:
        """What would be left on a counter if everything that is held came to nothing; more than anybody needs when nothing was
        told of it.
        """
        state = self._counters.get(counter)
        limit = self._limits.get(state.budget) if state is not None else None
        if state is None or (limit is not None and limit.removed):
            return UNKNOWN
        return (state.limit if limit is None else limit.limit) - state.spent

    def takes(self, key: Key, counter: str, amount: int, now: float) -> None:
        """A job was woken for the room on a counter."""
        self._taking.setdefault(counter, {})[key] = amount, now


def _takes(backend: Backend) -> bool:
    return backend.healthy and backend.active and backend.slots > 0
