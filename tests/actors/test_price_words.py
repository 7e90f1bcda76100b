"""A price in words."""

from __future__ import annotations

import pytest

from actors.price_words import in_words
from messages import Price, Rate


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (Price(), "free"),
        (Price(unknown=True, per_image=1), "unknown"),
        (Price(input_per_mtok=150_000, output_per_mtok=600_000), "$0.15 / $0.6"),
        (Price(output_per_mtok=600_000, per_request=1), "free / $0.6, $0.000001 per request"),
        (
            Price(
                input_per_mtok=10**6, output_per_mtok=2 * 10**6, long_above_tokens=1_000, long_input_per_mtok=2 * 10**6,
                cached_input_per_mtok=0,
            ),
            "$1 / $2, $2 / $2 above 1,000 tokens, cached free",
        ),
        (Price(per_image=40_000, per_second=100_000), "$0.04 per image, $0.1 per second"),
        (Price(per_image=9_000, image_rates=(Rate(microdollars=1_000),)), "$0.001 to $0.009 per image"),
        (Price(second_rates=(Rate(microdollars=1_000),)), "$0.001 per second"),
        (Price(per_gpu_second=1_400), "$0.0014 per GPU second"),
    ],
)  # fmt: skip
def test_in_words(price: Price, words: str) -> None:
    assert in_words(price) == words
