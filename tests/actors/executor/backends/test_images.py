import base64
import contextlib
import textwrap
from email.parser import BytesParser
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends import open_backend
from actors.executor.backends.images import PREVIEW_BYTES, Pictures, check_size, form, pictures_of, request_fields
from actors.executor.backends.port import Answer, Artifact, BackendError, Call, Input, Step, Usage
from messages import Media
from tests.fakes.raw import RawServer

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big") + bytes(40)
JPEG = b"\xff\xd8\xff\xe0" + bytes(60)
CALL = Call(
    model="gpt-image-2.5-flare", asset="image", messages=({"role": "user", "content": "a cat"},), max_output_tokens=1
)
SMALL = Input(name="image", media_type="image/png", data=b"\x89PNG small")


def b64(data: bytes = PNG) -> str:
    return base64.b64encode(data).decode()


def event(kind: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"type": kind, **fields})


def fold(*events: bytes, wanted: int = 1) -> tuple[list[Step | Artifact], Answer]:
    pictures = Pictures("m", wanted=wanted, partials=2)
    found = [item for data in events for item in pictures.take(data)]
    for item in found:
        if isinstance(item, Artifact):
            item.file.close()
    return found, pictures.answer()


def test_what_is_asked_of_openais_own() -> None:
    assert request_fields(CALL, own=True, partials=2) == {
        "model": CALL.model, "prompt": "a cat", "n": 1, "quality": "medium", "stream": True, "partial_images": 2,
    }  # fmt: skip
    more = msgspec.structs.replace(
        CALL, media=Media(images=3, width=1536, height=864), quality="final", negative_prompt="dogs"
    )
    assert request_fields(more, own=True, partials=2) == {
        "model": CALL.model, "prompt": "a cat\n\nLeave out: dogs", "n": 3, "size": "1536x864", "quality": "high",
    }  # fmt: skip


def test_what_is_asked_of_others() -> None:
    call = msgspec.structs.replace(CALL, media=Media(width=100, height=70))
    assert request_fields(call, own=False, partials=2) == {
        "model": CALL.model, "prompt": "a cat", "n": 1, "size": "100x70", "response_format": "b64_json",
    }  # fmt: skip
    with pytest.raises(BackendError) as caught:
        request_fields(msgspec.structs.replace(CALL, media=Media(images=11)), own=False, partials=0)
    assert caught.value.retry == "elsewhere"


@pytest.mark.parametrize(
    ("model", "width", "height", "fits"),
    [
        ("gpt-image-1.5", 1024, 1536, True),
        ("gpt-image-1.5", 1024, 768, False),
        ("chatgpt-image-latest", 512, 512, False),
        ("gpt-image-2", 1536, 864, True),
        ("gpt-image-2", 1000, 1000, False),
        ("gpt-image-2.5-flare", 512, 1536, True),
        ("gpt-image-2.5-flare", 512, 1552, False),
        ("gpt-image-2.5-flare", 3840, 2160, True),
        ("gpt-image-2.5-flare", 2160, 3840, True),
        ("gpt-image-2.5-flare", 3856, 2160, False),
        ("gpt-image-2.5-flare", 2560, 2560, False),
    ],
)
def test_sizes(model: str, width: int, height: int, fits: bool) -> None:
    if fits:
        check_size(model, width, height)
        assert width * height > 0
    else:
        with pytest.raises(BackendError, match=f"{width}x{height}") as caught:
            check_size(model, width, height)
        assert caught.value.kind == "unknown_model"


def test_pictures_to_begin_with() -> None:
    content = [
        {"type": "text", "text": "make it blue"},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{b64(JPEG)}"}},
    ]
    call = msgspec.structs.replace(CALL, messages=({"role": "user", "content": content},), inputs=(SMALL,))
    assert pictures_of(call) == [SMALL, Input(name="image", media_type="image/jpeg", data=JPEG)]
    assert pictures_of(CALL) == []


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://x/y.png", "unknown_model"),
        ("data:image/png;base64,!!!", "bad_request"),
        ("data:text/plain,x", "unknown_model"),
    ],
)
def test_pictures_that_can_not_be_sent(url: str, kind: str) -> None:
    content = [{"type": "image_url", "image_url": url}]
    with pytest.raises(BackendError) as caught:
        pictures_of(msgspec.structs.replace(CALL, messages=({"role": "user", "content": content},)))
    assert caught.value.kind == kind
    sound = Input(name="audio", media_type="audio/wav", data=b"x")
    with pytest.raises(BackendError, match="audio"):
        pictures_of(msgspec.structs.replace(CALL, inputs=(sound,)))


