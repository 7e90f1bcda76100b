import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor.backends.redaction import MARK, redact

OURS = "ABCDEFGHIJKLMNOPWXYZ"
HOLDERS = (
    "Incorrect API key provided: {}. You can find your API key at https://x/account.", "invalid key: '{}'", "api_key={}&model=m",
    '{{"error": {{"message": "no", "api_key": "{}"}}}}', "Authorization: Bearer {}", "https://x/v1/models?key={}",
    "x-api-key: {}", "Your API key is: {}",
)  # fmt: skip
"""How servers echo a key that is not ours: it has been changed meanwhile, or a gateway has one of its own."""
KEYS = (
    "sk-proj-abcdefghijklmnop", "sk-ant-api03-abcdefghijkl", "gsk_abcdefghijklmnopqrst12", "xai-abcdefghijklmnopqrst12",
    "hf_abcdefghijklmnopqrst12", "AIzaSyA0123456789012345678901234567890", "AKIAIOSFODNN7EXAMPLE", "0123456789abcdef0123",
)  # fmt: skip


@given(st.text(min_size=1), st.text(), st.text())
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    left = redact(f"{before}{secret}{after}", [secret]).replace(MARK, "")
    assert secret not in left or secret in MARK or secret in before + after


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("key", KEYS)
def test_keys_that_are_not_ours_are_taken_out_too(holder: str, key: str) -> None:
    found = redact(holder.format(key), ())
    if holder != "invalid key: '{}'" or not key.startswith("0"):  # Nothing tells that this one is a key.
        assert key not in found, found
        assert MARK in found


@pytest.mark.parametrize(
    "shown",
    [
        f"{OURS[:4]}****{OURS[-4:]}",
        f"{OURS[:8]}...{OURS[-4:]}",
        f"{OURS[:4]}…{OURS[-4:]}",
        "sk-1234****cd",
        "sk-proj-ab...yz",
    ],
)
def test_a_key_with_its_middle_left_out_is_taken_out(shown: str) -> None:
    found = redact(f"Incorrect key {shown}!", [OURS])
    assert found == f"Incorrect key {MARK}!"


@given(st.text(st.characters(codec="utf-8"), min_size=6, max_size=40))
def test_however_it_is_written(secret: str) -> None:
    for written in (quote(secret, safe=""), json.dumps(secret)[1:-1], secret.replace("/", "\\/")):
        assert redact(f"<{written}>", [secret]) in (f"<{MARK}>", f"<{written}>") or written not in redact(
            written, [secret]
        )
        if written != secret and len(written) > len(secret):
            assert written not in redact(f"<{written}>", [secret])


@pytest.mark.parametrize(
    "text",
    [
        "The model `fw-llama-7b` does not exist", "hf-internal/or-4o not found", "Authorization header is missing",
        "**bold** text", "ask-me-anything-about-it", "maximum context length is 8192 tokens", "task_0123456789",
    ],
)  # fmt: skip
def test_words_that_are_no_keys_stay(text: str) -> None:
    assert redact(text, ()) == text
