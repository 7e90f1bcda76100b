"""What a request costs and what it can cost at most: exact, rounded up once, and never less than it will be."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages import Backend, Media, Model, ModelPrice, Offer, Price, Rate
from messages.message import Value

AMOUNTS = st.integers(0, 10**9)
RATES = st.integers(0, 10**8)
SMALL = st.integers(0, 3)
QUALITIES = st.sampled_from(["", "low", "high"])
PIXELS = st.sampled_from([0, 1, 100, 400, 900, 1_600])
STEPS: Any = st.lists(
    st.builds(Rate, up_to_pixels=PIXELS, quality=QUALITIES, microdollars=RATES), max_size=4
).map(tuple)  # fmt: skip
PRICES: Any = st.builds(
    Price,
    input_per_mtok=RATES, output_per_mtok=RATES, per_request=RATES, per_image=RATES, per_second=RATES,
    cached_input_per_mtok=st.none() | RATES, cache_write_per_mtok=RATES, long_above_tokens=st.integers(0, 1_000),
    long_input_per_mtok=RATES, long_output_per_mtok=RATES, long_cached_input_per_mtok=st.none() | RATES,
    long_cache_write_per_mtok=RATES, image_rates=STEPS, second_rates=STEPS, per_gpu_second=RATES,
)  # fmt: skip
"""Any price at all, odd ones too: long requests that cost less, caches that cost more."""
SIDES = st.integers(1, 50)
SECONDS = st.integers(0, 10_000).map(lambda milliseconds: milliseconds / 1_000)


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_cost_is_rounded_up_by_less_than_one(read: int, written: int, per_read: int, per_written: int) -> None:
    exact = read * per_read + written * per_written
    cost = Price(input_per_mtok=per_read, output_per_mtok=per_written).cost(read, written)
    assert 0 <= cost * 1_000_000 - exact < 1_000_000


@pytest.mark.parametrize(("tokens", "cost"), [(0, 0), (1, 1), (1_000_000, 150_000), (1_000_001, 150_001)])
def test_cost_examples(tokens: int, cost: int) -> None:
    assert Price(input_per_mtok=150_000).cost(tokens, 10**6) == cost


def test_free_is_free() -> None:
    media = Media(images=10, width=8, height=8, seconds=1e6)
    assert Price().cost(10**12, 10**12, media, cached_tokens=5, cache_write_tokens=5, seconds=1e6) == 0
    assert Price().worst(10**12, 10**12, media, seconds=1e6) == 0


@given(PRICES, st.data())
def test_nothing_within_the_bounds_costs_more_than_the_worst(price: Price, data: Any) -> None:
    tokens, output, images = (data.draw(st.integers(0, 3_000)) for _ in range(3))
    width, height = data.draw(SIDES), data.draw(SIDES)
    told = data.draw(st.booleans())
    seconds, ran, quality = data.draw(SECONDS), data.draw(SECONDS), data.draw(QUALITIES)
    wanted = Media(images=images, seconds=seconds, width=width if told else 0, height=height if told else 0)
    worst = price.worst(tokens, output, wanted, seconds=ran, quality=data.draw(st.sampled_from(["", quality])))
    read = data.draw(st.integers(0, tokens))
    made = Media(
        images=data.draw(st.integers(0, images)), seconds=data.draw(st.sampled_from([0.0, seconds])),
        width=data.draw(st.integers(1, width)), height=data.draw(st.integers(1, height)),
    )  # fmt: skip
    cost = price.cost(
        read, data.draw(st.integers(0, output)), made, quality=quality, seconds=data.draw(st.sampled_from([0.0, ran])),
        cached_tokens=data.draw(st.integers(0, read + 5)), cache_write_tokens=data.draw(st.integers(0, read + 5)),
    )  # fmt: skip
    assert 0 <= cost <= worst


@given(PRICES, st.integers(0, 2_000), st.integers(0, 2_000), SMALL, SIDES, SIDES, SECONDS, SECONDS, QUALITIES)
def test_the_worst_case_never_falls_when_anything_rises(
    price: Price, read: int, written: int, images: int, width: int, height: int, length: float, ran: float, quality: str
) -> None:
    def worst(**more: Any) -> int:
        said: dict[str, Any] = {
            "read": read, "written": written, "images": images, "width": width, "height": height, "length": length,
            "ran": ran, **more,
        }  # fmt: skip
        media = Media(images=said["images"], seconds=said["length"], width=said["width"], height=said["height"])
        return price.worst(said["read"], said["written"], media, seconds=said["ran"], quality=quality)

    least = worst()
    rises = {
        "read": (read + 1, read + 1_500), "written": (written + 1,), "images": (images + 1,), "width": (width + 1, 50),
        "height": (height + 7,), "length": (length + 0.001,), "ran": (ran + 0.5,),
    }  # fmt: skip
    for name, values in rises.items():
        for value in values:
            assert worst(**{name: value}) >= least, name
    for name in ("input_per_mtok", "output_per_mtok", "per_request", "per_image", "per_second", "per_gpu_second"):
        dearer = msgspec.structs.replace(price, **{name: getattr(price, name) + 1_000_000})
        media = Media(images=images, seconds=length, width=width, height=height)
        assert dearer.worst(read, written, media, seconds=ran, quality=quality) >= least, name


@given(PRICES, st.integers(0, 2_000), st.integers(0, 2_000), SMALL, SECONDS, SECONDS)
def test_cost_against_fractions(price: Price, read: int, written: int, images: int, length: float, ran: float) -> None:
    """Another way to count: exact fractions, without media of several prices."""
    price = msgspec.structs.replace(price, image_rates=(), second_rates=())
    long = 0 < price.long_above_tokens < read
    per_read = (price.long_input_per_mtok if long else 0) or price.input_per_mtok
    per_written = (price.long_output_per_mtok if long else 0) or price.output_per_mtok
    exact = Fraction(read * per_read + written * per_written, 10**6) + price.per_request + images * price.per_image
    exact += Fraction(round(length * 1_000), 1_000) * price.per_second
    exact += Fraction(round(ran * 1_000), 1_000) * price.per_gpu_second
    assert price.cost(read, written, Media(images=images, seconds=length), seconds=ran) == ceil(exact)


def test_cached_tokens_cost_their_own_rate() -> None:
    price = Price(input_per_mtok=1_000_000, output_per_mtok=2_000_000, cached_input_per_mtok=100_000)
    assert price.cost(100, 10, cached_tokens=60) == 40 + 6 + 20
    assert price.cost(100, 10, cached_tokens=200) == 10 + 20
    assert Price(input_per_mtok=1_000_000).cost(100, 0, cached_tokens=60) == 100
    assert Price(input_per_mtok=1_000_000, cached_input_per_mtok=0).cost(100, 0, cached_tokens=60) == 40
    assert price.worst(100, 10) == 100 + 20


def test_what_is_put_into_the_cache_costs_its_own_rate() -> None:
    price = Price(input_per_mtok=1_000_000, cache_write_per_mtok=1_250_000, cached_input_per_mtok=0)
    assert price.cost(100, 0, cache_write_tokens=40) == 60 + 50
    assert price.cost(100, 0, cached_tokens=80, cache_write_tokens=40) == 25
    assert price.worst(100, 0) == 125


def test_a_long_request_costs_the_long_rates_as_a_whole() -> None:
    price = Price(
        input_per_mtok=1_000_000, output_per_mtok=2_000_000, cached_input_per_mtok=100_000, long_above_tokens=100,
        long_input_per_mtok=2_000_000, long_output_per_mtok=3_000_000, long_cached_input_per_mtok=200_000,
    )  # fmt: skip
    assert price.cost(100, 10, cached_tokens=100) == 10 + 20
    assert price.cost(101, 10) == 202 + 30
    assert price.cost(101, 10, cached_tokens=100) == 2 + 20 + 30
    assert price.worst(100, 10) == 100 + 20
    assert price.worst(101, 10) == 202 + 30
    assert Price(input_per_mtok=10**6, long_above_tokens=5, output_per_mtok=10**6).cost(6, 1) == 7


IMAGES = Price(
    per_image=9,
    image_rates=(
        Rate(up_to_pixels=100, quality="low", microdollars=1), Rate(up_to_pixels=100, quality="high", microdollars=8),
        Rate(up_to_pixels=400, quality="low", microdollars=2), Rate(up_to_pixels=400, quality="high", microdollars=6),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("side", "quality", "cost", "worst"),
    [
        (10, "low", 1, 1),
        (10, "high", 8, 8),
        (11, "low", 2, 2),
        (20, "high", 6, 8),  # Larger and cheaper, as real lists have it: reserved is what the smaller one may cost.
        (10, "", 8, 8),
        (20, "superb", 6, 8),
        (21, "low", 9, 9),
        (0, "low", 9, 9),
        (0, "", 9, 9),
    ],
)
def test_images_by_size_and_quality(side: int, quality: str, cost: int, worst: int) -> None:
    media = Media(images=3, width=side, height=side)
    assert IMAGES.cost(0, 0, media, quality=quality) == 3 * cost
    assert IMAGES.worst(0, 0, media, quality=quality) == 3 * worst
    assert IMAGES.cost(5, 5) == 0


def test_video_by_resolution() -> None:
    price = Price(
        second_rates=(Rate(up_to_pixels=1280 * 720, microdollars=100_000), Rate(microdollars=300_000)), per_second=7
    )
    assert price.cost(0, 0, Media(seconds=2.5, width=1280, height=720)) == 250_000
    assert price.cost(0, 0, Media(seconds=2.5, width=1920, height=1080)) == 750_000
    assert price.cost(0, 0, Media(seconds=2.5)) == price.worst(0, 0, Media(seconds=2.5)) == 750_000


@pytest.mark.parametrize("length", [0.035, 0.57, 1.005, 2.1, 4.35, 8.2, 1_234.567])
def test_floats_add_no_millisecond(length: float) -> None:
    assert Price(per_second=1_000).cost(0, 0, Media(seconds=length)) == round(length * 1_000)
    assert Price(per_gpu_second=1_000).cost(0, 0, seconds=length) == round(length * 1_000)


@given(PRICES, st.integers(0, 2_000), st.integers(0, 2_000), SMALL, SIDES, SECONDS)
def test_a_level_price_bounds_the_true_one(
    price: Price, read: int, written: int, images: int, side: int, length: float
) -> None:
    media = Media(images=images, width=side, height=side, seconds=length)
    cost, worst = price.cost(read, written, media), price.worst(read, written, media)
    assert price.level(dearest=False).cost(read, written, media) <= cost
    assert price.level(dearest=True).cost(read, written, media) >= worst


def test_a_price_without_steps_is_level() -> None:
    price = Price(input_per_mtok=1, output_per_mtok=2, per_request=3, per_image=4, per_second=5, unknown=True)
    assert price.level(dearest=True) == price.level(dearest=False) == price


@pytest.mark.parametrize("kind", [Price, Rate])
def test_defaults_cost_no_memory(kind: type[Value]) -> None:
    """They are in every candidate of every decision: a default is one shared object, and is left out of an event."""
    first, second = kind(), kind()
    assert all(getattr(first, name) is getattr(second, name) for name in kind.__struct_fields__)
    assert msgspec.json.encode(first) == b"{}"


# What nobody states.


@pytest.mark.parametrize(
    ("price", "stated"),
    [
        (Price(), False),
        (Price(unknown=True), False),
        (Price(unknown=True, source="a list"), False),
        (Price(as_of="2026-11-21"), False),
        (Price(long_above_tokens=9), False),
        (Price(source="a list"), True),
        (Price(input_per_mtok=1), True),
        (Price(output_per_mtok=1), True),
        (Price(per_image=1), True),
        (Price(per_gpu_second=1), True),
        (Price(image_rates=(Rate(microdollars=0),)), True),
    ],
)
def test_a_price_is_stated_by_an_amount_or_by_who_says_that_it_is_free(price: Price, *, stated: bool) -> None:
    assert price.stated is stated
    assert price.or_unknown().unknown is not stated


@given(st.booleans(), st.lists(PRICES | st.just(Price()) | st.just(Price(source="a list")), max_size=3))
def test_what_runs_elsewhere_is_free_only_where_somebody_says_so(local: bool, prices: list[Price]) -> None:
    models = tuple(Model(name=str(number), price=price) for number, price in enumerate(prices))
    there = Backend(backend="b", protocol="openai", local=local, slots=1, models=models, healthy=True, at=0.0)
    offer = Offer(backend="b", protocol="openai", local=local, models=models)
    decoded = msgspec.json.decode(msgspec.json.encode(there), type=Backend)
    again = msgspec.structs.replace(offer, models=models)
    for made in (there, offer, decoded, again):
        for model, price in zip(made.models, prices, strict=True):
            assert model.price == (price if local else price.or_unknown())
            assert local or model.price.stated or model.price.unknown


def test_a_price_that_is_set_says_something() -> None:
    assert ModelPrice(seller="s", model="m", price=Price(source="me"), at=0.0).price.stated
    assert ModelPrice(seller="s", model="m", at=0.0).price.unknown
    assert not ModelPrice(seller="s", model="m", withdrawn=True, at=0.0).price.unknown
