"""Everything the router wants to know about a job, from its submission, the policies and the preferences. Pure."""

from __future__ import annotations

import math

from actors.analyzer import classify, media
from actors.analyzer.bound import bound_of
from actors.analyzer.fleet import Bounds, Fleet
from actors.analyzer.graph import GraphAsks, asks_of
from actors.analyzer.media import Asked
from actors.analyzer.preferences import Preferences, Wishes
from actors.analyzer.remarks import remarks_on
from actors.analyzer.rules import OUTPUT_CAPS, Rules
from actors.analyzer.tokens import Reading, read
from actors.graph_names import GRAPH
from messages import JobSubmit, Needs, Preset
from messages.values import Asset, Task

STYLE_REFINER, FULL_MIMIC = "style_refiner", "full_mimic"
"""In this mode the role must see its image: requirement A7."""
_TASK_OF: dict[Asset, Task] = {
    "image": "creative",
    "video": "creative",
    "audio": "creative",
    "embedding": "high_throughput",
}
_NO_PREFERENCES = Preferences()
_NO_RULES = Rules()
_NO_FLEET = Fleet()
_NO_PRESET = Preset()


def needs_of(
    submit: JobSubmit,
    tenant: str = "",
    rules: Rules = _NO_RULES,
    preferences: Preferences = _NO_PREFERENCES,
    fleet: Fleet = _NO_FLEET,
) -> Needs:
    """What a checked submission needs.

    More of anything (text, images, tools, messages, pixels, frames, steps, LoRAs) never lowers an estimate of tokens, score,
    memory, seconds or cost, as long as asset, task and quality stay the same.
    """
    analysis = rules.analysis
    reading = read(submit, analysis)
    wishes = preferences.wishes(tenant, submit)
    told = classify.NOTHING_TOLD if submit.task and wishes.quality else classify.telling(reading.text)
    quality = wishes.quality or classify.quality_of(told)
    preset = rules.presets.get(quality, _NO_PRESET)
    graph = asks_of(submit.graph) if submit.graph else None
    tokens = reading.tokens
    served = fleet.made_by(submit.model) if submit.model else frozenset[str]()
    recipe = fleet.can_with(submit.recipe) if submit.recipe else frozenset[str]()
    asked = media.asked_of(submit, graph, preset, tokens, served, recipe)
    asset = asked.asset
    task = submit.task or _TASK_OF.get(asset) or classify.task_of(told)
    cap = submit.max_output_tokens or 0
    if asset == "text":
        cap = cap or preset.max_output_tokens or OUTPUT_CAPS[quality]
    output = math.ceil(cap * analysis.output_share)
    required, preferred = _capabilities(submit, reading, asked)
    parts = classify.parts_of(
        tokens=reading.content_tokens, capabilities=len(required), task=task, quality=quality,
        work=media.work_of(asked), media=asked.media,
    )  # fmt: skip
    bounds = fleet.bounds(asset, submit.model)
    return Needs(
        task=task,
        asset=asset,
        quality=quality,
        complexity=classify.complexity_of(
            reading.content_tokens,
            task=task,
            quality=quality,
            asked_tokens=submit.max_output_tokens or 0,
            counted=reading.content_tokens > 0,
            rules=analysis,
        ),
        complexity_score=round(sum(parts.values()), 3),
        complexity_parts=parts,
        input_tokens=tokens,
        bound=bound_of(submit),
        max_output_tokens=cap,
        output_tokens=output,
        vram_mb=media.vram_mb_of(asked),
        seconds=bounds.seconds(asset, media.work_of(asked), output, cap),
        cost_microdollars=bounds.cost(tokens, output, cap, asked.media),
        capabilities=required,
        preferred=preferred,
        media=asked.media,
        stated=(*(("max_output_tokens",) if submit.max_output_tokens else ()), *asked.stated),
        model=submit.model,
        preferred_model=wishes.preferred_model,
        role=submit.role,
        mode=submit.mode,
        product=submit.product,
        user=submit.user,
        workflow=submit.workflow,
        step=submit.step,
        batch=submit.batch,
        strategy=wishes.strategy,
        preferred_backend=wishes.preferred_backend,
        allow_cloud=wishes.allow_cloud,
        prioritize_speed=wishes.prioritize_speed,
        max_cost_microdollars=wishes.max_cost_microdollars,
        value_per_hour_microdollars=wishes.value_per_hour_microdollars,
        json_output=_json(submit),
        why=_why(submit, reading, asked, wishes, task, quality, parts, graph, bounds, fleet),
        remarks=remarks_on(submit.role, wishes.preferred_backend, rules.roles, fleet.providers),
        recipe=submit.recipe,
    )


