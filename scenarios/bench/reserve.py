"""What a reservation costs: one on one counter, beside one acknowledged publish in the same run."""

from __future__ import annotations

import itertools
from pathlib import Path

from actors import node
from actors.guardrail.budgets import Budgets
from actors.guardrail.ledger import Ledger
from actors.guardrail.reserve import Reserver
from actors.guardrail.state import States
from actors.settings import Budget, Settings
from bus.bus import Bus
from bus.jetstream import connect
from bus.server import NatsServer
from messages import Candidate, Decided, Failover, Needs, Slip
from messages.fleet import Scope
from scenarios.bench.figures import Step, alternate, percentile, rate

SCOPES: tuple[Scope, ...] = ("tenant", "global", "backend")
"""One after the other; the cost per scope is what must stay low."""
CANDIDATE = Candidate(backend="cloud", model="gpt-small", worst_case_microdollars=1_000, worst_case_tokens=2_000)


class Reserving:
    """A reserver with one budget per scope, and a plain publish for comparison."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._numbers = itertools.count()
        self._one, self._three = self._reserver(1), self._reserver(len(SCOPES))

    def _reserver(self, scopes: int) -> Reserver:
        budgets = Budgets(Budget(scope=scope, limit=10**15, window="total") for scope in SCOPES[:scopes])
        return Reserver(Ledger(self.bus), budgets, States(budgets))

    def _decided(self) -> Decided:
        now, job = self.bus.now(), f"r{next(self._numbers)}"
        needs = Needs(
            task="chat",
            quality="standard",
            complexity="simple",
            complexity_score=1.0,
            input_tokens=10,
            max_output_tokens=10,
        )
        slip = Slip(tenant="bench", job=job, submitted_at=now, deadline_at=now + 600, input_seq=1, needs=needs)
        return Decided(
            tenant="bench", job=job, n=1, slip=slip, ranking=(CANDIDATE,), strategy="bench", policy="bench",
            failover=Failover(), reason="bench", at=now,
        )  # fmt: skip

    async def one(self, _: int) -> None:
        """Hold one amount on one counter. Raises RuntimeError when it is refused."""
        if (await self._one.reserve(self._decided(), CANDIDATE)).why:
            raise RuntimeError("a reservation was refused")

    async def three(self, _: int) -> None:
        """Hold it on three counters, one after the other. Raises RuntimeError when it is refused."""
        if (await self._three.reserve(self._decided(), CANDIDATE)).why:
            raise RuntimeError("a reservation was refused")

    async def publish(self, _: int) -> None:
        """One acknowledged publish on the same connection."""
        number = next(self._numbers)
        await self.bus.publish(f"ev.bench.{number}", b"{}", msg_id=f"bench{number}")


async def measure_reservations(directory: Path, *, blocks: int, size: int, load: int) -> dict[str, float]:
    """`reserve.p50_us` per scope, the publish beside it, their ratio, and `reserve.per_second` with 128 in flight."""
    async with NatsServer(directory / "reserve", port=0) as server:
        bus = await connect(server.url, name="bench reserve")
        await node.set_up(bus, Settings())
        reserving = Reserving(bus)
        steps: dict[str, Step] = {
            "reserve.publish": reserving.publish, "reserve": reserving.one, "reserve.three": reserving.three,
        }  # fmt: skip
        seconds = await alternate(steps, blocks=blocks, size=size, warm_up=30)
        figures = {f"{name}.p50_us": percentile(values, 0.5) * 1e6 for name, values in seconds.items()}
        figures["reserve.p99_us"] = percentile(seconds["reserve"], 0.99) * 1e6
        figures["reserve.three_per_scope_us"] = figures.pop("reserve.three.p50_us") / len(SCOPES)
        figures["ratio.reserve_to_publish"] = figures["reserve.p50_us"] / figures["reserve.publish.p50_us"]
        rates = [await rate(reserving.one, range(load), 128) for _ in range(3)]
        figures["reserve.per_second"] = percentile(rates, 0.5)
        await bus.close()
    return figures
