from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.fleet import Fleet
from actors.analyzer.needs import needs_of
from actors.analyzer.preferences import Preferences
from actors.analyzer.rules import Rules
from actors.analyzer.tokens import MESSAGE_TOKENS, estimate_tokens
from messages import AnalysisRules, Input, JobSubmit, Model, Needs, Preference, Preset
from messages.values import Price, Range
from tests.actors.analyzer.test_graph import SDXL, WAN
from tests.messages.samples import backend

FLEET = Fleet()
FLEET.hear_backend(
    backend("a", models=(
        Model(name="m", tokens_per_second=50.0, first_token_seconds=0.2, price=Price(input_per_mtok=100, output_per_mtok=900)),
        Model(name="n", tokens_per_second=5.0, price=Price(per_request=7)),
        Model(name="flux", capabilities=("image",), seconds_per_job=8.0, price=Price(per_image=40_000)),
        Model(name="wan", capabilities=("video",), seconds_per_job=90.0, price=Price(per_second=50_000)),
    ))
)  # fmt: skip
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def needs(rules: Rules | None = None, preferences: Preferences | None = None, **fields: Any) -> Needs:
    worded = "messages" in fields or "graph" in fields
    given: dict[str, Any] = fields if worded else {"prompt": "hi", **fields}
    return needs_of(JobSubmit(**given), "acme", rules or Rules(), preferences or Preferences(), FLEET)


def seen(*parts: Any, **fields: Any) -> Needs:
    return needs(messages=({"role": "user", "content": [{"type": "text", "text": "what is it?"}, *parts]},), **fields)


# ------------------------------------------------------------------------------------------------------ text


def test_what_is_given_outweighs_what_could_be_inferred() -> None:
    found = needs(prompt="a quick haiku", task="code", quality="final", max_output_tokens=7)
    assert (found.task, found.quality, found.max_output_tokens) == ("code", "final", 7)
    assert found.stated == ("max_output_tokens",)
    assert any("task code (given), quality final (given)" in line for line in found.why)


