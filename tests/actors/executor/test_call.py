"""A backend's request from a routing slip, and an attempt's outcome from its answer."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor import call as calls
from actors.executor.backends import port
from actors.executor.degrade import JSON_WANTED
from messages import Failover, JobSubmit, Media, Offer, Parameters, token
from messages.values import Asset, Outcome
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
    call = calls.call_of(item, msgspec.structs.replace(SUBMIT, inputs=()), boot="b1")
    assert call == port.Call(
        model="llama", messages=SUBMIT.conversation, max_output_tokens=50, temperature=0.7, stop=("END",),
        seed=7, response_format={"type": "json_object"}, tools=({"type": "function"},), context_tokens=80,
        key="acme/j-1/1/b1", quality=item.slip.needs.quality, negative_prompt=SUBMIT.negative_prompt, graph=SUBMIT.graph,
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
    assert call.unsaid == ("images", "width", "height", "steps", "frames", "fps", "seconds")
    said = calls.call_of(work(slip=slip(needs=needs)), JobSubmit(prompt="it runs", count=2, width=832, seconds=5.0))
    assert said.unsaid == ("height", "steps", "frames", "fps")


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
    assert outcome == {"cut_stream": "connection_error", "too_large": "unknown_model"}.get(kind, kind)


# Keys of calls.


@given(st.text(min_size=1), st.text(min_size=1), st.integers(1, 10**8), st.text(min_size=1))
def test_a_key_tells_whose_call_it_is(tenant: str, job: str, n: int, boot: str) -> None:
    assert calls.of_key(calls.call_key(tenant, job, n, boot)) == (tenant, job, n, boot)


@given(st.text() | st.lists(st.text(max_size=3), min_size=3, max_size=5).map("/".join))
def test_nothing_else_is_a_key(key: str) -> None:
    found = calls.of_key(key)
    assert found is None or calls.call_key(*found) == key


@pytest.mark.parametrize(
    "key", ["", "a/b/1", "a/b/1/", "/b/1/c", "a/b/x/c", "a/b/-1/c", "a/b/01/c", "a/b/1/c/d", "a/b/²/c", "a.b/b/1/c"]
)
def test_these_are_none(key: str) -> None:
    assert calls.of_key(key) is None
