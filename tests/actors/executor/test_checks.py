"""Whether an answer is what the job asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from actors.executor import checks, results
from actors.executor.backends import port
from messages import AnswerChecks, Check, JobSubmit, Problem, Work
from tests.messages.samples import slip, work

JSON_WORK = work(slip=slip(needs={"json_output": True}))
TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{"}}
PLAIN = JobSubmit(prompt="hi")


def answer(
    text: str = "", *tool_calls: dict[str, Any], finish_reason: port.FinishReason = "stop", **more: Any
) -> port.Answer:
    return port.Answer(
        text=text, finish_reason=finish_reason, model="m", usage=port.Usage(), tool_calls=tool_calls, **more
    )  # fmt: skip


def fault(given_answer: port.Answer, item: Work, submit: JobSubmit = PLAIN) -> Problem | None:
    return checks.fault(given_answer, (), item, submit)


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_answer_of_nothing_is_empty(text: str) -> None:
    problem = fault(answer(text, finish_reason="length"), work())
    assert problem is not None
    assert problem.reason == "empty"
    assert problem.message == "a answered nothing (finish reason 'length')"


@pytest.mark.parametrize("item", [work(), JSON_WORK])
def test_tool_calls_are_an_answer_without_text(item: Any) -> None:
    assert fault(answer("", TOOL_CALL), item) is None


@pytest.mark.parametrize("text", ['{"a": 1}', " [1, 2]\n", '"text"', "null", "```json\n{}\n```", " ```\n[1]\n```\n"])
def test_json_was_asked_for_and_given(text: str) -> None:
    assert fault(answer(text), JSON_WORK) is None


def test_json_that_was_cut_says_what_to_do() -> None:
    problem = fault(answer('{"a": 1', finish_reason="length"), JSON_WORK)
    assert problem is not None
    assert problem.reason == "invalid_structure"
    assert "was cut at its cap of " in problem.message
    assert problem.message.endswith("raise max_output_tokens")


@pytest.mark.parametrize("text", ["Sure!", '{"a": 1', '{"a": 1} there', "```json\n{}\n", "Here:\n```json\n{}\n```"])
def test_json_was_asked_for_and_not_given(text: str) -> None:
    problem = fault(answer(text), JSON_WORK)
    assert problem is not None
    assert (problem.reason, problem.body) == ("invalid_structure", text)
    assert problem.message.startswith("a answered no JSON although the job asks for it: ")
    assert fault(answer(text), work()) is None


def test_a_wrong_answer_is_quoted_in_part() -> None:
    problem = fault(answer("x" * 5000), JSON_WORK)
    assert problem is not None
    assert problem.body == "x" * 2000


def test_only_json_that_was_asked_for_loses_its_fences() -> None:
    text = "```python\nprint()\n```"
    assert results.result_of(answer(text)).text == text
    assert results.result_of(answer("```json\n{}\n```"), as_json=True).text == "{}"
    assert [checks.wants_json(one) for one in (work(), JSON_WORK, work(required_fields=("a",)))] == [False, True, True]


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
    problem = fault(answer(text), work(required_fields=("page", "state_contract")))
    assert (problem.field if problem else "") == lacks
    if problem:
        assert (problem.reason, problem.body) == ("missing_field", text)
        assert f"without {lacks!r}" in problem.message


def test_no_json_at_all_is_the_graver_fault() -> None:
    both = work(slip=slip(needs={"json_output": True}), required_fields=("page",))
    problem = fault(answer("Sure!"), both)
    assert problem is not None
    assert problem.reason == "invalid_structure"
    lacking = fault(answer("{}"), both)
    assert lacking is not None
    assert lacking.reason == "missing_field"


def test_a_call_of_tools_is_not_yet_the_answer_that_needs_fields() -> None:
    assert fault(answer("", TOOL_CALL), work(required_fields=("page",))) is None


# The job's schema.

SCHEMA = {"type": "object", "properties": {"n": {"type": "array", "items": {"type": "integer"}}}, "required": ["n"]}


def shaped(schema: object) -> JobSubmit:
    return JobSubmit(prompt="hi", response_format={"type": "json_schema", "json_schema": {"schema": schema}})


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"n": [1, 2]}', None),
        ('{"n": []}', None),
        ("{}", ""),
        ('{"n": 1}', "n"),
        ('{"n": [1, "x"]}', "n.1"),
        ("3", ""),
    ],
)
def test_the_answer_fits_the_jobs_schema(text: str, field: str | None) -> None:
    found = fault(answer(text), JSON_WORK, shaped(SCHEMA))
    assert (found.field if found else None) == field
    if found:
        assert (found.reason, found.body) == ("invalid_structure", text)
        assert "does not fit the job's schema" in found.message


@pytest.mark.parametrize("schema", [{"type": "nope"}, {"$ref": "http://127.0.0.1:1/x"}, 3])
def test_a_schema_that_is_none_is_the_jobs_fault(schema: object) -> None:
    found = fault(answer("{}"), JSON_WORK, shaped(schema))
    assert found is not None
    assert (found.reason, found.field) == ("bad_request", "response_format")


# Embeddings.


def embedding_work() -> Work:
    return work(slip=slip(needs={"asset": "embedding", "max_output_tokens": 0}))


@pytest.mark.parametrize(
    ("made", "submit", "reason"),
    [
        (((1.0, 2.0),), JobSubmit(prompt="a"), ""),
        (((1.0,), (2.0,), (3.0,)), JobSubmit(prompt="a", texts=("b", "c")), ""),
        ((), JobSubmit(prompt="a"), "empty"),
        (((1.0,),), JobSubmit(texts=("a", "b")), "invalid_structure"),
        (((1.0,), (2.0,)), JobSubmit(prompt="a"), "invalid_structure"),
        (((1.0,), (2.0, 3.0)), JobSubmit(texts=("a", "b")), "invalid_structure"),
        (((),), JobSubmit(prompt="a"), "invalid_structure"),
        (((1.0, 2.0),), JobSubmit(prompt="a", dimensions=3), "unknown_model"),
        (((1.0, 2.0, 3.0),), JobSubmit(prompt="a", dimensions=3), ""),
    ],
)
def test_there_is_one_embedding_of_the_right_length_for_each_text(
    made: Sequence[tuple[float, ...]], submit: JobSubmit, reason: str
) -> None:
    found = fault(answer(embeddings=tuple(made)), embedding_work(), submit)
    assert (found.reason if found else "") == reason


# The policy's rules.


def ruled(**rules: Any) -> Work:
    return work(checks=AnswerChecks(**rules))


def told(given_answer: port.Answer, item: Work) -> checks.Found:
    return checks.examined(given_answer, (), item, PLAIN)


@pytest.mark.parametrize(
    ("rules", "text", "broken"),
    [
        ({}, "x", ""),
        ({"min_characters": 3}, "abc", ""),
        ({"min_characters": 4}, "abc", "min_characters"),
        ({"max_characters": 3}, "abc", ""),
        ({"max_characters": 2}, "abc", "max_characters"),
        ({"must_match": ("^#", "(?i)END")}, "# x end", ""),
        ({"must_match": ("^#",)}, "x # y", "must_match"),
        ({"must_not_match": ("TODO",)}, "done", ""),
        ({"must_not_match": ("x", "TODO")}, "TODO", "must_not_match"),
    ],
)
def test_a_rule_is_kept_or_the_job_goes_elsewhere(rules: dict[str, Any], text: str, broken: str) -> None:
    hard = told(answer(text), ruled(**rules))
    soft = told(answer(text), ruled(**rules, soft=True))
    assert soft.problem is None
    assert [check.name for check in soft.checks] == ([broken] if broken else [])
    assert all(check.verdict == "soft_fail" for check in soft.checks)
    assert (hard.problem is not None, hard.checks) == (bool(broken), ())
    if hard.problem:
        assert hard.problem.reason == "validator_hard_fail"
        assert repr(broken) in hard.problem.message


@pytest.mark.parametrize(
    ("reason", "whole"),
    [("stop", True), ("tool_calls", True), ("", True), ("length", False), ("content_filter", False)],
)
def test_whole_is_what_ended_by_itself(reason: port.FinishReason, whole: bool) -> None:
    found = told(answer("text", finish_reason=reason), ruled(whole=True))
    assert (found.problem is None) is whole


@pytest.mark.parametrize("pattern", [r"^(?=a)b", r"(a)\1", "("])
def test_a_pattern_that_could_run_away_or_is_none_is_told_and_stops_nothing(pattern: str) -> None:
    for rules in ({"must_match": (pattern,)}, {"must_not_match": (pattern,)}):
        found = told(answer("text"), ruled(**rules))
        assert found.problem is None
        [check] = found.checks
        assert isinstance(check, Check)
        assert check.verdict == "soft_fail"
        assert check.message.startswith(f"{pattern!r} can't be used as a pattern")


def test_tool_calls_are_no_text_to_have_rules() -> None:
    assert told(answer("", TOOL_CALL), ruled(min_characters=9)) == checks.Found()


def test_rules_see_the_json_without_its_fences() -> None:
    item = work(required_fields=("a",), checks=AnswerChecks(must_match=(r"^\{",), max_characters=8))
    assert told(answer('```json\n{"a": 1}\n```'), item) == checks.Found()


@pytest.mark.parametrize(
    "text",
    [
        '<think>The user wants JSON.</think>\n{"city":"Ulm"}', '<reasoning>hm</reasoning>```json\n{"city":"Ulm"}\n```',
        'so it is </think> {"city":"Ulm"}', '<thinking>{"a": 1}</thinking>{"city":"Ulm"}',
    ],
)  # fmt: skip
def test_thoughts_before_json_are_no_part_of_it(text: str) -> None:
    """Case 24."""
    assert fault(answer(text), JSON_WORK) is None
    assert results.result_of(answer(text), as_json=True).text == '{"city":"Ulm"}'


def test_json_that_holds_such_marks_stays_whole() -> None:
    text = '{"a": "x</think>y"}'
    assert results.result_of(answer(text), as_json=True).text == text


def test_what_is_to_be_known_is_told_with_the_answer() -> None:
    given_answer = answer("hi", remarks=(port.Remark("encoding", "bytes were replaced"),))
    assert checks.examined(given_answer, (), work(), PLAIN).checks == (
        Check(name="encoding", verdict="soft_fail", message="bytes were replaced"),
    )


def test_a_refusal_is_told_in_the_model_s_words() -> None:
    problem = fault(answer("", finish_reason="content_filter", refusal="I can't help with that."), work())
    assert problem is not None
    assert (problem.reason, problem.message) == ("empty", "a: the model refused: I can't help with that.")


def test_what_must_travel_back_is_in_the_result_as_it_came() -> None:
    block = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    call = {**TOOL_CALL, "extra_content": {"google": {"thought_signature": "c2ln"}}}
    made = results.result_of(answer("x", call, carried=(block,), reasoning="hm"))
    assert [msgspec.json.decode(one) for one in (*made.carried, *made.tool_calls)] == [block, call]
    assert made.reasoning == "hm"
