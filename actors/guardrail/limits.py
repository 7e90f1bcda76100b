"""Which counters an attempt touches, with what amounts, and what it used of them in the end. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from actors.settings import Budget
from actors.windows import UTC, Span, span, window_name
from messages import Attempted, Candidate, Reservation, Slip, token
from messages.fleet import NARROW_FIRST, Scope, joined, only_of, scope_key, scopes_of
from messages.reading import least_output

GRACE_SECONDS = 1.0
"""An attempt that is stopped has ended so long after it at most."""


class Hold(NamedTuple):
    """One reservation to make, the budget that asks for it, and the window it falls in."""

    budget: Budget
    reservation: Reservation
    window: Span


def holder_of(budget: Budget, slip: Slip, candidate: Candidate) -> str:
    """Whose use the budget counts: `all`, a name, or `<tenant>/<name>` with both encoded; empty: it does not hold here.

    Of several scopes together the holder of each, joined by `&`; it holds where each of them does.
    """
    if isinstance(budget.scope, str):
        return _holder(budget.scope, only_of(budget.scope, budget.only), slip, candidate)
    found: list[str] = []
    for scope in scopes_of(budget.scope):
        holder = _holder(scope, only_of(scope, budget.only), slip, candidate)
        if not holder:
            return ""
        found.append(holder)
    return joined(found)


def _holder(scope: Scope, only: str, slip: Slip, candidate: Candidate) -> str:
    needs = slip.needs
    if scope == "model":
        if not only:
            return candidate.model
        return only if only in (candidate.model, *candidate.known.names) else ""
    if scope == "step":
        if not needs.workflow or not needs.step or (only and only != f"{needs.workflow}/{needs.step}"):
            return ""
        return f"{token(slip.tenant)}/{token(needs.workflow)}/{token(needs.step)}"
    name = _NAMES[scope](slip, candidate)
    if not name or (only and name != only):
        return ""
    return f"{token(slip.tenant)}/{token(name)}" if scope in ("user", "workflow", "job") else name


# Asked for every budget and candidate of every job.
_NAMES: Mapping[Scope, Callable[[Slip, Candidate], str]] = {
    "global": lambda _, __: "all",
    "tenant": lambda slip, _: slip.tenant,
    "provider": lambda _, candidate: candidate.known.provider,
    "backend": lambda _, candidate: candidate.backend,
    "user": lambda slip, _: slip.needs.user,
    "workflow": lambda slip, _: slip.needs.workflow,
    "job": lambda slip, _: slip.job,
}


def _amount(budget: Budget, candidate: Candidate) -> int:
    if budget.unit == "microdollars":
        return candidate.worst_case_microdollars
    return candidate.worst_case_tokens if budget.unit == "tokens" else 1


def gpu_milliseconds(slip: Slip, candidate: Candidate, at: float, longest_seconds: float = 0.0) -> int:
    """The most GPU time an attempt can take: all of it until its deadline, on hardware of ours; 0 elsewhere.

    `longest_seconds`: it is stopped after so long; 0: at its deadline alone.
    """
    if not candidate.known.local:
        return 0
    left = max(0.0, slip.deadline_at - at)
    return math.ceil(1000 * (GRACE_SECONDS + (min(left, longest_seconds) if longest_seconds else left)))


def longest_seconds(reserved: Sequence[Reservation]) -> float:
    """How long an attempt may run so that it has ended within the GPU time that is reserved for it; 0: none is."""
    amounts = [one.amount for one in reserved if one.unit == "gpu_milliseconds"]
    return max(min(amounts) / 1000 - GRACE_SECONDS, 0.001) if amounts else 0.0


def unpriced(budgets: Sequence[Budget], slip: Slip, candidate: Candidate) -> Budget | None:
    """The first budget in dollars that can't hold because nobody knows what the candidate costs."""
    if not candidate.known.price.unknown:
        return None
    for budget in budgets:
        if budget.unit == "microdollars" and holder_of(budget, slip, candidate):
            return budget
    return None