@given(st.text(), st.lists(st.binary(max_size=200), min_size=1, max_size=4), st.booleans())
def test_a_form_is_read_as_it_was_written(prompt: str, datas: list[bytes], masked: bool) -> None:
    pictures = [Input(name="image", media_type="image/png", data=data) for data in datas]
    if masked:
        pictures.append(Input(name="mask", media_type="image/png", data=b"mask"))
    content, media_type = form({"prompt": prompt, "n": 2, "stream": True}, pictures)
    boundary = media_type.partition("boundary=")[2].encode()
    parts = content.split(b"--" + boundary)
    assert (parts[0], parts[-1]) == (b"", b"--\r\n")
    read: list[tuple[str, bytes]] = []
    for part in parts[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        found = BytesParser().parsebytes(head + b"\r\n\r\n")
        read.append((str(found.get_param("name", header="content-disposition")), data.removesuffix(b"\r\n")))
    name = "image" if len(datas) == 1 else "image[]"
    assert read == [
        ("prompt", prompt.encode()), ("n", b"2"), ("stream", b"true"), *((name, data) for data in datas),
        *([("mask", b"mask")] if masked else []),
    ]  # fmt: skip


def test_a_stream_with_previews() -> None:
    usage = {"input_tokens": 5, "output_tokens": 700, "input_tokens_details": {"text_tokens": 5, "image_tokens": 0}}
    found, answer = fold(
        event("image_generation.partial_image", partial_image_index=0, b64_json=b64(JPEG)),
        event("image_generation.heartbeat"),
        event("image_edit.partial_image", partial_image_index=1, b64_json=b64(PNG + bytes(PREVIEW_BYTES))),
        event("image_generation.completed", b64_json=b64(), usage=usage),
        b"ignored",
    )
    assert found[:2] == [
        Step(stage="working", share=1 / 3, text="preview 1 of 2", preview=JPEG),
        Step(stage="working", share=2 / 3, text="preview 2 of 2"),  # Too large to show.
    ]
    (picture,) = found[2:]
    assert isinstance(picture, Artifact)
    assert (picture.name, picture.media_type, picture.width, picture.height) == ("image-1.png", "image/png", 640, 480)
    assert (answer.usage, answer.text) == (Usage(input_tokens=5, output_tokens=700), "")


def test_several_at_once() -> None:
    whole = {"created": 1, "data": [{"b64_json": b64()}, {"b64_json": b64(JPEG)}]}
    found, answer = fold(msgspec.json.encode(whole), wanted=2)
    assert [item.name for item in found if isinstance(item, Artifact)] == ["image-1.png", "image-2.jpg"]
    assert (answer.finish_reason, answer.usage) == ("stop", Usage())


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([], "cut_stream"),
        ([event("image_generation.partial_image", b64_json=b64())], "cut_stream"),
        ([b'{"data": []}'], "empty"),
        ([b'{"error": {"message": "x", "code": "moderation_blocked"}}'], "empty"),
        ([event("error", message="x", code="rate_limit_exceeded")], "rate_limited"),
        ([b"{"], "invalid_structure"),
        ([b"[1]"], "invalid_structure"),
        ([b"{}"], "invalid_structure"),
        ([b'{"data": 5}'], "invalid_structure"),
        ([b'{"data": [{"url": "ftp://x"}]}'], "invalid_structure"),
        ([b'{"data": [{"b64_json": "!"}]}'], "invalid_structure"),
        ([event("image_generation.completed", b64_json=b64(b"<html>"))], "invalid_structure"),
    ],
)
def test_trouble(events: list[bytes], kind: str) -> None:
    with pytest.raises(BackendError) as caught:
        fold(*events)
    assert caught.value.kind == kind


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from([b64(), b64(JPEG), b64(b"x")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "data", "b64_json", "partial_image_index", "usage", "error"]),
            inner | st.sampled_from(["x.completed", "x.partial_image", "error"]),
            max_size=5,
        )
    ),
    max_leaves=10,
)


