"""What an attempt has used, in every unit, however it ended and whatever its backend told."""

from __future__ import annotations

import math
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor import accounting
from actors.executor import call as calls
from actors.executor.accounting import Made, believed, spent
from actors.executor.backends import port
from actors.executor.backends.images import request_fields
from actors.guardrail.limits import billed
from messages import JobSubmit, Media, Parameters, Price, Rate, Reservation, Usage, Work
from messages.values import Quality
from tests.messages.samples import attempted, work

PRICE = Price(input_per_mtok=3_000_000, output_per_mtok=15_000_000)
"""Three and fifteen micro-dollars a token."""
UNITS = ("microdollars", "tokens", "gpu_milliseconds", "requests")


def paid(price: Price, *, needs: Any = None, **changes: Any) -> Work:
    """Work at a price; a job of 10 input tokens unless told otherwise."""
    plain = work()
    wanted = msgspec.structs.replace(plain.slip.needs, **(needs or {}))
    return msgspec.structs.replace(
        plain, price=price, slip=msgspec.structs.replace(plain.slip, needs=wanted), **changes
    )  # fmt: skip


def usage(**told: Any) -> port.Usage:
    return port.Usage(**told)


def whole(work: Work, text: str = "", seconds: float = 1.0, tool_calls: Any = (), **told: Any) -> accounting.Spent:
    made = Made(text=text, tool_calls=tool_calls, usage=usage(**told), seconds=seconds, worked=True)
    return spent(work, made, "whole")


def tool(arguments: str, name: str = "save") -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


# A whole answer: what is not told is estimated from all that was sent and made.


def test_an_answer_that_ended_at_its_longest_has_used_what_it_was_allowed_to() -> None:
    work = paid(Price(output_per_mtok=1_000_000), max_output_tokens=500)
    made = Made(text="7" * 40, seconds=1.0, worked=True, full=True)
    assert spent(work, made, "whole").usage.output_tokens == work.max_output_tokens > accounting.estimated_output(made)
    told = Made(text="7" * 40, usage=usage(output_tokens=40), seconds=1.0, worked=True, full=True)
    assert spent(work, told, "whole").usage.output_tokens == 40


@pytest.mark.parametrize(
    ("told", "read", "made", "estimated"),
    [
        ({"input_tokens": 3000, "output_tokens": 2000}, 3000, 2000, False),
        ({}, 10, 306, True),
        ({"input_tokens": 0, "output_tokens": 0}, 10, 306, True),
        ({"input_tokens": 7}, 7, 306, True),
        ({"output_tokens": 300}, 10, 300, True),
        ({"input_tokens": 7, "output_tokens": 1}, 7, 306, True),  # No token is 1,220 letters long.
        ({"input_tokens": -1, "output_tokens": 10**30}, 10, 306, True),
        ({"input_tokens": math.nan, "output_tokens": "3e2"}, 10, 306, True),
        ({"input_tokens": True, "output_tokens": False}, 10, 306, True),
        ({"thought_bytes": 4000}, 10, 1306, True),
    ],
)
def test_what_is_not_told_is_estimated(told: dict[str, Any], read: int, made: int, *, estimated: bool) -> None:
    found = whole(paid(PRICE), "x" * 1220, **told)
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.estimated) == (read, made, estimated)
    assert (found.microdollars, found.tokens) == (3 * read + 15 * made, read + made)


def test_a_refusal_is_counted() -> None:
    """Case 20: it was written as well."""
    assert accounting.estimated_output(Made(refusal="x" * 40_000)) == 10_001


def test_calls_of_tools_are_counted() -> None:
    found = whole(paid(PRICE), tool_calls=(tool("y" * 40_012),))
    assert found.usage.output_tokens == (40_012 + 4) // 4 + 1
    assert found.microdollars == 3 * 10 + 15 * 10_005
    zeros = whole(paid(PRICE), tool_calls=(tool("y" * 40_012),), input_tokens=0, output_tokens=0)
    assert zeros == found


@given(st.text(max_size=50), st.text(max_size=50), st.integers(0, 500), st.none() | st.integers(0, 10**6))
def test_an_estimate_is_never_below_what_is_there(text: str, arguments: str, thought: int, told: int | None) -> None:
    found = whole(paid(PRICE), text, tool_calls=(tool(arguments, ""),), thought_bytes=thought, output_tokens=told)
    size = len(text.encode()) + len(arguments.encode()) + thought
    assert found.usage.output_tokens is not None
    assert found.usage.output_tokens * accounting.MOST_BYTES_PER_TOKEN >= size
    if found.usage.estimated and not told:
        assert found.usage.output_tokens * accounting.BYTES_PER_TOKEN >= size
        assert found.usage.output_tokens > 0 or (told == 0 and not size)