def unbounded(budgets: Sequence[Budget], slip: Slip, candidate: Candidate) -> Budget | None:
    """The first budget that can't hold because nothing bounds what the candidate may have to read."""
    if not candidate.unbounded:
        return None
    price = candidate.known.price
    units = {"tokens", "microdollars"} if price.worst(1_000_000, 0) > price.worst(0, 0) else {"tokens"}
    return next((budget for budget in budgets if budget.unit in units and holder_of(budget, slip, candidate)), None)


def softest(unit: str, slip: Slip, candidate: Candidate, at: float) -> int | None:
    """What might have to be held at least, once an answer that nobody gave a length is shorter and the input is counted exactly.

    None: what is held can't become less.
    """
    needs, cap = slip.needs, candidate.max_output_tokens
    if needs.asset != "text" or unit not in ("tokens", "microdollars"):
        return None
    if "max_output_tokens" not in needs.stated:
        cap = least_output(cap)
    read = min(needs.input_tokens, candidate.worst_case_input_tokens)
    if unit == "tokens":
        return read + cap
    price = candidate.known.price
    if price.worst(1_000_000, 1_000_000) == price.worst(0, 0):
        return None  # Its tokens cost nothing.
    return price.worst(read, cap, seconds=max(0.0, slip.deadline_at - at))


def holds(
    budgets: Sequence[Budget], slip: Slip, candidate: Candidate, at: float, *, longest_gpu_seconds: float = 0.0
) -> list[Hold]:
    """What must be held for one attempt, narrow scopes first: every guardrail takes them in this order.

    Of several budgets on one counter the strictest stands for all. What costs nothing of a unit holds nothing of it. All
    holds of an attempt share a name made from their counters and limits: where a limit has changed, they are other holds.
    """
    found: dict[str, Hold] = {}
    for budget in budgets:
        holder = holder_of(budget, slip, candidate)
        if not holder:
            continue
        if budget.unit == "gpu_milliseconds":
            amount = gpu_milliseconds(slip, candidate, at, longest_gpu_seconds)
        else:
            amount = _amount(budget, candidate)
        if amount == 0:
            continue
        window = span(budget.window, at, budget.time_zone or UTC)
        subject = f"ledger.{scope_key(budget.scope)}.{token(holder)}.{budget.unit}.{token(window.name)}"
        other = found.get(subject)
        if other is not None and (other.budget.limit, other.budget.name) <= (budget.limit, budget.name):
            continue
        reservation = Reservation(budget=budget.name, subject=subject, amount=amount, unit=budget.unit)
        found[subject] = Hold(budget, reservation, window)
    return sorted(found.values(), key=_narrowness)


def _narrowness(hold: Hold) -> tuple[int, int, str]:
    """The order in which all guardrails take counters: by the narrowest scope, of several together first."""
    scopes = scopes_of(hold.budget.scope)
    return NARROW_FIRST.index(scopes[0]), -len(scopes), hold.reservation.subject


def name_of(wanted: Sequence[Hold], again: int = 0) -> str:
    """The name that the holds of one try share: the same counters, amounts and limits give the same name."""
    told = "\n".join(f"{h.reservation.subject} {h.reservation.amount} {h.budget.limit}" for h in wanted)
    digest = hashlib.blake2b(told.encode(), digest_size=6).hexdigest()
    return f"{digest}-{again}" if again else digest


def billed(reservation: Reservation, attempted: Attempted) -> int:
    """What the attempt used of a reservation's unit: one rule for all of them.

    What never began uses nothing. What the record tells counts whole, more than was reserved too; what it does not tell is
    not known, and counts as all that was reserved.
    """
    if attempted.outcome == "not_started" or not attempted.begun:
        return 0
    told: Mapping[str, int | None] = {
        "microdollars": attempted.billed_microdollars,
        "tokens": attempted.counted_tokens,
        "gpu_milliseconds": attempted.counted_gpu_milliseconds,
    }
    used = told.get(reservation.unit)  # A request is one, whatever came of it.
    return reservation.amount if used is None else used


__all__ = [
    "Hold", "billed", "gpu_milliseconds", "holder_of", "holds", "longest_seconds", "name_of", "softest", "unbounded",
    "unpriced", "window_name",
]  # fmt: skip
