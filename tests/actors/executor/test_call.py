"""A backend's request from a routing slip, and an attempt's outcome from its answer."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.executor import call as calls
from actors.executor.backends import port
from actors.executor.degrade import JSON_WANTED
from messages import Media, Parameters, Price, Usage, Work
from messages.values import Outcome
from tests.messages.samples import SUBMIT, slip, work

KINDS: tuple[port.ErrorKind, ...] = get_args(port.ErrorKind)
JSON_WORK = work(slip=slip(needs={"json_output": True}))
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{"}}


def answer(text: str = "", *tool_calls: dict[str, Any], finish_reason: port.FinishReason = "stop") -> port.Answer:
    return port.Answer(
        text=text, finish_reason=finish_reason, model="m", usage=port.Usage(), tool_calls=tool_calls
    )  # fmt: skip


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
    call = calls.call_of(item, msgspec.json.encode(SUBMIT))
    assert call == port.Call(
        model="llama", messages=SUBMIT.conversation, max_output_tokens=50, temperature=0.7, stop=("END",),
        seed=7, response_format={"type": "json_object"}, tools=({"type": "function"},), context_tokens=80,
    )  # fmt: skip


def test_a_call_is_for_the_variant_and_degraded_as_it_was_decided() -> None:
    parameters = Parameters(model="llama-q4", degrade=("plain_text", "drop_tools"))
    call = calls.call_of(work(model="llama", parameters=parameters), msgspec.json.encode(SUBMIT))
    assert (call.model, call.tools, call.response_format) == ("llama-q4", (), None)
    assert call.messages[-1]["content"] == f"Write a haiku\n\n{JSON_WANTED}"


def test_the_jobs_style_takes_the_place_of_its_image() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    submit = msgspec.structs.replace(SUBMIT, messages=(image,), style="soft light")
    item = work(parameters=Parameters(degrade=("describe_style",)))
    call = calls.call_of(item, msgspec.json.encode(submit))
    text = "The style image is left out. Wanted style: soft light"
    assert call.messages[1] == {"role": "user", "content": [{"type": "text", "text": text}]}


@pytest.mark.parametrize("body", [b"null", b"", b"[1]", b'{"promt":"hi"}', b'{"prompt":3}'])
def test_a_body_that_is_no_submission_is_an_error_of_its_own(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        calls.call_of(work(), body)


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


def json_values() -> st.SearchStrategy[Any]:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | text
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values(), max_size=3), max_size=3),
)
def test_no_result_is_larger_as_json_than_six_times_its_weight(text: str, tools: list[dict[str, Any]]) -> None:
    given_answer = answer(text, *tools)
    frame = len(msgspec.json.encode(calls.result_of(answer("", {}))))
    assert len(msgspec.json.encode(calls.result_of(given_answer))) <= frame + 6 * calls.weight(given_answer)


def test_tool_calls_weigh_too() -> None:
    assert calls.weight(answer("four")) == 4
    assert calls.weight(answer("four", TOOL_CALL)) > 4 + len("function")


def test_a_result_carries_tool_calls_untouched() -> None:
    result = calls.result_of(answer("t", TOOL_CALL, finish_reason="tool_calls"))
    assert (result.text, result.finish_reason, result.ref) == ("t", "tool_calls", None)
    assert [msgspec.json.decode(call) for call in result.tool_calls] == [TOOL_CALL]


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


def test_the_cache_and_the_time_on_a_gpu_are_paid_at_their_rates() -> None:
    price = Price(
        input_per_mtok=1_000_000, cached_input_per_mtok=100_000, cache_write_per_mtok=2_000_000, per_gpu_second=40
    )
    usage = Usage(input_tokens=100, output_tokens=0, cached_tokens=50, cache_write_tokens=10)
    assert calls.cost(paid(price), usage, "", 2.5) == 40 + 5 + 20 + 100


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
        input_tokens=1, output_tokens=2, cached_tokens=3, cache_write_tokens=1, reasoning_tokens=4, estimated=True
    )
    assert calls.usage_of(reported) == Usage(
        input_tokens=1, output_tokens=2, cached_tokens=3, cache_write_tokens=1, reasoning_tokens=4, estimated=True
    )  # fmt: skip
    assert calls.usage_of(port.Usage()) == calls.usage_of(None) == Usage()


# What is wrong with it.


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_answer_of_nothing_is_empty(text: str) -> None:
    problem = calls.fault(answer(text, finish_reason="length"), work())
    assert problem is not None
    assert problem.reason == "empty"
    assert problem.message == "a answered nothing (finish reason 'length')"


@pytest.mark.parametrize("item", [work(), JSON_WORK])
def test_tool_calls_are_an_answer_without_text(item: Any) -> None:
    assert calls.fault(answer("", TOOL_CALL), item) is None


@pytest.mark.parametrize("text", ['{"a": 1}', " [1, 2]\n", '"text"', "null", "```json\n{}\n```", " ```\n[1]\n```\n"])
def test_json_was_asked_for_and_given(text: str) -> None:
    assert calls.fault(answer(text), JSON_WORK) is None


@pytest.mark.parametrize("text", ["Sure!", '{"a": 1', '{"a": 1} there', "```json\n{}\n", "Here:\n```json\n{}\n```"])
def test_json_was_asked_for_and_not_given(text: str) -> None:
    problem = calls.fault(answer(text), JSON_WORK)
    assert problem is not None
    assert (problem.reason, problem.body) == ("invalid_structure", text)
    assert problem.message.startswith("a answered no JSON although the job asks for it: ")
    assert calls.fault(answer(text), work()) is None


def test_a_wrong_answer_is_quoted_in_part() -> None:
    problem = calls.fault(answer("x" * 5000), JSON_WORK)
    assert problem is not None
    assert problem.body == "x" * 2000


@given(json_values(), st.sampled_from(["```json\n{}\n```", "```\n{}```", "\n```JSON \n{}\n```\n\n"]))
def test_fences_around_json_are_seen_through(value: Any, fence: str) -> None:
    text = msgspec.json.encode(value).decode()
    assert msgspec.json.decode(calls.unfenced(fence.replace("{}", text))) == value
    assert calls.unfenced(text) == text


def test_only_json_that_was_asked_for_loses_its_fences() -> None:
    text = "```python\nprint()\n```"
    assert calls.result_of(answer(text)).text == text
    assert calls.result_of(answer("```json\n{}\n```"), as_json=True).text == "{}"
    assert [calls.wants_json(one) for one in (work(), JSON_WORK, work(required_fields=("a",)))] == [False, True, True]


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ('{"page": 1, "state_contract": {"a": 1}}', ""),
        ('```json\n{"page": false, "state_contract": [0]}\n```', ""),
        ('{"page": 0, "state_contract": "x"}', ""),
        ('{"page": 1}', "state_contract"),
        ('{"state_contract": 1}', "page"),
        ('{"page": 1, "state_contract": null}', "state_contract"),
        ('{"page": 1, "state_contract": {}}', "state_contract"),
        ('{"page": "", "state_contract": 1}', "page"),
        ('[{"page": 1}]', "page"),
        ("Sure!", "page"),
        ('{"page": 1', "page"),
    ],
)
def test_a_required_field_is_there_and_not_empty(text: str, lacks: str) -> None:
    problem = calls.fault(answer(text), work(required_fields=("page", "state_contract")))
    assert (problem.field if problem else "") == lacks
    if problem:
        assert (problem.reason, problem.body) == ("missing_field", text)
        assert f"without {lacks!r}" in problem.message


def test_no_json_at_all_is_the_graver_fault() -> None:
    both = work(slip=slip(needs={"json_output": True}), required_fields=("page",))
    problem = calls.fault(answer("Sure!"), both)
    assert problem is not None
    assert problem.reason == "invalid_structure"
    lacking = calls.fault(answer("{}"), both)
    assert lacking is not None
    assert lacking.reason == "missing_field"


def test_a_call_of_tools_is_not_yet_the_answer_that_needs_fields() -> None:
    assert calls.fault(answer("", TOOL_CALL), work(required_fields=("page",))) is None


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
