import base64
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.pictures import Picture, cards_of, decoded, picture_of, told_in

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
B64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "said",
    [
        B64, f"data:image/png;base64,{B64}", f"DATA:image/png;charset=x;BASE64,{B64}", "\n".join(textwrap.wrap(B64, 76)),
        "\r\n".join(textwrap.wrap(B64, 64)) + "\r\n", B64.rstrip("="), base64.urlsafe_b64encode(PNG).decode().rstrip("="),
        f"data:image/png;base64,{B64}".replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"), f" {B64} ",
        f"b'{B64}'", f'"{B64}"', "\\n".join(textwrap.wrap(B64, 76)), f"data:image/png; charset=utf-8; base64, {B64}",
    ],
)  # fmt: skip
def test_base64_in_any_spelling(said: str) -> None:
    """Case 22."""
    assert decoded(said) == PNG
    found = told_in(said)
    assert found is not None
    assert (found.data, found.place) == (PNG, "")


@pytest.mark.parametrize("said", ["", "!!", "https://x/y.png", "a", "Zm9v!", "data:image/png;base64,", "é"])
def test_what_is_no_base64(said: str) -> None:
    assert not decoded(said)


@pytest.mark.parametrize(
    ("card", "found"),
    [
        ({"b64_json": B64}, Picture(data=PNG)),
        ({"url": "https://host/x.png"}, Picture(place="https://host/x.png")),
        ({"b64_json": None, "url": "http://127.0.0.1:1/x.png?a=b"}, Picture(place="http://127.0.0.1:1/x.png?a=b")),
        ({"url": "https://host/x.png", "b64_json": B64}, Picture(data=PNG)),
        ({"url": f"data:image/png;base64,{B64}"}, Picture(data=PNG, media_type="image/png")),
        ({"image_url": {"url": f"data:image/png;base64,{B64}"}}, Picture(data=PNG, media_type="image/png")),
        ({"url": "/generated/x.png"}, Picture(place="/generated/x.png")),
        ({"image": B64}, Picture(data=PNG)),
        ({"b64_json": [B64]}, Picture(data=PNG)),
        (B64, Picture(data=PNG)),
        ("https://host/x.png", Picture(place="https://host/x.png")),
        ({"b64_json": None}, None),
        ({"url": "file:///etc/passwd"}, None),
        ({"url": "//host/x"}, None),
        ({"url": 5}, None),
        ({}, None),
        (None, None),
    ],
)
def test_cards(card: object, found: Picture | None) -> None:
    """Case 22."""
    assert picture_of(card) == found


@pytest.mark.parametrize(
    ("answer", "cards"),
    [
        ({"data": [{"b64_json": B64}, None]}, [{"b64_json": B64}, None]),
        ({"data": {"b64_json": B64}}, [{"b64_json": B64}]),
        ({"data": [[{"b64_json": B64}]]}, [{"b64_json": B64}]),
        ({"data": {"images": [{"url": "/x.png"}]}}, [{"url": "/x.png"}]),
        ({"images": [B64], "info": "{}"}, [B64]),
        ({"artifacts": [{"base64": B64, "seed": 1}]}, [{"base64": B64, "seed": 1}]),
        ({"predictions": [{"bytesBase64Encoded": B64}]}, [{"bytesBase64Encoded": B64}]),
        ({"output": f"data:image/png;base64,{B64}"}, [f"data:image/png;base64,{B64}"]),
        ({"result": {"image": B64}, "success": True}, [{"image": B64}]),
        ({"image": B64, "seed": 5}, [{"image": B64, "seed": 5}]),
        ({"choices": [{"index": 0, "message": {"content": "", "images": [{"image_url": {"url": "/x.png"}}]}}]},
         [{"image_url": {"url": "/x.png"}}]),
        ({"image_urls": ["https://host/x.png"]}, ["https://host/x.png"]),
        ({"data": []}, []),
        ({"data": None}, None),
        ({"created": 1}, None),
    ],
)  # fmt: skip
def test_cards_stand_anywhere_in_an_answer(answer: dict[str, Any], cards: list[Any] | None) -> None:
    """Case 22."""
    assert cards_of(answer) == cards


@given(st.binary(min_size=1, max_size=200), st.integers(1, 40), st.booleans(), st.booleans(), st.booleans())
def test_any_bytes_come_back(data: bytes, width: int, padded: bool, for_urls: bool, prefixed: bool) -> None:
    text = (base64.urlsafe_b64encode if for_urls else base64.b64encode)(data).decode()
    text = "\n".join(textwrap.wrap(text if padded else text.rstrip("="), width))
    assert decoded(f"data:image/png;base64,{text}" if prefixed else text) == data


JSON = st.recursive(st.none() | st.integers() | st.text(max_size=8), lambda one: st.lists(one) | st.dictionaries(
    st.sampled_from(["b64_json", "url", "image", "image_url"]), one), max_leaves=6)  # fmt: skip


@given(JSON)
def test_any_card_can_be_looked_at(card: Any) -> None:
    found = picture_of(card)
    assert found is None or bool(found.data) != bool(found.place)
    if isinstance(card, dict):
        cards_of(card)
