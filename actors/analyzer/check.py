"""What is wrong with a submission: the first problem, with the field, its value, and what would be right. Pure."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any

from messages import JobSubmit, Problem

MAX_ID = 128
MOST_CAPABILITIES = 32
MOST_TOKENS = 1_000_000_000
"""Beyond it a number is a mistake, and too large for the counters and figures made from it."""
MOST_MICRODOLLARS = 1_000_000_000_000_000
ROLES = ("system", "developer", "user", "assistant", "tool")


def invalid(field: str, value: Any, right: str) -> Problem:
    """A problem that names the field, the value and what would be right."""
    shown = repr(value) if isinstance(value, str) else str(value)
    return Problem(
        reason="invalid", field=field, value=shown[:200], message=f"{field} is {shown[:80] or 'empty'}: {right}"
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the known name most like `word`, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""


def reserved(job: str) -> bool:
    """Whether an id is one of those that are made from the sequence of a submission without one."""
    return re.fullmatch(r"in-\d+", job) is not None


def _check_id(field: str, value: str) -> Problem | None:
    if len(value) > MAX_ID or any(ord(c) < 32 for c in value):
        return invalid(field, value, f"use at most {MAX_ID} characters and no control characters.")
    return None


def _check_messages(submit: JobSubmit) -> Problem | None:
    if submit.prompt and submit.messages:
        return invalid("prompt", submit.prompt[:40], "give either prompt or messages, not both.")
    if not submit.messages:
        if not submit.prompt.strip():
            return invalid("prompt", submit.prompt, "write what should be generated, in prompt or in messages.")
        return None
    for number, message in enumerate(submit.messages):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            return invalid(f"messages[{number}].role", role, f"use one of {', '.join(ROLES)}.")
        if not isinstance(content, str | list) and not message.get("tool_calls"):
            return invalid(f"messages[{number}].content", content, "use a text or a list of parts.")
    if not any(message.get("content") for message in submit.messages):
        return invalid("messages", len(submit.messages), "at least one message needs content.")
    return None


def _check_numbers(submit: JobSubmit, longest_deadline: float) -> Problem | None:
    if submit.max_output_tokens is not None and not 1 <= submit.max_output_tokens <= MOST_TOKENS:
        return invalid("max_output_tokens", submit.max_output_tokens, f"use 1 to {MOST_TOKENS:,}, or leave it out.")
    if submit.temperature is not None and not 0 <= submit.temperature <= 2:
        return invalid("temperature", submit.temperature, "use 0 to 2.")
    deadline = submit.deadline_seconds
    if deadline is not None and not (0 < deadline <= longest_deadline and math.isfinite(deadline)):
        right = f"use more than 0 and at most {longest_deadline:,.0f} seconds, or leave it out."
        return invalid("deadline_seconds", deadline, right)
    if submit.max_cost_microdollars is not None and not 0 <= submit.max_cost_microdollars <= MOST_MICRODOLLARS:
        right = f"use 0 to {MOST_MICRODOLLARS:,}, or leave it out."
        return invalid("max_cost_microdollars", submit.max_cost_microdollars, right)
    return None


def check(
    submit: JobSubmit, *, tenant: str, models: AbstractSet[str], strategies: Iterable[str], longest_deadline: float
) -> Problem | None:
    """The first problem of a submission, or None.

    `tenant` is the one of the subject; `models` are those any backend is known to serve (empty: nothing is known yet, so
    nothing is refused); `longest_deadline` in seconds.
    """
    if submit.tenant and submit.tenant != tenant:
        return invalid("tenant", submit.tenant, f"it was published for tenant {tenant!r}; leave the field out.")
    for field in ("id", "user", "workflow", "step", "batch", "role", "product", "model", "preferred_backend"):
        if problem := _check_id(field, getattr(submit, field)):
            return problem
    if reserved(submit.id):
        return invalid("id", submit.id, "names like in-17 are given to jobs without an id; choose another.")
    if len(submit.capabilities) > MOST_CAPABILITIES:
        right = f"use at most {MOST_CAPABILITIES} names."
        return invalid("capabilities", f"{len(submit.capabilities)} names", right)
    for name in submit.capabilities:
        if problem := _check_id("capabilities", name):
            return problem
    if problem := _check_messages(submit) or _check_numbers(submit, longest_deadline):
        return problem
    if submit.model and models and submit.model not in models:
        return invalid("model", submit.model, f"no backend serves it.{nearest(submit.model, models)} "
                       f"Known: {', '.join(sorted(models)[:8])}.")  # fmt: skip
    names = list(strategies)
    if submit.strategy and submit.strategy not in names:
        return invalid("strategy", submit.strategy, f"use one of {', '.join(names)}.{nearest(submit.strategy, names)}")
    return None


_PATH = re.compile(r"`\$\.?([^`]*)`")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")


def undecodable(reason: str) -> Problem:
    """A problem from a decoder's message, with the field it points at and the nearest name for an unknown one."""
    unknown = _UNKNOWN.search(reason)
    if unknown:
        known = [name for name in JobSubmit.__struct_fields__ if name != "tenant"]
        return Problem(
            reason="invalid",
            field=unknown[1],
            message=f"{unknown[1]} is not a field of a job.{nearest(unknown[1], known)} Known: {', '.join(known)}.",
        )
    path = _PATH.search(reason)
    field = path[1] if path else ""
    kind = "invalid" if field else "undecodable"
    text = f"{field}: {reason}" if field else f"the body is not a job in JSON: {reason}"
    return Problem(reason=kind, field=field, message=text)
