"""Who is woken now: by age, at most twice the free slots of a backend at a time, and nobody beside a trial call. Pure but for
what index and gauge remember.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from actors.parking.gauge import Gauge
from actors.parking.index import EVERYBODY, Index, Key, Name, Parked, name_of
from messages import Awaited

PATIENT_SECONDS = 5.0
"""Where no slot is ever free, because others come all the time, one who waits is woken this often, so that nobody is overtaken
for ever."""
MOST_AT_ONCE = 64
"""So many are woken in one look for one counter."""


class Wake(NamedTuple):
    """One who goes on."""

    parked: Parked
    by: Awaited
    """What ended the wait."""


class Chooser:
    """Looks at the index and the gauge, and says who goes on."""

    def __init__(self, index: Index, gauge: Gauge) -> None:
        self.index, self.gauge = index, gauge
        self.fresh: set[str] = set()
        """Backends that offer something since everybody looked last."""
        self.dirty: set[str] = set()
        """Counters of which something is new."""
        self._last: dict[str, float] = {}
        """When somebody was woken for a backend last."""

    def choose(self, now: float) -> list[Wake]:
        """Who is woken now. They are taken out of the index."""
        lines: dict[str, list[Name]] = {}
        for name in self.index.names:
            if name[0] in ("backend", "breaker"):
                lines.setdefault(name[1], []).append(name)
        anybody = lines.pop("", [])
        woken: list[Wake] = []
        for backend in self.gauge.taking_work:
            mine = [*lines.get(backend, ()), *anybody, *([EVERYBODY] if backend in self.fresh else [])]
            if mine:
                woken += self._for_backend(backend, mine, now)
        if self.fresh and self.index.oldest((EVERYBODY,), now) is None:
            self.fresh.clear()  # Everybody has looked.
        for counter in sorted(self.dirty):
            woken += self._for_budget(counter, now)
        return woken

    def _for_backend(self, backend: str, mine: list[Name], now: float) -> list[Wake]:
        """Those who wait for this backend or one of its breakers."""
        gauge = self.gauge
        room = 2 * gauge.free(backend) - gauge.coming(backend, now)
        if room <= 0:
            if now - self._last.setdefault(backend, now) < PATIENT_SECONDS:
                return []
            room = 1
        passes = {model: gauge.passes(backend, model, now) for model in gauge.models(backend)}
        closed = "closed" in passes.values()
        open_lines: list[Name] = []
        trials: list[tuple[str, list[Name]]] = []
        for name in mine:
            kind, _, model = name
            if kind == "breaker":
                state = passes.get(model) or gauge.passes(backend, model, now)
            else:
                state = "closed" if closed else next((s for s in passes.values() if s == "half-open"), "shut")
                model = next((m for m, s in passes.items() if s == "half-open"), "") if state == "half-open" else ""
            if state == "closed":
                open_lines.append(name)
            elif state == "half-open":
                trials.append((model, [name]))
        woken: list[Wake] = []
        for model, names in trials:
            if room > 0 and gauge.passes(backend, model, now) == "half-open":
                one = self._one(backend, model, names, now, trial=True)
                woken += one
                room -= len(one)
        while room > 0 and (one := self._one(backend, "", open_lines, now, trial=False)):
            woken += one
            room -= 1
        return woken

    def _one(self, backend: str, model: str, names: Iterable[Name], now: float, *, trial: bool) -> list[Wake]:
        """The oldest in these lines; as a trial call rather one that was not called there before, whose own fault it may be."""
        names = list(names)
        found = None
        if trial:
            found = self.index.oldest(names, now, partial(_not_called, (backend, model)))
        found = found or self.index.oldest(names, now)
        if found is None:
            return []
        parked, name = found
        self.index.wake(parked.key, parked.n, now)
        self.gauge.sends(parked.key, backend, model, now, trial=trial)
        self._last[backend] = now
        kind = "breaker" if trial or name[0] == "breaker" else "backend"
        return [Wake(parked, Awaited(kind=kind, name=backend, model=model or name[2]))]

    def _for_budget(self, counter: str, now: float) -> list[Wake]:
        """Those for whom there is room on a counter now; and those who waited for a settlement that has left none."""
        names: list[Name] = [("settlement", counter, ""), ("budget", counter, "")]
        woken: list[Wake] = []
        while len(woken) < MOST_AT_ONCE:
            found = self.index.oldest(names, now, partial(_has_room, self.gauge.room(counter, now)))
            found = found or self.index.oldest(names[:1], now, partial(_has_none, self.gauge.left(counter)))
            if found is None:
                break
            parked, name = found
            asked = next(one for one in parked.awaiting if name_of(one) == name)
            self.index.wake(parked.key, parked.n, now)
            self.gauge.takes(parked.key, counter, min(asked.amount, max(0, self.gauge.room(counter, now))), now)
            woken.append(Wake(parked, asked))
        if not any(name in self.index.names for name in names):
            self.dirty.discard(counter)
        return woken

    def forget(self, backend: str) -> None:
        """A backend is deleted."""
        self.fresh.discard(backend)
        self._last.pop(backend, None)

    def heard(self, key: Key, n: int, by: Awaited, now: float) -> None:
        """Somebody woke a job, perhaps another who watches as well: it is on its way for us, too."""
        if not self.index.wake(key, n, now):
            return  # It was woken here.
        if by.kind in ("settlement", "budget"):
            self.gauge.takes(key, by.name, min(by.amount, max(0, self.gauge.room(by.name, now))), now)
            return
        half_open = by.kind == "breaker" and self.gauge.passes(by.name, by.model, now) == "half-open"
        self.gauge.sends(key, by.name, by.model, now, trial=half_open)
        self._last[by.name] = now


def _has_room(room: int, parked: Parked, name: Name) -> bool:
    return parked.needs(name) <= room


def _has_none(left: int, parked: Parked, name: Name) -> bool:
    return parked.needs(name) > left


def _not_called(where: tuple[str, str], parked: Parked, name: Name) -> bool:
    del name
    return where not in parked.called
