from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.gemini_interaction import Video, interaction_body, usage_of, videos_of
from actors.executor.backends.port import BackendError, Call, Input, Usage
from messages import Media
from tests.fakes.gemini import VIDEO_USAGE, made
from tests.fakes.gemini_asked import Interact

NAMES = st.sampled_from(
    ["status", "steps", "type", "content", "data", "uri", "error", "errors", "code", "message", "usage"]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 20)
    | st.sampled_from(["completed", "failed", "model_output", "video", "AAAA"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)


def body_of(**more: Any) -> dict[str, Any]:
    messages = more.pop("messages", ({"role": "user", "content": "a marble"},))
    call = Call(model="gemini-omni-1.1-flash", asset="video", messages=messages, max_output_tokens=1, **more)
    body = interaction_body(call)
    assert msgspec.convert(body, Interact).background  # The fake's types are strict.
    return body


@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_whatever_an_interaction_says_only_a_backend_error_is_raised(fields: dict[str, Any]) -> None:
    with contextlib.suppress(BackendError):
        found = videos_of(fields)
        assert found
        assert all(bool(one.data) or bool(one.uri) for one in found)


@pytest.mark.parametrize(
    ("media", "shape"),
    [
        (Media(), {}),
        (Media(width=1280, height=720), {"aspect_ratio": "16:9", "resolution": "720p"}),
        (Media(width=360, height=640), {"aspect_ratio": "9:16", "resolution": "360p"}),
        (Media(width=3840, height=2160), {"aspect_ratio": "16:9", "resolution": "4k"}),
        (Media(seconds=1.0), {"duration": "3s"}),
        (Media(seconds=7.2), {"duration": "8s"}),
        (Media(frames=120, fps=24.0), {"duration": "5s"}),
        (Media(seconds=15.0), {"duration": "15s"}),
    ],
)
def test_shapes_of_videos(media: Media, shape: dict[str, str]) -> None:
    assert body_of(media=media)["response_format"] == {"type": "video", "delivery": "uri", **shape}


def test_pictures_of_the_prompt_and_of_the_job_go_along() -> None:
    parts = [
        {"type": "text", "text": "like this"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    given = (
        Input(name="image", media_type="image/jpeg", data=b"x"),
        Input(name="audio", media_type="audio/wav", data=b"y"),
    )
    body = body_of(messages=({"role": "user", "content": parts},), inputs=given)
    assert body["input"] == [
        {"type": "image", "data": "eA==", "mime_type": "image/jpeg"},
        {"type": "audio", "data": "eQ==", "mime_type": "audio/wav"},
        {"type": "image", "data": "aGk=", "mime_type": "image/png"},
        {"type": "image", "uri": "https://example.com/a.png", "mime_type": "image/png"},
        {"type": "text", "text": "like this"},
    ]
    assert "generation_config" not in body  # The server sees what they are for.
    assert body_of()["generation_config"] == {"video_config": {"task": "text_to_video"}}


def test_videos_and_usage() -> None:
    fields = {"status": "completed", "steps": [made(uri="https://x/v"), made(data="AAAA")], "usage": VIDEO_USAGE}
    assert videos_of(fields) == [
        Video(media_type="video/mp4", uri="https://x/v"),
        Video(media_type="video/mp4", data="AAAA"),
    ]
    assert videos_of({**fields, "status": "incomplete"}) == videos_of(fields)
    assert usage_of(fields) == Usage(input_tokens=9, output_tokens=58_000, cached_tokens=0, reasoning_tokens=80)
    assert usage_of({}) == Usage()


def test_no_secret_shows() -> None:
    with pytest.raises(BackendError) as caught:
        videos_of({"status": "failed", "errors": [{"message": "it was hush"}]}, secrets=("hush",))
    assert "hush" not in str(caught.value)
