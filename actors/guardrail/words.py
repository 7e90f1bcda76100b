"""Why a budget refuses a candidate, in words: the figures, and the setting that helps. Pure."""

from __future__ import annotations

from actors.guardrail.limits import Hold
from actors.settings import Budget
from messages import Candidate, Slip


def over_in_words(hold: Hold, slip: Slip, candidate: Candidate, left: int) -> str:
    """`over budget (team): may use 3,104 tokens (input about 500 tokens, …; output at most 1,024), 900 of 20,000 left: …`."""
    budget, unit = hold.budget, hold.reservation.unit
    wants = {"microdollars": "may cost", "tokens": "may use", "requests": "takes", "gpu_milliseconds": "may take"}[unit]
    room = f"{_figure(max(0, left), unit)} of {_figure(budget.limit, unit)} left"
    said = f"over budget ({budget.name}): {wants} {_figure(hold.reservation.amount, unit)}{_noun(unit)}"
    helps = f"raise it (`turnout budget raise {budget.name}`)"
    if unit in ("microdollars", "tokens") and slip.needs.asset == "text":
        read = f"input about {slip.needs.input_tokens:,} tokens, {candidate.worst_case_input_tokens:,} at most"
        said += f" ({read}; output at most {candidate.max_output_tokens:,})"
        helps += " or lower max_output_tokens"
    elif unit == "gpu_milliseconds":
        helps += " or bound it (budgeting.longest_gpu_seconds)"
    return f"{said}, {room}: {helps}"


def unbounded_in_words(budget: Budget, candidate: Candidate) -> str:
    """Why a budget can't be kept where nothing bounds what is read."""
    return (
        f"nothing bounds {candidate.unbounded}, and a budget limits {_limits(budget)} ({budget.name}): state the model's "
        "context_tokens or its framing.image, or set budgeting.unbounded_input_tokens"
    )


def _limits(budget: Budget) -> str:
    return "dollars" if budget.unit == "microdollars" else "tokens"


def _noun(unit: str) -> str:
    return {"microdollars": "", "tokens": " tokens", "requests": " request", "gpu_milliseconds": " of GPU time"}[unit]


def _figure(amount: int, unit: str) -> str:
    if unit == "microdollars":
        return f"${amount / 1e6:.6f}"
    return f"{amount / 1000:,.1f} s" if unit == "gpu_milliseconds" else f"{amount:,}"
