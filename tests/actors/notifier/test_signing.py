from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.notifier.signing import id_of, is_signed, key_of, signed

BODIES = st.binary(max_size=200)
SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(
    lambda text: not text.startswith("whsec_")
)


def test_the_example_of_the_specification() -> None:
    """The test vector of the specification's reference libraries."""
    headers = signed(
        b'{"test": 2432232314}', message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at=1614265330,
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )  # fmt: skip
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_a_plain_secret_is_its_bytes() -> None:
    headers = signed(b"{}", message_id="msg_1", at=5, secret="plain")
    digest = hmac.new(b"plain", b"msg_1.5.{}", hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_without_a_secret_nothing_is_signed() -> None:
    assert set(signed(b"{}", message_id="msg_1", at=5, secret="")) == {"webhook-id", "webhook-timestamp"}


def test_a_secret_that_is_not_what_it_says_is_refused() -> None:
    for secret in ("whsec_no!", "whsec_\N{SNOWMAN}"):
        with pytest.raises(ValueError, match="is no base64"):
            key_of(secret)
    with pytest.raises(ValueError, match="nothing after whsec_"):
        signed(b"{}", message_id="msg_1", at=5, secret="whsec_")


@given(BODIES, SECRETS, st.text(max_size=20))
def test_who_knows_the_secret_sees_that_it_is_ours(body: bytes, secret: str, about: str) -> None:
    headers = signed(body, message_id=id_of(about), at=1000, secret=secret)
    assert is_signed(body, headers, secret=secret, now=1100.0)
    assert not is_signed(body + b" ", headers, secret=secret, now=1100.0)
    assert not is_signed(body, headers, secret=secret + "x", now=1100.0)
    assert not is_signed(body, {**headers, "webhook-id": id_of(about + "x")}, secret=secret, now=1100.0)
    assert not is_signed(body, {**headers, "webhook-timestamp": "1001"}, secret=secret, now=1100.0)


@pytest.mark.parametrize("now", [1301.0, 699.0])
def test_an_old_post_is_no_new_one(now: float) -> None:
    headers = signed(b"{}", message_id="msg_1", at=1000, secret="s")
    assert not is_signed(b"{}", headers, secret="s", now=now)
    assert is_signed(b"{}", headers, secret="s", now=1300.0)


def test_what_is_not_signed_is_not_taken() -> None:
    assert not is_signed(b"{}", {}, secret="s", now=0.0)
    assert not is_signed(b"{}", signed(b"{}", message_id="m", at=5, secret=""), secret="s", now=5.0)


@given(st.text(max_size=300))
def test_ids_have_no_full_stop(about: str) -> None:
    assert "." not in id_of(about)
    assert id_of(about) == id_of(about)
    assert id_of(about).isascii()