def _json(submit: JobSubmit) -> bool:
    return bool(submit.response_format) and submit.response_format.get("type") != "text"


def _capabilities(submit: JobSubmit, reading: Reading, asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Required and preferred ones, sorted. What a request uses is required, unless the job says that it is preferred."""
    used: set[str] = set()
    if asked.asset == "text":  # Who makes media takes files as its inputs, and needs no eyes for them.
        kinds = {given.media_type.partition("/")[0] for given in submit.inputs}
        used |= ({"vision"} if "image" in kinds else set()) | ({"audio"} if "audio" in kinds else set())
    if reading.images:
        used.add("vision")
    if reading.sounds:
        used.add("audio")
    if submit.tools:
        used.add("tools")
    if _json(submit):
        used.add("json")
    if submit.loras:  # A graph of the job's own loads its LoRAs itself.
        used.add("lora")
    preferred = set(submit.preferred_capabilities)
    required = {*submit.capabilities, *(used - preferred)}
    if submit.graph:  # Its nodes say what is made, so that whoever has them can run it.
        required = {*required - {*media.MEDIA}, GRAPH}
    elif asked.asset != "text":
        required.add(asked.asset)
    if submit.recipe:
        required.add(f"recipe:{submit.recipe}")
    if submit.role == STYLE_REFINER:
        (required if submit.mode == FULL_MIMIC else preferred).add("vision")
    return tuple(sorted(required)), tuple(sorted(preferred - required))


def _why(
    submit: JobSubmit, reading: Reading, asked: Asked, wishes: Wishes, task: str, quality: str, parts: dict[str, float],
    graph: GraphAsks | None, bounds: Bounds, fleet: Fleet,
) -> tuple[str, ...]:  # fmt: skip
    """How the rest was found, a line each."""
    why = [f"about {reading.tokens} input tokens"]
    if reading.images:
        why.append(f"{_count(reading.images, 'image')} to read: vision")
    if reading.sounds:
        why.append(f"{_count(reading.sounds, 'sound')} to hear: audio")
    if submit.inputs:
        why.append(
            f"{_count(len(submit.inputs), 'file')} brought along: {', '.join(given.name for given in submit.inputs)[:100]}"
        )
    if submit.texts:
        why.append(f"{_count(len(submit.texts), 'text')} to embed")
    if submit.recipe:
        why.append(f"recipe {submit.recipe} is required")
    if submit.tools:
        why.append(f"{_count(len(submit.tools), 'tool')} offered: tools")
    if submit.response_format and _json(submit):
        why.append("response_format asks for JSON")
    if submit.role == STYLE_REFINER:
        full = submit.mode == FULL_MIMIC
        why.append(f"role {STYLE_REFINER}" + (f" in mode {FULL_MIMIC} requires vision" if full else " prefers vision"))
    if asked.asset != "text":
        why.append(f"asset {asked.asset} ({asked.because or 'given'})")
        why.extend(_media_lines(asked, graph))
    quality_by = "given" if submit.quality else "preferred" if wishes.quality else "inferred"
    why.append(f"task {task} ({'given' if submit.task else 'inferred'}), quality {quality} ({quality_by})")
    why.append("complexity " + " + ".join([f"{name} {value:.1f}" for name, value in parts.items()]))
    if wishes.why:
        why.extend(wishes.why)
    if wishes.preferred_model and fleet.models and wishes.preferred_model not in fleet.models:
        why.append(f"no backend calls a model {wishes.preferred_model} now: preferred all the same")
    if bounds.unpriced:
        why.append(f"{_count(bounds.unpriced, 'model')} of unknown price left out of the cost range")
    return tuple(why)


def _media_lines(asked: Asked, graph: GraphAsks | None) -> list[str]:
    it = asked.expected
    found: list[str] = []
    if asked.asset in ("image", "video"):
        left = [name for name in media.STATED if name not in asked.stated and (name != "frames" or it.frames > 1)]
        text = f"{it.width} x {it.height}, {it.steps} steps, " + (
            _count(it.frames, "frame") if asked.asset == "video" else _count(it.images, "image")
        )
        found.append(text + (f"; expected, not said: {', '.join(left)}" if left else ""))
    if graph:
        found.append(f"graph: {len(graph.media.node_types)} node classes, {_count(len(graph.media.loras), 'LoRA')}")
    return found


def _count(number: int, thing: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