@given(st.lists(JSON.map(msgspec.json.encode) | st.binary(max_size=20), max_size=4), st.integers(1, 3))
def test_nothing_but_pictures_or_a_backend_error(events: list[bytes], wanted: int) -> None:
    with contextlib.suppress(BackendError):
        found, answer = fold(*events, wanted=wanted)
        assert any(isinstance(item, Artifact) for item in found)
        assert answer.finish_reason == "stop"


DRAWN = Call(model="m", asset="image", messages=({"role": "user", "content": "x"},), max_output_tokens=1)


async def drawn(server: RawServer, cards: list[object], images: int = 1) -> tuple[list[bytes], Answer]:
    server.pieces, server.media_type = [msgspec.json.encode({"data": cards})], "application/json"
    backend = open_backend("openai", server.url, api_key="secret", now=lambda: 0.0)
    made: list[bytes] = []
    answer: object = None
    try:
        async for answer in backend.run(msgspec.structs.replace(DRAWN, media=Media(images=images))):
            if isinstance(answer, Artifact):
                made.append(answer.file.read())
                answer.file.close()
    finally:
        await backend.close()
    assert isinstance(answer, Answer)
    return made, answer


def test_pictures_in_any_form(run) -> None:
    """Case 22: at the server's own address, with a prefix, in lines; one of several that is missing is told."""

    async def main() -> None:
        async with RawServer() as server:
            server.at["/made/x.png"] = (PNG, "image/png")
            lines = "\n".join(textwrap.wrap(b64(), 76))
            for card in (
                {"url": f"{server.url}/made/x.png"},
                {"url": "/made/x.png"},
                {"b64_json": f"data:image/png;base64,{b64()}"},
                {"b64_json": lines},
                {"b64_json": b64().rstrip("=")},
                {"url": f"{server.url.replace('127.0.0.1', 'localhost')}/made/x.png"},
            ):
                made, answer = await drawn(server, [card])
                assert (made, answer.remarks) == ([PNG], ())
            for other in (
                {"b64_json": None},
                {"url": f"{server.url}/not.png"},
                {"url": "https://10.0.0.7/x.png"},
                "junk",
                None,
            ):
                made, answer = await drawn(server, [{"b64_json": b64()}, other], images=2)
                assert (made, [remark.name for remark in answer.remarks]) == ([PNG], ["count"])
            for only in ({"url": "https://10.0.0.7/x.png"}, {"b64_json": None}):
                with pytest.raises(BackendError) as caught:
                    await drawn(server, [only])
                assert caught.value.kind == "invalid_structure"

    run(main())


SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="4" height="3"/>'


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (PNG, ["image/png"]),
        (JPEG, ["image/jpeg"]),
        ({"data": [{"b64_json": b64(SVG)}]}, ["image/svg+xml"]),
        ({"artifacts": [{"base64": b64(), "finishReason": "SUCCESS"}]}, ["image/png"]),
        ({"result": {"image": b64(JPEG)}}, ["image/jpeg"]),
    ],
)
@pytest.mark.parametrize("media_type", ["application/json", "image/png", "application/octet-stream"])
def test_answers_of_other_forms_and_the_picture_itself(run, body: Any, kinds: list[str], media_type: str) -> None:
    """Case 22."""

    async def main() -> None:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        async with RawServer([data[:20], data[20:]], media_type) as server:
            backend = open_backend("openai", server.url, api_key=None, now=lambda: 0.0)
            items = [item async for item in backend.run(CALL)]
            await backend.close()
        found = [item for item in items if isinstance(item, Artifact)]
        assert [item.media_type for item in found] == kinds
        for item in found:
            item.file.close()

    run(main())


@pytest.mark.parametrize(
    "card",
    [
        {"b64_json": "", "finish_reason": "CONTENT_FILTERED"},
        {"error": {"code": "content_policy_violation", "message": "Your request was rejected by our safety system"}},
    ],
)
def test_a_picture_that_was_filtered_out_is_no_broken_one(card: dict[str, Any]) -> None:
    """Case 22: the next backend may see it otherwise, and this one is not ill."""
    with pytest.raises(BackendError) as caught:
        fold(msgspec.json.encode({"data": [card]}))
    assert caught.value.kind == "empty"
    made, answer = fold(msgspec.json.encode({"data": [card, {"b64_json": b64()}]}), wanted=2)
    assert (len(made), [one.name for one in answer.remarks]) == (1, ["count"])
