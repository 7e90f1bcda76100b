"""The breakers' room: folds how attempts ended into one breaker per backend and model, and one per backend's account."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from actors.actor import Actor, Heard, Says, hears
from actors.bounded import Bounded
from actors.guardrail import breaker as breakers
from actors.guardrail.breaker_hand import changed, tried_early
from actors.guardrail.breaker_window import minute_of, with_calls
from actors.settings import BreakerRules
from messages import Attempted, Backend, Breaker, Message
from messages.fleet import ALL_MODELS

TELL_SECONDS = 5.0
"""Calls that change nothing but their number are told at most so often, or every single call would write a fact."""

MOST_AHEAD = 10_000
"""Backends and models with calls that are not told yet."""

Key = tuple[str, str]
"""Backend and model."""


class Said(NamedTuple):
    """A breaker that is on its way to the server, and the untold calls that are in it."""

    breaker: Breaker
    calls: Counter[int]


class Ahead:
    """Successful calls that no fact counts yet. They are lost with the process: at most those of the last seconds."""

    def __init__(self, since: float) -> None:
        self.calls: Counter[int] = Counter()
        """How many, by minute."""
        self.through_seq = 0
        self.since = since
        """When it was told last."""


class Fold(Actor):
    """The breakers: one durable consumer folds `attempted` in stream order; late events are ignored by `through_seq`."""

    room = "breaker"

    def __init__(self, *, rules: BreakerRules) -> None:
        self.rules = rules
        self._breakers: dict[Key, Breaker] = {}
        self._executors: dict[str, tuple[str, ...]] = {}
        self._ahead = Bounded[Key, Ahead](MOST_AHEAD)
        self._last: dict[str, Backend] = {}
        self._was_ill: dict[str, bool] = {}
        """Whether a backend failed its health checks until its latest fact."""
        self._said: dict[Key, list[Said]] = {}

    @hears
    def breaker(self, breaker: Breaker, heard: Heard) -> Says[Breaker]:
        """A breaker as it is stored, by us or by somebody else."""
        key = breaker.backend, breaker.model
        self._breakers[key] = breaker
        self._settle(key, breaker)
        return self._changed(breaker, heard.now)

    @hears
    def backend(self, backend: Backend, heard: Heard) -> Says[Breaker]:
        """An executor that was not there when the account was closed off may have another key: it gets its chance. So does a
        backend that answers its health checks again, if they failed while its breaker was open; where nobody asks, none fails.
        """
        name = backend.backend
        self._executors[name] = backend.executors
        if self._last.get(name) is not backend:  # Else it decides again, because another has written meanwhile.
            before = self._last.get(name)
            self._was_ill[name] = before is not None and not before.healthy and before.slots > 0
            self._last[name] = backend
        account = self._breakers.get((name, ALL_MODELS))
        said = list(self._changed(account, heard.now)) if account is not None else []
        if backend.healthy and self._was_ill[name]:
            there = [breaker for (owner, _), breaker in self._breakers.items() if owner == name]
            said += [after for breaker in there if (after := tried_early(breaker, heard.now)) is not None]
        return said

    def forget(self, message: Message) -> None:
        """A fact is deleted: what is known of it goes too, unless that is newer."""
        if isinstance(message, Breaker):
            key = message.backend, message.model
            if self._breakers.get(key) == message:
                del self._breakers[key]
                self._ahead.pop(key, None)
                self._said.pop(key, None)
        elif isinstance(message, Backend):
            self._executors.pop(message.backend, None)
            self._last.pop(message.backend, None)
            self._was_ill.pop(message.backend, None)

    def _changed(self, breaker: Breaker, now: float) -> Says[Breaker]:
        executors = self._executors.get(breaker.backend)
        after = changed(breaker, executors, now) if executors is not None else None
        return [after] if after is not None else []

    @hears
    def attempted(self, attempted: Attempted, heard: Heard) -> Says[Breaker]:
        """What an attempt's end means for its model's breaker, and for its account's."""
        ended = breakers.timed(attempted, heard.stored_at)
        said = [self._fold(ended, heard), self._fold_account(ended, heard)]
        return [breaker for breaker in said if breaker is not None]

    def _fold_account(self, attempted: Attempted, heard: Heard) -> Breaker | None:
        before = self._breakers.get((attempted.backend, ALL_MODELS))
        executors = self._executors.get(attempted.backend, ())
        return breakers.fold_account(before, attempted, heard.seq, self.rules, executors)

    def _fold(self, attempted: Attempted, heard: Heard) -> Breaker | None:
        """The model's breaker to tell, with the calls that were not told before; None when that can wait."""
        key = attempted.backend, attempted.model
        before = self._breakers.get(key) or Breaker(backend=attempted.backend, model=attempted.model)
        ahead = self._ahead.get(key)
        if ahead is not None and ahead.calls:
            recent = with_calls(before.recent, ahead.calls, self.rules)
            before = msgspec.structs.replace(before, recent=recent)
        after = breakers.fold(before, attempted, heard.seq, self.rules)
        if after is None:
            return None
        if attempted.outcome == "ok" and breakers.only_counted(before, after):
            if ahead is None:
                ahead = self._ahead[key] = Ahead(heard.now)
            if heard.seq <= ahead.through_seq:
                return None  # Heard again, and counted already.
            ahead.calls[minute_of(attempted.at)] += 1
            ahead.through_seq = heard.seq
            self._ahead[key] = ahead
            if 0 <= heard.now - ahead.since < TELL_SECONDS:
                return None
        if ahead is not None:
            ahead.since = heard.now
            self._said.setdefault(key, []).append(Said(after, ahead.calls.copy()))
        return after

    def _settle(self, key: Key, stored: Breaker) -> None:
        """What is stored has its calls in it; what lost against it never will."""
        waiting = self._said.get(key)
        if not waiting:
            return
        for said in waiting:
            if said.breaker == stored:
                if key in self._ahead:
                    self._ahead[key].calls -= said.calls
                break
        waiting = [said for said in waiting if said.breaker.through_seq > stored.through_seq]
        if waiting:
            self._said[key] = waiting
        else:
            del self._said[key]
