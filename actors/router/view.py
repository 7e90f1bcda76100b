"""What the router sees of the fleet: the latest facts, and its own decisions that the load facts can't show yet."""

from __future__ import annotations

from collections import deque

from messages import Backend, Breaker, Load, Policy, Stats

OWN_MEMORY_SECONDS = 1.0
"""How long an own decision counts as load; by then the load fact (every 200 ms while anything moves) shows it."""


class View:
    """The facts, by name. Changes only from facts and from decisions that were said."""

    def __init__(self) -> None:
        self.backends: dict[str, Backend] = {}
        self.loads: dict[str, Load] = {}
        self.breakers: dict[tuple[str, str], Breaker] = {}
        self.stats: dict[tuple[str, str, str], Stats] = {}
        self.policy = Policy()
        self._own: dict[str, deque[float]] = {}

    def sent(self, backend: str, at: float) -> None:
        """Remember that a job was just sent there."""
        self._own.setdefault(backend, deque()).append(at)

    def own_since_load(self, backend: str, now: float) -> int:
        """Own decisions for a backend that its load fact does not contain."""
        own = self._own.get(backend)
        if not own:
            return 0
        load = self.loads.get(backend)
        since = max(load.at if load else 0.0, now - OWN_MEMORY_SECONDS)
        while own and own[0] <= since:
            own.popleft()
        return len(own)

    def measured(self, backend: str, model: str, workflow: str) -> Stats | None:
        """The most specific measurements: of the workflow, else of the model at all."""
        return self.stats.get((backend, model, workflow)) or self.stats.get((backend, model, "-"))
