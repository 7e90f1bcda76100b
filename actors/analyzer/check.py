"""What is wrong with a submission: the first problem, with the field, its value, and what would be right. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any

import msgspec

from actors.analyzer.check_files import check_files
from actors.analyzer.check_media import check_media
from actors.problem import invalid, nearest, unreadable
from messages import JobSubmit, Problem, token
from messages.values import MODEL_CHARACTERS

MAX_ID = 128
MOST_CAPABILITIES = 32
MOST_TOKENS = 1_000_000_000
"""Beyond it a number is a mistake, and too large for the counters and figures made from it."""
MOST_SEED = 2**64 - 1
"""ComfyUI takes no larger one; who takes less folds it."""
MOST_MICRODOLLARS = 1_000_000_000_000_000
MOST_STYLE = 4_000
ROLES = ("system", "developer", "user", "assistant", "tool")
NAMES = (
    "id", "user", "workflow", "step", "batch", "role", "mode", "product", "model", "preferred_model",
    "preferred_backend",
)  # fmt: skip
"""Fields that hold a name."""
MODELS = ("model", "preferred_model")
"""Those that hold a model's: it may be as long as a path, for servers that call their models so."""
_NO_RECIPES: Mapping[str, AbstractSet[str]] = MappingProxyType({})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def reserved(job: str) -> bool:
    """Whether an id is one of those that are made from the sequence of a submission without one."""
    return re.fullmatch(r"in-\d+", job) is not None


def _check_name(field: str, value: str) -> Problem | None:
    most = MODEL_CHARACTERS if field in MODELS else MAX_ID
    if len(value) > most or _CONTROL.search(value):
        return invalid(field, value, f"use at most {most:,} characters and no control characters.")
    if field in MODELS and len(token(value)) > 2 * MODEL_CHARACTERS:
        return invalid(
            field, value, f"it has {len(token(value)):,} characters as part of a subject, and may have {2 * most:,}."
        )
    return None


def _check_messages(submit: JobSubmit) -> Problem | None:
    if submit.prompt and submit.messages:
        return invalid("prompt", submit.prompt[:40], "give either prompt or messages, not both.")
    if not submit.messages:
        instead = submit.graph or submit.texts or submit.recipe  # A recipe says itself whether it needs one.
        if not submit.prompt.strip() and not instead:
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
    if submit.seed is not None and not 0 <= submit.seed <= MOST_SEED:
        return invalid("seed", submit.seed, f"use 0 to {MOST_SEED:,}, or leave it out.")
    deadline = submit.deadline_seconds
    if deadline is not None and not (0 < deadline <= longest_deadline and math.isfinite(deadline)):
        right = f"use more than 0 and at most {longest_deadline:,.0f} seconds, or leave it out."
        return invalid("deadline_seconds", deadline, right)
    for field in ("max_cost_microdollars", "value_per_hour_microdollars"):
        amount: int | None = getattr(submit, field)
        if amount is not None and not 0 <= amount <= MOST_MICRODOLLARS:
            return invalid(field, amount, f"use 0 to {MOST_MICRODOLLARS:,}, or leave it out.")
    return None


def _check_capabilities(submit: JobSubmit) -> Problem | None:
    for field in ("capabilities", "preferred_capabilities"):
        names: tuple[str, ...] = getattr(submit, field)
        if len(names) > MOST_CAPABILITIES:
            return invalid(field, f"{len(names)} names", f"use at most {MOST_CAPABILITIES} names.")
        for name in names:
            if not name:
                return invalid(field, name, "a capability has a name, such as vision.")
            if problem := _check_name(field, name):
                return problem
            if field == "preferred_capabilities" and name in submit.capabilities:
                return invalid(field, name, "it stands in capabilities too; required and preferred exclude each other.")
    return None


def check(
    submit: JobSubmit,
    *,
    tenant: str,
    models: AbstractSet[str],
    strategies: Collection[str],
    longest_deadline: float,
    catalogue: AbstractSet[str] = frozenset(),
    recipes: Mapping[str, AbstractSet[str]] = _NO_RECIPES,
) -> Problem | None:
    """The first problem of a submission, or None.

    `tenant` is the one of the subject; `models` are those any backend is known to serve (empty: nothing is known yet, so
    nothing is refused); `catalogue` holds the stable ids of models; `recipes` those of any backend, with what each can
    make; `longest_deadline` in seconds.
    """
    if submit.tenant and submit.tenant != tenant:
        return invalid("tenant", submit.tenant, f"it was published for tenant {tenant!r}; leave the field out.")
    for field in NAMES:
        value = getattr(submit, field)
        if value and (problem := _check_name(field, value)):
            return problem
    if reserved(submit.id):
        return invalid("id", submit.id, "names like in-17 are given to jobs without an id; choose another.")
    if len(submit.style) > MOST_STYLE:
        return invalid("style", submit.style, f"use at most {MOST_STYLE:,} characters.")
    problem = (
        _check_capabilities(submit)
        or _check_messages(submit)
        or _check_numbers(submit, longest_deadline)
        or check_media(submit)
        or check_files(submit, tenant)
    )
    if problem:
        return problem
    if submit.model and models and not _is_known(submit.model, models, catalogue):
        known = sorted(models | catalogue)
        return invalid("model", submit.model, f"no backend serves it.{nearest(submit.model, known)} "
                       f"Known: {', '.join(sorted(models)[:8])}.")  # fmt: skip
    if submit.recipe and models and (problem := _check_recipe(submit, recipes)):
        return problem
    if submit.strategy and submit.strategy not in strategies:
        hint = nearest(submit.strategy, strategies)
        return invalid("strategy", submit.strategy, f"use one of {', '.join(strategies)}.{hint}")
    return None


def _check_recipe(submit: JobSubmit, recipes: Mapping[str, AbstractSet[str]]) -> Problem | None:
    recipe, made = submit.recipe, sorted(recipes.get(submit.recipe, ()))
    if recipe not in recipes:
        known = f" Known: {', '.join(sorted(recipes)[:8])}." if recipes else ""
        return invalid("recipe", recipe, f"no backend has it.{nearest(recipe, recipes)}{known}")
    if submit.asset and made and submit.asset not in made:
        text = f"recipe {recipe!r} makes {' or '.join(made)}, but asset is {submit.asset}: leave asset out."
        return Problem(reason="invalid", field="recipe", value=repr(recipe), message=text)
    return None


_LATEST = ":latest"


def _is_known(model: str, models: AbstractSet[str], catalogue: AbstractSet[str]) -> bool:
    """By its name, with or without `:latest`, or by its stable id."""
    return model in models or model in catalogue or model + _LATEST in models or model.removesuffix(_LATEST) in models


def undecodable(reason: str) -> Problem:
    """A problem from a decoder's message about a submission."""
    return unreadable(JobSubmit, "job", reason)


def lenient_id(body: bytes) -> str:
    """The `id` of a body that is no valid submission, if it has one; empty otherwise."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    found = value.get("id") if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return found if isinstance(found, str) else ""
