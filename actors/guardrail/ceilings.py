"""The shipped ceilings: what a day at a provider may cost at most until somebody says otherwise.

They are nobody's budget, only a guard against a loop that spends all night. Each is a budget like any other under the name
`ceiling-<provider>`: configure or set one of the same name to raise it, remove it, or turn all of them off with
`budgeting.ceilings = false`. Providers without a ceiling of their own are not limited by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from actors.alert_settings import BILLING, BILLING_LIMIT
from actors.settings import Budget

PER_DAY_DOLLARS: Final[dict[str, int]] = {
    "openai": 50, "anthropic": 50, "google": 50, "gemini": 50, "vertex": 50, "azure": 50, "bedrock": 50, "openrouter": 25,
    "mistral": 25, "cohere": 25, "xai": 25, "groq": 10, "deepseek": 10, "together": 25, "fireworks": 25, "cerebras": 10,
    "perplexity": 25, "replicate": 25, "fal": 25, "stability": 25, "bfl": 25, "luma": 50, "runway": 50, "elevenlabs": 25,
    "novita": 25, "runpod": 50,
}  # fmt: skip
"""Whole dollars per calendar day. Dearer where single requests are dear (large models, video), lower where they are cheap."""

CEILINGS: Final[tuple[Budget, ...]] = tuple(
    Budget(name=f"ceiling-{provider}", scope="provider", only=provider, window="day", limit=dollars * 1_000_000)
    for provider, dollars in sorted(PER_DAY_DOLLARS.items())
)


def counting(thresholds: Mapping[str, int], budgets: Iterable[Budget] = ()) -> tuple[Budget, ...]:
    """Budgets that count what a calendar month costs at each provider with a threshold, and never stop anything; all but
    those of whose name there is one already.
    """
    taken = {budget.name for budget in budgets}
    made = (
        Budget(
            name=f"{BILLING}{provider}", scope="provider", only=provider, window="month", limit=BILLING_LIMIT,
            soft_share=threshold / BILLING_LIMIT,
        )
        for provider, threshold in sorted(thresholds.items())
    )  # fmt: skip
    return tuple(budget for budget in made if budget.name not in taken)
