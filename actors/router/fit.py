"""What becomes of the request at each backend: caps, the quality level's parameters, variants, degraded wishes. Pure.

Every change is listed in words; the next backend gets its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from actors.router.case import Case, Row
from messages import Bound, Counted, Framing, Media, Needs, Parameters, Preset, Price, Room, adjusted
from messages.policies import Change, Degrade
from messages.reading import least_output

STEP_IN_WORDS: dict[Degrade, str] = {
    "drop_images": "images are left out",
    "describe_style": "the style image is replaced by words",
    "shorten": "the oldest messages are left out",
    "drop_tools": "tools are left out",
    "plain_text": "JSON is asked for in words only",
}
SPARE_SHARE: Final = 1.25
SPARE_TOKENS: Final = 16
"""What is left of a context for the answer is counted from an estimate of the prompt, so something is spared: a server refuses
what is one token too long."""
NUMBERS = ("steps", "width", "height", "frames")


def fit(
    rows: list[Row],
    case: Case,
    *,
    left: int | None = None,
    rooms: Sequence[Room] = (),
    counted: Sequence[Counted] = (),
) -> None:
    """Set `max_output_tokens`, the worst cases, `parameters` and `changes` of every row.

    `left`: micro-dollars that the job may still cost; None: no limit. `rooms`: what budgets had left for whom they refused.
    `counted`: input tokens of some candidates that are known exactly.
    """
    needs, plan = case.needs, case.plan
    cap, read = needs.max_output_tokens, needs.input_tokens
    wished = tuple(sorted({*needs.preferred, *plan.prefers} - set(needs.capabilities)))
    media = None if needs.asset == "text" else needs.media
    simple = not wished and media is None and not plan.preset.variants and not plan.preset.backends
    open_end = media is None and "max_output_tokens" not in needs.stated
    seconds = max(0.0, case.deadline_at - case.now)
    beside: dict[str, dict[str, Row]] = {}
    if not simple:
        for row in rows:
            beside.setdefault(row.backend, {})[row.model] = row
    code = needs.task == "code"
    bound, framing, most, why = needs.bound, None, 0, ""
    for row in rows:
        known = row.known
        if code and "code" not in known.capabilities:
            row.changes = ("a general model, not one for code",)
        limit = known.max_output_tokens
        tokens = cap if simple else _adjust(row, case, wished, beside[row.backend])
        if limit is not None and limit < tokens:
            row.changes = (*row.changes, f"output capped at {limit} instead of {tokens} tokens")
            tokens = limit
        known = row.known  # Of its variant, when one runs in its place.
        # As measured, if that is more: the worst case must hold for this model's own counting.
        ratio = row.features.input_ratio
        at_most = read if ratio <= 1.0 else int(read * ratio) + 1
        context = known.context_tokens
        if bound is not None:
            if known.framing is not framing or media is not None:
                framing = known.framing
                most, why = _most(bound, framing, known.price, media)
            if why and context is None:
                row.unbounded = why
            elif why:
                at_most = context or 0
            elif most > at_most:
                at_most = most
        if counted:
            at_most = _exactly(row, at_most, counted)
        if context is not None and context < at_most:
            at_most = context
        price = known.price
        made = media if row.parameters is None or media is None else adjusted(media, row.parameters)
        if open_end:
            if context is not None and read + tokens > context:
                tokens = _within_context(row, context, read, tokens)
            if rooms or (left is not None and price.worst(at_most, tokens, seconds=seconds) > left):
                tokens = _within_money(row, at_most, tokens, seconds, left, rooms, case.now)
        row.max_output_tokens = tokens
        row.worst_case_input_tokens = at_most
        row.worst_case_tokens = at_most + tokens
        row.worst_case_microdollars = price.worst(at_most, tokens, made, seconds=seconds, quality=needs.rated)


def _most(bound: Bound, framing: Framing, price: Price, media: Media | None) -> tuple[int, str]:
    """The most input tokens by the bytes, and empty; or what keeps them from being bounded."""
    if media is not None and framing.image is None and not (price.input_per_mtok or price.output_per_mtok):
        return bound.tokens, ""  # What makes pictures of a prompt alone counts no tokens.
    most, why = framing.most(bound, None)
    return most or 0, why


def _exactly(row: Row, at_most: int, counted: Sequence[Counted]) -> int:
    """What was counted for this very model, when it was."""
    model = row.model if row.parameters is None else row.parameters.model or row.model
    for one in counted:
        if one.backend == row.backend and one.model == model:
            row.unbounded = ""
            return one.tokens
    return at_most


def _within_context(row: Row, context: int, read: int, tokens: int) -> int:
    """A shorter cap, when prompt and answer would not fit into the context together; the same when even that does not help."""
    left = context - math.ceil(read * SPARE_SHARE) - SPARE_TOKENS
    return tokens if left < least_output(tokens) else _shorter(row, left, tokens, f"the context holds {context:,}")


def _within_money(
    row: Row, at_most: int, tokens: int, seconds: float, left: int | None, rooms: Sequence[Room], now: float
) -> int:
    """The longest cap with which the worst case fits into what the job and the budgets leave; the same when none does."""
    price = row.known.price
    mine = [(room, room.at(now)) for room in rooms if (room.backend, room.model) == (row.backend, row.model)]
    dollars = [(amount, room.budget) for room, amount in mine if room.unit == "microdollars"]
    if left is not None:
        dollars.append((left, ""))
    spare = [(amount, room.budget) for room, amount in mine if room.unit == "tokens"]

    def fits(cap: int) -> bool:
        worst = price.worst(at_most, cap, seconds=seconds)
        return all(worst <= amount for amount, _ in dollars) and all(at_most + cap <= amount for amount, _ in spare)

    least = least_output(tokens)
    if fits(tokens) or not fits(least):
        return tokens
    low, high = least, tokens  # It fits with `low`, and does not with `high`.
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    names = sorted({name for _, name in (*dollars, *spare) if name})
    why = f"the budget {', '.join(names)} has no room for more" if names else "the job's cost limit allows no more"
    return _shorter(row, low, tokens, why)


def _shorter(row: Row, to: int, tokens: int, why: str) -> int:
    row.changes = (*row.changes, f"output capped at {to} instead of {tokens} tokens: {why}")
    return to


def sizes(needs: Needs, preset: Preset, backend: str) -> dict[str, int]:
    """What the quality level makes of the steps, size and frames that a backend is asked for; a graph has its own."""
    own, found = preset.backends.get(backend, preset), dict[str, int]()
    if needs.media.node_types:
        return found
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
        recipes = any(word.startswith("recipe:") for word in row.known.capabilities)
        unless = ", unless the recipe has its own" if recipes else ""
        for name, value in sizes(needs, plan.preset, row.backend).items():
            asked: int = getattr(needs.media, name)
            changed[name] = value
            changes.append(f"{needs.quality}: {name} {value}" + (f" instead of {asked}" if asked else "") + unless)
    variant = _variant(row.model, {**plan.preset.variants, **own.variants}, models, needs.model)
    if variant and not needs.media.node_types:  # A graph loads what it names.
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
        row.known, price=variant.known.price, framing=variant.known.framing, vram_mb=variant.known.vram_mb,
        quality_tier=variant.known.quality_tier,
    )  # fmt: skip
    f = variant.features
    row.features = msgspec.structs.replace(
        row.features, price_microdollars=f.price_microdollars, service_seconds=f.service_seconds, runs=f.runs,
        first_token_seconds=f.first_token_seconds, wait_seconds=f.wait_seconds, switch_seconds=f.switch_seconds,
        spread=f.spread, loaded=f.loaded, input_ratio=f.input_ratio,
    )  # fmt: skip