def test_nothing_written_is_believed_to_be_nothing() -> None:
    assert whole(paid(PRICE), input_tokens=7, output_tokens=0).usage == Usage(input_tokens=7, output_tokens=0)


def test_parts_that_do_not_fit_are_not_believed() -> None:
    told = usage(input_tokens=10, output_tokens=5, cached_tokens=8, cache_write_tokens=3, reasoning_tokens=6)
    assert believed(Made(usage=told)) == Usage(input_tokens=10, output_tokens=5)
    fitting = usage(input_tokens=11, output_tokens=6, cached_tokens=8, cache_write_tokens=3, reasoning_tokens=6)
    assert believed(Made(usage=fitting)).cached_tokens == 8


@pytest.mark.parametrize("odd", [-1.0, math.nan, math.inf, True, 1e300])
def test_a_time_that_can_not_be_is_not_believed(odd: float) -> None:
    assert believed(Made(usage=usage(gpu_seconds=odd))).gpu_seconds is None


@pytest.mark.parametrize(
    ("asset", "price", "told", "found"),
    [
        ("embedding", Price(), {}, Usage(input_tokens=10, output_tokens=0, estimated=True)),
        ("image", Price(per_image=5), {"gpu_seconds": 2.0}, Usage(gpu_seconds=2.0)),
        ("image", Price(input_per_mtok=5), {}, Usage(input_tokens=10, output_tokens=0, estimated=True)),
        ("text", Price(), {"gpu_seconds": 2.0}, Usage(input_tokens=10, output_tokens=1, estimated=True, gpu_seconds=2.0)),
    ],
)  # fmt: skip
def test_only_what_has_tokens_is_estimated(asset: str, price: Price, told: dict[str, Any], found: Usage) -> None:
    assert whole(paid(price, needs={"asset": asset}), **told).usage == found


def test_requests_images_and_seconds_are_paid_too() -> None:
    price = Price(per_request=7_000, per_image=100, per_second=10)
    media = Media(images=3, seconds=0.25, frames=4)
    video = paid(price, needs={"asset": "video", "media": media})
    assert whole(video).microdollars == 7_000 + 300 + 3
    assert whole(paid(price, needs={"media": media})).microdollars == 7_000
    longer = msgspec.structs.replace(video, parameters=Parameters(frames=8))
    assert whole(longer).microdollars == 7_000 + 300 + 5


RATES = tuple(
    Rate(up_to_pixels=1024 * 1024, quality=word, microdollars=each)
    for word, each in (("low", 6_000), ("medium", 53_000), ("high", 211_000))
)


@pytest.mark.parametrize(("quality", "each"), [("draft", 6_000), ("standard", 53_000), ("final", 211_000)])
def test_a_picture_is_paid_at_the_rate_of_its_quality(quality: str, each: int) -> None:
    job = {"asset": "image", "quality": quality, "media": Media(images=2, width=1024, height=1024), "input_tokens": 0}
    assert whole(paid(Price(image_rates=RATES, per_image=401_000), needs=job)).microdollars == 2 * each
    plain = Price(image_rates=(Rate(up_to_pixels=2048 * 2048, microdollars=134_400),), per_image=240_000)
    assert whole(paid(plain, needs=job)).microdollars == 2 * 134_400


@given(st.sampled_from(get_args(Quality)), st.lists(st.integers(0, 10**6), min_size=3, max_size=3), st.integers(0, 4))
def test_what_is_billed_is_what_was_reserved_for_the_word_that_is_sent(
    quality: Quality, rates: list[int], count: int
) -> None:
    price = Price(
        image_rates=tuple(
            Rate(quality=word, microdollars=each) for word, each in zip(("low", "medium", "high"), rates, strict=True)
        )
    )
    media = Media(images=count, width=1024, height=1024)
    job = paid(price, needs={"asset": "image", "quality": quality, "media": media, "input_tokens": 0})
    sent = request_fields(calls.call_of(job, JobSubmit(prompt="a cat")), own=True, partials=0)["quality"]
    assert sent == job.slip.needs.rated
    reserved = price.worst(0, 0, media, quality=sent)
    assert whole(job).microdollars == reserved == count * dict(zip(("low", "medium", "high"), rates, strict=True))[sent]


def test_the_cache_and_the_time_on_a_gpu_are_paid_at_their_rates() -> None:
    price = Price(
        input_per_mtok=1_000_000, cached_input_per_mtok=100_000, cache_write_per_mtok=2_000_000, per_gpu_second=40
    )
    told: dict[str, Any] = {"input_tokens": 100, "output_tokens": 0, "cached_tokens": 50, "cache_write_tokens": 10}
    assert whole(paid(price), seconds=2.5, **told).microdollars == 40 + 5 + 20 + 100


