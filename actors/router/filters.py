"""Who may run a job: the filters in their order, each with a name and a reason in words. Pure."""

from __future__ import annotations

from actors.graph_names import BY_NAME
from actors.lora_names import lora_named
from actors.router.case import Case, Row
from messages import Exclusion, Media, Needs

UNTIL_CHANGED = frozenset({"account", "manual"})
"""Causes of an open breaker that do not pass by themselves: nobody gets through, not even in panic."""
TEMPORARY = frozenset({"executor", "unhealthy", "breaker", "excluded"})
"""Filters that may let a candidate through later by themselves."""


def excluded_by(exclusions: tuple[Exclusion, ...], backend: str, model: str, now: float) -> Exclusion | None:
    """The exclusion in force for a backend's model, the longest one first."""
    found = [
        e
        for e in exclusions
        if e.backend == backend and e.model in ("", model) and (e.until == 0.0 or e.until > now)
    ]  # fmt: skip
    return min(found, key=lambda e: (e.until != 0.0, -e.until), default=None)


def sift(rows: list[Row], case: Case, exclusions: tuple[Exclusion, ...], *, spent_microdollars: int) -> list[Row]:
    """Those that may run the job; the others get `barred` and `reason`.

    Fitted rows are expected: `max_output_tokens`, `worst_case_microdollars` and `parameters` are set.
    """
    needs, plan, now = case.needs, case.plan, case.now
    required = frozenset((*needs.capabilities, *plan.requires))
    if not needs.media.node_types:  # What a graph makes depends on its nodes, not on a model.
        required |= {needs.asset}
    limit = needs.max_cost_microdollars
    left = None if limit is None else limit - spent_microdollars
    excluded = {e.backend for e in exclusions}
    strict = plan.strict and bool(plan.pool)
    plain = not (needs.model or needs.role or needs.media.loras or strict)
    permitted: list[Row] = []
    for row in rows:
        known = row.known
        if row.barred:
            continue  # It could not be fitted.
        if not plain and _unsuited(row, case, strict=strict):
            continue
        if not required.issubset(known.capabilities):
            row.barred, row.reason = "capability", f"lacks {', '.join(sorted(required - set(known.capabilities)))}"
        elif BY_NAME in known.capabilities and not (needs.recipe or needs.media.node_types):
            row.barred, row.reason = "capability", "takes only jobs that name one of its recipes"
        elif known.lacks:
            row.barred, row.reason = "graph", f"lacks {', '.join(known.lacks)}"
        elif known.context_tokens is not None and needs.input_tokens + row.max_output_tokens > known.context_tokens:
            wanted = needs.input_tokens + row.max_output_tokens
            row.barred = "context"
            row.reason = f"needs {wanted:,} tokens of context, has {known.context_tokens:,}"
        elif not known.local and not needs.allow_cloud:
            row.barred, row.reason = "cloud", "is a cloud backend, and the job does not allow the cloud"
        elif left is not None and (why := _too_dear(row, left, needs)):
            row.barred, row.reason = "cost", why
        elif known.vram_total_mb and known.vram_mb + needs.vram_mb > known.vram_total_mb:
            row.barred = "vram"
            row.reason = f"needs {known.vram_mb + needs.vram_mb:,} MB of GPU memory, has {known.vram_total_mb:,}"
        elif known.unfit:
            row.barred, row.reason = _unfit(known.unfit), known.unfit
        elif row.features.open_until:
            row.barred = "breaker"
            row.reason = _open(row, now)
        elif (
            row.backend in excluded and (exclusion := excluded_by(exclusions, row.backend, row.model, now)) is not None
        ):
            forever = exclusion.until == 0.0
            until = "from this job" if forever else f"for {exclusion.until - now:.0f} s"
            row.barred = "failed" if forever else "excluded"
            row.reason = f"is excluded {until}: {exclusion.reason}"
        else:
            permitted.append(row)
    return permitted


def _unsuited(row: Row, case: Case, *, strict: bool) -> bool:
    """Whether the row's model is not the one, or not for the role, the LoRAs or the pool."""
    needs, known = case.needs, row.known
    if needs.model and needs.model != row.model and needs.model not in known.names:
        row.barred, row.reason = "model", f"serves {row.model}, not {needs.model}"
    elif needs.role and (needs.role in known.roles_denied or (known.roles and needs.role not in known.roles)):
        row.barred, row.reason = "role", f"is not for the role {needs.role}"
    elif needs.media.loras and known.loras is not None and (missing := _missing_loras(needs.media, known.loras)):
        row.barred, row.reason = "lora", f"lacks the LoRA {', '.join(missing)}"
    elif strict and not any(row.is_called(name) for name in case.plan.pool):
        row.barred, row.reason = "pool", f"is not in the pool of {case.plan.rule}"
    return bool(row.barred)


def _missing_loras(media: Media, there: tuple[str, ...]) -> list[str]:
    """Those that nothing there is named by. What a graph of the job's own loads is looked for among all files of the server."""
    if media.node_types:
        return []
    return sorted(name for name in media.loras if name not in there and lora_named(name, there) is None)


def _open(row: Row, now: float) -> str:
    f = row.features
    if f.open_cause == "manual":
        return f"has a breaker that is open until it is closed by hand ({f.open_reason}): `turnout breaker close {row.backend}`"
    if f.open_cause in UNTIL_CHANGED:
        return f"has an open breaker until somebody acts: {f.open_reason}"
    return f"has an open breaker for {f.open_until - now:.0f} s: {f.open_reason}"


def _too_dear(row: Row, left: int, needs: Needs) -> str:
    """Why the job's cost limit could not be kept there; empty: it is kept whatever happens."""
    price = row.known.price
    if price.unknown:
        return "has no known price, and the job limits its cost"
    if row.unbounded and price.worst(1_000_000, 0) > price.worst(0, 0):
        return (
            f"has a price for input and nothing bounds {row.unbounded}, and the job limits its cost: state the model's "
            "context_tokens or its framing.image, or set budgeting.unbounded_input_tokens"
        )
    if row.worst_case_microdollars <= left:
        return ""
    worst = f"could cost ${row.worst_case_microdollars / 1e6:.6f}, the job has ${max(0, left) / 1e6:.6f} left"
    if not row.worst_case_tokens or needs.asset != "text":
        return worst
    return (
        f"{worst} (input about {needs.input_tokens:,} tokens, {row.worst_case_input_tokens:,} at most, output at most "
        f"{row.max_output_tokens:,}): raise max_cost_microdollars or lower max_output_tokens"
    )


def _unfit(text: str) -> str:
    if text.startswith("is inactive"):
        return "inactive"
    return "unhealthy" if text.startswith("is unhealthy") else "executor"
