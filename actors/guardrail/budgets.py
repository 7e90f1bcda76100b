"""The budgets in force: those of the settings, the shipped ceilings, and what was set, raised or removed since."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from actors.contradictions import of_budget
from actors.guardrail.ceilings import CEILINGS
from actors.settings import Budget, BudgetRules
from messages import Limit
from messages.attempts import WhenOver

_SHARED = (
    "name", "scope", "only", "unit", "window", "limit", "soft_share", "time_zone", "on_all_over_budget",
)  # fmt: skip


def configured(budgets: Iterable[Budget], rules: BudgetRules) -> tuple[Budget, ...]:
    """The budgets that hold from the start: the settings' own, and every ceiling of which they have no other of its name."""
    own = tuple(budgets)
    names = {budget.name for budget in own}
    shipped = tuple(budget for budget in CEILINGS if rules.ceilings and budget.name not in names)
    return tuple(_with_zone(budget, rules) for budget in (*own, *shipped))


def _with_zone(budget: Budget, rules: BudgetRules) -> Budget:
    return budget if budget.time_zone else msgspec.structs.replace(budget, time_zone=rules.time_zone)


def limit_of(budget: Budget) -> Limit:
    """A configured budget as the fact that would set it."""
    return Limit(**{field: getattr(budget, field) for field in _SHARED})


def budget_of(limit: Limit) -> Budget:
    """What a fact sets."""
    return Budget(**{field: getattr(limit, field) for field in _SHARED})


class Budgets:
    """All limits that hold now. A fact takes the place of the configured budget of its name; a removed one holds no more."""

    def __init__(self, budgets: Iterable[Budget] = (), rules: BudgetRules | None = None) -> None:
        self.rules = rules or BudgetRules(ceilings=False)
        self._configured = {budget.name: budget for budget in configured(budgets, self.rules)}
        self._said: dict[str, Limit] = {}
        self.in_force: tuple[Budget, ...] = tuple(self._configured.values())
        """Every budget that holds, as the guardrail looks at them."""

    def learn(self, limit: Limit) -> str:
        """Take up a limit that was set, raised or removed; why not, when it can't be meant (then nothing changes)."""
        problem = "" if limit.removed else "; ".join(of_budget(limit))
        if not problem:
            self._said[limit.name] = limit
            rest = {name: budget for name, budget in self._configured.items() if name not in self._said}
            said = [budget_of(one) for one in self._said.values() if not one.removed]
            self.in_force = (*rest.values(), *(_with_zone(budget, self.rules) for budget in said))
        return problem

    def named(self, name: str) -> Budget | None:
        """The budget of this name, if it holds."""
        return next((budget for budget in self.in_force if budget.name == name), None)

    def limits(self) -> tuple[Limit, ...]:
        """Every budget in force with who set it, by name."""
        held = sorted(self.in_force, key=lambda budget: budget.name)
        return tuple(self._said.get(budget.name) or limit_of(budget) for budget in held)

    def wish_of(self, budget: Budget) -> WhenOver:
        """What a budget wants to happen when nobody can run a job because of it."""
        return budget.on_all_over_budget or self.rules.on_all_over_budget
