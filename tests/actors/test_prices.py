"""The book of prices: which source comes first, what is dated, and what holds while prices are set."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.price_table import PriceFileError, PriceTable
from actors.price_text import TextPrices
from actors.prices import (
    STALE_DAYS,
    VARIABLE,
    PriceBook,
    age_days,
    day_of,
    in_force,
    stale,
    stated_in_settings,
    text_warning,
)
from actors.settings import Settings
from messages import ModelPrice, Price

NOVEMBER = 1_795_255_200.0
"""2026-11-21."""
DAY = 86_400.0
FILE = """
[[prices]]
provider = "openai"
model = "gpt-4.1"
as_of = 2026-11-20
input_usd_per_mtok = 1.5

[[prices]]
provider = "gateway"
model = "gpt-4.1"
as_of = 2026-11-20
input_usd_per_mtok = 9

[[prices]]
provider = "openai"
model = "gpt-image-2"
as_of = 2026-11-20
usd_per_image = 0.05
"""


def book(tmp_path: Path, text: str | None = FILE, now: float = NOVEMBER) -> PriceBook:
    environment = {}
    if text is not None:
        file = tmp_path / "mine.toml"
        file.write_text(text)
        environment[VARIABLE] = str(file)
    return PriceBook.open(Settings(data_dir=str(tmp_path)), environment=environment, now=lambda: now)


def sources(found: PriceBook, *asked: tuple[str, str, str]) -> list[str]:
    prices = [found.price_of(provider, model, backend=backend) for provider, model, backend in asked]
    return [price.source if price else "" for price in prices]


def test_the_users_file_comes_before_our_table_before_the_library(tmp_path: Path) -> None:
    asked = (
        ("openai", "gpt-4.1", ""), ("openai", "gpt-4.1", "gateway"), ("", "gpt-4.1", "gateway"), ("", "gpt-4.1", "other"),
        ("openai", "gpt-image-2", ""), ("openai", "gpt-6-luna", ""), ("openai", "unheard-of", ""),
        ("gemini", "veo-3.1-generate-001", "cloud"),
    )  # fmt: skip
    library = TextPrices().source
    veo = "ai.google.dev/gemini-api/docs/pricing: Veo 3.1 Standard, with audio"
    assert sources(book(tmp_path), *asked) == ["mine.toml", "mine.toml", "mine.toml", "", "mine.toml", library, "", veo]
    found = book(tmp_path).price_of("openai", "gpt-4.1", backend="gateway")
    assert found == Price(input_per_mtok=9_000_000, source="mine.toml", as_of="2026-11-20")
    ours = "developers.openai.com/api/docs/pricing: image calculator, $30 per million image tokens"
    assert sources(book(tmp_path, None), *asked) == [library, library, "", "", ours, library, "", veo]


def test_every_price_has_a_source_and_a_day(tmp_path: Path) -> None:
    found = book(tmp_path)
    for model in ("gpt-4.1", "gpt-image-2", "gpt-6-luna"):
        price = found.price_of("openai", model)
        assert price is not None
        assert price.source
        assert age_days(price, NOVEMBER) is not None


def test_a_price_that_changes_on_a_day_changes_in_an_open_book(tmp_path: Path) -> None:
    now = [NOVEMBER]
    found = PriceBook.open(Settings(data_dir=str(tmp_path)), environment={}, now=lambda: now[0])
    before = found.price_of("gemini", "gemini-4-argon")
    now[0] += 20 * DAY
    after = found.price_of("gemini", "gemini-4-argon")
    assert before is not None
    assert after is not None
    assert after.input_per_mtok == 2 * before.input_per_mtok


def test_a_wrong_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match=r"line 2, prices\[0\]\.model is missing"):
        book(tmp_path, '\n[[prices]]\nprovider = "p"\nas_of = 2026-01-01\nusd_per_image = 1')
    with pytest.raises(PriceFileError, match="No such file"):
        PriceBook.open(Settings(), environment={VARIABLE: str(tmp_path / "gone")}, now=lambda: NOVEMBER)
    assert PriceBook.open(Settings(), environment={VARIABLE: " "}, now=lambda: 0.0).user == PriceTable()


def fact(cost: int, *, withdrawn: bool = False) -> ModelPrice:
    return ModelPrice(seller="s", model="m", price=Price(per_request=cost), withdrawn=withdrawn, at=NOVEMBER)


STATED = Price(per_request=1)


@pytest.mark.parametrize(
    ("stated", "facts", "cost"),
    [
        (STATED, (), 1),
        (STATED, (None, None), 1),
        (STATED, (fact(2), fact(3)), 2),
        (STATED, (None, fact(3)), 3),
        (STATED, (fact(2, withdrawn=True), fact(3)), 3),
        (STATED, (fact(2, withdrawn=True), fact(3, withdrawn=True)), 1),
        (Price(unknown=True), (None, fact(3)), 3),
        (stated_in_settings(STATED), (fact(2), fact(3)), 1),
    ],
)
def test_the_settings_come_before_what_was_set_and_that_before_the_rest(
    stated: Price, facts: Sequence[ModelPrice | None], cost: int
) -> None:
    assert in_force(stated, *facts).per_request == cost


def test_only_a_stated_price_is_marked_as_the_settings_own() -> None:
    assert stated_in_settings(STATED).source == "settings"
    for price in (Price(), Price(unknown=True), Price(per_request=1, source="the contract")):
        assert stated_in_settings(price) == price


@given(st.integers(-1_000, 1_000))
def test_age(days: int) -> None:
    price = Price(as_of=day_of(NOVEMBER - days * DAY))
    assert age_days(price, NOVEMBER) == days
    assert stale(price, NOVEMBER) == (days > STALE_DAYS)
    assert age_days(Price(), NOVEMBER) is None
    assert not stale(Price(), NOVEMBER)


def test_old_text_prices_are_told(tmp_path: Path) -> None:
    found = book(tmp_path)
    assert text_warning(found, NOVEMBER) == ""
    said = text_warning(found, NOVEMBER + 100 * DAY)
    assert "days ago" in said
    assert found.text.as_of in said
    (tmp_path / "prices.json").write_text("x")
    assert "prices.json" in text_warning(book(tmp_path), NOVEMBER)


def test_the_library_is_loaded_by_the_first_question_only(tmp_path: Path) -> None:
    """It takes some tenths of a second, which nobody pays who serves local models alone."""
    code = f"""
import sys
from actors.prices import PriceBook, text_warning
from actors.settings import Settings
book = PriceBook.open(Settings(data_dir={str(tmp_path)!r}), environment={{}}, now=lambda: 1.8e9)
text_warning(book, 1.8e9)
assert book.price_of("openai", "gpt-image-2") and book.price_of("", "m", backend="b") is None
assert not {{"genai_prices", "pydantic", "httpx2"}} & set(sys.modules)
assert book.price_of("openai", "gpt-4.1")
assert "genai_prices" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
