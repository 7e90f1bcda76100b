"""Simulations with limits in the way: budgets of every unit and most scopes, with waits, held jobs, people and changes.

What a seed draws here comes beside what every simulation draws, so that the seeds of the others stay what they are.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import msgspec

from actors.settings import Budget, BudgetRules
from bus import codec
from messages import Held, Limit
from messages.attempts import WhenOver
from messages.fleet import Unit

if TYPE_CHECKING:
    from scenarios.simulation import Plan
    from scenarios.world import World

DEADLINES = (90.0, 200.0, 330.0)
USERS = ("", "ada", "bob", "eve")
UNITS: tuple[Unit, ...] = ("microdollars", "tokens", "requests", "gpu_milliseconds")
WISHES: tuple[WhenOver, ...] = ("fail", "wait", "ask")
LEAST: dict[Unit, tuple[int, int]] = {
    "microdollars": (0, 4_000), "tokens": (1_000, 12_000), "requests": (1, 6), "gpu_milliseconds": (20_000, 400_000),
}  # fmt: skip
"""From and to: from what hardly one job fits into to what most do."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed draws about limits."""

    budgets: tuple[Budget, ...]
    rules: BudgetRules
    deadline_seconds: float
    resumes: float
    """Chance that a person resumes a held job when looking at it."""
    changes: tuple[tuple[float, str, int], ...]
    """When (seconds after the beginning) which budget gets which limit; -1 removes it."""


def limits_of(seed: int) -> Limits:
    """Draw everything from the seed."""
    rng = random.Random(f"{seed} limits")
    budgets: list[Budget] = []
    for scope, chance in (
        ("global", 0.8),
        ("tenant", 0.5),
        ("user", 0.4),
        ("backend", 0.4),
        ("model", 0.2),
        ("job", 0.2),
    ):
        if rng.random() >= chance:
            continue
        unit = rng.choice(UNITS)
        low, high = LEAST[unit]
        window = "total" if scope == "job" or rng.random() < 0.3 else "minute"
        budgets.append(
            Budget(
                scope=scope,  # type: ignore[arg-type]
                unit=unit,
                window=window,
                limit=rng.randint(low, high),
                time_zone=rng.choice(("", "Asia/Kathmandu")),
                on_all_over_budget=rng.choice((None, None, *WISHES)),
            )
        )
    changes = [
        (
            rng.uniform(1.0, 40.0),
            budget.name,
            rng.choice((-1, 0, budget.limit // 2, 2 * budget.limit, 50 * budget.limit)),
        )
        for budget in budgets
        if rng.random() < 0.35
    ]
    rules = BudgetRules(
        on_all_over_budget=rng.choice(WISHES), longest_gpu_seconds=rng.choice((0.0, 20.0)), ceilings=False,
        unknown_price_ceiling_microdollars=rng.choice((None, 700)),
    )  # fmt: skip
    return Limits(
        budgets=tuple(budgets), rules=rules, deadline_seconds=rng.choice(DEADLINES),
        resumes=rng.choice((0.0, 0.3, 0.9, 0.9)), changes=tuple(sorted(changes)),
    )  # fmt: skip


async def change(world: World, limits: Limits) -> None:
    """Set, raise, lower and remove limits while everything runs."""
    began = world.server.time()
    for at, name, limit in limits.changes:
        await asyncio.sleep(max(0.0, began + at - world.server.time()))
        budget = next(budget for budget in limits.budgets if budget.name == name)
        await world.fact(
            Limit(
                name=name, scope=budget.scope, unit=budget.unit, window=budget.window, limit=max(0, limit),
                time_zone=budget.time_zone, on_all_over_budget=budget.on_all_over_budget, removed=limit < 0, by="ada",
            )
        )  # fmt: skip


async def attend(world: World, plan: Plan, limits: Limits) -> None:
    """A person who looks at held jobs every few seconds, resumes some of them, and sometimes one that is not held."""
    rng = random.Random(f"{plan.seed} person")
    while True:
        await asyncio.sleep(rng.uniform(1.0, 12.0))
        held = sorted({(one.tenant, one.job) for one in held_jobs(world)})
        for tenant, job in held:
            if rng.random() < limits.resumes:
                await world.resume(job, tenant)
                if rng.random() < 0.2:
                    await world.resume(job, tenant)
        if rng.random() < 0.1:
            await world.resume(f"j{rng.randrange(plan.jobs)}", rng.choice(("acme", "globex")))


def held_jobs(world: World) -> list[Held]:
    """Every word that a job was held, whatever became of it since."""
    found = [record for record in world.log("EV") if record.subject.startswith("ev.held.")]
    return [codec.decode(Held, record.data, record.headers) for record in found]
