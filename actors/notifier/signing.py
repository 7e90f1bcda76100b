"""Signatures of what is posted, as the Standard Webhooks specification 1.0 has them (standardwebhooks.com). Pure.

`webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`. The id stays the
same over all tries of one alert, so that a receiver knows a repetition; the timestamp is of the try, so that a receiver can
refuse what is older than some minutes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

PREFIX = "whsec_"
"""How secrets begin that are written in base64."""


def id_of(about: str) -> str:
    """The id of everything that is posted about this: the same over all tries, without the full stop that separates."""
    return "msg_" + hashlib.blake2b(about.encode(), digest_size=16).hexdigest()


def key_of(secret: str) -> bytes:
    """The key that a secret stands for. Raises ValueError for a `whsec_` secret that is no base64, or empty."""
    if not secret.startswith(PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError as error:  # No base64, or not even ASCII.
        raise ValueError("the secret begins with whsec_ and is no base64") from error
    if not key:  # Anybody could sign with it.
        raise ValueError("the secret has nothing after whsec_")
    return key


def signed(body: bytes, *, message_id: str, at: int, secret: str) -> dict[str, str]:
    """The headers of a post; without a secret they carry no signature. Raises ValueError as `key_of` does."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at)}
    if secret:
        text = f"{message_id}.{at}.".encode() + body
        digest = hmac.new(key_of(secret), text, hashlib.sha256).digest()
        headers["webhook-signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def is_signed(
    body: bytes, headers: dict[str, str], *, secret: str, now: float, tolerance_seconds: float = 300.0
) -> bool:
    """What a receiver checks: that the secret's owner sent this body, and that it was just now."""
    at = headers.get("webhook-timestamp", "")
    if not at.isdecimal() or abs(now - int(at)) > tolerance_seconds:
        return False
    wanted = signed(body, message_id=headers.get("webhook-id", ""), at=int(at), secret=secret)
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(one.encode(), wanted["webhook-signature"].encode()) for one in given)
