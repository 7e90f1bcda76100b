"""A backend's request from a routing slip, and an attempt's outcome from its answer."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor import call as calls
from actors.executor.backends import port
from actors.executor.backends.images import request_fields
from actors.executor.degrade import JSON_WANTED
from messages import Failover, JobSubmit, Media, Offer, Parameters, Price, Rate, Usage, Work, token
from messages.values import Asset, Outcome, Quality
from tests.messages.samples import SUBMIT, slip, work

KINDS: tuple[port.ErrorKind, ...] = get_args(port.ErrorKind)


# The request.


def test_a_conversation_begins_with_the_system_and_ends_with_the_prompt() -> None:
    assert SUBMIT.conversation == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "user", "content": "Write a haiku"},
    )


def test_nothing_is_added_to_a_conversation_that_is_complete() -> None:
    submit = msgspec.structs.replace(SUBMIT, system="", prompt="")
    assert submit.conversation == SUBMIT.messages


def test_a_call_is_capped_by_the_work_and_otherwise_as_submitted() -> None:
    item = work(model="llama", max_output_tokens=50, slip=slip(needs={"input_tokens": 30, "max_output_tokens": 99}))
    call = calls.call_of(item, msgspec.structs.replace(SUBMIT, inputs=()))
    assert call == port.Call(
        model="llama", messages=SUBMIT.conversation, max_output_tokens=50, temperature=0.7, stop=("END",),
        seed=7, response_format={"type": "json_object"}, tools=({"type": "function"},), context_tokens=80,
        key="acme/j-1/1", quality=item.slip.needs.quality, negative_prompt=SUBMIT.negative_prompt, graph=SUBMIT.graph,
        dimensions=SUBMIT.dimensions or 0,
    )  # fmt: skip


def test_media_are_adjusted_for_the_backend_and_the_rest_is_as_submitted() -> None:
    needs = {"asset": "video", "recipe": "image-to-video", "media": Media(width=832, height=480, frames=81, steps=20)}
    submit = JobSubmit(prompt="it runs", negative_prompt="fog", seed=7, graph={"1": {"class_type": "X"}})
    parameters = Parameters(width=416, height=240, frames=41, steps=8)
    call = calls.call_of(work(slip=slip(needs=needs), parameters=parameters), submit)
    assert (call.asset, call.recipe, call.negative_prompt, call.seed) == ("video", "image-to-video", "fog", 7)
    assert (call.media.width, call.media.height, call.media.frames, call.media.steps) == (416, 240, 41, 8)
    assert call.graph == submit.graph
    assert port.prompt_of(call) == "it runs"


@pytest.mark.parametrize(
    ("asset", "texts"), [("embedding", ("a", "b", "p")), ("text", ()), ("image", ())]
)  # fmt: skip
def test_the_prompt_is_one_more_text_to_embed(asset: str, texts: tuple[str, ...]) -> None:
    submit = JobSubmit(prompt="p", texts=("a", "b"), dimensions=8)
    call = calls.call_of(work(slip=slip(needs={"asset": asset})), submit)
    assert (call.texts, call.dimensions) == (texts, 8)


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, 99), st.text(min_size=1), st.integers(1, 99))
def test_a_key_is_an_attempts_own(tenant: str, job: str, n: int, other: str, m: int) -> None:
    def key(of: str, name: str, number: int) -> str:
        return calls.key_of(work(tenant=of, job=name, n=number))

    assert key(tenant, job, n) == key(tenant, job, n)
    assert key(tenant, job, n).startswith(f"{token(tenant)}/")
    assert key(tenant, job, n).count("/") == 2
    assert (key(tenant, job, n) == key(tenant, other, m)) == ((job, n) == (other, m))


STAGES = st.none() | st.sampled_from(["queued", "loading", "working"])


@given(st.sampled_from(get_args(Asset)), STAGES, st.booleans(), st.none() | st.sampled_from([(), ("m",)]))
def test_patience_is_never_less_than_the_policys_and_most_while_it_loads(
    asset: Asset, stage: port.Stage | None, cold: bool, loaded: tuple[str, ...] | None
) -> None:
    item = work(failover=Failover(stall_seconds=2.0), slip=slip(needs={"asset": asset}))
    offer = Offer(backend="a", protocol="x", local=True, cold=cold, loaded=loaded)
    found = calls.patience(item, stage, offer)
    usual = 2.0 * calls.PATIENCE[asset]
    loads = stage in ("queued", "loading") or (stage is None and (cold or loaded == ()))
    assert found == (max(usual, 2.0 * calls.LOADING) if loads else usual)
    assert found >= 2.0


def test_a_call_is_for_the_variant_and_degraded_as_it_was_decided() -> None:
    parameters = Parameters(model="llama-q4", degrade=("plain_text", "drop_tools"))
    call = calls.call_of(work(model="llama", parameters=parameters), msgspec.structs.replace(SUBMIT, inputs=()))
    assert (call.model, call.tools, call.response_format) == ("llama-q4", (), None)
    assert call.messages[-1]["content"] == f"Write a haiku\n\n{JSON_WANTED}"


def test_the_jobs_style_takes_the_place_of_its_image() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    submit = msgspec.structs.replace(SUBMIT, messages=(image,), style="soft light", inputs=())
    item = work(parameters=Parameters(degrade=("describe_style",)))
    call = calls.call_of(item, submit)
    text = "The style image is left out. Wanted style: soft light"
    assert call.messages[1] == {"role": "user", "content": [{"type": "text", "text": text}]}


@pytest.mark.parametrize("body", [b"null", b"", b"[1]", b'{"promt":"hi"}', b'{"prompt":3}'])
def test_a_body_that_is_no_submission_is_an_error_of_its_own(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        calls.read(body)


# The answer.


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50), st.integers(0, 70_000))
def test_pieces_together_are_the_text_and_each_fits(text: str, more: int) -> None:
    whole = text + "x" * more
    found = calls.pieces(whole)
    assert "".join(found) == whole
    assert all(0 < len(piece) <= calls.PIECE_CHARACTERS for piece in found)


def test_a_piece_fits_into_a_message_however_json_writes_it() -> None:
    worst = calls.pieces("\x01" * calls.PIECE_CHARACTERS)
    assert len(worst) == 1
    assert len(msgspec.json.encode(worst[0])) < 256 * 1024


# What it costs.


def paid(price: Price, **needs: Any) -> Work:
    """Work at a price; a job of 10 input tokens unless told otherwise."""
    plain = work()
    wanted = msgspec.structs.replace(plain.slip.needs, **needs)
    return msgspec.structs.replace(plain, price=price, slip=msgspec.structs.replace(plain.slip, needs=wanted))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(input_tokens=7, output_tokens=3), 7 + 30),
        (Usage(input_tokens=0, output_tokens=0), 0),
        (Usage(), 100 + 10 * 3),
        (Usage(input_tokens=7), 7 + 10 * 3),
        (Usage(output_tokens=3), 100 + 30),
    ],
)
def test_tokens_nobody_reported_are_estimated_and_reported_ones_are_not(usage: Usage, expected: int) -> None:
    price = Price(input_per_mtok=1_000_000, output_per_mtok=10_000_000)
    assert calls.cost(paid(price, input_tokens=100), usage, "12345678", 1.0) == expected


def test_requests_images_and_seconds_are_paid_too() -> None:
    price = Price(per_request=7_000, per_image=100, per_second=10)
    media = Media(images=3, seconds=0.25, frames=4)
    assert calls.cost(paid(price, asset="video", media=media), Usage(), "", 1.0) == 7_000 + 300 + 3
    assert calls.cost(paid(price, asset="text", media=media), Usage(), "", 1.0) == 7_000
    longer = msgspec.structs.replace(paid(price, asset="video", media=media), parameters=Parameters(frames=8))
    assert calls.cost(longer, Usage(), "", 1.0) == 7_000 + 300 + 5


RATES = tuple(
    Rate(up_to_pixels=1024 * 1024, quality=word, microdollars=each)
    for word, each in (("low", 6_000), ("medium", 53_000), ("high", 211_000))
)


@pytest.mark.parametrize(("quality", "each"), [("draft", 6_000), ("standard", 53_000), ("final", 211_000)])
def test_a_picture_is_paid_at_the_rate_of_its_quality(quality: str, each: int) -> None:
    job = {"asset": "image", "quality": quality, "media": Media(images=2, width=1024, height=1024), "input_tokens": 0}
    assert calls.cost(paid(Price(image_rates=RATES, per_image=401_000), **job), Usage(), "", 1.0) == 2 * each
    plain = Price(image_rates=(Rate(up_to_pixels=2048 * 2048, microdollars=134_400),), per_image=240_000)
    assert calls.cost(paid(plain, **job), Usage(), "", 1.0) == 2 * 134_400


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
    job = paid(price, asset="image", quality=quality, media=media, input_tokens=0)
    request = calls.call_of(job, JobSubmit(prompt="a cat"))
    sent = request_fields(request, own=True, partials=0)["quality"]
    assert sent == job.slip.needs.rated
    reserved = price.worst(0, 0, media, quality=sent)
    assert (
        calls.cost(job, Usage(), "", 1.0)
        == reserved
        == count * dict(zip(("low", "medium", "high"), rates, strict=True))[sent]
    )


def test_the_cache_and_the_time_on_a_gpu_are_paid_at_their_rates() -> None:
    price = Price(
        input_per_mtok=1_000_000, cached_input_per_mtok=100_000, cache_write_per_mtok=2_000_000, per_gpu_second=40
    )
    usage = Usage(input_tokens=100, output_tokens=0, cached_tokens=50, cache_write_tokens=10)
    assert calls.cost(paid(price), usage, "", 2.5) == 40 + 5 + 20 + 100


def test_time_on_a_gpu_is_what_the_backend_says() -> None:
    price = Price(per_gpu_second=40)
    assert calls.cost(paid(price), Usage(gpu_seconds=1.5), "", 9.0) == 60
    assert calls.cost(paid(price), Usage(), "", 9.0) == 360


def test_only_text_has_tokens_that_are_guessed() -> None:
    price = Price(output_per_mtok=1_000_000)
    assert calls.cost(paid(price, asset="embedding"), Usage(input_tokens=9), "", 1.0) == 0
    assert calls.cost(paid(price), Usage(input_tokens=9), "", 1.0) == 1


@pytest.mark.parametrize(
    ("asset", "price", "usage", "text", "found"),
    [
        ("text", Price(), Usage(), "12345678", Usage(input_tokens=10, output_tokens=3, estimated=True)),
        ("text", Price(), Usage(gpu_seconds=2.0), "", Usage(input_tokens=10, output_tokens=1, estimated=True, gpu_seconds=2.0)),
        ("embedding", Price(), Usage(), "", Usage(input_tokens=10, output_tokens=0, estimated=True)),
        ("image", Price(per_image=5), Usage(gpu_seconds=2.0), "", Usage(gpu_seconds=2.0)),
        ("image", Price(input_per_mtok=5), Usage(), "", Usage(input_tokens=10, output_tokens=0, estimated=True)),
        ("text", Price(), Usage(input_tokens=7), "12345678", Usage(input_tokens=7)),
        ("text", Price(), Usage(output_tokens=0), "12345678", Usage(output_tokens=0)),
    ],
)  # fmt: skip
def test_where_the_backend_sent_no_usage_our_own_counts_say_that_they_are_ours(
    asset: str, price: Price, usage: Usage, text: str, found: Usage
) -> None:
    job = paid(price, asset=asset, input_tokens=10)
    assert calls.counted(job, usage, text) == found
    assert calls.cost(job, found, text, 1.0) == calls.cost(job, usage, text, 1.0)


def test_at_an_unknown_price_all_that_was_admitted_is_paid() -> None:
    admitted = msgspec.structs.replace(paid(Price(unknown=True)), worst_case_microdollars=900)
    assert calls.cost(admitted, Usage(input_tokens=1, output_tokens=1), "x", 1.0) == 900


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**8), st.integers(0, 10**8))
def test_a_cost_is_rounded_up(read: int, written: int, price_in: int, price_out: int) -> None:
    price = Price(input_per_mtok=price_in, output_per_mtok=price_out)
    billed = calls.cost(paid(price), Usage(input_tokens=read, output_tokens=written), "", 1.0)
    assert 0 <= billed * 1_000_000 - (read * price_in + written * price_out) < 1_000_000


def test_usage_is_passed_on_and_unknown_stays_unknown() -> None:
    reported = port.Usage(
        input_tokens=1, output_tokens=2, cached_tokens=3, cache_write_tokens=1, reasoning_tokens=4, estimated=True,
        gpu_seconds=2.5,
    )  # fmt: skip
    assert calls.usage_of(reported) == Usage(
        input_tokens=1, output_tokens=2, cached_tokens=3, cache_write_tokens=1, reasoning_tokens=4, estimated=True,
        gpu_seconds=2.5,
    )  # fmt: skip
    assert calls.usage_of(port.Usage()) == calls.usage_of(None) == Usage()


# Errors.


@pytest.mark.parametrize("kind", KINDS)
def test_a_problem_keeps_class_status_and_body(kind: port.ErrorKind) -> None:
    error = port.BackendError(kind, "went wrong", status=418, body='{"error":"tea"}', retry_after_seconds=4.5)
    problem = calls.problem_of(error, "kettle")
    assert (problem.reason, problem.message) == (kind, "kettle: went wrong")
    assert (problem.status, problem.body, problem.retry_after_seconds) == (418, '{"error":"tea"}', 4.5)


def test_a_problem_keeps_the_beginning_of_a_long_body() -> None:
    body = "".join(str(number) for number in range(5000))
    assert calls.problem_of(port.BackendError("server_error", "x", body=body), "a").body == body[:2000]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_is_an_outcome(kind: port.ErrorKind) -> None:
    outcome = calls.outcome_of(port.BackendError(kind, "x"))
    assert outcome in get_args(Outcome)
    assert outcome == ("connection_error" if kind == "cut_stream" else kind)