def test_time_on_a_gpu_is_what_the_backend_says() -> None:
    told, clocked = (whole(paid(Price(per_gpu_second=40)), seconds=9.0, gpu_seconds=one) for one in (1.5, None))
    assert (told.microdollars, told.gpu_milliseconds) == (60, 1500)
    assert (clocked.microdollars, clocked.gpu_milliseconds) == (360, 9000)


def test_at_an_unknown_price_all_that_was_admitted_is_paid() -> None:
    job = paid(Price(unknown=True), worst_case_microdollars=900)
    assert whole(job, "x", input_tokens=1, output_tokens=1).microdollars == 900
    assert spent(job, Made(text="x"), "unfinished").microdollars == 900
    assert spent(job, Made(), "refused").microdollars == 0


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 10**8), st.integers(0, 10**8))
def test_a_cost_is_rounded_up(read: int, written: int, price_in: int, price_out: int) -> None:
    price = Price(input_per_mtok=price_in, output_per_mtok=price_out)
    cost = whole(paid(price), input_tokens=read, output_tokens=written).microdollars
    assert 0 <= cost * 1_000_000 - (read * price_in + written * price_out) < 1_000_000


# A call that began and did not end.

HELD = {"microdollars": 1_530, "tokens": 110, "gpu_milliseconds": 61_000, "requests": 1}


def held(price: Price = PRICE, **changes: Any) -> Work:
    """Work with a reservation in every unit: 10 tokens to read, at most 100 to write, 60 seconds."""
    holds = tuple(
        Reservation(budget="b", subject=f"ledger.global.all.{unit}.total", amount=amount, unit=unit)
        for unit, amount in HELD.items()
    )
    return paid(price, reserved=holds, worst_case_microdollars=HELD["microdollars"], **changes)


def counted(job: Work, found: accounting.Spent, *, begun: bool = True, **ended: Any) -> dict[str, int]:
    """What the ledger counts of every unit."""
    end = attempted(reserved=job.reserved, **calls.counted(found, begun=begun), **ended)
    return {one.unit: billed(one, end) for one in job.reserved}


@pytest.mark.parametrize("text", ["", "half an answer"])
def test_of_which_nothing_is_known_counts_whole_in_every_unit(text: str) -> None:
    found = spent(held(), Made(text=text, seconds=20.0), "unfinished")
    assert counted(held(), found, outcome="timeout") == HELD
    assert found.usage.estimated is bool(text)


def test_of_what_is_known_in_part_the_rest_counts_as_the_most() -> None:
    found = spent(held(), Made(text="abcd", usage=usage(input_tokens=8, output_tokens=1), seconds=2.0), "unfinished")
    assert counted(held(), found) == {**HELD, "microdollars": 8 * 3 + 100 * 15, "tokens": 108}
    assert found.usage == Usage(input_tokens=8, output_tokens=2, estimated=True)


def test_what_is_really_more_than_was_reserved_counts_whole() -> None:
    found = spent(held(), Made(usage=usage(input_tokens=500, output_tokens=300)), "unfinished")
    assert counted(held(), found) == {**HELD, "microdollars": 500 * 3 + 300 * 15, "tokens": 800}
    over = whole(held(), "x", input_tokens=500, output_tokens=300)
    assert counted(held(), over)["tokens"] == 800


def test_a_call_that_we_stop_has_ended_soon_after() -> None:
    price = Price(per_gpu_second=40)
    found = spent(held(price), Made(seconds=2.0, stopped=True), "unfinished")
    assert counted(held(price), found, outcome="aborted") == {
        **HELD, "microdollars": 120, "gpu_milliseconds": 3000,
    }  # fmt: skip
    silent = spent(held(price), Made(seconds=2.0), "unfinished")
    assert counted(held(price), silent, outcome="timeout") == HELD, "it may go on for as long as it likes"
    told = spent(held(price), Made(usage=usage(gpu_seconds=4.0), seconds=9.0), "unfinished")
    assert counted(held(price), told) == {**HELD, "microdollars": 160, "gpu_milliseconds": 4000}


def test_a_picture_is_known_before_it_is_made() -> None:
    job = held(Price(per_image=300), needs={"asset": "image", "media": Media(images=2), "max_output_tokens": 0})
    assert spent(job, Made(seconds=2.0), "unfinished").microdollars == 600


# What never began, and what was refused.


def test_what_never_began_uses_nothing() -> None:
    found = spent(held(), Made(usage=usage(input_tokens=5), seconds=5.0), "unsent")
    assert counted(held(), found, begun=False, outcome="connection_error") == dict.fromkeys(UNITS, 0)
    assert counted(held(), accounting.Spent(microdollars=7, tokens=9), outcome="not_started") == dict.fromkeys(UNITS, 0)