@pytest.mark.parametrize(("quality", "cap"), [("draft", 512), ("standard", 1024), ("final", 2048)])
def test_the_output_cap_follows_the_quality(quality: Any, cap: int) -> None:
    found = needs(quality=quality)
    assert (found.max_output_tokens, found.output_tokens, found.stated) == (cap, cap // 2, ())
    preset = Rules(presets={quality: Preset(max_output_tokens=99)}, analysis=AnalysisRules(output_share=0.1))
    assert needs(preset, quality=quality).max_output_tokens == 99
    assert needs(preset, quality=quality).output_tokens == 10
    assert needs(preset, quality=quality, max_output_tokens=7).max_output_tokens == 7


def test_every_message_costs_its_marks() -> None:
    found = needs(prompt="hello there", system="be brief")
    assert found.input_tokens == estimate_tokens("be brief\nhello there") + 2 * MESSAGE_TOKENS


@pytest.mark.parametrize(
    ("fields", "complexity"),
    [
        ({"prompt": "fix this bug"}, "simple"),
        ({"prompt": "fix this bug " * 25}, "medium"),
        ({"prompt": "fix this bug " * 60}, "complex"),
        ({"prompt": "a haiku"}, "standard"),
        ({"prompt": "a haiku", "max_output_tokens": 1_001}, "high"),
        ({"prompt": "the final haiku"}, "high"),
        ({"prompt": "a haiku " * 1_000}, "high"),
        ({"graph": SDXL}, "unknown"),
        ({"prompt": "a fox", "asset": "image"}, "standard"),
    ],
)
def test_the_class_of_complexity(fields: dict[str, Any], complexity: str) -> None:
    assert needs(**fields).complexity == complexity


def test_the_score_is_the_sum_of_its_parts() -> None:
    found = needs(prompt="fix this bug", tools=({"type": "function"},))
    assert found.complexity_score == pytest.approx(sum(found.complexity_parts.values()), abs=0.001)
    assert found.complexity_parts["task"] == 20.0
    assert any("capabilities 5.0" in line for line in found.why)


# ---------------------------------------------------------------------------------------------- capabilities


def test_capabilities_follow_from_the_request() -> None:
    found = seen(
        IMAGE, {"type": "input_audio"}, tools=({"type": "function"},), capabilities=("code",),
        response_format={"type": "json_object"},
    )  # fmt: skip
    assert found.capabilities == ("audio", "code", "json", "tools", "vision")
    assert found.preferred == ()
    assert found.json_output


def test_what_is_preferred_is_not_required() -> None:
    found = seen(
        IMAGE, tools=({"type": "function"},), preferred_capabilities=("vision", "code"),
        response_format={"type": "json_object"},
    )  # fmt: skip
    assert found.capabilities == ("json", "tools")
    assert found.preferred == ("code", "vision")


def test_plain_text_needs_nothing() -> None:
    found = needs(response_format={"type": "text"})
    assert not found.json_output
    assert found.capabilities == found.preferred == ()


@pytest.mark.parametrize(
    ("fields", "required", "preferred"),
    [
        ({"role": "style_refiner"}, (), ("vision",)),
        ({"role": "style_refiner", "mode": "light"}, (), ("vision",)),
        ({"role": "style_refiner", "mode": "full_mimic"}, ("vision",), ()),
        ({"role": "style_refiner", "mode": "full_mimic", "preferred_capabilities": ("vision",)}, ("vision",), ()),
        ({"role": "writer", "mode": "full_mimic"}, (), ()),
        ({"role": "style_refiner", "capabilities": ("vision",)}, ("vision",), ()),
    ],
)
def test_the_style_refiner_sees(fields: dict[str, Any], required: Any, preferred: Any) -> None:
    """seeds/001: vision capability is required for style_refiner in full_mimic mode."""
    found = needs(**fields)
    assert (found.capabilities, found.preferred) == (required, preferred)


def test_a_full_mimic_is_never_degraded_even_with_an_image() -> None:
    found = seen(IMAGE, role="style_refiner", mode="full_mimic", preferred_capabilities=("vision",))
    assert (found.capabilities, found.preferred) == (("vision",), ())
    degradable = seen(IMAGE, role="style_refiner", preferred_capabilities=("vision",))
    assert (degradable.capabilities, degradable.preferred) == ((), ("vision",))


@pytest.mark.parametrize(
    ("role", "hint"),
    [("writer", ""), ("style_refiner", ""), ("", ""), ("accountant", "is in no policy"), ("writter", "was 'writer' meant?"),
     ("Style-Refiner", "was 'style_refiner' meant?")],
)  # fmt: skip
def test_a_role_that_nobody_knows_is_told_and_kept(role: str, hint: str) -> None:
    found = needs(role=role)
    assert hint in " ".join(found.remarks)
    assert bool(found.remarks) is bool(hint)
    assert found.role == role


# ----------------------------------------------------------------------------------------------------- media


def test_an_image_job() -> None:
    found = needs(prompt="a fox", count=2, width=512, loras=("ink",))
    assert (found.asset, found.task, found.max_output_tokens, found.output_tokens) == ("image", "creative", 0, 0)
    assert found.capabilities == ("image", "lora")
    assert (found.media.images, found.media.width, found.stated) == (2, 512, ("width",))
    assert found.vram_mb == -(-512 * 1024 * 1088 // 10**6) + 128
    assert found.seconds == Range(low=8.0, high=8.0)
    assert found.cost_microdollars == Range(low=80_000.0, high=80_000.0)
    assert "asset image (because width is given)" in found.why
    assert any("expected, not said: steps, height" in line for line in found.why)


def test_a_graph_becomes_needs() -> None:
    found = needs(graph=SDXL, quality="standard")
    assert found.capabilities == ("graph",)
    assert found.media.node_types[0] == "CLIPTextEncode"
    assert found.media.checkpoints == ("sd_xl_base_1.0.safetensors",)
    assert found.stated == ("steps", "width", "height")
    video = needs(graph=WAN)
    assert (video.asset, video.media.frames, video.media.seconds) == ("video", 81, 5.062)
    assert video.cost_microdollars == Range(low=253_100.0, high=253_100.0)


def test_the_model_tells_what_is_made() -> None:
    assert needs(prompt="a fox", model="flux").asset == "image"
    assert needs(prompt="a fox", model="m").asset == "text"


def test_a_recipe_is_a_capability_and_tells_what_is_made() -> None:
    found = needs(prompt="it runs", recipe="image-to-video")
    assert (found.asset, found.recipe) == ("video", "image-to-video")
    assert found.capabilities == ("recipe:image-to-video", "video")
    assert "recipe image-to-video is required" in found.why


def test_images_that_come_along_need_eyes_only_where_text_is_made_of_them() -> None:
    image = Input(name="image", media_type="image/png", data="eA==")
    sound = Input(name="audio", media_type="audio/wav", data="eA==")
    assert needs(prompt="what is it?", inputs=(image, sound)).capabilities == ("audio", "vision")
    assert needs(prompt="x", asset="video", inputs=(image,)).capabilities == ("video",)
    seen_by_choice = needs(prompt="x", inputs=(image,), preferred_capabilities=("vision",))
    assert (seen_by_choice.capabilities, seen_by_choice.preferred) == ((), ("vision",))
    assert needs(prompt="x", inputs=(image,)).input_tokens > needs(prompt="x").input_tokens


def test_texts_are_embedded() -> None:
    found = needs(prompt="", texts=("one text", "and another one"))
    assert (found.asset, found.capabilities, found.max_output_tokens) == ("embedding", ("embedding",), 0)
    assert found.input_tokens > needs(prompt="", texts=("one text",)).input_tokens
    assert "2 texts to embed" in found.why


def test_an_embedding_generates_nothing() -> None:
    found = needs(asset="embedding")
    assert (found.max_output_tokens, found.capabilities, found.complexity) == (0, ("embedding",), "simple")


# ----------------------------------------------------------------------------------------- fleet, preferences


def test_the_ranges_are_those_of_the_known_models() -> None:
    found = needs(max_output_tokens=100)
    assert found.seconds == Range(low=1.0, high=20.2)
    assert found.cost_microdollars == Range(low=0.0, high=8.0)
    assert needs(max_output_tokens=100, model="n").seconds == Range(low=10.0, high=20.0)
    assert needs_of(JobSubmit(prompt="hi")).seconds is None


def test_preferences_are_merged_and_named() -> None:
    known = Preferences(("cost_first",))
    known.hear(Preference(tenant="acme", scope="tenant", quality="draft", preferred_model="zzz", strategy="cost_first"))
    found = needs(preferences=known)
    assert (found.quality, found.max_output_tokens, found.strategy) == ("draft", 512, "cost_first")
    assert "quality draft preferred by tenant" in found.why
    assert any("(preferred)" in line for line in found.why)
    assert any("no backend calls a model zzz now" in line for line in found.why)
    assert needs(preferences=known, quality="final").quality == "final"


def test_a_preference_outweighs_a_guess() -> None:
    known = Preferences()
    known.hear(Preference(tenant="acme", scope="tenant", quality="final"))
    assert needs(preferences=known, prompt="a quick sketch").quality == "final"


def test_unknown_prices_are_named() -> None:
    fleet = Fleet()
    fleet.hear_backend(backend("a", models=(Model(name="m", price=Price(unknown=True)),)))
    found = needs_of(JobSubmit(prompt="hi"), "acme", Rules(), Preferences(), fleet)
    assert found.cost_microdollars is None
    assert "1 model of unknown price left out of the cost range" in found.why


def test_what_the_job_asks_for_travels() -> None:
    asked: dict[str, Any] = {
        "model": "m", "preferred_model": "n", "role": "writer", "mode": "quick", "product": "card", "user": "ada",
        "workflow": "w", "step": "s", "batch": "b", "strategy": "cost_first", "preferred_backend": "gpu-1",
        "allow_cloud": False, "prioritize_speed": True, "max_cost_microdollars": 5, "value_per_hour_microdollars": 9,
    }  # fmt: skip
    found = msgspec.to_builtins(needs(**asked))
    assert {name: found[name] for name in asked} == asked


# ------------------------------------------------------------------------------------------------ properties

TEXT: Any = st.text(min_size=1, max_size=60)
WORDS: Any = st.lists(
    st.sampled_from(["python", "story", "prove", "compare", "fox", "漢字", "{};", "12"]), max_size=8
).map(" ".join)
JOBS: Any = st.fixed_dictionaries({
    "messages": st.lists(
        st.fixed_dictionaries({
            "role": st.sampled_from(["user", "assistant"]),
            "content": st.one_of(TEXT, st.lists(
                st.one_of(st.builds(lambda text: {"type": "text", "text": text}, TEXT), st.just(IMAGE)), min_size=1, max_size=3,
            )),
        }), min_size=1, max_size=3,
    ).map(tuple),
    "quality": st.sampled_from(["draft", "standard", "final"]),
    "task": st.sampled_from(["chat", "code", "creative"]),
    "asset": st.sampled_from(["text", "image", "video", "audio", "embedding"]),
    "tools": st.lists(st.just({"type": "function", "function": {"name": "f"}}), max_size=2).map(tuple),
})  # fmt: skip


def more_of(job: dict[str, Any], what: str, text: str, number: int) -> dict[str, Any]:
    """The same job with more of something."""
    messages = job["messages"]
    last = messages[-1]
    if what == "text" and isinstance(last["content"], str):
        return {**job, "messages": (*messages[:-1], {**last, "content": last["content"] + text})}
    if what == "image":
        content = [{"type": "text", "text": last["content"]}] if isinstance(last["content"], str) else last["content"]
        return {**job, "messages": (*messages[:-1], {**last, "content": [*content, IMAGE]})}
    if what == "tool":
        return {**job, "tools": (*job["tools"], {"type": "function", "function": {"name": text}})}
    if what == "style":
        return {**job, "style": job.get("style", "") + text}
    if what == "lora":
        return {**job, "loras": (*job.get("loras", ()), f"lora-{number}")}
    if what in ("width", "height", "steps", "frames", "count", "seconds", "max_output_tokens"):
        return {**job, what: job.get(what, 1) + number}
    return {**job, "messages": (*messages, {"role": "user", "content": text})}


WHAT = ("text", "message", "image", "tool", "style", "lora", "width", "height", "steps", "frames", "count", "seconds",
        "max_output_tokens")  # fmt: skip
LENGTHS: dict[str, Any] = {"video": {"frames": 4}, "audio": {"seconds": 1.0}}
SIZED: dict[str, Any] = {"width": 64, "height": 64, "steps": 4, "count": 1, "max_output_tokens": 8}


@given(JOBS, st.sampled_from(WHAT), TEXT, st.integers(1, 2000))
def test_more_of_anything_never_lowers_an_estimate(job: dict[str, Any], what: str, text: str, number: int) -> None:
    base: dict[str, Any] = {**job, **SIZED, **LENGTHS.get(job["asset"], {})}
    small, large = (
        needs_of(JobSubmit(**one), "", Rules(), Preferences(), FLEET)
        for one in (base, more_of(base, what, text, number))
    )
    for name in ("input_tokens", "output_tokens", "max_output_tokens", "vram_mb", "complexity_score"):
        assert getattr(large, name) >= getattr(small, name), name
    for name in ("seconds", "cost_microdollars"):
        before, after = getattr(small, name), getattr(large, name)
        assert (before is None) == (after is None)
        if before is not None:
            assert before.low <= before.high
            assert after.low >= before.low
            assert after.high >= before.high
    assert set(large.capabilities) >= set(small.capabilities)
    assert 0.0 <= small.complexity_score <= 100.0


@given(WORDS, WORDS)
def test_more_words_never_score_less_at_the_same_quality(text: str, more: str) -> None:
    small, large = (needs(prompt=f"say {one}", quality="standard") for one in (text, f"{text} {more}"))
    assert large.complexity_score >= small.complexity_score
    assert large.input_tokens >= small.input_tokens


@given(JOBS)
def test_needs_are_a_function_of_what_is_known(job: dict[str, Any]) -> None:
    assert needs(**job) == needs(**job)
