"""Price files: what they may say, and that everything else is refused with line, field and value."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import price_check
from actors.price_table import DOLLARS, OWN, PriceFileError, read, read_file
from messages import Media, Price, Rate

ENTRY: dict[str, Any] = {"provider": "p", "model": "m", "as_of": "2026-11-01", "usd_per_image": 0.04}


def one(**more: Any) -> Price:
    told = {**{key: value for key, value in ENTRY.items() if key not in {"usd_per_image", *more}}, **more}
    [price] = read(json.dumps({"prices": [told]}), file="mine.json", as_json=True).prices.values()
    return price


def refused(text: str, *, as_json: bool = False) -> list[str]:
    with pytest.raises(PriceFileError) as wrong:
        read(text, file="mine", as_json=as_json)
    assert str(wrong.value).startswith("prices mine: ")
    return wrong.value.faults


def entry_refused(**more: Any) -> list[str]:
    told = {key: value for key, value in {**ENTRY, **more}.items() if value is not ...}
    return refused(json.dumps({"prices": [told]}), as_json=True)


def test_our_own_table_is_whole() -> None:
    table = read_file(OWN)
    assert len(table.prices) >= 10
    for (provider, model), price in table.prices.items():
        assert price.source not in ("", OWN.name), (provider, model)
        assert price_check.is_day(price.as_of)
        assert list(price_check.faults(price)) == []
        assert price.worst(0, 0, Media(images=1, seconds=1.0), seconds=1.0) > 0
    image = table.find("openai", "gpt-image-2")
    assert image is not None
    assert image.cost(0, 0, Media(images=2, width=1024, height=1024), quality="high") == 422_000
    assert image.cost(0, 0, Media(images=1, width=1024, height=1024)) == 211_000
    assert image.worst(0, 0, Media(images=1)) == 401_000
    video = table.find("google", "veo-3.1-generate-001")
    assert video is not None
    assert video.cost(0, 0, Media(seconds=8.0, width=1920, height=1080)) == 3_200_000
    assert video.worst(0, 0, Media(seconds=8.0, width=3840, height=2160)) == 4_800_000
    hardware = table.find("replicate", "gpu-h100")
    assert hardware is not None
    assert hardware.cost(0, 0, seconds=3_600.0) == 5_490_000


def test_every_amount_of_dollars_has_its_field() -> None:
    for key, field in DOLLARS.items():
        more = {"long_above_tokens": 5} if key.startswith("long_") else {}
        assert getattr(one(**{key: 0.15}, **more), field) == 150_000, key
    assert set(DOLLARS.values()) <= set(Price.__struct_fields__)


def test_a_whole_entry_in_toml() -> None:
    table = read(
        """
        [[prices]]
        provider = "studio"
        model = "painter"
        source = "the contract"
        as_of = 2026-11-01
        long_above_tokens = 1000
        long_input_usd_per_mtok = 0.3
        input_usd_per_mtok = 0.1
        images = [{ size = "1024x1024", quality = "high", usd = 0.08 }, { usd = 0.1 }]
        video = [{ size = "720p", usd = 0.05 }, { size = "4K", usd = 0.5 }]
        """,
        file="mine.toml",
    )
    assert table.find("studio", "painter") == Price(
        input_per_mtok=100_000, long_above_tokens=1_000, long_input_per_mtok=300_000, source="the contract",
        as_of="2026-11-01",
        image_rates=(Rate(up_to_pixels=1_048_576, quality="high", microdollars=80_000), Rate(microdollars=100_000)),
        second_rates=(
            Rate(up_to_pixels=921_600, microdollars=50_000), Rate(up_to_pixels=8_294_400, microdollars=500_000)
        ),
    )  # fmt: skip
    assert table.find("studio", "Painter") is None


def test_the_file_is_the_source_unless_another_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ours.json"
    file.write_text(json.dumps({"prices": [ENTRY]}), encoding="utf-8-sig")
    found = read_file(file).find("p", "m")
    assert found == Price(per_image=40_000, source="ours.json", as_of="2026-11-01")


@given(st.decimals(0, 1_000, allow_nan=False, allow_infinity=False, places=9))
def test_dollars_become_whole_micro_dollars_rounded_up(dollars: Decimal) -> None:
    text = f'prices = [{{ provider = "p", model = "m", as_of = 2026-11-01, usd_per_request = {dollars:f} }}]'
    found = read(text, file="mine").find("p", "m")
    assert found is not None
    assert 0 <= found.per_request - dollars * 1_000_000 < 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"usd_per_image": -0.01}, "prices[0].usd_per_image is -0.01: use dollars, 0 (free) to 1,000,000"),
        ({"usd_per_image": "0.01"}, "prices[0].usd_per_image is '0.01': use dollars"),
        ({"usd_per_image": True}, "prices[0].usd_per_image is True: use dollars"),
        ({"usd_per_image": 2_000_000}, "prices[0].usd_per_image is 2000000: use dollars"),
        ({"usd_per_image": float("nan")}, "prices[0].usd_per_image is nan: use dollars"),
        ({"usd_per_imgae": 1}, "prices[0].usd_per_imgae is no key: did you mean usd_per_image?"),
        ({"zzz": 1}, "prices[0].zzz is no key: known are provider, model"),
        ({"provider": ...}, "prices[0].provider is missing: give its name"),
        ({"model": " m"}, "prices[0].model is ' m': give its name as text, without spaces"),
        ({"as_of": ...}, "prices[0].as_of is missing: give the day"),
        ({"as_of": "yesterday"}, "prices[0].as_of is 'yesterday': give the day"),
        ({"as_of": "20261101"}, "prices[0].as_of is '20261101': give the day"),
        ({"source": ""}, "prices[0].source is '': say where"),
        ({"usd_per_image": ...}, "prices[0] says no price: give at least one of"),
        ({"long_above_tokens": 0}, "prices[0].long_above_tokens is 0: use a whole number over 0"),
        (
            {"long_input_usd_per_mtok": 1},
            "prices[0].long_input_usd_per_mtok is 1: say from how many input tokens on",
        ),
        (
            {"long_input_usd_per_mtok": 1, "input_usd_per_mtok": 2, "long_above_tokens": 9},
            "prices[0].long_input_usd_per_mtok is 1: a long request costs no less than others: use at least input_usd_per_mtok,",
        ),
        ({"images": []}, "prices[0].images is []: use a list of tables"),
        ({"images": [3]}, "prices[0].images[0] is 3: use a table with size, quality and usd"),
        ({"images": [{"usd": 1, "size": "big"}]}, "prices[0].images[0].size is 'big': use width x height"),
        ({"images": [{"usd": 1, "size": 7}]}, "prices[0].images[0].size is 7: use width x height"),
        ({"images": [{"size": "1x1"}]}, "prices[0].images[0].usd is missing: use dollars"),
        ({"images": [{"usd": 1, "quality": 1}]}, "prices[0].images[0].quality is 1: use the provider's word"),
        ({"images": [{"usd": 1, "sise": "1x1"}]}, "prices[0].images[0].sise is no key: did you mean size?"),
        (
            {"video": [{"usd": 1, "size": "2x2"}, {"usd": 2, "size": "4x1"}]},
            "prices[0].video[1].up_to_pixels is 4: 4 pixels have a price already",
        ),
    ],
)
def test_a_wrong_entry_is_refused(more: dict[str, Any], said: str) -> None:
    faults = entry_refused(**more)
    assert any(fault.startswith(said) for fault in faults), faults


@pytest.mark.parametrize(
    ("text", "as_json", "said"),
    [
        ("{", True, "not valid JSON: Expecting property name"),
        ("prices = ", False, "not valid TOML: Invalid value (at end of document)"),
        ("[]", True, "it must have `prices`"),
        ('{"prices": {}}', True, "it must have `prices`"),
        ("prices = []\nmore = 1", False, "it must have `prices`"),
        ("x = 1", False, "it must have `prices`"),
        ('{"prices": [7]}', True, "prices[0] is 7: use a table"),
        ("[" * 100_000, True, "not valid JSON: maximum recursion depth"),
        ('{"prices": ' + "9" * 5_000 + "}", True, "not valid JSON: Exceeds the limit"),
    ],
)
def test_what_is_no_price_file_is_refused(text: str, as_json: bool, said: str) -> None:
    assert refused(text, as_json=as_json)[0].startswith(said)


def test_a_fault_in_toml_names_its_line_and_all_faults_are_told() -> None:
    good = '[[prices]]\nprovider = "p"\nmodel = "m"\nas_of = 2026-11-01\nusd_per_image = 1\n'
    bad = good.replace('"m"', '"n"').replace("= 1", "= -1")
    assert refused(good + bad + good + bad.replace('"p"', "1")) == [
        "line 6, prices[1].usd_per_image is -1: use dollars, 0 (free) to 1,000,000",
        "line 11, prices[2].model is 'm': p m has a price already; leave one of them out",
        "line 16, prices[3].provider is 1: give its name as text, without spaces around it",
        "line 16, prices[3].usd_per_image is -1: use dollars, 0 (free) to 1,000,000",
    ]


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match=r"gone\.toml: No such file"):
        read_file(tmp_path / "gone.toml")
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PriceFileError, match="no UTF-8 text"):
        read_file(tmp_path / "odd.toml")


@pytest.mark.parametrize(
    ("price", "said"),
    [
        (Price(per_gpu_second=-1), ("per_gpu_second", -1)),
        (Price(as_of="2026-13-01"), ("as_of", "2026-13-01")),
        (Price(image_rates=(Rate(up_to_pixels=-1),)), ("image_rates[0].up_to_pixels", -1)),
        (Price(second_rates=(Rate(microdollars=-2),)), ("second_rates[0].microdollars", -2)),
        (Price(long_cached_input_per_mtok=1), ("long_cached_input_per_mtok", 1)),
    ],
)
def test_contradictions_of_a_price(price: Price, said: tuple[str, object]) -> None:
    assert [fault[:2] for fault in price_check.faults(price)] == [said]
    assert list(price_check.faults(Price())) == []