def test_a_refusal_uses_nothing_but_what_it_tells() -> None:
    found = spent(held(Price(per_request=70, input_per_mtok=3_000_000)), Made(seconds=5.0), "refused")
    nothing = {"microdollars": 0, "tokens": 0, "gpu_milliseconds": 0, "requests": 1}
    assert counted(held(), found, outcome="server_error") == nothing
    told = spent(held(), Made(usage=usage(input_tokens=8, output_tokens=0), seconds=5.0), "refused")
    assert counted(held(), told, outcome="server_error") == {**nothing, "microdollars": 24, "tokens": 8}
    worked = spent(held(Price(per_gpu_second=40)), Made(seconds=5.0, worked=True), "refused")
    assert counted(held(), worked, outcome="server_error") == {**nothing, "microdollars": 200, "gpu_milliseconds": 5000}


# The ledger can't get below what a backend counted.


@given(
    st.integers(1, 10), st.integers(0, 100), st.booleans(), st.integers(0, 100), st.booleans(), st.booleans(),
)  # fmt: skip
def test_what_is_settled_is_never_below_what_the_backend_counted(
    read: int,
    made: int,
    tells_input: bool,
    seen: int,
    tells_output: bool,
    stopped: bool,
) -> None:
    """Its input and output are within what was reserved; some of it was told, and some of the text has come."""
    shown = min(seen, made)
    told = usage(input_tokens=read if tells_input else None, output_tokens=shown if tells_output else None)
    found = spent(held(), Made(text="word" * shown, usage=told, seconds=1.0, stopped=stopped), "unfinished")
    counts = counted(held(), found)
    assert counts["tokens"] >= read + made
    assert counts["microdollars"] >= read * 3 + made * 15
    assert counts["tokens"] <= HELD["tokens"]
    assert counts["microdollars"] <= HELD["microdollars"]


def test_every_end_of_a_failed_call_has_its_meaning() -> None:
    def end(error: port.BackendError | None, *, made: Made = Made(), begun: bool = True, files: bool = False) -> str:  # noqa: B008
        return calls.end_of(paid(PRICE), error, made, begun=begun, files=files)

    broke = port.BackendError("server_error", "x", status=500)
    assert end(broke) == "refused"
    assert end(broke, made=Made(text="half")) == end(broke, files=True) == "unfinished"
    assert end(broke, begun=False) == end(None, begun=False) == "unsent"
    assert end(None) == "unfinished"
    for kind in ("connection_error", "cut_stream", "invalid_structure"):
        assert end(port.BackendError(kind, "x", status=200)) == "unfinished"
        assert end(port.BackendError(kind, "x")) == "unfinished"
    assert end(port.BackendError("overloaded", "x", status=200)) == "refused"
    assert end(port.BackendError("overloaded", "x")) == "unfinished", "nobody said so"
    assert end(port.BackendError("empty", "x", status=200)) == "whole"
    assert end(port.BackendError("empty", "x", status=400)) == "refused"


# A call that an earlier attempt had begun.

TIMED = Price(per_gpu_second=1_000, per_request=50)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.lists(st.integers(1, 9), unique=True, min_size=1, max_size=4))
def test_one_call_is_billed_once_however_many_attempts_went_on_with_it(
    took: float, mine: float, rounds: list[int]
) -> None:
    made = Made(usage=usage(gpu_seconds=took), seconds=mine, worked=True)
    work = paid(TIMED, needs={"asset": "image"})
    whole = spent(work, made, "whole")
    own, corrections = accounting.shared(work, made, tuple(rounds))
    assert [one.n for one in corrections] == rounds
    assert own.microdollars + sum(one.billed_microdollars for one in corrections) == whole.microdollars
    assert own.gpu_milliseconds is not None
    assert own.gpu_milliseconds + sum(one.counted_gpu_milliseconds for one in corrections) == whole.gpu_milliseconds
    assert own.gpu_milliseconds <= math.ceil(mine * 1000)
    assert not any(one.billed_microdollars for one in corrections[1:])


@pytest.mark.parametrize("told", [None, math.nan, -1.0])
def test_nothing_is_corrected_where_nobody_tells_how_long_it_took(told: float | None) -> None:
    made = Made(usage=usage(gpu_seconds=told), seconds=3.0, worked=True)
    work = paid(TIMED, needs={"asset": "image"})
    assert accounting.shared(work, made, (1,)) == (spent(work, made, "whole"), ())
    assert accounting.shared(work, made, ()) == (spent(work, made, "whole"), ())
