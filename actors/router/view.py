"""What the router sees of the fleet: the latest facts, and beside them what it has sent and the load facts can't show yet."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from actors.router.in_flight import InFlight, Key, Lane, OnItsWay, Uses
from actors.router.known import known_of, lean
from actors.router.peers import Kind, Peers, kind_of, total_of
from actors.router.rulebook import Rulebook, Ruling
from messages import Backend, Breaker, Epoch, Known, Load, Model, ModelPrice, Needs, Policy, Stats
from messages.fleet import ALL_MODELS

DEFAULT_TOKENS_PER_SECOND = 30.0
DEFAULT_FIRST_TOKEN_SECONDS = 0.5
"""Stated by nobody and not measured yet."""
MOST_RULINGS = 4_096
"""Rulings remembered between two changes of the view."""


class There(Lane):
    """One backend as it stands: shared by all its models."""

    __slots__ = ("ahead", "breaker", "has", "load", "loaded", "name", "saturated", "slots", "vram_free_mb")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.slots = 0
        self.load: Load | None = None
        self.breaker: Breaker | None = None
        """That of its account: holds for every model."""
        self.loaded: tuple[str, ...] | None = None
        self.vram_free_mb = -1
        self.has = ""
        """Node classes and files of its server, as `actors.graph_names` packs them; empty: unknown."""
        self.ahead = 0
        self.saturated = False
        """Whether its load alone saturates it."""


class Entry:
    """One model of one backend: everything a decision may need, found without looking anything up."""

    __slots__ = (
        "backend", "breaker", "first_seconds", "flat", "job_seconds", "known", "log_latency", "model", "peers", "stats", "there",
        "tokens_per_second", "total", "uses", "weight",
    )  # fmt: skip

    def __init__(self, there: There, model: Model, known: Known, peers: Peers) -> None:
        self.there, self.peers = there, peers
        self.backend, self.model = there.name, model.name
        self.known = known
        self.tokens_per_second = model.tokens_per_second or DEFAULT_TOKENS_PER_SECOND
        stated = model.first_token_seconds
        self.first_seconds = DEFAULT_FIRST_TOKEN_SECONDS if stated is None else stated
        self.job_seconds = model.seconds_per_job
        price = known.price
        self.flat = not (price.long_above_tokens or price.image_rates or price.second_rates or price.per_gpu_second)
        self.stats: Stats | None = None
        self.log_latency: float | None = None
        self.weight = self.total = 0.0
        """What it adds to the sums of its equals."""
        self.breaker: Breaker | None = None
        self.uses = Uses()

    def measured(self, stats: Stats | None) -> None:
        """What was measured over all of its jobs; None: nothing that counts."""
        self.stats = stats
        self.log_latency = math.log(stats.latency_seconds) if stats is not None and stats.latency_seconds else None
        self.weight = stats.weight if stats is not None and stats.latency_seconds else 0.0
        self.total = total_of(stats) if stats is not None and self.weight else 0.0
        self.peers.note(self.backend, stats)


class View:
    """The facts, by name, and what is in flight. Changes only from what is said and heard; `decide` never changes it."""

    def __init__(
        self, policies: Iterable[Policy] = (), *, price_ceiling: int | None = None, input_ceiling: int | None = None
    ) -> None:
        self.price_ceiling = price_ceiling
        """Micro-dollars that a request at an unknown price counts as; None: it stays unknown."""
        self.input_ceiling = input_ceiling
        """Tokens that an input counts as that nothing bounds; None: it stays unbounded."""
        self.backends: dict[str, Backend] = {}
        self.breakers: dict[tuple[str, str], Breaker] = {}
        self.stats: dict[tuple[str, str, str], Stats] = {}
        self.scoped = False
        """Whether anything is measured by workflow or kind of work."""
        self.policies: dict[str, Policy] = {p.policy: p for p in policies}
        self.rulebook = Rulebook(self.policies.values())
        self.prices: dict[tuple[str, str], ModelPrice] = {}
        self.epoch = Epoch(epoch=0, by="", at=0.0)
        self.entries: list[Entry] = []
        """All models of all backends, by name: the order in which facts came leaves no trace."""
        self.served: frozenset[str] = frozenset()
        """Every name a pool or chain may call them by."""
        self.in_flight = InFlight()
        self._there: dict[str, There] = {}
        self._of: dict[str, list[Entry]] = {}
        self._peers: dict[Kind, Peers] = {}
        self._rulings: dict[Any, Ruling] = {}

    # ------------------------------------------------------------------------------------------------- facts

    def learn_backend(self, backend: Backend) -> None:
        """A backend is there, or has changed."""
        self.backends[backend.backend] = backend
        self._enter(backend)
        self._line_up()

    def learn_load(self, load: Load) -> None:
        """How much work lies before a backend; saturation holds until the load is under the lower mark again (C5)."""
        there = self._at(load.backend)
        before = there.load
        if before is not None and load.through_seq < before.through_seq and load.at <= before.at:
            return  # Another registry looked earlier, and told it later.
        self.in_flight.counted(there, load.through_seq)
        there.load, there.ahead, there.loaded = load, load.waiting + load.running, load.loaded
        there.vram_free_mb = -1 if load.vram_free_mb is None else load.vram_free_mb
        self._saturate(there)

    def learn_breaker(self, breaker: Breaker) -> None:
        """A breaker opened, closed, or was probed."""
        self.breakers[breaker.backend, breaker.model] = breaker
        if breaker.model == ALL_MODELS:
            self._at(breaker.backend).breaker = breaker
        for entry in self._of.get(breaker.backend, ()):
            if entry.model == breaker.model:
                entry.breaker = breaker

    def learn_stats(self, stats: Stats) -> None:
        """Something was measured. Figures of an older epoch do not count."""
        if stats.epoch < self.epoch.epoch:
            return
        self.stats[stats.backend, stats.model, stats.scope] = stats
        if stats.scope != "-":
            self.scoped = True
            return
        for entry in self._of.get(stats.backend, ()):
            if entry.model == stats.model:
                entry.measured(stats)

    def forget_backend(self, backend: Backend) -> None:
        """It is deleted, after nobody ran it for long."""
        if self.backends.get(backend.backend) == backend:
            del self.backends[backend.backend]
            self._there.pop(backend.backend, None)
            for entry in self._of.pop(backend.backend, ()):
                self._leave(entry)
            self._line_up()

    def forget_breaker(self, breaker: Breaker) -> None:
        """It is deleted: closed, as one that never was."""
        if self.breakers.get((breaker.backend, breaker.model)) != breaker:
            return
        del self.breakers[breaker.backend, breaker.model]
        if breaker.model == ALL_MODELS and breaker.backend in self._there:
            self._there[breaker.backend].breaker = None
        for entry in self._of.get(breaker.backend, ()):
            if entry.model == breaker.model:
                entry.breaker = None

    def forget_stats(self, stats: Stats) -> None:
        """It is deleted: nothing is measured of it."""
        if self.stats.get((stats.backend, stats.model, stats.scope)) != stats:
            return
        del self.stats[stats.backend, stats.model, stats.scope]
        if stats.scope == "-":
            for entry in self._of.get(stats.backend, ()):
                if entry.model == stats.model:
                    entry.measured(None)

    def forget_price(self, price: ModelPrice) -> None:
        """It is deleted, after it was withdrawn."""
        if self.prices.get((price.seller, price.model)) == price:
            del self.prices[price.seller, price.model]

    def learn_epoch(self, epoch: Epoch) -> None:
        """The averages were reset: nothing that was measured before counts."""
        if epoch.epoch <= self.epoch.epoch:
            return
        self.epoch = epoch
        self.stats = {key: stats for key, stats in self.stats.items() if stats.epoch >= epoch.epoch}
        self.scoped = any(scope != "-" for _, _, scope in self.stats)
        for entry in self.entries:
            entry.measured(self.stats.get((entry.backend, entry.model, "-")))
        self._rulings = {}

    def learn_price(self, price: ModelPrice) -> None:
        """A price was set or withdrawn: decisions from now on use it, work on its way keeps its own."""
        self.prices[price.seller, price.model] = price
        for backend in self.backends.values():
            if price.seller in (backend.backend, backend.provider):
                self._enter(backend)
        self._line_up()

    def learn_policy(self, policy: Policy) -> None:
        """A policy was applied, changed or removed."""
        self.policies[policy.policy] = policy
        self.rulebook = Rulebook(self.policies.values())
        for backend in self.backends.values():
            self._enter(backend)
        for there in self._there.values():
            there.saturated = False  # Judged anew: the old marks must leave no trace.
            self._saturate(there)
        self._line_up()

    # ------------------------------------------------------------------------------------------- what is in flight

    def on_its_way(self, tenant: str, job: str, n: int) -> OnItsWay:
        """A round that is being decided."""
        return OnItsWay(self.in_flight, (tenant, job, n))

    def decided(self, way: OnItsWay, backend: str, model: str, now: float) -> None:
        """It is decided where it goes, and not stored yet."""
        way.goes(self._at(backend), self._uses(backend, model), now)

    def sent(self, key: Key, backend: str, model: str, at: float) -> None:
        """A decision is stored, made by whoever was first."""
        uses = self._uses(backend, model)
        if uses is not None:
            uses.stored(at, self.rulebook.window_seconds)
        self.in_flight.enter(key, self._at(backend), at)

    def queued(self, key: Key, backend: str, seq: int, now: float) -> None:
        """Its work lies in the queue of a backend; in none with an empty name."""
        if backend:
            self.in_flight.enter(key, self._at(backend), now, seq=seq)
        else:
            self.in_flight.leave(key)

    # ----------------------------------------------------------------------------------------------- answers

    def ruling(self, needs: Needs, tenant: str) -> Ruling:
        """What the policies say about a job now."""
        key = self.rulebook.key(needs, tenant)
        found = self._rulings.get(key)
        if found is None:
            found = self.rulebook.ruling(needs, tenant, self.served)
            if self.epoch.epoch:
                equal = self.epoch.at >= self.rulebook.weights_at
                plan = msgspec.structs.replace(found.plan, epoch=self.epoch.epoch, equal_weights=equal)
                found = msgspec.structs.replace(found, plan=plan)
            found = msgspec.structs.replace(found, plan=lean(found.plan), failover=lean(found.failover))
            if len(self._rulings) >= MOST_RULINGS:
                self._rulings = {}
            self._rulings[key] = found
        return found

    # ---------------------------------------------------------------------------------------------- inside

    def _at(self, backend: str) -> There:
        there = self._there.get(backend)
        if there is None:
            there = self._there[backend] = There(backend)
        return there

    def _uses(self, backend: str, model: str) -> Uses | None:
        return next((entry.uses for entry in self._of.get(backend, ()) if entry.model == model), None)

    def _enter(self, backend: Backend) -> None:
        there = self._at(backend.backend)
        there.slots = backend.slots
        there.has = next((model.has for model in backend.models if model.has), "")
        self._saturate(there)
        before = {entry.model: entry for entry in self._of.get(backend.backend, ())}
        for entry in before.values():
            self._leave(entry)
        entries: list[Entry] = []
        for model in sorted({m.name: m for m in backend.models}.values(), key=lambda m: m.name):
            kind = kind_of(backend, model)
            peers = self._peers.get(kind)
            if peers is None:
                peers = self._peers[kind] = Peers(kind)
            entry = Entry(there, model, self._known_of(backend, model), peers)
            entry.measured(self.stats.get((backend.backend, model.name, "-")))
            entry.breaker = self.breakers.get((backend.backend, model.name))
            if model.name in before:
                entry.uses = before[model.name].uses
            entries.append(entry)
        self._of[backend.backend] = entries

    def _leave(self, entry: Entry) -> None:
        if entry.peers.leave(entry.backend):
            self._peers.pop(entry.peers.kind, None)

    def _known_of(self, backend: Backend, model: Model) -> Known:
        return known_of(
            backend,
            model,
            self.rulebook,
            self.prices,
            price_ceiling=self.price_ceiling,
            input_ceiling=self.input_ceiling,
        )

    def _line_up(self) -> None:
        self.entries = [entry for name in sorted(self._of) for entry in self._of[name]]
        served: set[str] = set()
        for entry in self.entries:
            served.update((entry.backend, entry.model, f"{entry.backend}/{entry.model}", *entry.known.names))
        self.served = frozenset(served)
        self._rulings = {}

    def _saturate(self, there: There) -> None:
        share = there.ahead / there.slots if there.slots > 0 else 0.0
        mark = self.rulebook.saturated_until if there.saturated else self.rulebook.saturated_at
        there.saturated = share >= mark
