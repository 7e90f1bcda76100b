"""Who of an exclusive group is active, which model is in memory, and the change of either: an action of the executor.

A switch once begun is brought to its end, whoever waits for it: half a switch leaves nobody knows what in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from actors.executor.backends import port
from actors.executor.lookahead import Held, Place
from actors.executor.script import ScriptFailed, run_script
from actors.executor.served import Served
from actors.settings import GroupSettings
from messages import Offer

POLL_SECONDS = 0.5
"""How often a server that was just started is asked whether it answers."""
FAILED_SECONDS = 60.0
"""A member that could not be made active is not tried again before."""
LOAD_SECONDS = 600.0
"""A model that is not in memory after this time could not be loaded."""

BY_THE_CALL = frozenset({"ollama"})
"""Kinds of server that load a model with the context that its first call asks for: loaded before, it would be loaded twice."""

Run = Callable[[Sequence[str], Mapping[str, str], float], Awaitable[None]]
"""Runs a program with its arguments, variables and time limit. Raises ScriptFailed."""


def active_of(members: Sequence[tuple[str, bool]], wished: str) -> str:
    """Who of a group is active: whoever is wished for; when that one does not answer, the only other one that does.
    Nobody, where nobody is wished for.

    `members` are names, and whether they answer.
    """
    if not wished or dict(members).get(wished, True):
        return wished
    answering = [name for name, answers in members if answers]
    return answering[0] if len(answering) == 1 else wished


class Switcher:
    """The executor's hand on what lies in memory. The conditions of `lookahead` too."""

    def __init__(
        self,
        *,
        served: Mapping[str, Served],
        groups: Sequence[GroupSettings],
        clock: Callable[[], float],
        run: Run = run_script,
    ) -> None:
        self.served, self.clock = served, clock
        self._groups = {group.name: group for group in groups}
        self._run = run
        self._wished: dict[str, str] = {}
        """The active member, by group: as configured, or as switched last."""
        self._since: dict[str, float] = {}
        """When a group was switched last."""
        self._failed: dict[str, tuple[float, str]] = {}
        """By member that could not be made active: until when it is left alone, and why."""
        self._under_way: dict[str, asyncio.Task[None]] = {}
        """The switches that are going on, by place."""
        self.on_end: Callable[[], None] = lambda: None
        self.leads: Callable[[str], bool] = lambda _: True
        """Whether this executor is the one that switches for a backend that several serve."""
        self.others: Callable[[str], int] = lambda _: 0
        """How many attempts other executors run on a backend."""

    # ------------------------------------------------------------------------------------------------ groups

    def settle(self) -> None:
        """Put into the offers who of each group is active, once their servers have been asked."""
        members: dict[str, list[str]] = {}
        for name, served in sorted(self.served.items()):
            if served.offer.exclusive_group:
                members.setdefault(served.offer.exclusive_group, []).append(name)
        for group, names in members.items():
            self._settle(group, names)

    def _settle(self, group: str, names: Sequence[str]) -> None:
        if group not in self._wished:
            self._wished[group] = next((name for name in names if self.served[name].offer.active), "")
        answers = [(name, self.served[name].well) for name in names]
        active = active_of(answers, self._wished[group])
        automatic = self._automatic(group)
        there = self.served[active].offer if active in self.served else None
        for name in names:
            served = self.served[name]
            if name == active or not automatic:
                served.show(active=name == active)
                continue
            until, why = self._failed.get(name, (0.0, ""))
            ill = self.clock() < until
            # What is in the memory that they share is the active one's: the router counts the time of a switch.
            loaded = _in_memory(there) if there is not None else None
            served.show(active=True, healthy=not ill, health_reason=why if ill else "", loaded=loaded)

    def active(self, group: str) -> str:
        """The active member of a group; empty: nobody."""
        names = [name for name, served in sorted(self.served.items()) if served.offer.exclusive_group == group]
        return active_of([(name, self.served[name].well) for name in names], self._wished.get(group, ""))

    def is_off(self, backend: str) -> bool:
        """Whether its automatic group has to be switched before it can be called."""
        offer = self._offer(backend)
        group = self._automatic(offer.exclusive_group) if offer is not None else None
        return group is not None and self.active(group.name) != backend

    def _automatic(self, group: str) -> GroupSettings | None:
        found = self._groups.get(group)
        return found if found is not None and found.automatic else None

    # -------------------------------------------------------------------------------------- conditions of turns

    def place(self, backend: str) -> str:
        """An automatic group, or the backend itself."""
        offer = self._offer(backend)
        shared = offer is not None and self._automatic(offer.exclusive_group)
        return f"group {offer.exclusive_group}" if offer is not None and shared else f"backend {backend}"

    def slots(self, backend: str) -> int:
        """As the backend has them now."""
        offer = self._offer(backend)
        return offer.slots if offer is not None else 1

    def warm(self, held: Held, place: Place) -> bool:
        """Whether its backend is the active one of its group, and its model in memory, as far as anybody knows."""
        offer = self._offer(held.backend)
        if offer is None:
            return True
        if self.is_off(held.backend):
            return False
        if not offer.local or len(offer.models) < 2:
            return True
        if place.running[held.backend, held.model] > 0 or place.last.get(held.backend) == held.model:
            return True
        if offer.loaded is not None:
            return held.model in offer.loaded
        return held.backend not in place.last

    def evicts(self, backend: str) -> bool:
        """Whether we put the model into memory, in place of another: other servers wait by themselves for what runs."""
        offer = self._offer(backend)
        return offer is not None and (offer.switchable or self._automatic(offer.exclusive_group) is not None)

    def may_switch(self, held: Held, now: float) -> bool:
        """Models may be changed at any time; a group when the job has waited, and the active one was so long enough."""
        offer = self._offer(held.backend)
        group = self._automatic(offer.exclusive_group) if offer is not None else None
        if group is None or self.active(group.name) == held.backend:
            return True
        since = self._since.get(group.name)
        rested = since is None or now - since >= group.min_active_seconds
        failed_until = self._failed.get(held.backend, (0.0, ""))[0]
        wanted = rested and now - held.since >= group.patience_seconds and now >= failed_until
        return wanted and self.leads(held.backend) and not self._others_at_work(group.name)

    def _others_at_work(self, group: str) -> bool:
        """Whether a switch would end what is not ours: requests of others, or attempts of other executors."""
        members = [(name, served) for name, served in self.served.items() if served.offer.exclusive_group == group]
        return any(served.offer.foreign or self.others(name) for name, served in members)

    def why_not(self, backend: str) -> str:
        """Why a member of a group can't be made active for now; empty: it is, or it may be tried."""
        until, why = self._failed.get(backend, (0.0, ""))
        return why if self.clock() < until and self.is_off(backend) else ""

    def switching(self, place: str) -> bool:
        """Whether a switch is under way there."""
        return place in self._under_way

    def _offer(self, backend: str) -> Offer | None:
        served = self.served.get(backend)
        return served.offer if served is not None else None

    # ----------------------------------------------------------------------------------------------- switching

    def needed(self, backend: str, model: str, before: str) -> bool:
        """Whether something must be put into memory before the model can be called. `before`: the model that ran there last."""
        served = self.served[backend]
        if self.is_off(backend):
            return True
        if not served.offer.switchable or served.offer.protocol in BY_THE_CALL:
            return False
        return model not in served.offer.loaded if served.offer.loaded is not None else before not in ("", model)

    async def prepare(self, backend: str, model: str) -> None:
        """Put it into memory. A switch goes on when whoever waits for it is cancelled. Raises port.BackendError."""
        if why := self.why_not(backend):
            raise port.BackendError("overloaded", why)
        place = self.place(backend)
        task = self._under_way.get(place)
        if task is None:
            task = self._under_way[place] = asyncio.create_task(
                self._switch(backend, model), name=f"switch to {backend}"
            )
            task.add_done_callback(lambda done: self._switched(place, done))
        await asyncio.shield(task)

    def _switched(self, place: str, done: asyncio.Task[None]) -> None:
        del self._under_way[place]
        if not done.cancelled():
            done.exception()  # Whoever waited for it has it.
        self.on_end()

    async def _switch(self, backend: str, model: str) -> None:
        served = self.served[backend]
        group = self._automatic(served.offer.exclusive_group)
        if group is not None and self.active(group.name) != backend:
            await self._turn_over(group, backend, model)
        by_us = served.offer.switchable and served.offer.protocol not in BY_THE_CALL
        if by_us and isinstance(served.adapter, port.Switch):
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    await served.adapter.load(model)
            except TimeoutError:
                raise port.BackendError("timeout", f"{model} was not in memory after {LOAD_SECONDS:g} s") from None
            served.took(model)

    async def _turn_over(self, group: GroupSettings, backend: str, model: str) -> None:
        """Run the group's program, and wait until the server answers."""
        served = self.served[backend]
        began = self.clock()
        command, variables = command_for(group, backend, model)
        try:
            await self._run(command, variables, group.timeout_seconds)
            while not await served.answers():
                if self.clock() - began >= group.timeout_seconds:
                    raise ScriptFailed(
                        f"{backend} does not answer {group.timeout_seconds:g} s after the switch: {served.reason}"
                    )
                await asyncio.sleep(POLL_SECONDS)
        except ScriptFailed as error:
            self._failed[backend] = (self.clock() + FAILED_SECONDS, f"could not be made active: {error}")
            self.settle()
            raise port.BackendError("overloaded", f"group {group.name}: {error}") from error
        self._failed.pop(backend, None)
        self._wished[group.name], self._since[group.name] = backend, self.clock()
        for name, other in self.served.items():
            if name != backend and other.offer.exclusive_group == group.name:
                other.well = False  # Until somebody asks it again.
        self.settle()

    async def close(self) -> None:
        """Give up the switches that are going on."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _in_memory(offer: Offer) -> tuple[str, ...]:
    return offer.loaded if offer.loaded is not None else tuple(model.name for model in offer.models)


def command_for(group: GroupSettings, backend: str, model: str) -> tuple[list[str], Mapping[str, str]]:
    """The program that makes a member active, and its variables."""
    parts = [part.replace("{backend}", backend).replace("{model}", model) for part in group.switch]
    return parts, {"TURNOUT_GROUP": group.name, "TURNOUT_BACKEND": backend, "TURNOUT_MODEL": model}
