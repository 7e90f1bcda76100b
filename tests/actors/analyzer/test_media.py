from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.analyzer.graph import asks_of
from actors.analyzer.media import asked_of, asset_of, vram_mb_of, work_of
from messages import JobSubmit, Preset
from messages.values import Media
from tests.actors.analyzer.test_graph import SDXL, WAN

NOTHING: frozenset[str] = frozenset()


def asked(preset: Preset | None = None, tokens: int = 10, **fields: Any):
    given: dict[str, Any] = {"prompt": "a fox", **fields}
    submit = JobSubmit(**given)
    graph = asks_of(submit.graph) if submit.graph else None
    return asked_of(submit, graph, preset or Preset(), tokens)


@pytest.mark.parametrize(
    ("fields", "asset", "because"),
    [
        ({}, "text", "nothing"),
        ({"asset": "audio"}, "audio", ""),
        ({"asset": "embedding"}, "embedding", ""),
        ({"graph": SDXL}, "image", "graph"),
        ({"graph": WAN}, "video", "graph"),
        ({"graph": WAN, "asset": "image"}, "image", ""),
        ({"frames": 8}, "video", "frames"),
        ({"fps": 8.0}, "video", "fps"),
        ({"seconds": 2.0, "width": 64}, "video", "seconds"),
        ({"width": 64}, "image", "width"),
        ({"height": 64}, "image", "height"),
        ({"steps": 4}, "image", "steps"),
        ({"count": 2}, "image", "count"),
        ({"loras": ("a",)}, "image", "loras"),
        ({"loras": ("a",), "asset": "text"}, "text", ""),
        ({"capabilities": ("json", "embedding")}, "embedding", "capability"),
    ],
)
def test_what_is_made(fields: dict[str, Any], asset: str, because: str) -> None:
    found = asked(**fields)
    assert found.asset == asset
    assert because in found.because
    assert bool(because) == bool(found.because)


@pytest.mark.parametrize(
    ("served", "asset"),
    [
        (("image", "lora"), "image"),
        (("text", "image"), "text"),
        (("audio",), "audio"),
        ((), "text"),
        (("tools",), "text"),
    ],
)
def test_the_required_model_tells_what_it_makes(served: tuple[str, ...], asset: str) -> None:
    assert asset_of(JobSubmit(prompt="hi", model="m"), None, frozenset(served))[0] == asset


def test_text_asks_for_no_media_but_its_loras() -> None:
    assert asked().media == Media()
    assert asked(asset="text", loras=("b", "a")).media == Media(loras=("a", "b"))


def test_the_jobs_own_fields_come_before_the_graphs() -> None:
    found = asked(graph=SDXL, width=512, loras=("x",))
    it = found.media
    assert (it.images, it.width, it.height, it.steps) == (2, 512, 832, 28)
    assert it.loras == ("ink.safetensors", "x")
    assert found.stated == ("steps", "width", "height")


def test_what_is_not_said_is_expected_by_preset_or_reference() -> None:
    found = asked(count=3)
    assert (found.media.images, found.media.width, found.stated) == (3, 0, ())
    assert (found.expected.width, found.expected.height, found.expected.steps) == (1024, 1024, 20)
    drafted = asked(Preset(steps=8, width=512, height=640), count=1, width=256)
    assert (drafted.expected.width, drafted.expected.height, drafted.expected.steps) == (256, 640, 8)
    assert drafted.stated == ("width",)


@pytest.mark.parametrize(
    ("fields", "preset", "frames", "seconds", "expected"),
    [
        ({}, Preset(), 0, 81 / 16, 81),
        ({}, Preset(frames=33), 0, 33 / 16, 33),
        ({"frames": 32}, Preset(frames=99), 32, 2.0, 32),
        ({"frames": 48, "fps": 24.0}, Preset(), 48, 2.0, 48),
        ({"seconds": 3.0, "fps": 24.0}, Preset(), 72, 3.0, 72),
        ({"seconds": 3.0}, Preset(frames=99), 0, 3.0, 48),
    ],
)
def test_the_length_of_a_video(
    fields: dict[str, Any], preset: Preset, frames: int, seconds: float, expected: int
) -> None:
    found = asked(preset, asset="video", **fields)
    assert found.media.frames == frames
    assert found.media.seconds == pytest.approx(seconds, abs=0.001)
    assert found.expected.frames == expected
    assert ("frames" in found.stated) == bool(fields.get("frames") or fields.get("seconds"))


def test_the_length_of_a_sound() -> None:
    assert asked(asset="audio", seconds=7.0).media.seconds == 7.0
    assert asked(asset="audio", tokens=325).media.seconds == 100.0


def test_work_is_in_proportion_to_the_reference() -> None:
    assert work_of(asked(asset="image")) == 1.0
    assert work_of(asked(asset="image", count=2, width=2048, steps=40)) == 8.0
    assert work_of(asked(asset="video")) == 1.0
    assert work_of(asked(asset="video", frames=162)) == 2.0
    assert work_of(asked(asset="audio", seconds=7.0)) == 7.0
    assert work_of(asked()) == work_of(asked(asset="embedding")) == 0.0


def test_memory_by_the_stated_rule() -> None:
    assert vram_mb_of(asked(asset="image")) == 1_074  # 1024 x 1024 x 1,024 bytes
    assert vram_mb_of(asked(asset="image", loras=("a", "b"))) == 1_074 + 256
    assert vram_mb_of(asked(asset="video")) == 4_499  # 832 x 480 x (1,024 + 80 x 128)
    assert vram_mb_of(asked(graph=SDXL)) == -(-1216 * 832 * 1088 // 10**6) + 128 + 700
    assert vram_mb_of(asked()) == vram_mb_of(asked(asset="audio", seconds=9.0)) == 0


SIZES: dict[str, Any] = {
    "count": st.integers(1, 9), "width": st.integers(1, 4096), "height": st.integers(1, 4096), "steps": st.integers(1, 99),
    "frames": st.integers(1, 400), "loras": st.lists(st.sampled_from("abc"), unique=True).map(tuple),
}  # fmt: skip


@given(
    st.sampled_from(["image", "video"]),
    st.fixed_dictionaries(SIZES),
    st.sampled_from(sorted(SIZES)),
    st.integers(1, 99),
)
def test_more_never_takes_less(asset: Any, fields: dict[str, Any], name: str, more: int) -> None:
    if asset == "image":
        fields.pop("frames")
        name = "steps" if name == "frames" else name
    larger: dict[str, Any] = {**fields, name: (*fields["loras"], "z") if name == "loras" else fields[name] + more}
    small, large = asked(asset=asset, **fields), asked(asset=asset, **larger)
    assert work_of(large) >= work_of(small)
    assert vram_mb_of(large) >= vram_mb_of(small)
    assert large.media.seconds >= small.media.seconds


@pytest.mark.parametrize(
    ("recipe", "known", "asset"),
    [
        ("text-to-image", (), "image"),
        ("upscale", (), "image"),
        ("image-to-video", (), "video"),
        ("image_to_video", (), "video"),
        ("video-to-image", (), "image"),
        ("text-to-speech", (), "audio"),
        ("my-own", ("video", "recipe:my-own"), "video"),
        ("image-to-video", ("image", "video", "recipe:image-to-video"), "video"),
        ("text-to-speech", ("image", "recipe:text-to-speech"), "image"),
    ],
)
def test_what_a_recipe_makes(recipe: str, known: tuple[str, ...], asset: str) -> None:
    found, because = asset_of(JobSubmit(recipe=recipe), None, frozenset(), frozenset(known))
    assert (found, recipe in because) == (asset, True)
