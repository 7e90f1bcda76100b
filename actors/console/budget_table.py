"""Budgets on the screen: amounts as people type and read them, and a table with bars."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import msgspec
from rich.text import Text

from actors.alert_settings import BILLING, BILLING_LIMIT
from actors.amounts import dollars
from actors.console.screen import Wrong, clean, day_and_clock, seconds
from actors.console.tables import Cells
from messages import BudgetsAre, BudgetState, Limit, Spending
from messages.fleet import Unit, whom

UNITS: dict[str, Unit] = {
    "dollars": "microdollars", "microdollars": "microdollars", "tokens": "tokens", "requests": "requests",
    "gpu-seconds": "gpu_milliseconds", "gpu_milliseconds": "gpu_milliseconds",
}  # fmt: skip
"""Units as they are typed, and as they are counted."""
FACTORS: dict[Unit, tuple[int, str]] = {
    "microdollars": (1_000_000, "dollars"), "gpu_milliseconds": (1_000, "GPU-seconds"), "tokens": (1, "tokens"),
    "requests": (1, "requests"),
}  # fmt: skip
"""How many of the counted unit one of the shown is, and its name."""
COLUMNS = ("budget", "for", "spent", "held", "limit", "used", "", "by the end", "window", "set by")
RIGHT = ("spent", "held", "limit", "used")
FOLD = {"budget": 24, "for": 20, "by the end": 11}
DROP = ("", "set by", "by the end", "used", "window")
"""What a narrow screen goes without, the first first; amounts stay."""
BAR = 12
"""Characters of a bar."""
CEILING = "ceiling-"
"""How the names of shipped ceilings begin."""


def amount_of(text: str, unit: Unit) -> int:
    """A limit as it is typed, in the counted unit. Raises Wrong.

    Dollars (`5.00`, `$5`, down to a millionth) and GPU-seconds (down to a thousandth) may have a fraction.
    """
    factor, name = FACTORS[unit]
    plain = text.strip().replace(",", "").replace("_", "")
    if unit == "microdollars":
        plain = plain.removeprefix("$")
    try:
        value = Decimal(plain) * factor
    except InvalidOperation:
        raise Wrong(f"--limit is {text!r}: give {name}, 0 or more, for example {_example(unit)}") from None
    if not value.is_finite() or value < 0:
        raise Wrong(f"--limit is {text!r}: use 0 (only what is free) or more; to end a budget, `turnout budget remove`")
    if value != value.to_integral_value() or value >= 2**53:
        raise Wrong(f"--limit is {text!r}: that is too fine or too large; give {name}, for example {_example(unit)}")
    return int(value)


def _example(unit: Unit) -> str:
    return "5.00" if unit == "microdollars" else "3600"


def shown(value: float, unit: Unit) -> str:
    """An amount as people read it in a column of its unit: `$4.50`, `12,000`, `36.0 s`."""
    if unit == "microdollars":
        return dollars(value)
    return f"{value / 1000:,.1f} s" if unit == "gpu_milliseconds" else f"{value:,.0f}"


def unit_of(text: str) -> Unit:
    """A unit as it is typed. Raises Wrong."""
    found = UNITS.get(text.lower())
    if found is None:
        raise Wrong(f"--unit is {text!r}: use dollars, tokens, requests or gpu-seconds")
    return found


def unused_ceilings(answer: BudgetsAre) -> int:
    """How many shipped ceilings nobody has used in their present window."""
    used = {state.budget for state in answer.states}
    return sum(limit.name.startswith(CEILING) and limit.name not in used for limit in answer.limits)


def budgets_cells(
    answer: BudgetsAre,
    spending: Mapping[tuple[str, str], Spending] | None = None,
    *,
    now: float = 0.0,
    ceilings: bool = True,
) -> Cells:
    """One row per budget and holder; one that nobody has used in its present window has no bar.

    `spending`, by budget and holder, tells where each is going. Without `ceilings` the shipped ones that nobody has used are
    left out.
    """
    rows: list[tuple[Text | str, ...]] = []
    for limit in answer.limits:
        states = [state for state in answer.states if state.budget == limit.name]
        if not states and limit.name.startswith(CEILING) and not ceilings:
            continue
        for state in states or [None]:
            known = (spending or {}).get((limit.name, state.holder)) if state else None
            rows.append(_row(_as_shown(limit), state, known, now))
    return {name: [Text.assemble(row[at]) for row in rows] for at, name in enumerate(COLUMNS)}


def _as_shown(limit: Limit) -> Limit:
    """A budget that only counts for a provider's threshold shows the threshold: its own limit stops nothing."""
    if not limit.name.startswith(BILLING) or limit.limit != BILLING_LIMIT:
        return limit
    return msgspec.structs.replace(limit, limit=round(limit.soft_share * limit.limit), soft_share=1.0)


def where_to(state: BudgetState, spending: Spending | None, now: float) -> Text:
    """What will be spent when the window ends, and how long and for how many jobs the rest lasts; empty: unknown."""
    if spending is None or spending.counter != state.counter:
        return Text()
    parts: list[str] = []
    if spending.projected is not None:
        parts.append(shown(spending.projected, state.unit))
    if spending.breach_at:
        left = spending.breach_at - now
        parts.append(f"full in {seconds(left)}" if left > 0 else "full")
    if spending.jobs_left is not None:
        parts.append(f"{spending.jobs_left:,} prompts left")
    return Text(", ".join(parts), "yellow" if spending.breach_at else "")


def _whose(limit: Limit) -> str:
    return limit.only if isinstance(limit.only, str) and limit.only else whom(limit.scope, limit.only)


def _row(limit: Limit, state: BudgetState | None, spending: Spending | None, now: float) -> tuple[Text | str, ...]:
    spent, held = (state.spent, state.reserved) if state else (0, 0)
    who = state.holder if state else _whose(limit)
    share = (spent + held) / limit.limit if limit.limit else 0.0
    style = "red" if spent + held >= limit.limit > 0 else "yellow" if share >= limit.soft_share else "green"
    rolls = f", to {_short(state.ends_at)}" if state and state.ends_at else ""
    by = clean(limit.by) if limit.at else next(
        (by for prefix, by in ((CEILING, "shipped"), (BILLING, "environment")) if limit.name.startswith(prefix)), "settings"
    )  # fmt: skip
    unit = "" if limit.unit in ("microdollars", "gpu_milliseconds") else f" {limit.unit}"
    return (
        Text(clean(limit.name), "bold"), clean(who), shown(spent, limit.unit), shown(held, limit.unit),
        shown(limit.limit, limit.unit) + unit, f"{share:.0%}", Text(bar(spent, held, limit.limit) if state else "", style),
        where_to(state, spending, now) if state else "", f"{limit.window}{rolls}", by,
    )  # fmt: skip


def _short(at: float) -> str:
    """The time of day, or the day when it is midnight here."""
    day, _, clock = day_and_clock(at).partition(" ")
    return day if clock == "00:00:00" else clock


def bar(spent: int, held: int, limit: int, width: int = BAR) -> str:
    """Spent (█), held (▒) and left (░), in proportion; whatever is more than nothing is seen."""
    if limit <= 0:
        return "█" * width if spent + held > 0 else "░" * width
    first = min(width, max(round(width * spent / limit), 1)) if spent > 0 else 0
    second = min(width - first, max(round(width * held / limit), 1)) if held > 0 else 0
    return "█" * first + "▒" * second + "░" * (width - first - second)
