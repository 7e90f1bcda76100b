"""Simulated runs with budgets in the way: waits, held jobs, people who resume them, limits that change, and every fault."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from typing import Any, NamedTuple

import msgspec
import pytest

from actors.guardrail import verdict
from actors.guardrail.actor import Guardrail
from actors.guardrail.ledger import Ledger
from actors.guardrail.reserve import Reserver, entry_for
from actors.guardrail.sweeper import Sweeper
from actors.rounds import PACE_SECONDS
from actors.router.verify import check
from bus import codec, simloop
from messages import Decided, Granted, Held, Retry
from scenarios.limits import limits_of
from scenarios.simulation import Run, plan_of, quiet, replay_command, seeds_of, simulate
from tests.simulation.test_simulation import start

SEEDS = 8
SOAK = 500
MUTATED = range(1, 13)


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Generator[None, None, None]:
    with quiet():
        yield


class Played(NamedTuple):
    seed: int
    violations: list[str]
    messages: list[Any]
    """What was decided, granted, held and retried."""


@pytest.fixture(scope="module", name="played")
def _played() -> list[Played]:
    return [play(seed) for seed in range(1, SEEDS + 1)]


def play(seed: int) -> Played:
    run = Run(plan_of(seed, limits=True))

    async def main() -> None:
        try:
            await run.play()
        finally:
            await run.world.close()

    simloop.run(main(), seed=seed)
    found: list[Any] = []
    for record in run.world.log("EV"):
        kind = codec.type_at(record.subject)
        if kind in (Decided, Granted, Held, Retry):
            found.append(codec.decode(kind, record.data, record.headers))
    return Played(seed, run.violations, found)


def test_seeds_with_limits(played: list[Played]) -> None:
    failed = [f"{replay_command(one.seed, limits=True)}: {one.violations}" for one in played if one.violations]
    assert not failed, "\n".join(failed)


def test_jobs_wait_are_held_are_resumed_and_every_decision_derives_again(played: list[Played]) -> None:
    seen: Counter[str] = Counter()
    for message in [message for one in played for message in one.messages]:
        seen[type(message).__name__] += 1
        if isinstance(message, Decided):
            assert check(message) == ""
        elif isinstance(message, Granted):
            seen[f"over: {message.when_over}"] += 1
        elif isinstance(message, Retry):
            seen[f"cause: {message.cause.reason}"] += 1
    for what in ("over: wait", "over: ask", "over: fail", "cause: over_budget", "cause: resumed", "Held"):
        assert seen[what] >= 5, (what, seen)


def test_seeds_draw_every_kind_of_limit() -> None:
    drawn = [limits_of(seed) for seed in range(1, SOAK + 1)]
    budgets = [budget for limits in drawn for budget in limits.budgets]
    assert {budget.scope for budget in budgets} == {"global", "tenant", "user", "backend", "model", "job"}
    assert {budget.unit for budget in budgets} == {"microdollars", "tokens", "requests", "gpu_milliseconds"}
    assert {budget.window for budget in budgets} == {"minute", "total"}
    assert {budget.on_all_over_budget for budget in budgets} == {None, "fail", "wait", "ask"}
    assert {limits.resumes for limits in drawn} == {0.0, 0.3, 0.9}
    assert any(limit < 0 for limits in drawn for _, _, limit in limits.changes)


def too_much_is_admitted(patch: pytest.MonkeyPatch) -> None:
    original = Ledger.room

    async def room(self: Any, reservation: Any, entry: Any, limit: int) -> Any:
        return await original(self, reservation, entry, limit + reservation.amount // 2)

    patch.setattr(Ledger, "room", room)


def a_refused_try_keeps_what_it_held(patch: pytest.MonkeyPatch) -> None:
    async def take(self: Any, made: Any, candidate: Any, wanted: Any, name: str) -> Any:
        kept: list[Any] = []
        for hold in wanted:
            reservation = msgspec.structs.replace(hold.reservation, hold=name)
            entry = entry_for(reservation, made, candidate)
            total = await self._ledger._add(reservation.amount, msgspec.structs.replace(entry, limit=hold.budget.limit))
            if total > hold.budget.limit:
                return (), hold, 0
            kept.append(reservation)
        return tuple(kept), None, 0

    async def compare(self: Any, following: Any, now: float) -> None:
        """It would return all of that."""

    patch.setattr(Reserver, "_take", take)
    patch.setattr(Sweeper, "compare", compare)


def who_waits_looks_every_second(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verdict, "_until_room", lambda decided, granted: PACE_SECONDS)


def nobody_resumes(patch: pytest.MonkeyPatch) -> None:
    async def job_resume(self: Any, resume: Any, heard: Any) -> list[Any]:
        return []

    patch.setattr(Guardrail, "job_resume", job_resume)


MUTATIONS = [
    (too_much_is_admitted, "the limit of"),
    (a_refused_try_keeps_what_it_held, "ledger "),
    (who_waits_looks_every_second, "times for the window"),
    (nobody_resumes, "resumed, and held on to its end"),
]


@pytest.mark.parametrize(("mutation", "seen"), MUTATIONS, ids=lambda part: getattr(part, "__name__", ""))
def test_a_broken_limit_shows(mutation: Any, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    for seed in MUTATED:
        if any(seen in violation for violation in simulate(seed, limits=True).violations):
            return
    pytest.fail(f"{mutation.__name__}: no seed of {MUTATED} says {seen!r}")


@pytest.mark.soak
def test_soak_with_limits() -> None:
    """SEEDS=500 says how many, SEEDS=5000-5099 says which."""
    workers = os.cpu_count() or 1
    wanted = os.environ.get("SEEDS", str(SOAK))
    seeds = seeds_of([wanted] if "-" in wanted else [f"1001-{1000 + int(wanted)}"])
    shares = [[str(seed) for seed in seeds[worker::workers]] for worker in range(workers)]
    running = [start("-q", "--limits", *share) for share in shares if share]
    told = [process.communicate()[0] for process in running]
    assert all(process.returncode == 0 for process in running), "\n".join(told)
