"""What becomes of the request at each backend: caps, the quality level's parameters, variants, degraded wishes. Pure.

Every change is listed in words; the next backend gets its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.router.case import Case, Row
from messages import Needs, Parameters, Preset, adjusted
from messages.policies import Change, Degrade

STEP_IN_WORDS: dict[Degrade, str] = {
    "drop_images": "images are left out",
    "describe_style": "the style image is replaced by words",
    "shorten": "the oldest messages are left out",
    "drop_tools": "tools are left out",
    "plain_text": "JSON is asked for in words only",
}
NUMBERS = ("steps", "width", "height", "frames")


def fit(rows: list[Row], case: Case) -> None:
    """Set `max_output_tokens`, the worst cases, `parameters` and `changes` of every row."""
    needs, plan = case.needs, case.plan
    cap, read = needs.max_output_tokens, needs.input_tokens
    wished = tuple(sorted({*needs.preferred, *plan.prefers} - set(needs.capabilities)))
    media = None if needs.asset == "text" else needs.media
    simple = not wished and media is None and not plan.preset.variants and not plan.preset.backends
    left = max(0.0, case.deadline_at - case.now)
    beside: dict[str, dict[str, Row]] = {}
    if not simple:
        for row in rows:
            beside.setdefault(row.backend, {})[row.model] = row
    code = needs.task == "code"
    for row in rows:
        known = row.known
        if code and "code" not in known.capabilities:
            row.changes = ("a general model, not one for code",)
        limit = known.max_output_tokens
        tokens = cap if simple else _adjust(row, case, wished, beside[row.backend])
        if limit is not None and limit < tokens:
            row.changes = (*row.changes, f"output capped at {limit} instead of {tokens} tokens")
            tokens = limit
        row.max_output_tokens = tokens
        price = row.known.price
        # At the measured ratio of tokens if that is more: the worst case must hold for this model's own counting.
        ratio = row.features.input_ratio
        at_most = read if ratio <= 1.0 else int(read * ratio) + 1
        row.worst_case_tokens = at_most + tokens
        made = media if row.parameters is None or media is None else adjusted(media, row.parameters)
        row.worst_case_microdollars = price.worst(at_most, tokens, made, seconds=left, quality=needs.rated)


def sizes(needs: Needs, preset: Preset, backend: str) -> dict[str, int]:
    """What the quality level makes of the steps, size and frames that a backend is asked for."""
    own, found = preset.backends.get(backend, preset), dict[str, int]()
    for name in NUMBERS:
        value: int | None = getattr(own, name) or getattr(preset, name)
        if value is None or name in needs.stated or value == getattr(needs.media, name):
            continue
        if name != "frames" or needs.asset == "video":
            found[name] = value
    return found


def _adjust(row: Row, case: Case, wished: tuple[str, ...], models: Mapping[str, Row]) -> int:
    """Apply the preset and the wishes to one row; the cap on output tokens that results."""
    needs, plan = case.needs, case.plan
    changes = list(row.changes)
    own = plan.preset.backends.get(row.backend, Change())
    changed: dict[str, object] = {}
    tokens = needs.max_output_tokens
    if (
        own.max_output_tokens is not None
        and "max_output_tokens" not in needs.stated
        and own.max_output_tokens != tokens
    ):
        changes.append(f"{needs.quality}: {own.max_output_tokens} output tokens instead of {tokens}")
        tokens = own.max_output_tokens
    if needs.asset != "text":
        for name, value in sizes(needs, plan.preset, row.backend).items():
            asked: int = getattr(needs.media, name)
            changed[name] = value
            changes.append(f"{needs.quality}: {name} {value}" + (f" instead of {asked}" if asked else ""))
    variant = _variant(row.model, {**plan.preset.variants, **own.variants}, models, needs.model)
    if variant:
        changed["model"] = variant
        _as_variant(row, models[variant])
        changes.append(f"{needs.quality}: variant {variant} instead of {row.model}")
    steps: list[Degrade] = []
    for name in wished:
        if name in row.known.capabilities:
            continue
        step = plan.degrade.get(name)
        if step is None:
            row.barred, row.reason = (
                "capability",
                f"lacks {name}, which is preferred, and no policy says what to do without",
            )
            row.changes = tuple(changes)
            return tokens
        steps.append(step)
        changes.append(f"no {name} here: {STEP_IN_WORDS[step]}")
    if steps:
        changed["degrade"] = tuple(dict.fromkeys(steps))
    if changed:
        row.parameters = Parameters(**changed)  # pyright: ignore[reportArgumentType]
    row.changes = tuple(changes)
    return tokens


def _variant(model: str, of: Mapping[str, str], models: Mapping[str, Row], asked: str) -> str:
    """What runs in the model's place; empty: itself.

    Variants of variants are followed to their end, so that who stands in for others stands as it is: then neither the order of
    the rows nor that they were fitted before matters. In a circle nobody stands in for anybody.
    """
    found, seen = model, {model}
    while (after := of.get(found, "")) and after in models and after != asked:
        if after in seen:
            return ""
        seen.add(after)
        found = after
    return "" if found == model else found


def _as_variant(row: Row, variant: Row) -> None:
    """What the variant costs and takes is what counts."""
    row.known = msgspec.structs.replace(
        row.known, price=variant.known.price, vram_mb=variant.known.vram_mb, quality_tier=variant.known.quality_tier
    )
    f = variant.features
    row.features = msgspec.structs.replace(
        row.features, price_microdollars=f.price_microdollars, service_seconds=f.service_seconds, runs=f.runs,
        first_token_seconds=f.first_token_seconds, wait_seconds=f.wait_seconds, switch_seconds=f.switch_seconds,
        spread=f.spread, loaded=f.loaded, input_ratio=f.input_ratio,
    )  # fmt: skip
